"""The site's network for build steps: the CA bundle, proxy and package index that this machine has.

They reach a build as BuildKit secrets, from files in a private folder. No argument, layer, history, label or log has them.
"""

from __future__ import annotations

import contextlib
import netrc
import os
import re
import tempfile
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from builder.bootstrap import pip_wheel as pipwheel
from builder.core.config.types import NetworkSpec
from builder.edges.system import files
from builder.errors import ConfigError, MissingError

LARGEST = 500 * 1024
"""The largest BuildKit secret, in bytes (MaxSecretSize in its session/secrets)."""

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")


@dataclass(frozen=True, kw_only=True)
class Site:
    """The site's settings: variables for pip and uv, the CA bundle's text, and notes about what is left out."""

    variables: Mapping[str, str]
    authorities: str
    notes: tuple[str, ...]


def find(spec: NetworkSpec, env: Mapping[str, str]) -> Site:
    """The settings of pip, the environment and bake.yaml; later ones override earlier ones.

    Raises:
        ConfigError: bake.yaml names a file that isn't there.
        MissingError: the CA bundle is too large for a secret.
    """
    for name in ("ca_bundle", "pip_conf"):
        path = getattr(spec, name)
        if path and not files.expanded(path).is_file():
            raise ConfigError(f"no such file: {path}", where=f"bake.yaml: network.{name}")
    if spec.pip_conf:
        env = {**env, "PIP_CONFIG_FILE": str(files.expanded(spec.pip_conf))}
    known = pipwheel.settings(env)
    notes = []
    indexes = [spec.index_url or known.get("index-url", ""), *known.get("extra-index-url", "").split()]
    if known.get("find-links") or any(_local(i) for i in indexes):
        notes.append("a build can't reach folders of packages on this machine; it asks the indexes")
    main, *more = [_signed(i, env) if i and not _local(i) else "" for i in indexes]
    more = [m for m in [*more, _signed(spec.torch_index_url, env) if spec.torch_index_url else ""] if m]
    # Every package is pinned by hash: it doesn't matter which index has it.
    variables = {
        "PIP_DEFAULT_TIMEOUT": "60",
        "UV_HTTP_TIMEOUT": "120",
        "UV_HTTP_CONNECT_TIMEOUT": "30",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }
    if main:
        variables |= {"PIP_INDEX_URL": main, "UV_DEFAULT_INDEX": main}
    if more:
        variables |= {"PIP_EXTRA_INDEX_URL": " ".join(more), "UV_INDEX": " ".join(more)}
    if trusted := known.get("trusted-host"):
        variables |= {"PIP_TRUSTED_HOST": trusted, "UV_INSECURE_HOST": trusted}
    for name in PROXIES:
        if value := env.get(name) or env.get(name.lower()):
            variables |= {name: value, name.lower(): value}
    if proxy := spec.proxy or known.get("proxy"):
        address = proxy if "://" in proxy else f"http://{proxy}"
        variables |= {"PIP_PROXY": address}
        variables |= dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), address)
    if endpoint := env.get("HF_ENDPOINT"):
        variables["HF_ENDPOINT"] = endpoint
    return Site(variables=variables, authorities=_authorities(spec, env), notes=tuple(notes))


@contextlib.contextmanager
def secrets(site: Site) -> Iterator[dict[str, str]]:
    """Files for docker-bake.json's variables, in a temporary folder that only this user can read."""
    with tempfile.TemporaryDirectory(prefix="whisperbake-", dir=_memory()) as folder:
        paths = {"BAKE_SITE": Path(folder) / "site", "BAKE_CA": Path(folder) / "ca.crt"}
        texts = {
            "BAKE_SITE": "".join(f"{name}={value}\n" for name, value in sorted(site.variables.items())),
            "BAKE_CA": site.authorities,
        }
        for name, path in paths.items():
            path.touch(mode=0o600)
            path.write_text(texts[name])
        yield {name: str(path) for name, path in paths.items()}


def _memory() -> str | None:
    """A folder in memory, if there is one: nothing is written to a disk."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _local(address: str) -> bool:
    return bool(address) and not re.match(r"https?://", address)


def _signed(address: str, env: Mapping[str, str]) -> str:
    """The address with netrc's name and password for its host."""
    parts = urllib.parse.urlsplit(address)
    if parts.username is not None or not parts.hostname:
        return address
    with contextlib.suppress(OSError, netrc.NetrcParseError):
        if entry := netrc.netrc(env.get("NETRC")).authenticators(parts.hostname):
            user, _, password = entry
            signs = ":".join(urllib.parse.quote(part or "", safe="") for part in (user, password))
            return urllib.parse.urlunsplit(parts._replace(netloc=f"{signs}@{parts.netloc}"))
    return address


def _authorities(spec: NetworkSpec, env: Mapping[str, str]) -> str:
    path = spec.ca_bundle or env.get("SSL_CERT_FILE") or pipwheel.certificates(env)
    if not path:
        return ""
    try:
        text = files.expanded(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    pattern = r"-----BEGIN (?:TRUSTED )?CERTIFICATE-----.*?-----END (?:TRUSTED )?CERTIFICATE-----"
    blocks = dict.fromkeys(re.findall(pattern, text, re.DOTALL))
    bundle = "".join(f"{block}\n" for block in blocks)
    if len(bundle) > LARGEST:
        raise MissingError(
            f"the CA bundle has {len(bundle) / 1e3:.0f} kB; a build secret may have 500",
            where=path,
            hint="name a smaller one in bake.yaml: network.ca_bundle",
        )
    return bundle
