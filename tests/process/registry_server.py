"""A real registry (Debian's docker-registry) as a process, and what may stand before one: a proxy, a token server."""

from __future__ import annotations

import base64
import contextlib
import http.client
import ipaddress
import json
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from tests import loopback

USER, PASSWORD = "baker", "correct horse"
BCRYPT = "$2b$05$kDflGi70.zUNImxYOGDFKOwy/YKCYDnapHZHbOyRaiSpdUl7y9FS6"
"""The hash of PASSWORD: docker-registry knows bcrypt alone."""


def program() -> str:
    """Debian's docker-registry; installed by ``build.py test`` with CI=true."""
    found = shutil.which("docker-registry")
    if found is None:
        assert os.environ.get("CI", "").lower() not in ("1", "true"), "CI installs docker-registry"
        pytest.skip("no docker-registry on this machine (apt-get install docker-registry)")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """A registry that runs; ``stop`` and ``start`` it at will, its data stay."""

    folder: Path
    port: int
    settings: str
    process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        (self.folder / "config.yml").write_text(self.settings)
        with (self.folder / "log").open("ab") as log:
            argv = [program(), "serve", str(self.folder / "config.yml")]
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            assert self.process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.05)
        raise AssertionError("no registry after 20 s")

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def blobs(self) -> set[str]:
        """Digests of whole blobs in its storage."""
        return {
            f"sha256:{p.parent.name}" for p in (self.folder / "data").glob("docker/registry/v2/blobs/sha256/*/*/data")
        }


@contextlib.contextmanager
def registry(folder: Path, *, auth: str = "", tls: tuple[Path, Path] | None = None) -> Iterator[Server]:
    """Run one.

    Args:
        auth: lines of its configuration for ``auth:``.
        tls: certificate and key.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    secure = f", tls: {{certificate: {tls[0]}, key: {tls[1]}}}" if tls else ""
    settings = (
        "version: 0.1\nlog: {level: warn, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: true}}}}\n"
        f'http: {{addr: "127.0.0.1:{port}", secret: tests{secure}}}\n{auth}'
    )
    server = Server(folder, port, settings)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def htpasswd(folder: Path) -> str:
    """``auth:`` for name and password."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "htpasswd"
    path.write_text(f"{USER}:{BCRYPT}\n")
    return f"auth: {{htpasswd: {{realm: tests, path: {path}}}}}\n"


@dataclass
class Seen:
    """One request that came to the proxy."""

    method: str
    path: str
    body: int
    status: int = 0


@dataclass
class Proxy:
    """An HTTP proxy before a registry that passes on whole requests, as nginx does unless it is told otherwise.

    ``fault(seen)`` may return a status to answer in the registry's place, raise ConnectionError to break the
    connection, or wait. With ``keeps`` a status request is answered for the newest state of an upload, as registries
    do that keep one whose request broke (distribution 3); Debian's version 2 doesn't.
    """

    target: int
    fault: Callable[[Seen], int | None] = lambda _: None
    keeps: bool = False
    seen: list[Seen] = field(default_factory=list)
    newest: dict[str, str] = field(default_factory=dict)
    one: threading.Lock = field(default_factory=threading.Lock)
    port: int = 0

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def body_bytes(self, *methods: str) -> int:
        """Bytes of bodies that came whole."""
        return sum(s.body for s in self.seen if not methods or s.method in methods)


@contextlib.contextmanager
def proxy(target: int, **settings: object) -> Iterator[Proxy]:
    state = Proxy(target, **settings)  # type: ignore[arg-type]

    class Handler(loopback.Handler):
        def pass_on(self) -> None:
            # What arrived of a broken request is passed on before anybody asks how much that was.
            with state.one if state.keeps else contextlib.nullcontext():
                self.handled()

        def handled(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(length)
            seen = Seen(self.command, self.path, len(body))
            upload = self.path.partition("?")[0]
            path = self.path
            if len(body) < length:  # it broke off
                if state.keeps:
                    self.forward(path, body, upload)
                self.close_connection = True
                return
            state.seen.append(seen)
            try:
                status = state.fault(seen)
            except ConnectionError:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            if status is not None:
                seen.status = status
                return self.reply(status)
            if state.keeps and self.command == "GET" and upload in state.newest:
                path = state.newest[upload]
            try:
                answer, data = self.forward(path, body, upload)
            except OSError:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            seen.status = answer.status
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("connection", "transfer-encoding", "date", "content-length"):
                    self.send_header(name, value)
            head = self.command == "HEAD"
            self.send_header("Content-Length", answer.getheader("Content-Length", "0") if head else str(len(data)))
            self.end_headers()
            if not head:
                with contextlib.suppress(OSError):  # whoever asked was killed
                    self.wfile.write(data)

        def forward(self, path: str, body: bytes, upload: str) -> tuple[http.client.HTTPResponse, bytes]:
            line = http.client.HTTPConnection("127.0.0.1", state.target, timeout=60)
            headers = {
                k: v
                for k, v in self.headers.items()
                if k.lower() not in ("connection", "content-length", "content-range")
            }
            line.request(self.command, path, body=body, headers={**headers, "Content-Length": str(len(body))})
            answer = line.getresponse()
            data = answer.read()
            if place := answer.getheader("Location"):
                parts = urllib.parse.urlsplit(place)
                state.newest[parts.path] = f"{parts.path}?{parts.query}"
            return answer, data

        do_GET = do_HEAD = do_POST = do_PATCH = do_PUT = do_DELETE = pass_on

    server = loopback.server_of(Handler)
    state.port = server.server_port
    with loopback.answering(server):
        yield state


@dataclass
class Tokens:
    """A server of bearer tokens that a registry trusts, with what it was asked."""

    settings: str
    host: str
    scopes: list[set[str]] = field(default_factory=list)
    posts: int = 0


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / f"{name}.crt", folder / f"{name}.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, plain)
    )
    return paths


@contextlib.contextmanager
def tokens(folder: Path) -> Iterator[Tokens]:
    """Give tokens to USER with PASSWORD, or to whoever has the refresh token ``identity``."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, utils

    path, secret = certificate(folder, "issuer")
    key = serialization.load_pem_private_key(secret.read_bytes(), None)
    der = x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(serialization.Encoding.DER)

    def b64(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    def token(scopes: set[str]) -> str:
        access = [{"type": t, "name": n, "actions": a.split(",")} for t, n, a in (s.split(":") for s in sorted(scopes))]
        now = int(time.time())
        claims = {
            "iss": "tests",
            "sub": USER,
            "aud": "registry",
            "exp": now + 300,
            "nbf": now - 10,
            "iat": now,
            "jti": f"{now}",
            "access": access,
        }
        head = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(der).decode()]}
        text = f"{b64(json.dumps(head).encode())}.{b64(json.dumps(claims).encode())}"
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        r, s = utils.decode_dss_signature(key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{text}.{b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    class Handler(loopback.Handler):
        def answer(self, right: bool, query: dict[str, list[str]]) -> None:
            scopes = {word for value in query.get("scope", []) for word in value.split()}
            state.scopes.append(scopes)
            data = json.dumps({"token": token(scopes)} if right else {"errors": [{"code": "UNAUTHORIZED"}]}).encode()
            self.reply(200 if right else 401, data)

        def do_GET(self) -> None:
            wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
            self.answer(self.headers.get("Authorization") == wanted, query)

        def do_POST(self) -> None:
            state.posts += 1
            query = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            right = query.get("refresh_token") == ["identity"] and query["grant_type"] == ["refresh_token"]
            self.answer(right, query)

    server = loopback.server_of(Handler)
    state = Tokens(
        f"auth: {{token: {{realm: 'http://127.0.0.1:{server.server_port}/token', service: registry, "
        f"issuer: tests, rootcertbundle: {path}}}}}\n",
        f"127.0.0.1:{server.server_port}",
    )
    with loopback.answering(server):
        yield state
