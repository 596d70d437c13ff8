"""The site's network is found by itself, overridden by bake.yaml, and goes into secrets, not into arguments."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.core.config.types import NetworkSpec
from builder.edges.images import site as network
from builder.errors import ConfigError, MissingError

CERTIFICATE = "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n"


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://index.site/simple\nextra-index-url = file:///opt/x https://more.site/simple\n"
        "trusted-host = index.site\n[install]\nfind-links = /opt/wheels\n"
    )
    (tmp_path / "ca.crt").write_text("# a comment\n" + CERTIFICATE.format("AAA") * 2 + CERTIFICATE.format("BBB"))
    (tmp_path / "netrc").write_text("machine more.site login me password p@ss\n")
    return {
        "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"),
        "SSL_CERT_FILE": str(tmp_path / "ca.crt"),
        "HOME": str(tmp_path),
        "NETRC": str(tmp_path / "netrc"),
        "https_proxy": "http://proxy.site:3128",
        "XDG_CONFIG_DIRS": str(tmp_path),
    }


def test_pips_settings_proxies_and_authorities_are_found(env: dict[str, str]) -> None:
    """For pip and for uv; with the password that netrc has; folders of this machine are named as left out."""
    found = network.find(NetworkSpec(), env)
    assert found.variables["PIP_INDEX_URL"] == found.variables["UV_DEFAULT_INDEX"] == "https://index.site/simple"
    assert found.variables["UV_INDEX"] == "https://me:p%40ss@more.site/simple"
    assert found.variables["HTTPS_PROXY"] == "http://proxy.site:3128"
    assert found.variables["UV_INSECURE_HOST"] == "index.site"
    assert found.authorities == CERTIFICATE.format("AAA") + CERTIFICATE.format("BBB"), "each once, no comments"
    assert "a build can't reach folders" in found.notes[0]


def test_bake_yaml_wins(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "own.crt").write_text(CERTIFICATE.format("CCC"))
    spec = NetworkSpec(
        index_url="https://own/simple",
        ca_bundle=str(tmp_path / "own.crt"),
        proxy="http://p:1",
        torch_index_url="https://torch/cpu",
    )
    found = network.find(spec, env)
    assert found.variables["PIP_INDEX_URL"] == "https://own/simple"
    assert found.variables["UV_INDEX"].split()[-1] == "https://torch/cpu"
    assert found.variables["https_proxy"] == "http://p:1"
    assert found.authorities == CERTIFICATE.format("CCC")


def test_a_file_that_is_not_there_is_named(env: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="no such file: /nowhere/ca") as caught:
        network.find(NetworkSpec(ca_bundle="/nowhere/ca"), env)
    assert caught.value.where == "bake.yaml: network.ca_bundle"


def test_a_bundle_that_no_secret_can_hold_is_said_so(env: dict[str, str], tmp_path: Path) -> None:
    """BuildKit's limit would show as a step that trusts nobody."""
    (tmp_path / "ca.crt").write_text("".join(CERTIFICATE.format(f"{k:050}") for k in range(6000)))
    with pytest.raises(MissingError, match="a build secret may have 500"):
        network.find(NetworkSpec(), env)


def test_secrets_are_files_of_this_user_alone_and_go_afterwards(env: dict[str, str]) -> None:
    with network.secrets(network.find(NetworkSpec(), env)) as paths:
        for path in map(Path, paths.values()):
            assert path.stat().st_mode & 0o777 == 0o600
            assert path.parent.stat().st_mode & 0o777 == 0o700
        assert "UV_DEFAULT_INDEX=https://index.site/simple" in Path(paths["BAKE_SITE"]).read_text()
    assert not Path(paths["BAKE_CA"]).parent.exists()
