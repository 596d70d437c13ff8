"""The door for answers from a network: bounded in bytes and in time, and secrets go nowhere but where they belong.

Every HTTP client is made here (tests/unit/test_architecture.py). A client is for one address, which a person named: the hub,
a registry, a recording's host. What a server names is only followed, and is told nothing: no token, no login, no cookie.

- An answer is read up to ``LARGEST`` bytes, unless the request says that it is a file (``FILE``): then its reader counts.
- Nothing is unpacked: no compression is asked for, and one that comes anyway stays what it is.
- A redirect's body isn't read. Redirects are followed by :func:`ask`, never by httpx.
- Time counts from the first byte on, and only while it is waited for: ``WHOLE`` seconds for an answer, and ``LEAST`` bytes in
  each ``WINDOW`` seconds of a file. Until the first byte, the request's own timeout counts.
- A server can't lead into a network that is nearer than the one it is in itself: from the internet to the inner network, or
  from there to this machine. Names are looked up here, and the address that was looked at is the one that is asked.
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import socket
import ssl
import time
import urllib.parse
import urllib.request
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

import httpcore
import httpx

from builder import __version__
from builder.edges.system import http
from builder.errors import SourceError

LARGEST = 4 << 20
"""Bytes of an answer that isn't a file."""

HEAD = 128 << 10
"""Bytes until the headers end, with all that comes before the answer itself (1xx)."""

WHOLE = 60.0
"""Seconds of waiting for an answer that isn't a file, from its first byte to its last."""

WINDOW = 30.0
"""Seconds of waiting in which ``LEAST`` bytes of a file must come."""

LEAST = 8 << 10
"""Bytes: a line that is shared by many connections is that fast; a server that holds one up isn't."""

FILE = {"whisperbake.file": True}
"""``extensions`` of a request for a file's bytes: the caller reads them in pieces, and knows how many there may be."""

SECRETS = ("authorization", "cookie")
"""Headers of a request that only the address may see that they are for."""

_DROPPED = (b"set-cookie", b"content-encoding")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Unbounded(httpx.TransportError):
    """An answer that is too large or too slow: it is not asked for again."""


class Inner(httpx.TransportError):
    """An address that a server may not lead to."""


class _Meter:
    """What one answer has cost."""

    def __init__(self, *, file: bool, nearest: int) -> None:
        self.file = file
        self.nearest = nearest
        """The nearest network that may be connected to (:func:`nearness`)."""
        self._begun = False
        self._body = False
        self._bytes = 0
        """Of the head; then of the file in this window."""
        self._waited = 0.0

    def read(self, stream: httpcore.NetworkStream, size: int, timeout: float | None) -> bytes:
        limit = WINDOW if self.file and self._body else WHOLE
        patience = timeout
        if self._begun:
            patience = min(limit - self._waited, limit if timeout is None else timeout)
        began = time.monotonic()
        try:
            data = stream.read(size, timeout=patience)
        except httpcore.ReadTimeout:
            if patience != timeout:
                raise Unbounded("it sends too slowly") from None
            raise
        if self._begun:
            self._waited += time.monotonic() - began
        self._begun = True
        self._bytes += len(data)
        if not self._body and self._bytes > HEAD:
            raise Unbounded("its headers don't end")
        if self._waited >= limit:
            if limit == WHOLE or self._bytes < LEAST:
                raise Unbounded("it sends too slowly")
            self._bytes, self._waited = 0, 0.0
        return data

    def begin_body(self) -> None:
        self._body = True
        if self.file:
            self._bytes, self._waited = 0, 0.0


_current: ContextVar[_Meter | None] = ContextVar("_current", default=None)
"""The answer that this thread waits for."""


class _Stream(httpcore.NetworkStream):
    """A connection; the answer that is being read meters it."""

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        meter = _current.get()
        assert meter is not None
        return meter.read(self._inner, max_bytes, timeout)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, timeout)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    """Connects to no network that is too near."""

    def __init__(self, inner: httpcore.NetworkBackend) -> None:
        self._inner = inner

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        meter = _current.get()
        assert meter is not None
        addresses = _addresses(host) if meter.nearest < THIS_MACHINE else [host]
        for address in addresses:
            _require_far(address, host, meter.nearest)
        for k, address in enumerate(addresses):
            try:
                return _Stream(self._inner.connect_tcp(address, port, timeout, local_address, socket_options))
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if k + 1 == len(addresses):
                    raise
        raise httpcore.ConnectError(f"{host} has no address")


class _Body(httpx.SyncByteStream):
    """An answer's body, metered."""

    def __init__(self, inner: httpx.SyncByteStream, meter: _Meter) -> None:
        self._inner = inner
        self._meter = meter

    def __iter__(self) -> Iterator[bytes]:
        pieces, size = iter(self._inner), 0
        while True:
            token = _current.set(self._meter)
            try:
                piece = next(pieces, None)
            finally:
                _current.reset(token)
            if piece is None:
                return
            size += len(piece)
            if size > LARGEST and not self._meter.file:
                raise Unbounded(f"its answer is longer than {LARGEST >> 20} MiB")
            yield piece

    def close(self) -> None:
        self._inner.close()


class _Transport(httpx.BaseTransport):
    def __init__(self, inner: httpx.BaseTransport, client: NamedClient, *, proxied: bool) -> None:
        # httpx passes no backend on to httpcore, which takes one.
        assert isinstance(inner, httpx.HTTPTransport)
        pool = inner._pool
        pool._network_backend = _Backend(pool._network_backend)
        self._inner = inner
        self._client = client
        self._proxied = proxied

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        for name in SECRETS:
            if name in request.headers and not self._client.may_hear(str(request.url)):
                del request.headers[name]
        nearest = self._client.nearest(request.url.host)
        if self._proxied:  # the proxy looks names up, and is itself an address that was chosen here
            _require_far(request.url.host, request.url.host, nearest)
            nearest = THIS_MACHINE
        meter = _Meter(file=bool(request.extensions.get("whisperbake.file")), nearest=nearest)
        token = _current.set(meter)
        try:
            answer = self._inner.handle_request(request)
        finally:
            _current.reset(token)
        meter.begin_body()
        assert isinstance(answer.stream, httpx.SyncByteStream)
        headers = [(name, value) for name, value in answer.headers.raw if name.lower() not in _DROPPED]
        length = http.number(answer.headers.get("Content-Length", ""))
        stream: httpx.SyncByteStream = _Body(answer.stream, meter)
        if answer.is_redirect:
            if length != 0:
                stream.close()
                stream = httpx.ByteStream(b"")
        elif not meter.file and request.method != "HEAD" and (length or 0) > LARGEST:
            stream.close()
            raise Unbounded(f"its answer is longer than {LARGEST >> 20} MiB")
        return httpx.Response(answer.status_code, headers=headers, stream=stream, extensions=answer.extensions)

    def close(self) -> None:
        self._inner.close()


class NamedClient(httpx.Client):
    """A client for an address that a person named; see :func:`client`. Threads may share it."""

    def __init__(
        self, named: str, *, verify: ssl.SSLContext, trust_env: bool, insecure: Collection[str], public: bool
    ) -> None:
        super().__init__(
            verify=verify,
            trust_env=trust_env,
            timeout=http.PATIENCE,
            headers={"User-Agent": f"whisperbake/{__version__}", "Accept-Encoding": "identity"},
        )
        self._named = urllib.parse.urlsplit(named)
        self._entrusted = {http.origin(named)}
        self._insecure = frozenset(insecure)
        self._public = public
        self._transport = _Transport(self._transport, self, proxied=False)
        self._mounts = {
            pattern: transport and _Transport(transport, self, proxied=True)
            for pattern, transport in self._mounts.items()
        }

    def build_request(self, *args: Any, **options: Any) -> httpx.Request:
        with _readable_hosts():
            request = super().build_request(*args, **options)
            assert request.url.host is not None  # it is decoded when it is read
            return request

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        with _readable_hosts():  # that of a Location, too
            return super().send(request, **options)

    def entrust(self, url: str) -> None:
        """Let another address have secrets, too."""
        self._entrusted.add(http.origin(url))

    def may_hear(self, url: str) -> bool:
        """Whether a secret may go to an address: one that it is for, and over no line that others can read."""
        if http.origin(url) not in self._entrusted:
            return False
        parts = urllib.parse.urlsplit(url)
        host = (parts.hostname or "").lower()
        named = {host, f"{host}:{parts.port}"}
        return parts.scheme == "https" or loopback(host) or bool(named & self._insecure)

    def nearest(self, host: str) -> int:
        """The nearest network in which a host may be."""
        if self._public:
            return INTERNET
        return THIS_MACHINE if host == self._named.hostname else self._home

    @functools.cached_property
    def _home(self) -> int:
        """Where the address that was named is."""
        try:
            return max(map(nearness, _addresses(self._named.hostname or "")))
        except httpcore.ConnectError:  # only a proxy knows it
            return INTERNET


@contextlib.contextmanager
def _readable_hosts() -> Iterator[None]:
    """httpx lets the errors of international names through."""
    try:
        yield
    except UnicodeError as error:
        raise httpx.InvalidURL(str(error)) from None


def client(
    named: str,
    *,
    verify: ssl.SSLContext | None = None,
    trust_env: bool = True,
    insecure: Collection[str] = (),
    public: bool = False,
) -> NamedClient:
    """A client for an address that a person named.

    Args:
        verify: the certificates that are trusted; by default the system's.
        trust_env: whether proxies are found in the environment.
        insecure: hosts, or ``host:port``, that may have secrets over plain HTTP.
        public: nothing but the internet is asked.
    """
    return NamedClient(named, verify=verify or _trust(), trust_env=trust_env, insecure=insecure, public=public)


def shared(named: str, env: Mapping[str, str] | None = None) -> NamedClient:
    """The client for an address, made once. Secrets go over plain HTTP to the hosts of BAKE_INSECURE_HOSTS."""
    proxies = tuple(sorted(urllib.request.getproxies().items()))
    return _shared(http.origin(named), http.insecure_hosts(env or {}), proxies)


@functools.lru_cache(maxsize=64)
def _shared(named: str, insecure: frozenset[str], _: tuple[tuple[str, str], ...]) -> NamedClient:
    return client(named, insecure=insecure)


@functools.cache
def _trust() -> ssl.SSLContext:
    return ssl.create_default_context()


def ask(client: httpx.Client, method: str, url: str, *, hops: int = http.HOPS, **options: Any) -> httpx.Response:
    """An answer, after as many redirects as are allowed; without any, whatever comes.

    Raises:
        httpx.TransportError: none came, or none that may be read.
        SourceError: the redirects lead nowhere, or where they may not.
    """
    for _ in range(hops + 1):
        try:
            answer = client.request(method, url, follow_redirects=False, **options)
        except httpx.InvalidURL:  # in Location, which httpx reads whether it follows or not
            raise SourceError("it redirects without an address") from None
        if not hops or not answer.has_redirect_location:
            return answer
        url = http.redirected(url, answer.headers["Location"])
    raise SourceError(f"it redirects more than {hops} times")


# Networks

INTERNET, INNER, THIS_MACHINE = range(3)
"""What a network is, seen from here."""


def nearness(address: str) -> int:
    """Of which network an address is; of a name, the internet's."""
    try:
        number = ipaddress.ip_address(address.strip("[]").split("%")[0])
    except ValueError:
        return INTERNET
    number = getattr(number, "ipv4_mapped", None) or number
    return max(_nearness(each) for each in (number, *_within(number)))


def _nearness(number: ipaddress.IPv4Address | ipaddress.IPv6Address) -> int:
    if number.is_loopback or number.is_link_local or number.is_unspecified:
        return THIS_MACHINE
    return INNER if not number.is_global or number.is_multicast else INTERNET


def _within(number: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Iterator[ipaddress.IPv4Address]:
    """The IPv4 addresses that an IPv6 address leads to: by 6to4, Teredo or NAT64 (RFC 6052)."""
    if isinstance(number, ipaddress.IPv6Address):
        yield from (each for each in (number.sixtofour, *(number.teredo or ())) if each is not None)
        if number in _NAT64:
            yield ipaddress.IPv4Address(int(number) & 0xFFFF_FFFF)


def loopback(host: str) -> bool:
    """Whether a name or an address is this machine's: nobody can listen."""
    try:
        return ipaddress.ip_address(host.strip("[]").split("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"


def _addresses(host: str) -> list[str]:
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(f"no such host ({getattr(error, 'strerror', None) or host})") from None
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _require_far(address: str, host: str, nearest: int) -> None:
    if nearness(address) > nearest:
        where = "this machine" if nearness(address) == THIS_MACHINE else "the inner network"
        raise Inner(f"{host} is in {where}" if nearest else f"{host} is not a public address")
