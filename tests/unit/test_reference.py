"""Where images go in registries, and what registries say in headers."""

from __future__ import annotations

import pytest

from builder.core.images import reference
from builder.errors import UsageError


def test_a_target_names_its_registry() -> None:
    """Host and path apart; Docker Hub has three names; loopback is this machine alone."""
    found = reference.target("GHCR.io/me/speech/", where="--registry")
    assert (found.host, found.prefix, found.repository("asr")) == ("ghcr.io", "me/speech", "me/speech/asr")
    assert reference.target("r.example:5000", where="").repository("asr") == "asr"
    hub = reference.target("docker.io/me", where="")
    assert hub.address == "registry-1.docker.io"
    assert hub.keys[0] == "https://index.docker.io/v1/"
    local = ["localhost/x", "localhost:5000/x", "127.0.0.1:5000/x", "127.8.9.1/x", "[::1]:5000/x"]
    assert all(reference.target(text, where="").loopback for text in local)
    for text in ("localhost.example/x", "10.0.0.1:5000/x", "r.example/x", "128.0.0.1/x"):
        assert not reference.target(text, where="").loopback


@pytest.mark.parametrize(
    "text",
    [
        "whisperbake",
        "me/speech",
        "https://ghcr.io/me",
        "ghcr.io/Me",
        "ghcr.io/me//x",
        "ghcr.io/../x",
        "ghcr.io/me:tag",
        "r.example:port/x",
        "",
        "-x.example/y",
        "ghcr.io/me$(id)",
    ],
)
def test_what_is_no_target_is_said(text: str) -> None:
    """A bare name would mean Docker Hub to some tools: it is refused, with what was expected."""
    with pytest.raises(UsageError) as raised:
        reference.target(text, where="--registry")
    assert raised.value.where == "--registry"
    assert raised.value.expected


def test_challenges_are_read_as_rfc_9110_writes_them() -> None:
    """Several in one header, quotes and commas inside of values, odd spaces."""
    text = 'Bearer realm="https://auth.example/token",service="r", scope="repository:a:pull,push" , Basic realm="a \\"b\\""'
    assert reference.challenges(text) == {
        "bearer": {"realm": "https://auth.example/token", "service": "r", "scope": "repository:a:pull,push"},
        "basic": {"realm": 'a "b"'},
    }
    assert reference.challenges("") == {}
    assert reference.challenges("Negotiate") == {"negotiate": {}}


@pytest.mark.parametrize(
    ("header", "count"),
    [("0-0", 0), ("0-1048575", 1048576), ("bytes=0-9", 10), ("", None), ("5-9", None), ("0--1", None)],
)
def test_ranges_say_what_has_arrived(header: str, count: int | None) -> None:
    """``0-0`` is what an upload without a byte answers."""
    assert reference.received(header) == count
