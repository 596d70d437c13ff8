"""Serve the store read-only in the hub's own protocol, so that any hub client works with HF_ENDPOINT set to it.

    /api/models, /api/models/<repo>[/revision/<rev>], …/tree/<rev>[/<folder>], …/refs     what the hub says of a repository
    /<repo>/resolve/<rev>/<file>                                                          a file: HEAD, GET, ranges
    /whisperbake/models                                                                   all that is here, as JSON
    /whisperbake/sha256/<hex>                                                             any file, by its digest

The last two are for our own `models fetch`: they also have what no hub repository holds. An address is only ever looked up
among the names of models.lock; none becomes a path on the disk.
"""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol

from builder.core.weights import hub_api as hubapi
from builder.core.weights.catalog import COMMIT
from builder.core.weights.model import FilePin, Model, Pin
from builder.edges.weights.store import Store
from builder.errors import MissingError

CLIENTS = 512
"""Connections at a time; more are answered with 503, which clients try again."""

STALL = 60
"""Seconds after which a client that takes no byte, or doesn't finish asking, is let go. Ours and the hub's resume."""

LOOK_AGAIN = 2.0
"""Seconds between two looks into the store for what was not there."""

PIECE = 256 << 10
"""Bytes read at a time for a client; with what the connection buffers, about three of these a client."""

TOKEN = re.compile(rb"hf_[A-Za-z0-9]+|[\x00-\x20\x7f-\xff]")
"""What a line of the log never holds: tokens, and bytes that could end the line."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One file that may be served, as it was when its bytes were compared with the lock."""

    file: FilePin
    path: Path
    """Where its bytes are, links followed."""
    seen: tuple[int, int, int, int]
    """Device, inode, size, mtime in ns."""


@dataclass(frozen=True, kw_only=True)
class Shelved:
    """A whole model: its files by their paths in it."""

    model: Model
    pin: Pin
    items: Mapping[str, Item]


@dataclass(kw_only=True)
class Count:
    """What was served so far."""

    requests: int = 0
    bytes: int = 0


class Shelf:
    """What may be served: models of the lock whose every file is in the store with the lock's bytes."""

    def __init__(self, store: Store, models: Sequence[tuple[Model, Pin]]) -> None:
        self._store = store
        self._wanted = models
        self._root = store.root.resolve()
        self._known: dict[str, str] = {}
        self._lock = threading.Lock()
        self._looked = -LOOK_AGAIN
        self.models: dict[str, Shelved] = {}

    def look(self) -> None:
        """Take in what has come into the store since; reads only files that nobody hashed before, writes nothing."""
        with self._lock:
            if time.monotonic() - self._looked < LOOK_AGAIN:
                return
            for model, pin in self._wanted:
                if model.id not in self.models and (found := self._whole(model, pin)):
                    self.models = {**self.models, model.id: found}
            self._looked = time.monotonic()

    def _whole(self, model: Model, pin: Pin) -> Shelved | None:
        if not self._store.intact(model, pin, self._known):
            return None
        items = {}
        for file in pin.files:
            real = self._store.place(model, pin, file).resolve()
            if not real.is_relative_to(self._root) or (found := _stat(real)) is None:
                return None  # a link to somewhere else: not the store's own
            items[file.path] = Item(file=file, path=real, seen=_identity(found))
        return Shelved(model=model, pin=pin, items=items)

    def repository(self, repo: str) -> Shelved | None:
        """The model that lives in a hub repository."""
        for shelved in self.models.values():
            if shelved.model.repo == repo and in_hub(shelved.model, shelved.pin):
                return shelved
        return None

    def digest(self, digest: str) -> tuple[Shelved, Item] | None:
        """Any file with these bytes."""
        for shelved in self.models.values():
            for item in shelved.items.values():
                if item.file.sha256 == digest:
                    return shelved, item
        return None

    def still(self, shelved: Shelved, item: Item) -> os.stat_result | None:
        """The file as it is now; None, and the model is forgotten, when it is not what was hashed."""
        found = _stat(item.path)
        if found is None or _identity(found) != item.seen:
            with self._lock:
                self.models = {k: v for k, v in self.models.items() if v is not shelved}
            return None
        return found


def in_hub(model: Model, pin: Pin) -> bool:
    """True for what a hub client can ask for by repository and commit, just as the hub has it."""
    return bool(model.repo and not model.target and model.convert is None and COMMIT.fullmatch(pin.revision))


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _identity(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


class _File(FileResponse):
    chunk_size = PIECE


@dataclass(frozen=True, kw_only=True)
class _Answers:
    """The endpoints."""

    shelf: Shelf
    withheld: frozenset[str] = field(default_factory=frozenset)
    """Repositories that are here and not given out (gated ones)."""

    async def hello(self, request: Request) -> Response:
        return PlainTextResponse("whisperbake models serve: set HF_ENDPOINT to this address\n")

    async def everything(self, request: Request) -> Response:
        await run_in_threadpool(self.shelf.look)
        return JSONResponse({"models": [hubapi.shelf_entry(s.model, s.pin) for s in self.shelf.models.values()]})

    async def repositories(self, request: Request) -> Response:
        await run_in_threadpool(self.shelf.look)
        known = sorted(
            (s for s in self.shelf.models.values() if in_hub(s.model, s.pin)), key=lambda s: str(s.model.repo)
        )
        return JSONResponse([hubapi.model_info(s.model, s.pin, sizes=False) for s in known])

    async def info(self, request: Request) -> Response:
        found = await self._found(request)
        if isinstance(found, Response):
            return found
        return JSONResponse(hubapi.model_info(found.model, found.pin, sizes=_yes(request, "blobs")))

    async def refs(self, request: Request) -> Response:
        found = await self._found(request)
        return found if isinstance(found, Response) else JSONResponse(hubapi.refs(found.pin))

    async def tree(self, request: Request) -> Response:
        found = await self._found(request)
        if isinstance(found, Response):
            return found
        folder = request.path_params.get("folder", "")
        listed = hubapi.tree(found.pin, folder, recursive=_yes(request, "recursive"))
        return _no("EntryNotFound", "no such folder", found.pin) if listed is None else JSONResponse(listed)

    async def resolve(self, request: Request) -> Response:
        found = await self._found(request)
        if isinstance(found, Response):
            return found
        item = found.items.get(request.path_params["file"])
        if item is None:
            return _no("EntryNotFound", "no such file", found.pin)
        return await self._file(found, item)

    async def content(self, request: Request) -> Response:
        digest = request.path_params["digest"]
        if self.shelf.digest(digest) is None:
            await run_in_threadpool(self.shelf.look)
        found = self.shelf.digest(digest)
        return await self._file(*found) if found else _no("EntryNotFound", "not here, or not whole")

    async def _found(self, request: Request) -> Shelved | Response:
        """The model that an address names, or the hub's way of saying that it is not here."""
        parameters = request.path_params
        repo = f"{parameters['org']}/{parameters['name']}"
        if repo in self.withheld:
            return _no("GatedRepo", "gated: it is not given out here (models serve --gated)", status=403)
        if self.shelf.repository(repo) is None:
            await run_in_threadpool(self.shelf.look)
        found = self.shelf.repository(repo)
        if found is None:
            return _no("RepoNotFound", "not here, or not whole")
        if parameters.get("revision", "main") not in ("main", found.pin.revision):
            return _no("RevisionNotFound", f"only {found.pin.revision} is here")
        return found

    async def _file(self, shelved: Shelved, item: Item) -> Response:
        state = await run_in_threadpool(self.shelf.still, shelved, item)
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
    """One line a request: who, what, how it went, how much, how long. No query, no header: that is where tokens are."""

    def __init__(self, app: ASGIApp, log: Callable[[str], None], count: Count) -> None:
        self._app, self._log, self._count = app, log, count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began, status, sent = time.monotonic(), 0, 0

        async def watched(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)
            if scope["method"] != "HEAD":
                sent += len(message.get("body", b""))

        try:
            await self._app(scope, receive, watched)
        finally:
            self._count.requests += 1
            self._count.bytes += sent
            who = (scope.get("client") or ("?",))[0]
            path = TOKEN.sub(b"*", scope.get("raw_path") or b"")[:300].decode()
            method = TOKEN.sub(b"*", scope["method"].encode()[:10]).decode()
            self._log(f"{who} {method} {path} {status or '-'} {sent} {time.monotonic() - began:.2f}s")


def application(shelf: Shelf, *, withheld: frozenset[str], log: Callable[[str], None], count: Count) -> ASGIApp:
    """The ASGI application; it reads files of ``shelf`` and nothing else."""
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
    return _Logged(Starlette(routes=routes), log, count)


class _Connection(H11Protocol):
    """Lets a client go that doesn't finish its first request; uvicorn itself would wait for ever."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.loop.call_later(STALL, lambda: transport.abort() if self.cycle is None else None)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any.

    Raises:
        MissingError: the address is taken, or not this machine's.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=256)
    except (OSError, OverflowError) as error:
        why = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        raise MissingError(
            f"can't listen at {host}:{port}: {why}", where="--bind", hint="another port: --bind 127.0.0.1:0 takes any"
        ) from error
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # inherited by every connection: the kernel ends one that takes no byte
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALL * 1000)
    return listening


def run(app: ASGIApp, listening: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM; what is under way then has two seconds to end.

    Raises:
        KeyboardInterrupt: it was SIGINT.
    """
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
        timeout_graceful_shutdown=2,
        loop="asyncio",
    )
    Server(config).run(sockets=[listening])


def loopback(host: str) -> bool:
    """True when only this machine can reach it."""
    import ipaddress

    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def more_files() -> None:
    """As many open files as clients may need, where the system allows."""
    try:
        import resource
    except ImportError:  # Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = 2 * CLIENTS + 64
    if soft < need:
        resource.setrlimit(resource.RLIMIT_NOFILE, (need if hard == resource.RLIM_INFINITY else min(need, hard), hard))
