"""What every HTTP client here shares: who can be reached, what an origin is, how long a server asks us to wait."""

from __future__ import annotations

import contextlib
import email.utils
import re
import threading
import time
import urllib.parse
from collections.abc import Mapping

from builder.errors import SourceError

PATIENCE = 10.0
"""Seconds without an answer, or without one more byte, until a source is given up."""


REACH = 6.0
"""Seconds until an address that doesn't answer at all is given up: with the look at gates before it, less than ten."""


LONGEST = 8000
"""Characters of an address: links of content hosts are long, for they are signed."""

HOPS = 5
"""Redirects that are followed for one answer."""


def reach(
    address: str, down: set[str], *, patience: float = PATIENCE, named: str = "", env: Mapping[str, str] | None = None
) -> None:
    """Ask once; any HTTP answer is an answer. Remembers in ``down`` who did not.

    In a thread, because neither a name that is being resolved nor ten addresses tried in turn know our limit.

    Args:
        named: the address that a person named, where it is its server that leads to this one.

    Raises:
        SourceError: nobody answers there within ``patience`` seconds, or ``REACH``, now or earlier in this run.
    """
    named = origin(address)  # without a name and a password that may stand in it
    if address in down:
        raise SourceError(f"{named} could not be reached")
    limit = min(REACH, patience)
    failed: list[BaseException] = []

    def ask() -> None:
        from builder.edges.system import answers

        try:
            answers.shared(named or address, env).head(address, timeout=limit)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody answered; the caller says it
            failed.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(limit)
    if thread.is_alive() or failed:
        down.add(address)
        why = short(failed[0]) if failed else f"no answer in {limit:.0f} s"
        raise SourceError(f"{named} could not be reached ({why})")


def insecure_hosts(env: Mapping[str, str]) -> frozenset[str]:
    """BAKE_INSECURE_HOSTS: ``host`` or ``host:port``, with commas or blanks between."""
    return frozenset(env.get("BAKE_INSECURE_HOSTS", "").lower().replace(",", " ").split())


def origin(url: str) -> str:
    """``https://host:port``: what a token belongs to."""
    parts = urllib.parse.urlsplit(url.lower())
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}:{port}"


def redirected(url: str, location: str) -> str:
    """The address that a redirect names.

    Raises:
        SourceError: it doesn't name one that may be followed.
    """
    try:
        target = urllib.parse.urljoin(url, location)
        old, new = urllib.parse.urlsplit(url), urllib.parse.urlsplit(target)
        usable = bool(location and new.scheme in ("http", "https") and new.hostname and origin(target))
    except ValueError:
        usable = False
    if not usable or not target.isascii() or len(target) > LONGEST:
        raise SourceError("it redirects without an address")
    if new.username is not None:
        raise SourceError("it redirects to an address with a user or a password")
    if (old.scheme, new.scheme) == ("https", "http"):
        raise SourceError(f"it redirects from https to http: {new.hostname}")
    return target


def number(text: str) -> int | None:
    """A count of bytes in a header; None for anything else, or for more than any file has."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 20 else None


def retry_after(value: str) -> float:
    """Seconds of a Retry-After header: a number or a date (RFC 9110); 0 for anything else, or for a date that is past."""
    if re.fullmatch(r"\d{1,9}(\.\d*)?", value.strip()):
        return float(value)
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return 0.0


def short(error: BaseException) -> str:
    """The first line of an error, or its name."""
    text = str(getattr(error, "reason", None) or error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
