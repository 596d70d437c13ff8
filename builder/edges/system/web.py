"""One file from an address that a person named: within bounds, from nowhere else, from no machine of the inner network."""

from __future__ import annotations

import ssl
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from builder.edges.system import files, http
from builder.errors import MissingError, SourceError, UsageError
from builder.program import shell_word

if TYPE_CHECKING:
    import httpx

EVERY = 64 << 20
"""Bytes after which the disk is looked at."""


def download(url: str, target: Path, *, private: bool, on_bytes: Callable[[int, int | None], None]) -> None:
    """Write what is at an address to a file that isn't there yet.

    Args:
        private: addresses that aren't public may be asked too: the host was named.
        on_bytes: hears the bytes so far, and of how many, where the server says it.

    Raises:
        UsageError: it leads to an address that isn't public.
        SourceError: nobody answers, another host is meant, there is no such file, or it broke off.
        MissingError: it doesn't fit on the disk.
    """
    import httpx

    from builder.edges.system import answers

    where = shown(url)
    try:
        with answers.client(url, public=not private) as client:
            for _ in range(http.HOPS + 1):
                with client.stream("GET", url, extensions=answers.FILE) as answer:
                    if answer.is_redirect:
                        url = _next(url, answer.headers.get("Location", ""))
                        continue
                    if answer.status_code != 200:
                        raise SourceError(f"the server answered {answer.status_code}", where=where)
                    _write(answer, target, on_bytes)
                    return
    except answers.Inner as error:
        raise UsageError(
            http.short(error), where=where, hint=f"--allow-url {shell_word(host_of(url))}, if it is meant"
        ) from None
    except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError) as error:
        raise SourceError(f"it could not be read to its end: {http.short(error)}", where=where) from None
    raise SourceError(f"more than {http.HOPS} redirects", where=where)


def shown(url: str) -> str:
    """An address without what may be a secret: no user, no password, no query."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rsplit("@", 1)[-1], parts.path, "", ""))


def host_of(url: str) -> str:
    """The host of an address that can be asked.

    Raises:
        UsageError: it is not an address, or has a password in it.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urllib.parse.urlsplit("")
    if not host or parts.scheme not in ("http", "https"):
        raise UsageError("this is not an address", where=shown(url) if host else url[:80], expected="https://HOST/FILE")
    if parts.username is not None:
        raise UsageError("an address with a user or a password is not read", where=shown(url))
    return host.lower()


def _next(url: str, location: str) -> str:
    """Where a redirect leads.

    Raises:
        SourceError: to another host, or out of TLS.
    """
    target = http.redirected(url, location)
    host = host_of(target)
    if host != host_of(url):
        raise SourceError(f"it leads to another host: {host}", where=shown(url), hint="give that address")
    return target


def _write(answer: httpx.Response, target: Path, on_bytes: Callable[[int, int | None], None]) -> None:
    total = http.number(answer.headers.get("Content-Length", ""))
    files.require_room({target.parent: total or 0}, "set BAKE_JOBS to a folder on another disk")
    write_bounded(answer.iter_raw(files.CHUNK), target, lambda done: on_bytes(done, total))


def write_bounded(chunks: Iterator[bytes], target: Path, on_bytes: Callable[[int], None]) -> None:
    """Write what comes in, for as long as the disk has room for more.

    Raises:
        MissingError: it hasn't. Nothing is kept.
    """

    def bounded() -> Iterator[bytes]:
        done, looked = 0, 0
        for chunk in chunks:
            done += len(chunk)
            if done - looked >= EVERY:
                looked = done
                files.require_room({target.parent: EVERY}, "set BAKE_JOBS to a folder on another disk")
            yield chunk

    try:
        files.copy_hashed(bounded(), target, on_bytes)
    except OSError as error:
        if files.disk_full(error):
            raise MissingError("the disk is full", where=str(target.parent), hint="free some space") from error
        raise
