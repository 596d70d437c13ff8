"""One file from an address that a person named: within bounds, from nowhere else, from no machine of the inner network."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder import __version__
from builder.edges.system import files, http
from builder.errors import MissingError, SourceError, UsageError

if TYPE_CHECKING:
    import httpx

REDIRECTS = 5
"""Within one host."""

NAT64 = ipaddress.ip_network("64:ff9b::/96")

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

    where = shown(url)
    for _ in range(REDIRECTS + 1):
        try:
            with _answer(url, private=private) as answer:
                if answer.is_redirect:
                    url = _next(url, answer.headers.get("Location", ""))
                    continue
                if answer.status_code != 200:
                    raise SourceError(f"the server answered {answer.status_code}", where=where)
                _write(answer, target, on_bytes)
                return
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError) as error:
            raise SourceError(f"it could not be read to its end: {http.short(error)}", where=where) from None
    raise SourceError(f"more than {REDIRECTS} redirects", where=where)


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
    target = urllib.parse.urljoin(url, location)
    old, new = urllib.parse.urlsplit(url), urllib.parse.urlsplit(target)
    if new.scheme not in ("http", "https") or new.hostname != old.hostname or new.username is not None:
        raise SourceError(
            f"it leads to another host: {new.hostname or location[:80]}", where=shown(url), hint="give that address"
        )
    if (old.scheme, new.scheme) == ("https", "http"):
        raise SourceError("it leads from https to http", where=shown(url))
    return target


@contextmanager
def _answer(url: str, *, private: bool) -> Iterator[httpx.Response]:
    """The server's answer, its body not read yet.

    Names are looked up here, and the address that was looked at is the one that is asked: a name that means another
    machine the second time is of no use. Through a proxy, which looks them up itself, only plain addresses are looked at.
    """
    import httpx

    parts = urllib.parse.urlsplit(url)
    host, port = str(parts.hostname), parts.port or {"http": 80, "https": 443}[parts.scheme]
    proxied = parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host)
    addresses = [host] if proxied else _addresses(host, port)
    for address in addresses:
        if not private and _inner(address):
            raise UsageError(
                f"{host} is not a public address", where=shown(url), hint=f"--allow-url {host}, if it is meant"
            )
    options: dict[str, Any] = {"headers": {"Host": parts.netloc}, "extensions": {"sni_hostname": host}}
    with httpx.Client(
        verify=ssl.create_default_context(),
        trust_env=proxied,
        timeout=http.PATIENCE,
        headers={"User-Agent": f"whisperbake/{__version__}", "Accept-Encoding": "identity"},
    ) as client:
        for k, address in enumerate(addresses):
            asked = url if proxied else str(httpx.URL(url).copy_with(host=address))
            try:
                answer = client.send(client.build_request("GET", asked, **({} if proxied else options)), stream=True)
            except httpx.ConnectError:
                if k + 1 == len(addresses):
                    raise
                continue
            try:
                yield answer
            finally:
                answer.close()
            return


def _addresses(host: str, port: int) -> list[str]:
    """What a name means.

    Raises:
        SourceError: nothing.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise SourceError(f"no such host ({error.strerror})", where=host) from None
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _inner(address: str) -> bool:
    """Whether an address is of this machine or of a network behind it; a name is not an address."""
    try:
        number = ipaddress.ip_address(address.split("%")[0])
    except ValueError:
        return False
    number = getattr(number, "ipv4_mapped", None) or number
    return any(not each.is_global or each.is_multicast for each in (number, *_within(number)))


def _within(number: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Iterator[ipaddress.IPv4Address]:
    """The IPv4 addresses that an IPv6 address leads to: by 6to4, Teredo or NAT64 (RFC 6052)."""
    if isinstance(number, ipaddress.IPv6Address):
        yield from (each for each in (number.sixtofour, *(number.teredo or ())) if each is not None)
        if number in NAT64:
            yield ipaddress.IPv4Address(int(number) & 0xFFFF_FFFF)


def _write(answer: httpx.Response, target: Path, on_bytes: Callable[[int, int | None], None]) -> None:
    length = answer.headers.get("Content-Length", "")
    total = int(length) if length.isdecimal() and len(length) <= 20 else None
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
