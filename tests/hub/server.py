"""A hub that speaks the hub's protocol on 127.0.0.1: API, resolve, links to a second host; and faults on command.

python -m tests.hub.server FOLDER --rate 30e6 --latency 0.02    every folder in FOLDER is a repository, bench/<name>
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import http.server
import json
import os
import re
import secrets
import socket
import struct
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests import loopback

REVISION = "b" * 40
SLICE = 256 << 10

KINDS = (
    "drop",
    "reset",
    "stall",
    "busy",
    "error",
    "expired",
    "bytes",
    "shorter",
    "longer",
    "whole",
    "elsewhere",
    "page",
    "gone",
)
"""What a :class:`Fault` can be; each is explained where it happens."""


@dataclass
class Fault:
    """One misbehaviour, for the next ``times`` requests of a file at one of the hosts (-1: for ever)."""

    kind: str
    host: str = "content"
    after: int = 0
    """Bytes of the body that come before it."""
    times: int = 1
    retry_after: str = ""


@dataclass
class Request:
    """What the hub was asked, and what it sent."""

    host: str
    method: str
    path: str
    range: str | None
    token: str | None
    status: int = 0
    sent: int = 0
    """Bytes of the body."""


@dataclass
class Content:
    """One file: its bytes in memory, or on a disk."""

    data: bytes | Path
    size: int = 0
    sha256: str = ""

    def __post_init__(self) -> None:
        self.size = self.size or (len(self.data) if isinstance(self.data, bytes) else self.data.stat().st_size)
        if not self.sha256:
            raw = self.data if isinstance(self.data, bytes) else self.data.read_bytes()
            self.sha256 = hashlib.sha256(raw).hexdigest()


@dataclass
class Hub:
    """The state of both hosts. Use it as a context: it serves until the block ends."""

    repos: dict[str, dict[str, Content]] = field(default_factory=dict)
    latency: float = 0.0
    """Seconds before every answer."""
    rate: float = 0.0
    """Bytes a second and connection; 0: as many as there are."""
    redirects: bool = True
    """Files above ``large`` come from the content host."""
    large: int = 1000
    ranges: bool = True
    refuse: tuple[int, str] | None = None
    """Status and X-Error-Code of every answer about files."""
    requests: list[Request] = field(default_factory=list)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    """By path of the file."""

    def __post_init__(self) -> None:
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)
        """Notified when bytes have left, a connection has ended, or one has fallen silent."""
        self.silent = 0
        """Connections that a fault has made silent."""
        self.closing = threading.Event()
        self.met: set[str] = set()
        """Kinds of faults that a request has met."""
        self.links: dict[str, tuple[str, str]] = {}
        self.connections: set[socket.socket] = set()

    def __enter__(self) -> Hub:
        self._servers = [_Server(self, "hub"), _Server(self, "content")]
        self.address, self.content = (f"http://127.0.0.1:{s.server_port}" for s in self._servers)
        self._running = contextlib.ExitStack()
        for server in self._servers:
            self._running.enter_context(loopback.answering(server))
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._running.close()
        with self.lock:
            for connection in self.connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def fault(self, path: str, host: str) -> Fault | None:
        """The misbehaviour that this request meets, if any."""
        with self.lock:
            for fault in self.faults.get(path, []):
                if fault.host == host and fault.times:
                    fault.times -= fault.times > 0
                    self.met.add(fault.kind)
                    return fault
        return None

    def wait_for(self, reached: Callable[[], bool], timeout: float = 120.0) -> None:
        """Wait until something is true of the requests, the connections or the silent ones."""
        with self.changed:
            assert self.changed.wait_for(reached, timeout), "the hub waited in vain"

    def wait_sent(self, count: int) -> None:
        """Wait until so many bytes of files have left."""
        self.wait_for(lambda: sum(r.sent for r in self.requests) >= count)

    def wait_left_alone(self) -> None:
        """Wait until every client has gone, and the hub has noticed it."""
        self.wait_for(lambda: not self.connections)

    def sent(self, path: str) -> int:
        """Bytes of one file that left so far."""
        return sum(r.sent for r in self.requests if r.path.endswith(path))

    def clear(self) -> None:
        self.requests.clear()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, hub: Hub, name: str) -> None:
        self.hub = hub
        self.name = name
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, *_: object) -> None:
        """A client that went away is no news."""


class _Handler(loopback.Handler):
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.server.hub.lock:
            self.server.hub.connections.add(self.connection)

    def finish(self) -> None:
        with self.server.hub.changed:
            self.server.hub.connections.discard(self.connection)
            self.server.hub.changed.notify_all()
        super().finish()

    def do_HEAD(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def _serve(self) -> None:
        hub = self.server.hub
        self.told = Request(
            self.server.name, self.command, self.path, self.headers.get("Range"), self.headers.get("Authorization")
        )
        with hub.lock:
            hub.requests.append(self.told)
        if hub.latency:
            time.sleep(hub.latency)
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+).*)?", path):
            self._api(match[1], match[2] or "")
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(match[1], match[2], match[3])
        elif match := re.fullmatch(r"/blob/([0-9a-f]+)", path):
            self._blob(match[1])
        else:
            self._say(200 if path == "/" else 404)

    def _say(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.told.status = status
        self.reply(status, body, **headers)
        if self.command != "HEAD":
            self.told.sent += len(body)

    def _api(self, repo: str, what: str) -> None:
        files = self.server.hub.repos.get(repo)
        if files is None:
            return self._say(401, X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")
        if self.server.hub.refuse:
            return self._say(self.server.hub.refuse[0], X_Error_Code=self.server.hub.refuse[1])
        entries = []
        for name, content in files.items():
            lfs = {"sha256": content.sha256, "oid": content.sha256, "size": content.size, "pointerSize": 134}
            more = {"lfs": lfs} if content.size > self.server.hub.large else {}
            oid = hashlib.sha1(name.encode()).hexdigest()
            named = {"rfilename": name, "path": name, "type": "file"}
            entries.append({**named, "size": content.size, "oid": oid, "blobId": oid, **more})
        info = {
            "id": repo,
            "modelId": repo,
            "sha": REVISION,
            "siblings": entries,
            "private": False,
            "gated": False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "cardData": {"license": "mit"},
        }
        found: Any = entries if what == "tree" else info
        return self._say(200, json.dumps(found).encode(), Content_Type="application/json")

    def _resolve(self, repo: str, revision: str, name: str) -> None:
        hub = self.server.hub
        content = hub.repos.get(repo, {}).get(name)
        if hub.refuse:
            return self._say(hub.refuse[0], X_Error_Code=hub.refuse[1])
        if content is None or revision not in (REVISION, "main"):
            return self._say(404, X_Error_Code="EntryNotFound" if content is None else "RevisionNotFound")
        headers = {"X_Repo_Commit": REVISION, "Accept_Ranges": "bytes"}
        if not hub.redirects or content.size <= hub.large:
            return self._content(content, name, {**headers, "ETag": f'"{content.sha256[:40]}"'})
        fault = hub.fault(name, "hub") if self.command == "GET" else None
        if fault and not self._before(fault):
            return None
        link = secrets.token_hex(16)
        with hub.lock:
            hub.links[link] = (repo, name)
        place = "http://127.0.0.1:9" if fault and fault.kind == "gone" else hub.content  # nobody is at port 9
        return self._say(
            302,
            Location=f"{place}/blob/{link}?name={urllib.parse.quote(name)}",
            X_Linked_Size=str(content.size),
            X_Linked_ETag=f'"{content.sha256}"',
            ETag=f'"{content.sha256}"',
            **headers,
        )

    def _blob(self, link: str) -> None:
        found = self.server.hub.links.get(link)
        if found is None:
            return self._say(403)
        self.link = link
        return self._content(self.server.hub.repos[found[0]][found[1]], found[1], {"ETag": f'"{link}"'})

    def _before(self, fault: Fault) -> bool:
        """What goes wrong instead of an answer; False when that was all."""
        if fault.kind == "busy":  # 429, with or without Retry-After
            self._say(429, **({"Retry_After": fault.retry_after} if fault.retry_after else {}))
        elif fault.kind == "error":  # a server's own
            self._say((500, 502, 503, 504)[fault.after % 4])
        elif fault.kind == "page":  # a captive portal's, or a proxy's
            self._say(200, b"<html>please sign in</html>", Content_Type="text/html")
        elif fault.kind == "expired" and self.server.name == "content":  # the link is too old, now and for ever
            with self.server.hub.lock:
                self.server.hub.links.pop(self.link, None)
            self._say(403)
        elif fault.kind == "stall" and not fault.after:  # no answer at all
            self._wait()
        else:
            return True
        return False

    def _content(self, content: Content, name: str, headers: dict[str, str]) -> None:
        hub = self.server.hub
        fault = hub.fault(name, self.server.name) if self.command == "GET" else None
        if fault and not self._before(fault):
            return
        data, size = content.data, content.size
        if fault and fault.kind in ("shorter", "longer", "bytes"):  # another file, of another length or of the same
            raw = data if isinstance(data, bytes) else data.read_bytes()
            data = {"shorter": raw[:-7], "longer": raw + b"more", "bytes": raw[:-1] + bytes([raw[-1] ^ 1])}[fault.kind]
            size = len(data)
        start, stop = 0, size
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if asked and hub.ranges and not (fault and fault.kind == "whole"):  # whole: ranges are ignored
            start, stop = int(asked[1]), min(int(asked[2]) + 1 if asked[2] else size, size)
            if start >= size:
                return self._say(416, Content_Range=f"bytes */{size}")
            wrong = 1 if fault and fault.kind == "elsewhere" else 0  # another range than was asked for
            start, stop = max(0, start - wrong), stop - wrong
            headers = {**headers, "Content_Range": f"bytes {start}-{stop - 1}/{size}"}
        self.told.status = 206 if "Content_Range" in headers else 200
        self.send_response(self.told.status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        if self.command != "HEAD":
            ends = start + fault.after if fault and fault.kind in ("drop", "reset", "stall") else stop
            self._send(data, start, min(ends, stop))
            if ends < stop and fault:
                self._breaks(fault)

    def _send(self, data: bytes | Path, start: int, stop: int) -> None:
        """The body at the rate of a connection: sendfile from a disk, so that the hub costs little."""
        self.wfile.flush()
        began, first = time.monotonic(), start
        with contextlib.ExitStack() as stack:
            source = stack.enter_context(data.open("rb")) if isinstance(data, Path) else None
            while start < stop and not self.server.hub.closing.is_set():
                count = min(SLICE, stop - start)
                if source is not None:
                    count = os.sendfile(self.connection.fileno(), source.fileno(), start, count)
                else:
                    assert isinstance(data, bytes)
                    self.connection.sendall(data[start : start + count])
                start += count
                with self.server.hub.changed:
                    self.told.sent += count
                    self.server.hub.changed.notify_all()
                if self.server.hub.rate:
                    time.sleep(max(0.0, began + (start - first) / self.server.hub.rate - time.monotonic()))

    def _breaks(self, fault: Fault) -> None:
        """The connection ends in the middle: closed, reset, or silent until the client has had enough."""
        self.close_connection = True
        if fault.kind == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        elif fault.kind == "stall":
            self._wait()

    def _wait(self) -> None:
        """Say nothing until the client goes, or the hub does."""
        self.close_connection = True
        with self.server.hub.changed:
            self.server.hub.silent += 1
            self.server.hub.changed.notify_all()
        self.connection.settimeout(0.05)
        while not self.server.hub.closing.is_set():
            try:
                if not self.connection.recv(1):
                    return
            except TimeoutError:
                continue
            except OSError:
                return


def folder(place: Path) -> dict[str, dict[str, Content]]:
    """Every folder below ``place`` as a repository ``bench/<name>``."""
    return {f"bench/{repo.name}": {p.name: Content(p) for p in sorted(repo.iterdir())} for repo in place.iterdir()}


@contextlib.contextmanager
def in_a_process(place: Path, *, rate: float, latency: float) -> Iterator[str]:
    """Serve a folder from a process of its own; its address."""
    import subprocess

    argv = [sys.executable, "-m", "tests.hub.server", str(place), "--rate", str(rate), "--latency", str(latency)]
    process = subprocess.Popen(argv, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--latency", type=float, default=0.0)
    asked = parser.parse_args()
    with Hub(repos=folder(asked.folder), rate=asked.rate, latency=asked.latency) as hub:
        print(hub.address, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
