"""Serve the store read-only in the hub's own protocol, so that any hub client works with HF_ENDPOINT set to it.

    /api/models, /api/models/<repo>[/revision/<rev>], …/tree/<rev>[/<folder>], …/refs     what the hub says of a repository
    /<repo>/resolve/<rev>/<file>                                                          a file: HEAD, GET, ranges
    /whisperbake/models                                                                   all models here, as JSON
    /whisperbake/sha256/<hex>                                                             any file, by its digest

The last two are for this program's own `models fetch`: they also have what no hub repository holds. An address is only looked
up among the names of models.lock; it never becomes a path on the disk.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h11
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol

from builder.core.weights import hub_api
from builder.core.weights.model import COMMIT, FilePin, Model, Pin, PinnedModel
from builder.edges.weights.store import Store
from builder.errors import MissingError

CLIENTS = 512
"""Connections at a time; more are answered with 503, after which clients try again."""

EACH = 128
"""Connections of one address at a time: one that holds all of these doesn't hold out the others."""

REQUEST = 20
"""Seconds that a client has for a request, from its first byte or from the connection to its last byte."""

STALL = 60
"""Seconds after which a client is dropped that takes next to nothing (a buffer's 48 KiB, or any byte). It can resume."""

LONGEST = 16 << 10
"""Bytes of a request's line and headers."""

LOOK_AGAIN = 2.0
"""Seconds between two checks of the store for models that were not complete."""

PIECE = 256 << 10
"""Bytes read at a time for a client; with the connection's buffers, a client takes about three times as much memory."""

TOKEN = re.compile(rb"hf_[A-Za-z0-9]+|[\x00-\x20\x7f-\xff]")
"""What a line of the log never holds: tokens, and bytes that could end the line early."""


@dataclass(frozen=True, kw_only=True)
class ShelvedFile:
    """One file to serve, as it was when its bytes were compared with the lock."""

    file: FilePin
    path: Path
    """Where its bytes are, links resolved."""
    identity: tuple[int, int, int, int]
    """Device, inode, size, mtime in ns."""


@dataclass(frozen=True, kw_only=True)
class Shelved:
    """A complete model."""

    model: Model
    pin: Pin
    items: Mapping[str, ShelvedFile]
    """Its files, by their paths in the model."""


@dataclass(kw_only=True)
class Count:
    """What has been served so far."""

    requests: int = 0
    bytes: int = 0
    """Of bodies, without headers."""


class Shelf:
    """What may be served: models whose every file is in the store with the lock's bytes."""

    def __init__(self, store: Store, models: Sequence[PinnedModel]) -> None:
        self._store = store
        self._wanted = models
        self._root = store.root.resolve()
        self._known: dict[str, str] = {}
        self._lock = threading.Lock()
        self._updated = -LOOK_AGAIN
        self.models: dict[str, Shelved] = {}

    def update(self) -> None:
        """Add models that have become complete meanwhile. Reads only files that were not hashed before; writes nothing."""
        with self._lock:
            if time.monotonic() - self._updated < LOOK_AGAIN:
                return
            for model, pin in self._wanted:
                if model.id not in self.models and (shelved := self._shelved(model, pin)):
                    self.models = {**self.models, model.id: shelved}
            self._updated = time.monotonic()

    def _shelved(self, model: Model, pin: Pin) -> Shelved | None:
        if not self._store.intact(model, pin, self._known):
            return None
        items = {}
        for file in pin.files:
            path = self._store.path(model, pin, file).resolve()
            if not path.is_relative_to(self._root) or (state := _stat(path)) is None:
                return None  # a link out of the store: not the store's to serve
            items[file.path] = ShelvedFile(file=file, path=path, identity=_identity(state))
        return Shelved(model=model, pin=pin, items=items)

    def repository(self, repo: str) -> Shelved | None:
        """The model that lives in a hub repository."""
        for shelved in self.models.values():
            if shelved.model.repo == repo and has_hub_address(shelved.model, shelved.pin):
                return shelved
        return None

    def digest(self, digest: str) -> tuple[Shelved, ShelvedFile] | None:
        """Any file with these bytes."""
        for shelved in self.models.values():
            for item in shelved.items.values():
                if item.file.sha256 == digest:
                    return shelved, item
        return None

    def unchanged(self, shelved: Shelved, item: ShelvedFile) -> os.stat_result | None:
        """The file's state; None when it is no longer the file that was hashed. Then its model isn't served any more."""
        state = _stat(item.path)
        if state is None or _identity(state) != item.identity:
            with self._lock:
                self.models = {k: v for k, v in self.models.items() if v is not shelved}
            return None
        return state


def has_hub_address(model: Model, pin: Pin) -> bool:
    """True for a model that hub clients can ask for by repository and commit, exactly as the hub has it."""
    return model.in_hub_layout and model.convert is None and COMMIT.fullmatch(pin.revision) is not None


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _identity(state: os.stat_result) -> tuple[int, int, int, int]:
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns


class _File(FileResponse):
    chunk_size = PIECE


@dataclass(frozen=True, kw_only=True)
class _Answers:
    """The endpoints."""

    shelf: Shelf
    withheld: frozenset[str] = field(default_factory=frozenset)
    """Repositories that are in the store but not served (gated ones)."""

    async def hello(self, request: Request) -> Response:
        return PlainTextResponse("whisperbake models serve: set HF_ENDPOINT to this address\n")

    async def everything(self, request: Request) -> Response:
        await run_in_threadpool(self.shelf.update)
        return JSONResponse({"models": [hub_api.shelf_entry(s.model, s.pin) for s in self.shelf.models.values()]})

    async def repositories(self, request: Request) -> Response:
        await run_in_threadpool(self.shelf.update)
        known = sorted(
            (s for s in self.shelf.models.values() if has_hub_address(s.model, s.pin)), key=lambda s: str(s.model.repo)
        )
        return JSONResponse([hub_api.model_info(s.model, s.pin, sizes=False) for s in known])

    async def info(self, request: Request) -> Response:
        shelved = await self._named(request)
        if isinstance(shelved, Response):
            return shelved
        return JSONResponse(hub_api.model_info(shelved.model, shelved.pin, sizes=_yes(request, "blobs")))

    async def refs(self, request: Request) -> Response:
        shelved = await self._named(request)
        return shelved if isinstance(shelved, Response) else JSONResponse(hub_api.refs(shelved.pin))

    async def tree(self, request: Request) -> Response:
        shelved = await self._named(request)
        if isinstance(shelved, Response):
            return shelved
        folder = request.path_params.get("folder", "")
        listed = hub_api.tree(shelved.pin, folder, recursive=_yes(request, "recursive"))
        return _no("EntryNotFound", "no such folder", shelved.pin) if listed is None else JSONResponse(listed)

    async def resolve(self, request: Request) -> Response:
        shelved = await self._named(request)
        if isinstance(shelved, Response):
            return shelved
        item = shelved.items.get(request.path_params["file"])
        if item is None:
            return _no("EntryNotFound", "no such file", shelved.pin)
        return await self._file(shelved, item)

    async def content(self, request: Request) -> Response:
        digest = request.path_params["digest"]
        if self.shelf.digest(digest) is None:
            await run_in_threadpool(self.shelf.update)
        served = self.shelf.digest(digest)
        return await self._file(*served) if served else _no("EntryNotFound", "not here, or not complete")

    async def _named(self, request: Request) -> Shelved | Response:
        """The model that an address names, or the answer that the hub gives without it."""
        parameters = request.path_params
        repo = f"{parameters['org']}/{parameters['name']}"
        if repo in self.withheld:
            return _no("GatedRepo", "gated: it is not served here (models serve --gated)", status=403)
        if self.shelf.repository(repo) is None:
            await run_in_threadpool(self.shelf.update)
        shelved = self.shelf.repository(repo)
        if shelved is None:
            return _no("RepoNotFound", "not here, or not complete")
        if parameters.get("revision", "main") not in ("main", shelved.pin.revision):
            return _no("RevisionNotFound", f"only {shelved.pin.revision} is here")
        return shelved

    async def _file(self, shelved: Shelved, item: ShelvedFile) -> Response:
        state = await run_in_threadpool(self.shelf.unchanged, shelved, item)
        if state is None:
            return _no("EntryNotFound", "it is no longer what models.lock says")
        digest = item.file.sha256
        headers = {"ETag": f'"{digest}"', "X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(item.file.size)}
        if COMMIT.fullmatch(shelved.pin.revision):
            headers["X-Repo-Commit"] = shelved.pin.revision
        return _File(item.path, headers=headers, media_type="application/octet-stream", stat_result=state)


def _yes(request: Request, name: str) -> bool:
    return request.query_params.get(name, "").lower() in ("1", "true")


def _no(code: str, why: str, pin: Pin | None = None, status: int = 404) -> Response:
    headers = {"X-Error-Code": code, "X-Error-Message": why}
    if pin is not None:  # clients then remember that this revision has no such file
        headers["X-Repo-Commit"] = pin.revision
    return JSONResponse({"error": why}, status_code=status, headers=headers)


class _Logged:
    """Logs one line for each request: who, what, status, bytes, seconds. No query and no header: tokens are there."""

    def __init__(self, app: ASGIApp, log: Callable[[str], None], count: Count) -> None:
        self._app, self._log, self._count = app, log, count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began, status, sent = time.monotonic(), 0, 0

        async def counted(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)
            if scope["method"] != "HEAD":
                sent += len(message.get("body", b""))

        try:
            await self._app(scope, receive, counted)
        finally:
            self._count.requests += 1
            self._count.bytes += sent
            who = (scope.get("client") or ("?",))[0]
            path = TOKEN.sub(b"*", scope.get("raw_path") or b"")[:300].decode()
            method = TOKEN.sub(b"*", scope["method"].encode()[:10]).decode()
            self._log(f"{who} {method} {path} {status or '-'} {sent} {time.monotonic() - began:.2f}s")


def application(
    shelf: Shelf, *, withheld: frozenset[str], log: Callable[[str], None], count: Count, names: frozenset[str]
) -> ASGIApp:
    """The ASGI application; it reads only the files of ``shelf``, and answers to ``names`` alone."""
    answers = _Answers(shelf=shelf, withheld=withheld)
    api = "/api/models/{org}/{name}"
    routes = [
        Route("/", answers.hello),
        Route("/whisperbake/models", answers.everything),
        Route("/whisperbake/sha256/{digest}", answers.content),
        Route("/api/models", answers.repositories),
        Route(api, answers.info),
        Route(api + "/revision/{revision}", answers.info),
        Route(api + "/refs", answers.refs),
        Route(api + "/tree/{revision}", answers.tree),
        Route(api + "/tree/{revision}/{folder:path}", answers.tree),
        Route("/{org}/{name}/resolve/{revision}/{file:path}", answers.resolve),
    ]  # GET and HEAD only
    return _Logged(_Named(Starlette(routes=routes), names), log, count)


class _Deadline:
    """Ends a connection when something takes too long; it runs on when it is begun again."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._transport.abort)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None


class _Connection(H11Protocol):
    """Drops a client that doesn't end a request, or hardly takes its answer; uvicorn itself would wait for ever."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        own = self.client and self.client[0]
        if sum(bool(c.client) and c.client[0] == own for c in self.connections) > EACH:  # type: ignore[index,union-attr]
            transport.write(b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            transport.close()
        self._request, self._answer = _Deadline(transport), _Deadline(transport)
        self._request.begin(REQUEST)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):  # the request is whole
            self._request.end()
        else:
            self._request.begin(REQUEST)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._answer.begin(STALL)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._answer.end()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._request.end()
        self._answer.end()


def own_names(*more: str) -> frozenset[str]:
    """Names under which clients may ask for this machine; any address may be asked for."""
    name = socket.gethostname()
    return frozenset(each.lower().rstrip(".") for each in ("localhost", name, f"{name}.local", *more))


class _Named:
    """Answers who asks for this machine by one of its names: a page in a browser here reaches it by another."""

    def __init__(self, app: ASGIApp, names: frozenset[str]) -> None:
        self._app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hosts = [value.decode("latin-1") for name, value in scope.get("headers", ()) if name == b"host"]
        if scope["type"] != "http" or (len(hosts) == 1 and self._known(hosts[0])):
            return await self._app(scope, receive, send)
        answer = PlainTextResponse("not a name of this server: models serve --allow-host NAME\n", status_code=421)
        await answer(scope, receive, send)

    def _known(self, host: str) -> bool:
        name = re.sub(r":[0-9]*$", "", host).lower().rstrip(".")
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return name in self._names
        return True


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any free one.

    Raises:
        MissingError: the address is in use, or not this machine's.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=256)
    except (OSError, OverflowError) as error:
        why = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        raise MissingError(
            f"can't listen at {host}:{port}: {why}", where="--bind", hint="another port: --bind 127.0.0.1:0 takes any"
        ) from error
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # every connection inherits it: the kernel ends one that takes no byte
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALL * 1000)
    return listening


def run(app: ASGIApp, listening: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM, then close the socket; answers under way have two seconds to end."""
    config = Config(
        app,
        http=_Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=CLIENTS,
        h11_max_incomplete_event_size=LONGEST,
        timeout_graceful_shutdown=2,
        loop="asyncio",
    )

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        Server(config).run(sockets=[listening])
    except KeyboardInterrupt:  # the usual end of a server
        pass
    finally:
        signal.signal(signal.SIGTERM, before)
        listening.close()


def loopback(host: str) -> bool:
    """True when only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def more_files() -> None:
    """Allow as many open files as clients may need, up to the system's limit."""
    try:
        import resource
    except ImportError:  # Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = 2 * CLIENTS + 64
    if soft < need:
        resource.setrlimit(resource.RLIMIT_NOFILE, (need if hard == resource.RLIM_INFINITY else min(need, hard), hard))
