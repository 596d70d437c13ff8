"""HTTP servers of tests: on the loopback, at a free port, ended with the test that started them."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import BaseServer


class Handler(BaseHTTPRequestHandler):
    """Keeps connections open as clients expect, and writes no log to standard error."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        """A whole answer; a header's dashes are underscores here. HEAD gets no body."""
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def server_of(handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    """A server that doesn't answer yet; ``server_port`` is known."""
    return ThreadingHTTPServer(("127.0.0.1", 0), handler)


@contextlib.contextmanager
def answering(server: BaseServer) -> Iterator[None]:
    """Let a server answer within the block, and close it."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def raw(answer: Callable[[socket.socket, bytes], object], host: str = "127.0.0.1") -> Iterator[int]:
    """A server that sends what no HTTP library would; its port.

    ``answer`` gets the connection and a request, head and body; when it returns something true, another request is waited for.
    """

    def serve(line: socket.socket) -> None:
        with line, contextlib.suppress(OSError):
            line.settimeout(30)
            while request := _request(line):
                if not answer(line, request):
                    return

    def accept() -> None:
        with contextlib.suppress(OSError):  # closed: the block has ended
            while True:
                threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()

    with socket.create_server((host, 0), backlog=64) as listening:
        threading.Thread(target=accept, daemon=True).start()
        try:
            yield int(listening.getsockname()[1])
        finally:
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)


def _request(line: socket.socket) -> bytes:
    """A whole request, by its Content-Length; empty when the client has gone."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = line.recv(65536)
        if not piece or piece.startswith(b"\x16\x03"):  # somebody tries TLS
            return b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    while len(body) < (int(length[1]) if length else 0):
        piece = line.recv(65536)
        if not piece:
            return b""
        body += piece
    return head + b"\r\n\r\n" + body
