"""What no message may show."""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
import urllib.parse
from collections.abc import Callable
from functools import partial

import markupsafe
import pytest

from builder.core import mask
from builder.core.mask import masked, secrets_of


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests of this process read secrets, too."""
    monkeypatch.setattr(mask, "_KNOWN", set())


@pytest.mark.parametrize(
    "name", ["HF_TOKEN", "registry_password", "DB_PASSWD", "API_KEY", "APIKEY", "MY_SECRET", "AWS_CREDENTIALS"]
)
def test_names_that_mean_a_secret(name: str) -> None:
    assert secrets_of({name: " value1 ", "OTHER": "visible"}) == ["value1"]


@pytest.mark.parametrize("name", ["HF_TOKEN_PATH", "PASSWORD_FILE", "SECRET_DIR", "BAKE_SECRETS", "HOME", "PATH"])
def test_a_path_to_a_secret_is_none(name: str) -> None:
    assert secrets_of({name: "/run/secrets"}) == []


def test_six_characters_are_a_secret_and_five_are_not() -> None:
    """A shorter one would be found in every message."""
    assert secrets_of({"A_TOKEN": "sixsix", "B_TOKEN": "five5"}) == ["sixsix"]


def test_the_longest_is_masked_first() -> None:
    """One secret may be the beginning of another."""
    secrets = secrets_of({"A_TOKEN": "abcdef", "B_TOKEN": "abcdefghi"})
    assert secrets == ["abcdefghi", "abcdef"]
    assert masked("x abcdefghi y abcdef z", secrets) == "x *** y *** z"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("token hf_AbC123 was refused", "token *** was refused"),
        ("hf_AbC12", "hf_AbC12"),  # too short for one
        ("xhf_AbC123", "xhf_AbC123"),
        ("https://me:pass@host/x and http://you@other/", "https://***@host/x and http://***@other/"),
        ("https://host/a@b", "https://host/a@b"),
        ("me@host", "me@host"),
        ("'https://host' me@x", "'https://host' me@x"),
    ],
)
def test_tokens_and_logins_are_masked_wherever_they_stand(text: str, shown: str) -> None:
    assert masked(text, []) == shown


SECRETS = (
    *("plain-s3cret", "Pa55/w'ö\"rd+x &y", "back\\slash%20", "<tag>&amp;", "first-line\nlines-of-it"),
    "漢字の密碼です",
)

SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in an address": lambda s: urllib.parse.quote(s, safe=""),
    "in a path": urllib.parse.quote,
    "in a form": urllib.parse.quote_plus,
    "in JSON": json.dumps,
    "in JSON of letters": lambda s: json.dumps(s, ensure_ascii=False),
    "in Python": repr,
    "in Python's bytes": lambda s: repr(s.encode()),
    "in a shell": shlex.quote,
    "in HTML": html.escape,
    "in a page": lambda s: str(markupsafe.escape(s)),
    "in hex": lambda s: s.encode().hex(),
    "line by line": lambda s: "\n  | ".join(s.splitlines()),
    **{
        f"in base64, {k} before": partial(lambda k, s: base64.b64encode(b"u" * k + s.encode()).decode(), k)
        for k in range(4)
    },
    "in base64 for addresses": lambda s: base64.urlsafe_b64encode(b"me:" + s.encode() + b"tail").decode(),
    "in base64 behind Basic": lambda s: "Basic " + base64.b64encode(f"me:{s}".encode()).decode(),
}


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_secret_is_masked_however_it_is_spelled(spelling: str, secret: str) -> None:
    """Of base64 the letters may stay that its neighbours have a part in."""
    shown = masked(f"[{SPELLINGS[spelling](secret)}]", secrets_of({"MY_PASSWORD": secret}))
    left = re.sub(r"Basic |\*\*\*|[\[\]'\"|\s]|^\[b'", "", shown)
    assert "***" in shown
    assert len(left) <= (12 if "base64" in spelling else 1), shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://a:p@ss@host/x", "http://***@host/x"),
        ("http://a:p/ss@host/x", "http://***@host/x"),
        ("https://host:8080/a@b", "https://host:8080/a@b"),
        ("https%3A%2F%2Fme%3Apass%40host", "https%3A%2F%2F***%40host"),
        (r"http:\/\/me:pw@host", r"http:\/\/***@host"),
        ("https://h/x?token=abc123&y=1#access_token=d", "https://h/x?token=***&y=1#access_token=***"),
        ("https://h/x?X-Amz-Signature=ab&X-Amz-Date=1", "https://h/x?X-Amz-Signature=***&X-Amz-Date=1"),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: ***"),
        ("{'authorization': b'Bearer abc.def'}", "{'authorization': b'***'}"),
        ("Proxy-Authorization: abcdef, Accept: x", "Proxy-Authorization: ***, Accept: x"),
        ('{"token": "abcdefgh", "expires_in": 300}', '{"token": "***", "expires_in": 300}'),
        ("eyJhbGciOiJI.eyJzdWIiOiIx.abc", "***"),
        ("run: docker login --password hunter22 -u x", "run: docker login --password *** -u x"),
        ("docker login --password-stdin host", "docker login --password-stdin host"),
        ("HF_TOKEN=abcdefgh python3", "HF_TOKEN=*** python3"),
        ("set HF_TOKEN=… or BAKE_SECRETS=/run/x", "set HF_TOKEN=… or BAKE_SECRETS=/run/x"),
        ("Basic subtitles. Bearer of news.", "Basic subtitles. Bearer of news."),
        (repr(b"\nhf_" + b"a" * 34), r"b'\n***'"),
        ("sha256:" + "a" * 64, "sha256:" + "a" * 64),
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str, shown: str) -> None:
    """And nothing else: a digest, a port, prose."""
    assert masked(text, []) == shown


def test_an_address_with_a_password_is_known_whatever_its_variable_is_called() -> None:
    env = {"HTTPS_PROXY": "http://bob:sw0rd%21fish@proxy:1", "PIP_PROXY": "eve:barepass@proxy", "MAIL": "me@example"}
    assert set(secrets_of(env)) == {"sw0rd%21fish", "sw0rd!fish", "barepass"}


def test_dockers_settings_in_a_variable_are_known() -> None:
    auth = base64.b64encode(b"me:registry-pass").decode()
    known = secrets_of({"DOCKER_AUTH_CONFIG": json.dumps({"auths": {"host": {"auth": auth}}})})
    assert {auth, "registry-pass"} <= set(known)


def test_what_was_read_elsewhere_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The secrets file, the hub client's own, Docker's logins."""
    monkeypatch.setattr(mask, "_KNOWN", set[str]())
    mask.remember("of-a-file", "short")
    assert secrets_of({}) == ["of-a-file"]
