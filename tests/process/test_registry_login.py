"""Logins for a registry: config.json and helpers, bearer tokens, certificates of one's own."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.edges.registry import credentials
from builder.edges.registry import http as registry_http
from builder.edges.registry.credentials import Login
from builder.errors import ConfigError, MissingError, SourceError
from tests.process.registry_server import PASSWORD, USER, Server, Tokens, certificate, tokens
from tests.process.registry_server import registry as run_registry
from tests.process.test_push import MIB, Bytes, connected, run


def config(folder: Path, value: object) -> dict[str, str]:
    """An environment whose Docker settings are these."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(value if isinstance(value, str) else json.dumps(value))
    return {"DOCKER_CONFIG": str(folder), "PATH": f"{folder}:{os.environ['PATH']}"}


def helper(folder: Path, text: str) -> None:
    """A credential helper, ``docker-credential-tests``: a shell script."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "docker-credential-tests"
    path.write_text(f'#!/bin/sh\n[ "$1" = get ] || exit 9\nread -r server\n{text}\n')
    path.chmod(0o755)


def test_logins_are_found_where_docker_login_puts_them(tmp_path: Path) -> None:
    """By host, under the old address form, for Docker Hub; an identity token; none."""
    pair = base64.b64encode(b"baker:pass:word").decode()
    env = config(
        tmp_path,
        {
            "auths": {
                "r.example:5000": {"auth": pair},
                "https://old.example/v1/": {"auth": pair},
                "https://index.docker.io/v1/": {"auth": pair},
                "id.example": {"auth": pair, "identitytoken": "abc"},
                "no.example": {},
            }
        },
    )
    login = Login(user="baker", secret="pass:word")
    for keys in (("r.example:5000",), ("old.example",), ("https://index.docker.io/v1/", "docker.io")):
        assert credentials.find(keys, env) == login
    assert credentials.find(("id.example",), env) == Login(user="<token>", secret="abc", identity=True)
    assert credentials.find(("no.example",), env) is None
    assert credentials.find(("r.example",), {"DOCKER_CONFIG": str(tmp_path / "none")}) is None
    assert "word" not in repr(login)


def test_a_helper_is_asked_as_docker_asks_it(tmp_path: Path) -> None:
    """The server on standard input; ``<token>`` means an identity token; none is no error, a failure is."""
    env = config(tmp_path, {"credHelpers": {"r.example": "tests"}, "credsStore": "absent"})
    helper(tmp_path, 'echo "{\\"ServerURL\\":\\"$server\\",\\"Username\\":\\"u\\",\\"Secret\\":\\"from $server\\"}"')
    assert credentials.find(("r.example",), env) == Login(user="u", secret="from r.example")
    helper(tmp_path, 'echo \'{"Username":"<token>","Secret":"t"}\'')
    assert credentials.find(("r.example",), env) == Login(user="<token>", secret="t", identity=True)
    helper(tmp_path, 'echo "credentials not found in native keychain"; exit 1')
    assert credentials.find(("r.example",), env) is None
    helper(tmp_path, 'echo "the keyring is locked" >&2; exit 1')
    with pytest.raises(MissingError, match="keyring is locked"):
        credentials.find(("r.example",), env)
    with pytest.raises(MissingError, match="docker-credential-absent"):
        credentials.find(("other.example",), env)


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": {"r.example": {"auth": "%"}}}', '{"credsStore": "../x"}'])
def test_settings_that_are_none_are_said(tmp_path: Path, text: str) -> None:
    """Exit 2, with the file."""
    with pytest.raises(ConfigError) as raised:
        credentials.find(("r.example",), config(tmp_path, text))
    assert str(tmp_path / "config.json") in str(raised.value.where)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[tuple[Server, Tokens]]:
    """A registry that asks for bearer tokens."""
    with tokens(tmp_path / "tokens") as giver, run_registry(tmp_path / "registry", auth=giver.settings) as server:
        yield server, giver


@pytest.mark.parametrize(
    "login", [Login(user=USER, secret=PASSWORD), Login(user="x", secret="identity", identity=True)]
)
def test_a_bearer_token_is_fetched_for_what_is_done(
    guarded: tuple[Server, Tokens], tmp_path: Path, login: Login
) -> None:
    """One a repository, with the other repository's where a blob is mounted; a new one when it has run out."""
    server, giver = guarded
    blobs = Bytes()
    shared = blobs.random(60, 5 * MIB)
    images = [blobs.image("a", shared), blobs.image("b", shared)]
    servers = (giver.host,)
    steps = run(server.host, tmp_path, blobs, *images, login=login, token_servers=servers)
    assert set(steps[1][0].mount) == {shared.digest}
    assert [sent for _, sent in steps] == [sum(b.size for b in images[0].blobs), images[1].blobs[-1].size]
    prefix = connected(server.host, tmp_path)[1].prefix
    both = {f"repository:{prefix}/b:pull,push", f"repository:{prefix}/a:pull"}
    assert both in giver.scopes
    assert (giver.posts > 0) == login.identity
    found, where, _ = connected(server.host, tmp_path, login, token_servers=servers)
    assert found.has(where.repository("a"), shared)
    found._http._tokens = dict.fromkeys(found._http._tokens, "Bearer old.old.old")
    assert found.has(where.repository("a"), shared)


def test_a_login_that_the_token_server_refuses_is_exit_4(guarded: tuple[Server, Tokens], tmp_path: Path) -> None:
    """With what to type, and without the password."""
    blobs = Bytes()
    login = Login(user=USER, secret="stale horse")
    with pytest.raises(SourceError, match="no right to push") as raised:
        run(guarded[0].host, tmp_path, blobs, blobs.image("a"), login=login, token_servers=(guarded[1].host,))
    assert raised.value.hint == f"docker login {guarded[0].host}"
    assert "horse" not in repr(vars(raised.value))


def test_no_login_goes_where_a_server_sends_it(guarded: tuple[Server, Tokens], tmp_path: Path) -> None:
    """Another port is another server. The error says what to type, if it is meant."""
    server, giver = guarded
    with pytest.raises(SourceError, match=f"to be sent to {giver.host}") as raised:
        run(server.host, tmp_path, Bytes(), Bytes().image("a"), login=Login(user=USER, secret=PASSWORD))
    assert f"--token-server {giver.host}" in str(raised.value.hint)
    assert giver.scopes == []


def test_https_is_checked_against_the_sites_own_authorities(tmp_path: Path) -> None:
    """Unknown certificates are refused, also on this machine; bake.yaml's are trusted; plain HTTP isn't fallen back to."""
    pair = certificate(tmp_path / "tls", "registry")
    blobs = Bytes()
    with run_registry(tmp_path / "registry", tls=pair) as server:
        image = blobs.image("secure", blobs.random(70, 5 * MIB))
        with pytest.raises(SourceError) as raised:
            run(server.host, tmp_path, blobs, image)
        assert "ca_bundle" in (raised.value.hint or "")
        run(server.host, tmp_path, blobs, image, authorities=pair[0].read_text())
        assert image.manifest.digest in server.blobs()


def test_no_login_goes_over_a_line_that_others_can_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain HTTP for another machine only where the engine calls it insecure."""
    import httpx

    from builder.core.images.reference import target

    tried: list[str] = []

    def request(_: httpx.Client, method: str, url: str, **options: object) -> httpx.Response:
        tried.append(url)
        raise httpx.ConnectError("nobody is there")

    monkeypatch.setattr(httpx.Client, "request", request)
    for insecure in (False, True):
        with pytest.raises(SourceError, match="no registry answers"):
            registry_http.connect(
                target("registry.invalid:5000/x", where=""),
                login=None,
                authorities="",
                stop=registry_http.StopSignal(),
                insecure=lambda answer=insecure: answer,  # type: ignore[misc]
            )
    tls, plain = "https://registry.invalid:5000/v2/", "http://registry.invalid:5000/v2/"
    assert tried == [tls, tls, plain]
