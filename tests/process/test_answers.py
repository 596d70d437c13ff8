"""The door for answers: whatever a server sends, it costs little memory and little time, and hears no secret of others."""

from __future__ import annotations

import contextlib
import socket
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from builder.edges.system import answers
from builder.errors import SourceError
from tests import loopback

MIB = 1 << 20
HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "WHOLE", 0.5)
    monkeypatch.setattr(answers, "WINDOW", 0.5)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,127.0.0.2,localhost")


def for_ever(piece: bytes, pause: float = 0.0) -> Callable[[socket.socket], None]:
    def send(line: socket.socket) -> None:
        while True:
            line.sendall(piece)
            time.sleep(pause)  # the server's own pace

    return send


ENDLESS = {
    "a body": (HEAD + b"\r\n", for_ever(b"x" * MIB)),
    "chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", for_ever(b"100000\r\n" + b"x" * MIB + b"\r\n")),
    "a chunk's extension": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;", for_ever(b"x" * 4096)),
    "trailers": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", for_ever(b"a: b\r\n" * 99)),
    "headers": (HEAD, for_ever(b"a: b\r\n" * 99)),
    "one header": (HEAD + b"a: ", for_ever(b"x" * 4096)),
    "a status": (b"HTTP/1.1 200 ", for_ever(b"x" * 4096)),
    "1xx": (b"", for_ever(b"HTTP/1.1 100 Continue\r\n\r\n" * 99)),
    "1xx, slowly": (b"", for_ever(b"HTTP/1.1 100 Continue\r\n\r\n", 0.05)),
    "headers, slowly": (HEAD, for_ever(b"a: b\r\n", 0.05)),
    "a body, slowly": (HEAD + b"Content-Length: 10000\r\n\r\n", for_ever(b"x", 0.05)),
    "a chunk's extension, slowly": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;", for_ever(b"x", 0.05)),
}


@contextlib.contextmanager
def sending(start: bytes, rest: Callable[[socket.socket], object] = lambda _: None) -> Iterator[str]:
    """A server that answers once, and again where ``rest`` returns something true."""

    def answer(line: socket.socket, _: bytes) -> object:
        line.sendall(start)
        return rest(line)

    with loopback.raw(answer) as port:
        yield f"http://127.0.0.1:{port}/"


def read_file(client: httpx.Client, address: str) -> None:
    with client.stream("GET", address, extensions=answers.FILE) as answer:
        for count, _ in enumerate(answer.iter_raw()):
            if count > 200:
                raise httpx.TransportError("more than it may have")


@pytest.mark.parametrize("file", [False, True], ids=["an answer", "a file"])
@pytest.mark.parametrize("name", ENDLESS)
def test_what_never_ends_is_ended(name: str, file: bool) -> None:
    """In bytes and in seconds. A file's bytes are counted by who reads them, not kept."""
    tracemalloc.start()
    began = time.monotonic()
    with sending(*ENDLESS[name]) as address, answers.client(address) as client, pytest.raises(httpx.TransportError):
        read_file(client, address) if file else client.get(address)
    assert time.monotonic() - began < 8, "tracemalloc alone makes it several times as slow"
    assert tracemalloc.get_traced_memory()[1] < 12 * MIB
    tracemalloc.stop()


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip"])
def test_nothing_is_unpacked(encoding: str) -> None:
    """None was asked for: a bomb stays as small as it came, whatever it says that it is."""
    bomb = zlib.compress(bytes(16 * MIB))
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {len(bomb)}\r\n\r\n".encode()
    with sending(head + bomb) as address, answers.client(address) as client:
        assert client.get(address).content == bomb


def test_a_length_that_is_too_large_is_not_waited_for() -> None:
    with sending(HEAD + b"Content-Length: 9999999999\r\n\r\n") as address, answers.client(address) as client:
        with pytest.raises(answers.Unbounded, match="longer than 4 MiB"):
            client.get(address)
        assert client.head(address).status_code == 200


def test_a_redirects_body_is_not_read() -> None:
    head = b"HTTP/1.1 302 Found\r\nLocation: /there\r\n\r\n"
    with sending(head, for_ever(b"x" * MIB)) as address, answers.client(address) as client:
        assert client.get(address).content == b""


def test_cookies_are_not_kept() -> None:
    with sending(HEAD + b"Set-Cookie: a=b\r\nContent-Length: 0\r\n\r\n") as address:
        client = answers.client(address)
        assert client.get(address).headers.get("Set-Cookie") is None
        assert not client.cookies


@pytest.mark.parametrize(
    "location",
    [
        *("ftp://127.0.0.1/", "file:///etc/passwd", "http://[", "http://a:b@127.0.0.1/"),
        *("http://127.0.0.1:99999/", "javascript:x", "http://\xff/", "http://127.0.0.1/" + "x" * 9000),
    ],
)
def test_redirects_that_are_none(location: str) -> None:
    """Each is said; none is followed."""
    answer = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + location.encode("latin-1") + b"\r\n\r\n"
    with (
        sending(answer) as address,
        answers.client(address) as client,
        pytest.raises(SourceError, match="it redirects"),
    ):
        answers.ask(client, "GET", address)


def test_a_circle_of_redirects_ends() -> None:
    answer = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: /\r\n\r\n"
    server = sending(answer, lambda _: True)
    with server as address, answers.client(address) as client, pytest.raises(SourceError, match="5 times"):
        answers.ask(client, "GET", address)


def test_a_secret_goes_to_the_address_it_is_for() -> None:
    """Not to another port or host, not out of TLS, and over plain HTTP only where it was said."""
    client = answers.client("https://hub.example")
    assert client.may_hear("https://hub.example/x?y")
    assert client.may_hear("https://HUB.example:443/")
    for url in ("http://hub.example", "https://hub.example:8443", "https://a.hub.example", "https://hub.example.evil"):
        assert not client.may_hear(url), url
    plain = "http://hub.example:80"
    assert not answers.client(plain).may_hear(plain)
    assert answers.client(plain, insecure=("hub.example",)).may_hear(plain)
    assert answers.client(plain, insecure=("hub.example:80",)).may_hear(plain)
    for here in ("http://127.0.0.1:99", "http://localhost", "http://[::1]:1"):
        assert answers.client(here).may_hear(here)


def test_another_address_hears_nothing() -> None:
    """Even where the caller forgot it."""
    heard: list[bytes] = []

    def answer(line: socket.socket, request: bytes) -> bool:
        heard.append(request)
        line.sendall(HEAD + b"Content-Length: 0\r\n\r\n")
        return True

    secrets = {"Authorization": "Bearer secret", "Cookie": "secret"}
    with loopback.raw(answer) as port, loopback.raw(answer, "127.0.0.2") as other:
        client = answers.client(f"http://127.0.0.1:{port}/")
        for url in (f"http://127.0.0.1:{port}", f"http://127.0.0.2:{other}", f"http://localhost:{port}"):
            client.get(url, headers=secrets)
    assert [b"secret" in request for request in heard] == [True, False, False]


@pytest.mark.parametrize(
    "target", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"]
)
def test_a_server_of_the_internet_leads_to_no_inner_address(target: str) -> None:
    """By number or by name: the name is looked up here."""
    client = answers.client("https://192.0.0.10/")  # nobody is there, and it is a public address
    with pytest.raises(answers.Inner):
        client.get(f"http://{target}:9/")
    inner = answers.client("http://10.0.0.1/")
    assert inner.nearest("10.1.2.3") == answers.INNER
    assert answers.client("http://127.0.0.1/").nearest("10.1.2.3") == answers.THIS_MACHINE


def test_a_name_of_this_machine_is_this_machine() -> None:
    with pytest.raises(answers.Inner):
        answers.client("https://192.0.0.10/").get("http://localhost:9/")


@pytest.mark.parametrize("number", range(24))
def test_hostile_answers_have_no_effect(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of those that make bench-hostile tries (tests/hostile/answers.py)."""
    monkeypatch.undo()  # they have a hurry of their own
    from tests.hostile import answers as hostile
    from tests.hostile import effect

    assert effect(hostile.attempt(number), tmp_path / "place") is None
