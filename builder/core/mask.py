"""Keeps tokens and passwords out of messages, logs and reports: those that this process knows, and what looks like one."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

SECRET = re.compile(
    r"TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|COOKIE|(API|ACCESS|PRIVATE|SIGNING|ENCRYPTION)_?KEY"
    r"|(^|_)(PASS|PAT|AUTH)($|_)",
    re.IGNORECASE,
)
"""Names of environment variables whose values are secrets."""

ELSEWHERE = ("_PATH", "_FILE", "_DIR", "_SOCK", "BAKE_SECRETS")
"""Ends of those names where the value says where a secret is."""

SHORTEST = 6
"""Characters. A shorter value isn't treated as a secret: it would occur everywhere."""

MASK = "***"

_KNOWN: set[str] = set()
"""What this process has read elsewhere: files, Docker's settings, helpers."""


def remember(*secrets: str) -> None:
    """Mask these from now on, too."""
    _KNOWN.update(part for secret in secrets for part in _parts(secret))


def secrets_of(env: Mapping[str, str]) -> list[str]:
    """The secret values of an environment, the longest first. A path to a file with a secret isn't one.

    Also what stands before the ``@`` of an address, whatever the variable is called; and each line of a value of several.
    """
    found = set(_KNOWN)
    for name, value in env.items():
        if SECRET.search(name) and not name.endswith(ELSEWHERE):
            found.update(_parts(value))
            found.update(_logins(value))
        if "@" in value:
            found.update(_passwords(value, bare="PROXY" in name.upper()))
    return sorted((value for value in found if len(value) >= SHORTEST), key=len, reverse=True)


def _parts(value: str) -> Iterator[str]:
    """A value and its lines: what is printed line by line has no other form."""
    yield value.strip()
    yield from (line.strip() for line in value.splitlines())


def _logins(value: str) -> Iterator[str]:
    """Passwords in a variable that holds Docker's settings."""
    for found in re.findall(r'"auth"\s*:\s*"([A-Za-z0-9+/=]+)"', value):
        yield found
        try:
            yield base64.b64decode(found).decode().partition(":")[2]
        except ValueError:
            continue
    yield from re.findall(r'"(?:password|identitytoken|registrytoken)"\s*:\s*"([^"]+)"', value)


def _passwords(value: str, *, bare: bool) -> Iterator[str]:
    """Passwords in addresses, as they stand there and as they are meant; ``bare``: also without ``http://`` before them."""
    for login in re.findall(rf"(?:://{'|^' if bare else ''})([^/\s@]*(?:@[^/\s@]*)*)@", value):
        user, colon, password = login.partition(":")
        secret = password if colon else user
        yield from (secret, re.sub("%([0-9A-Fa-f]{2})", lambda m: chr(int(m[1], 16)), secret))


def masked(text: str, secrets: Iterable[str]) -> str:
    """The text without those secrets, however they are spelled in it, and without what looks like a secret.

    Args:
        secrets: as :func:`secrets_of` gives them.
    """
    if (known := _pattern(tuple(secrets))) is not None:
        text = known.sub(MASK, text)
    for pattern, instead in LOOKS:
        text = pattern.sub(instead, text)
    return text


_LOGIN = r"""[^/\s'"<>?#]*@|[^/\s'"<>@:]*:(?!\d{1,5}(?:[/\s'"]|$))[^\s'"<>]*?@"""
"""Before a host: up to the last ``@`` of its part of the address; or a password that has a slash."""

LOOKS: tuple[tuple[re.Pattern[str], str], ...] = (
    # Tokens of the hub; a long one also behind a letter, which may be the end of an escape.
    (re.compile(r"\bhf_[A-Za-z0-9]{6,}|\bhf_(?:oauth|jwt)_[\w.-]{6,}|(?:hf_|api_org_)[A-Za-z0-9]{30,}"), MASK),
    # Of registries and forges, whose answers hold them: JSON web tokens, and words that begin with their kind.
    (re.compile(r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?"), MASK),
    (re.compile(r"(?:gh[pousr]_|github_pat_|glpat-|gldt-|dckr_(?:pat|oat)_)[A-Za-z0-9_-]{16,}"), MASK),
    # Names and passwords in addresses; in JSON a slash may have a backslash, and a whole address may be part of another.
    (re.compile(rf"(://|:\\/\\/)(?:{_LOGIN})"), rf"\1{MASK}@"),
    (re.compile(r"(?i)(%3A%2F%2F)(?:(?!%2F|%40)[^\s&'\"])+%40"), rf"\1{MASK}%40"),
    # Headers.
    (
        re.compile(
            r"(?i)\b((?:proxy-)?authorization|(?:set-)?cookie|(?:x-)?(?:auth|api|private|job)-?(?:token|key))"
            r"(['\"]?\s*[:=,]\s*(?:b?['\"])?)(?:(?:basic|bearer|token|digest)\s+)?[^\s'\",]+"
        ),
        rf"\1\2{MASK}",
    ),
    (re.compile(r"\b(Basic|Bearer) +(?=[^\s.]*[0-9=+/_])[A-Za-z0-9+/=._~-]{8,}"), rf"\1 {MASK}"),
    # Queries, options and assignments.
    (
        re.compile(
            r"(?i)([?&;#][\w.-]*(?:token|secret|password|passwd|signature|credential|api_?key|access_?key)[\w.-]*="
            r"|[?&;#](?:sig|key|auth|pwd)=)[^&\s'\"<>#]+"
        ),
        rf"\1{MASK}",
    ),
    (re.compile(r"([\"'][\w-]*(?:token|password|secret)[\"']\s*:\s*[\"'])[^\"']{6,}", re.IGNORECASE), rf"\1{MASK}"),
    (re.compile(r"(--[\w-]*(?:password|passwd|token)(?:=|\s+))(?:'[^']*'|[^\s-]\S*)"), rf"\1{MASK}"),
    (re.compile(r"\b([A-Z][A-Z0-9_]*(?:TOKEN|PASSWORD|PASSWD|SECRET|API_KEY)=)['\"]?[^\s'\",;…]{6,}"), rf"\1{MASK}"),
)
"""What looks like a secret, and what takes its place."""


@lru_cache(maxsize=4)
def _pattern(secrets: tuple[str, ...]) -> re.Pattern[str] | None:
    """What finds secrets in all their forms, the longest first."""
    forms = {form for secret in secrets for form in _forms(secret) if len(form) >= SHORTEST}
    return re.compile("|".join(map(re.escape, sorted(forms, key=len, reverse=True)))) if forms else None


def _forms(secret: str) -> Iterator[str]:
    """A secret as text, in addresses, in JSON, in Python, in a shell's and in HTML's quotes, in hex, within base64."""
    data = secret.encode(errors="surrogateescape")
    yield secret
    for kept in ("-._~", "-._~/"):  # with and without the slash
        encoded = "".join(
            chr(b) if chr(b).isascii() and (chr(b).isalnum() or chr(b) in kept) else f"%{b:02X}" for b in data
        )
        yield from (encoded, encoded.replace("%20", "+"), re.sub("%..", lambda m: m[0].lower(), encoded))
    yield from (
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        json.dumps(secret)[1:-1].replace("/", r"\/"),
    )
    yield from (repr(secret)[1:-1], repr(data)[2:-1], secret.replace("'", "'\"'\"'"))
    escaped = secret.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    yield from (
        escaped,
        escaped.replace('"', "&#34;").replace("'", "&#39;"),
        escaped.replace('"', "&quot;").replace("'", "&#x27;"),
    )
    yield from (data.hex(), data.hex().upper())
    for before in range(3):  # base64 of a text in which it stands: what depends on it alone
        inner = base64.b64encode(b"\0" * before + data).decode().rstrip("=")
        whole = inner[(0, 2, 3)[before] : len(inner) - (0 if (before + len(data)) % 3 == 0 else 1)]
        if len(whole) >= 8:
            yield from (whole, whole.replace("+", "-").replace("/", "_"))
