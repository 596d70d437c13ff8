"""Answers of a hub, a registry and a package index that mean harm: right ones, changed at some places, by number.

Each client does its usual work against a server on the loopback, which answers by the rules but for one to three changes:
statuses, headers, redirects, JSON, lengths, packing, chunks, bytes that are no HTTP, answers that never end or hardly come.
Two more servers stand for others, at another address and at another port: they record what they hear.

Wrong is: a crash, a file of other bytes in the store, a secret that others hear, and more time or memory than it may take.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import json
import os
import random
import re
import resource
import socket
import struct
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from builder.bootstrap import pip_wheel
from builder.core.images.reference import target
from builder.core.progress import silent
from builder.core.terms import Purpose
from builder.core.weights.catalog import parse_models
from builder.core.weights.model import Model, UrlSource, WheelSource
from builder.edges.registry import blobs as registry_blobs
from builder.edges.registry import http as registry_http
from builder.edges.registry import push
from builder.edges.registry.credentials import Login
from builder.edges.system import answers
from builder.edges.system import http as system_http
from builder.edges.weights import access, pinning
from builder.edges.weights.download.traffic import Limits
from builder.edges.weights.sources import wheels
from builder.edges.weights.store import Store
from builder.errors import BakeError
from tests import loopback
from tests.hostile import Attempt
from tests.hub.client import contents, fetch, pin_of, wrong_files
from tests.hub.server import REVISION
from tests.process.test_wheels import wheel

TOKEN, USER, PASSWORD, BEARER = "hf_canary0123456789", "canary-user", "canary-password", "canary-bearer"
CANARY = re.compile(b"canary|" + base64.b64encode(b"canary-user:canary-password")[:20])

SECONDS = 60.0
"""What one attempt may take on a busy machine: a client tries again, each time for as long as it waits (half a second)."""

MEMORY = 64 << 20
"""Bytes by which this process may grow: an answer, its copies, a bomb that stays packed, and the server itself."""

CHILDREN = 700 << 10
"""KiB that pip may take, whose bound is set to less here."""

BOMB = zlib.compress(bytes(128 << 20), 9)
GZIP_BOMB = zlib.compress(bytes(128 << 20), 9, 31)
DEEP = b"[" * 200_000


BODIES = (
    *(b"", b"<html>sign in</html>", DEEP, DEEP.replace(b"[", b'{"a":'), b"\xff\xfe{}", b"null", b"1" * 10_000, b"{"),
    *(b'{"token":1,"token":"x"}', b'{"sha":"' + b"a" * 99_999, b"x" * (5 << 20), b'"' + b"x" * (5 << 20) + b'"'),
    b"[" + b"0," * (2_000_000) + b"0]",
)


@dataclass
class Answer:
    """What is sent for one request."""

    status: object = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    raw: bytes | None = None
    """All that is sent, in place of the rest."""
    after: Callable[[socket.socket], None] | None = None
    """Sends more."""

    def set(self, name: str, value: str) -> None:
        self.headers = [(n, v) for n, v in self.headers if n.lower() != name.lower()] + [(name, value)]

    def send(self, line: socket.socket, *, head: bool) -> bool:
        if self.raw is not None:
            line.sendall(self.raw)
        else:
            names = {name.lower() for name, _ in self.headers}
            if not names & {"content-length", "transfer-encoding"}:
                self.headers.append(("Content-Length", str(len(self.body))))
            text = "".join(f"{name}: {value}\r\n" for name, value in self.headers)
            line.sendall(f"HTTP/1.1 {self.status} x\r\n{text}\r\n".encode("utf-8", "replace"))
            if not head:
                line.sendall(self.body)
        if self.after is not None:
            self.after(line)
        return self.raw is None and self.after is None


Good = Callable[[str, str, bytes], Answer]
"""The right answer for a method, a path and a request."""


@dataclass
class Others:
    """Addresses of those who should hear nothing."""

    address: str = ""
    port: str = ""
    heard: list[bytes] = field(default_factory=list)


# Changes: each takes an answer, chance, and the addresses of others


def _status(answer: Answer, chance: random.Random, _: Others) -> None:
    answer.status = chance.choice(
        [100, 101, 199, 200, 201, 202, 204, 206, 300, 301, 304, 307, 308, 400, 401, 403, 404, 407, 408, 409, 410, 413]
        + [416, 421, 425, 429, 431, 500, 501, 502, 503, 504, 511, 599, 999, 0, -1, "2OO", "", "200 200", "٢٠٠"]
    )


def _places(others: Others) -> list[str]:
    return [
        *(others.address, others.port, others.address + "/v2/", f"{others.port}/token?service=x"),
        *(others.address.replace("http://", "http://canary:x@"), others.address.replace("http", "https")),
        *("file:///etc/passwd", "file:///dev/zero", "ftp://127.0.0.2/", "gopher://127.0.0.2/", "//127.0.0.2:1/", "/"),
        *("http://169.254.169.254/latest", "http://[::1]:1/", "http://[", "http://", "http:///", "//", "", "\x7f", "?"),
        *("http://127.0.0.1:99999/", "http://127.0.0.1:-1/", "javascript:x", "http://a b/", "/" + "x" * 9000, "/\xff"),
        *(
            "..",
            "#",
            "http://xn--/",
            "http://" + "a" * 300 + ".example/",
            "http://٣.example",
            "x:" * 99,
            "/%00",
            "/a\tb",
        ),
    ]


def _redirect(answer: Answer, chance: random.Random, others: Others) -> None:
    answer.status = chance.choice([301, 302, 303, 307, 308, 300, 201, 202])
    answer.set("Location", chance.choice(_places(others)))


def _challenge(answer: Answer, chance: random.Random, others: Others) -> None:
    answer.status = chance.choice([401, 401, 401, 403, 407])
    realm = chance.choice(_places(others))
    value = chance.choice(
        [f'Bearer realm="{realm}",service="s"', f'Bearer realm="{realm}', f"Bearer realm={realm}", "Basic", "Bearer"]
        + [
            "Negotiate, Basic",
            'Bearer realm="\\',
            '="' * 3000,
            "Digest " * 900,
            f'Basic realm="x", Bearer realm="{realm}"',
        ]
    )
    answer.set(chance.choice(["WWW-Authenticate", "Proxy-Authenticate", "WWW-Authenticate"]), value)


NUMBERS = [
    "0",
    "-1",
    "1",
    "007",
    "9" * 30,
    "9" * 5000,
    "1e9",
    "٣",
    "²",
    "",
    " ",
    "nan",
    "0x10",
    "1,2",
    "5, 5",
    "+3",
    "1_0",
]


def _header(answer: Answer, chance: random.Random, others: Others) -> None:
    name = chance.choice(
        ["Content-Length", "Content-Range", "Range", "ETag", "X-Linked-Etag", "X-Linked-Size", "X-Repo-Commit"]
        + ["Retry-After", "OCI-Chunk-Min-Length", "Docker-Content-Digest", "Location", "Link", "Content-Type"]
        + ["X-Error-Code", "X-Error-Message", "Transfer-Encoding", "Content-Encoding", "Connection", "Set-Cookie"]
        + ["Docker-Upload-UUID", "Date", "Trailer", "Upgrade", "X" * 300]
    )
    value = chance.choice(
        [*NUMBERS, *_places(others), f'<{others.address}/next>; rel="next"', "<" * 900, "sha256:" + "0" * 64]
        + [
            "bytes 0-9/10",
            "bytes 0-0/*",
            "bytes 5-1/3",
            f"bytes {'9' * 5000}-1/1",
            "0-0",
            "0-" + "9" * 5000,
            "bytes */x",
        ]
        + [
            "chunked",
            "gzip",
            "identity, chunked",
            "br",
            "close",
            "a=b; Domain=127.0.0.1",
            "x" * 60_000,
            "\x00",
            "é",
            '"' * 99,
        ]
        + ["Fri, 31 Dec 9999 23:59:59 GMT", "Fri, 31 Dec 0000 23:59:59 GMT", "Mon, 99 Foo 2020 99:99:99 +9999"]
    )
    if chance.random() < 0.3:
        answer.headers.append((name, value))
    else:
        answer.set(name, value)


def _many_headers(answer: Answer, chance: random.Random, _: Others) -> None:
    answer.headers += [(f"X-{k}", "y" * chance.choice([1, 50])) for k in range(chance.choice([50, 900, 20_000]))]


VALUES: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        1 << 70,
        1.5,
        float("nan"),
        float("inf"),
        "",
        "x",
        "\ud800",
        "a\nb",
        "../../x",
        "/etc/x",
    ),
    *([], {}, [[]], {"": {}}, "x" * 100_000, [None] * 1000, {"sha256": 5}, "\x1b[31m", "0" * 64, "a/" * 200),
]


def _changed(value: Any, chance: random.Random) -> Any:
    """The same document, but for one place."""
    if isinstance(value, dict) and value and chance.random() < 0.85:
        key = chance.choice(list(value))
        if chance.random() < 0.15:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: _changed(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.85:
        at = chance.randrange(len(value))
        if chance.random() < 0.2:
            return [*value, value[at]]
        return [*value[:at], _changed(value[at], chance), *value[at + 1 :]]
    return chance.choice(VALUES)


def _json(answer: Answer, chance: random.Random, _: Others) -> None:
    try:
        document = json.loads(answer.body)
    except ValueError:
        document = {"errors": [{"code": "X", "message": "y"}]}
    answer.body = json.dumps(_changed(document, chance)).encode("utf-8", "surrogatepass")


def _body(answer: Answer, chance: random.Random, _: Others) -> None:
    answer.body = chance.choice([*BODIES, answer.body[:-1], answer.body + b"x", answer.body[::-1]])


def _packed(answer: Answer, chance: random.Random, _: Others) -> None:
    answer.set("Content-Encoding", chance.choice(["gzip", "deflate", "br", "zstd", "gzip, gzip", "x-gzip", "compress"]))
    answer.body = chance.choice([BOMB, GZIP_BOMB, zlib.compress(answer.body), answer.body, b"(\xb5/\xfd" + bytes(20)])


def _chunked(answer: Answer, chance: random.Random, _: Others) -> None:
    answer.set("Transfer-Encoding", "chunked")
    answer.body = chance.choice(
        [b"", b"0\r\n\r\n", b"-1\r\nx\r\n", b"fffffffffffffffff\r\nx", b"1;" + b"x" * 60_000, b"g\r\n", b"\r\n\r\n"]
        + [b"%x\r\n%s\r\n0\r\n\r\n" % (len(answer.body), answer.body), b"1\r\nx" * 1000, b"3\r\nabcd\r\n0\r\n\r\n"]
        + [b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n", b"0\r\n" + b"a: b\r\n" * 9000 + b"\r\n"]
    )


def _no_http(answer: Answer, chance: random.Random, _: Others) -> None:
    answer.raw = chance.choice(
        [
            b"",
            b"\x15\x03\x01\x00\x02\x02\x16",
            bytes(1000),
            b"SSH-2.0-x\r\n",
            b"HTTP/9.9 200 OK\r\n\r\n",
            b"\r\n" * 5000,
        ]
        + [b"HTTP/1.1 200\r\n\r\n", b"HTTP/1.1 200 OK\n\nx", b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n", b"200 OK", b"{}"]
        + [
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nxxxxxx",
            b"HTTP/1.1 100 Continue\r\n\r\n" * 9,
        ]
        + [b"HTTP/1.1 200 OK\r\n folded\r\n\r\n", b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\nxxx", b"x" * 200_000]
    )


def _endless(answer: Answer, chance: random.Random, _: Others) -> None:
    head, piece = chance.choice(
        [(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * (1 << 20)), (b"HTTP/1.1 200 OK\r\n", b"a: b\r\n" * 500)]
        + [(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 500), (b"HTTP/1.1 404 No\r\n\r\n", b"y" * (1 << 20))]
        + [(b"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n", b"z" * (1 << 20)), (b"HTTP/1.1 200 ", b"q" * 9000)]
        + [(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"2000\r\n" + bytes(8192) + b"\r\n")]
        + [(b"HTTP/1.1 401 No\r\n\r\n", b"[" * (1 << 20)), (b"HTTP/1.1 200 OK\r\nX: ", b"v" * 9000)]
    )
    answer.raw, end = head, time.monotonic() + SECONDS + 10

    def more(line: socket.socket) -> None:
        while time.monotonic() < end:
            line.sendall(piece)

    answer.after = more


def _slow(answer: Answer, chance: random.Random, _: Others) -> None:
    text = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + bytes(5000)
    text = chance.choice([text, text[:17] + b"a: b\r\n" * 999, b"HTTP/1.1 100 Continue\r\n\r\n" * 99, b"\r\n" * 99])
    fast = chance.choice([0, 3, 20, 45])
    answer.raw, end = text[:fast], time.monotonic() + SECONDS + 10

    def more(line: socket.socket) -> None:
        for byte in text[fast:]:
            line.sendall(bytes([byte]))
            time.sleep(0.06)  # the server's own pace
            if time.monotonic() > end:
                return

    answer.after = more


def _silent(answer: Answer, chance: random.Random, _: Others) -> None:
    answer.raw = chance.choice([b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"])

    def more(line: socket.socket) -> None:
        line.settimeout(SECONDS + 10)
        line.recv(1)  # until the client goes

    answer.after = more


def _reset(answer: Answer, chance: random.Random, _: Others) -> None:
    answer.raw = chance.choice([b"", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nx"])
    answer.after = lambda line: line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


CHANGES: tuple[Callable[[Answer, random.Random, Others], None], ...] = (
    *(_status, _redirect, _redirect, _redirect, _challenge, _challenge, _header, _header, _header, _many_headers),
    *(_json, _json, _json, _body, _body, _packed, _chunked, _no_http, _endless, _slow, _silent, _reset),
)


@contextlib.contextmanager
def serving(good: Good, chance: random.Random, others: Others) -> Iterator[str]:
    """A server whose answers are right, but for changes at the requests that chance names; its ``host:port``."""
    changes = [
        (chance.choice(CHANGES), chance.choice([1, 1, 2, 2, 3, 4, 5, 6, 8]), chance.random() < 0.5)
        for _ in range(chance.choice([1, 1, 1, 2, 3]))
    ]
    seed, asked = chance.random(), [0]

    def answer(line: socket.socket, request: bytes) -> bool:
        asked[0] += 1
        method, _, rest = request.partition(b" ")
        reply = good(method.decode("latin-1"), rest.split(b" ")[0].decode("latin-1"), request)
        for change, number, always in changes:
            if asked[0] == number or (always and asked[0] > number):
                change(reply, random.Random(f"{seed}{number}"), others)
        return reply.send(line, head=method == b"HEAD")

    def hear(line: socket.socket, request: bytes) -> bool:
        others.heard.append(request)
        method, _, rest = request.partition(b" ")
        path = rest.split(b" ")[0].decode("latin-1")
        return good(method.decode("latin-1"), path, request).send(line, head=method == b"HEAD")

    with (
        loopback.raw(answer) as port,
        loopback.raw(hear, "127.0.0.2") as other,
        loopback.raw(hear) as third,
    ):
        others.address, others.port = f"http://127.0.0.2:{other}", f"http://127.0.0.1:{third}"
        yield f"127.0.0.1:{port}"


# The clients

FILES = contents(5, model_bin=300_000, config_json=300)
PIN = pin_of(FILES)
QUICK = Limits(patience=0.5, pause=0.01, longest_wait=0.5, chunk=64 << 10, least=1000, attempts=3)


def _hub(method: str, path: str, request: bytes) -> Answer:
    path = path.partition("?")[0]
    if path.startswith("/api/models/org/name/commits/"):
        return Answer(body=json.dumps([{"id": REVISION, "title": "t"}, {"id": "a" * 40}]).encode())
    if path == "/api/models/org/name":
        entries: list[dict[str, Any]] = [
            {"rfilename": name, "size": content.size, "blobId": "0" * 40} for name, content in FILES.items()
        ]
        weights = FILES["model.bin"]
        entries[0]["lfs"] = {"sha256": weights.sha256, "size": weights.size, "pointerSize": 130}
        info = {"id": "org/name", "sha": REVISION, "cardData": {"license": "mit"}, "siblings": entries}
        return Answer(body=json.dumps(info).encode())
    name = path.rpartition("/")[2]
    if name not in FILES:
        return Answer(status=200 if path == "/" else 404)
    content = FILES[name]
    assert isinstance(content.data, bytes)
    linked = [("X-Linked-Size", str(content.size)), ("X-Linked-ETag", f'"{content.sha256}"'), ("ETag", '"x"')]
    if name == "model.bin" and "/blob/" not in path:
        return Answer(status=302, headers=[*linked, ("Location", f"/blob/{name}")])
    asked = re.search(rb"(?i)\r\nrange: bytes=(\d+)-(\d+)", request)
    if asked is None:
        return Answer(headers=linked, body=content.data)
    start, stop = int(asked[1]), min(int(asked[2]) + 1, content.size)
    where = ("Content-Range", f"bytes {start}-{stop - 1}/{content.size}")
    return Answer(status=206, headers=[*linked, where], body=content.data[start:stop])


def _fetching(folder: Path, host: str) -> str | None:
    model = parse_models_one("m: {purpose: asr, title: t, licence: MIT, hub: org/name, gated: true, page: 'https://p'}")
    env = {"HF_TOKEN": TOKEN, "HF_HUB_CACHE": str(folder / "none")}
    store = Store(folder / "models")
    try:
        access.closed_gates(
            [(model, PIN)], token=access.Token(value=TOKEN, source="t"), env={"HF_ENDPOINT": f"http://{host}"}
        )
        fetch(store, f"http://{host}", PIN, model=model, limits=QUICK, **env)
    finally:
        wrong = wrong_files(store.root, PIN)
    if wrong:
        return f"a wrong file: {wrong}"
    return "not what was fetched" if store.verify(model, PIN, deep=True) else None


def _pinning(folder: Path, host: str) -> str | None:
    model = parse_models_one("m: {purpose: asr, title: t, licence: MIT, hub: org/name, gated: true, page: 'https://p'}")
    token = access.Token(value=TOKEN, source="t")
    answer = pinning.resolve(model, token=token, env={"HF_ENDPOINT": f"http://{host}"}, scratch=folder)
    known = {model.id: model}
    pinning.write(folder, folder / ".bake", {model.id: answer.pin}, known)  # what can't be read back raises
    return None


def _addressing(folder: Path, host: str) -> str | None:
    sources = (UrlSource(url=f"http://{host}/org/name/resolve/main/model.bin"),)
    model = Model(id="m", purpose=Purpose.OTHER, title="t", licence="MIT", target="m", sources=sources)
    pin = pinning.resolve(model, token=None, env={}, scratch=folder / "scratch").pin
    pinning.write(folder, folder / ".bake", {model.id: pin}, {model.id: model})
    return "something stays" if any((folder / "scratch").iterdir()) else None


def parse_models_one(entry: str) -> Any:
    """The one model of a catalogue."""
    return next(iter(parse_models("models:\n  " + entry + "\n").values()))


DATA = {f"sha256:{hashlib.sha256(d).hexdigest()}": d for d in (b"config", random.Random(1).randbytes(20_000))}


def _registry(method: str, path: str, request: bytes) -> Answer:
    if path.startswith("/token"):
        return Answer(body=json.dumps({"token": BEARER}).encode())
    if b"Authorization" not in request and b"authorization" not in request:
        host = re.search(rb"(?i)\r\nhost: ([^\r]+)", request)
        realm = f'Bearer realm="http://{host[1].decode() if host else ""}/token",service="s"'
        return Answer(status=401, headers=[("WWW-Authenticate", realm)])
    if method == "POST":
        return Answer(status=202, headers=[("Location", "/v2/x/blobs/uploads/1?state=s")])
    if method == "PATCH":
        return Answer(status=202, headers=[("Location", "/v2/x/blobs/uploads/1?state=t")])
    if method == "PUT":
        return Answer(status=201)
    if method == "GET" and "uploads" in path:
        return Answer(status=204, headers=[("Range", "0-0")])
    return Answer(status=200 if path == "/v2/" else 404)


def _pushing(folder: Path, host: str) -> str | None:
    from builder.core.images.oci import MANIFEST, Descriptor

    blobs = tuple(Descriptor(media_type="x", digest=digest, size=len(data)) for digest, data in DATA.items())
    body = b"{}"
    manifest = Descriptor(media_type=MANIFEST, digest=f"sha256:{hashlib.sha256(body).hexdigest()}", size=2)
    image = push.PushedImage(name="asr", tag="cpu", manifest=manifest, data=body, blobs=blobs)
    where, stop = target(f"{host}/x", where="test"), registry_http.StopSignal()
    http = registry_http.connect(
        where, login=Login(user=USER, secret=PASSWORD), authorities="", insecure=lambda: False, stop=stop
    )
    registry = registry_blobs.Registry(http, folder / "uploads")
    steps = push.decide([image], registry, where, others={"vad": blobs}, on_progress=silent)
    list(push.carry_out(steps, registry, open_=lambda blob: iter([DATA[blob.digest]]), stop=stop, on_progress=silent))
    return None


PIP = random.Random(2).randbytes(30_000)
LOCK = f"pip==26.3 \\\n    --hash=sha256:{hashlib.sha256(PIP).hexdigest()}\n"


def _index(method: str, path: str, request: bytes) -> Answer:
    if path.endswith(".whl"):
        return Answer(body=PIP)
    page = b'<a href="/f/pip-26.3-py3-none-any.whl">pip</a>'
    return Answer(headers=[("Content-Type", "text/html")], body=page)


def _launching(folder: Path, host: str) -> str | None:
    netrc = folder / "netrc"
    netrc.write_text("".join(f"machine {a} login {USER} password {PASSWORD}\n" for a in ("127.0.0.1",)))
    env = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": f"http://{host}/simple", "NETRC": str(netrc)}
    try:
        found = pip_wheel.fetch(LOCK, folder, env).read_bytes()
    except pip_wheel.Unavailable:
        return None if list(folder.iterdir()) == [netrc] else "something was left"
    return None if found == PIP else "another wheel"


def _wheels(folder: Path, host: str) -> str | None:
    digest = hashlib.sha256(WHEEL).hexdigest()
    source = WheelSource(wheels={"w1==1.0": digest}, files={})
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PIP_") and not k.lower().endswith("_proxy")}
    index = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": f"http://{USER}:{PASSWORD}@{host}/simple"}
    env = {**kept, **index, "PIP_TRUSTED_HOST": host}
    with wheels.downloaded(source, folder / "in", env, lambda _: None) as found:
        return None if found["w1==1.0"].read_bytes() == WHEEL else "another wheel"


def _small_wheel() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        wheel(Path(folder), "w1", b"1" * 5000)
        return next(Path(folder).iterdir()).read_bytes()


WHEEL = _small_wheel()


def _wheel_index(method: str, path: str, request: bytes) -> Answer:
    if path.endswith(".whl"):
        return Answer(body=WHEEL)
    page = b'<a href="/f/w1-1.0-py3-none-any.whl">w1</a>'
    return Answer(headers=[("Content-Type", "text/html")], body=page)


CLIENTS: dict[str, tuple[Good, Callable[[Path, str], str | None]]] = {
    "hub": (_hub, _fetching),
    "hub, pinning": (_hub, _pinning),
    "address, pinning": (_hub, _addressing),
    "registry": (_registry, _pushing),
    "index": (_index, _launching),
    "index, pip": (_wheel_index, _wheels),
}


@contextlib.contextmanager
def _hurried() -> Iterator[None]:
    """Everybody waits for half a second, and tries twice or three times."""
    with contextlib.ExitStack() as stack:
        for module, name, value in (
            (system_http, "PATIENCE", 0.5),
            (answers, "WHOLE", 0.5),
            (answers, "WINDOW", 0.5),
            (access, "PATIENCE", 0.5),
            (pinning, "PATIENCE", 0.5),
            (registry_http, "PATIENCE", 0.5),
            (registry_http, "PAUSE", 0.01),
            (registry_http, "ATTEMPTS", 2),
            (registry_blobs, "ATTEMPTS", 2),
            (registry_blobs, "COMMIT", 0.5),
            (registry_blobs, "CHUNK", 8000),
            (registry_blobs, "SMALL", 4000),
            (pip_wheel, "PATIENCE", 0.5),
            (pip_wheel, "DEADLINE", 1.0),
            (wheels, "PATIENCE", 2),
            (wheels, "STALL", 15.0),
            (wheels, "LARGEST", 20 << 20),
            (wheels, "MEMORY", 400 << 20),
        ):
            stack.enter_context(mock.patch.object(module, name, value))
        defaults = registry_http.Http.ask.__kwdefaults__
        stack.enter_context(mock.patch.dict(defaults or {}, {"timeout": 0.5, "attempts": 2}))
        stack.enter_context(mock.patch.dict(os.environ, {"NO_PROXY": "*", "no_proxy": "*"}))
        yield


@functools.cache
def _warm() -> None:
    """What is imported and kept for good isn't an attack's doing."""
    for good, work in (CLIENTS["hub"], CLIENTS["hub, pinning"], CLIENTS["registry"], CLIENTS["index"]):

        def answer(line: socket.socket, request: bytes, good: Good = good) -> bool:
            method, path, _ = (word.decode("latin-1") for word in request.split(b" ", 2))
            return good(method, path, request).send(line, head=method == "HEAD")

        with tempfile.TemporaryDirectory() as folder, loopback.raw(answer) as port, contextlib.suppress(BakeError):
            work(Path(folder), f"127.0.0.1:{port}")


def _tried(name: str, number: int, folder: Path) -> str | None:
    _warm()
    good, work = CLIENTS[name]
    others, found = Others(), None
    slow = 4 if name == "index, pip" else 1
    with _hurried(), serving(good, random.Random(number), others) as host:
        before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
        largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # of all that were, other tests' too
        try:
            found = work(folder, host)
        except BakeError as error:
            found = None if error.exit_code in (2, 3, 4, 5) else f"exit code {error.exit_code}: {error}"
        except Exception as error:  # noqa: BLE001 - a crash is what is looked for
            found = f"a crash: {type(error).__name__}: {str(error)[:200]}"
        took = time.monotonic() - began
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    if any(CANARY.search(request) for request in others.heard):
        found = "others heard a secret"
    elif took > SECONDS * slow:
        found = f"{took:.0f} s"
    elif grown > MEMORY:
        found = f"{grown >> 20} MiB"
    elif resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss > max(CHILDREN, largest):
        found = "pip took more memory than it may"
    return found


def attempt(number: int) -> Attempt:
    """One of them; of twenty, one has pip read the index, which takes seconds."""
    names = ("hub", "registry", "hub, pinning", "registry", "index", "address, pinning")
    name = "index, pip" if number % 20 == 19 else names[number % 6]
    return Attempt(name=f"{name} {number}", run=lambda folder: _tried(name, number, folder))
