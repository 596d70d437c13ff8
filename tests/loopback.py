"""HTTP servers of tests: on the loopback, at a free port, ended with the test that started them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
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
