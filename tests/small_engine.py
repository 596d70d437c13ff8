"""An engine's API on a socket of its own, with images in memory: what a loader asks of it, and what it has afterwards.

It takes what a graph driver takes (ids are digests of configs), checks every layer's bytes as an engine does, and runs
nothing. Where an engine itself is tried, tests/engine has real ones.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import zstandard

from builder.receiver.missing import chain_ids
from tests import loopback

MOST = 64 << 20
"""Bytes of a layer that it unpacks."""


@dataclass
class HeldImage:
    """An image that it has."""

    config: bytes
    tags: set[str] = field(default_factory=set)

    @property
    def settings(self) -> Any:
        return json.loads(self.config)

    @property
    def inspected(self) -> dict[str, Any]:
        settings = self.settings
        return {
            "Id": f"sha256:{hashlib.sha256(self.config).hexdigest()}",
            "RepoTags": sorted(self.tags),
            "RootFS": {"Type": "layers", "Layers": settings["rootfs"]["diff_ids"]},
            "Config": settings.get("config") or {},
            "Os": settings["os"],
            "Architecture": settings["architecture"],
            "Size": 1,
        }


def familiar(name: str) -> str:
    """A name as engines list it, however it was spelled."""
    return re.sub(r"^(?:(?:index\.)?docker\.io/)?(?:library/)?", "", name)


class SmallEngine(ThreadingMixIn, UnixStreamServer):
    """The server, and what it has."""

    daemon_threads = True

    def __init__(self, socket: Path) -> None:
        super().__init__(str(socket), Handler)
        self.host = f"unix://{socket}"
        self.held: dict[str, HeldImage] = {}
        self.removed: list[str] = []
        self.asked: list[str] = []

    def own(self, name: str, mark: str = "mine") -> str:
        """An image of the user's; its id."""
        config = json.dumps(
            {
                "os": "linux",
                "architecture": "amd64",
                "config": {"Cmd": [mark]},
                "rootfs": {"diff_ids": [f"sha256:{hashlib.sha256(mark.encode()).hexdigest()}"]},
            }
        )
        return self.add(config.encode(), name)

    def add(self, config: bytes, name: str) -> str:
        image = HeldImage(config)
        id_ = str(image.inspected["Id"])
        self.held.setdefault(id_, image)
        self.tag(id_, name)
        return id_

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A loader that stops in the middle is no news."""

    def tag(self, id_: str, name: str) -> None:
        name = familiar(name)
        for image in self.held.values():
            image.tags.discard(name)
        self.held[id_].tags.add(name)

    def find(self, name: str) -> str | None:
        """The id of an image, by its id or by a name."""
        if name in self.held:
            return name
        return next((id_ for id_, image in self.held.items() if familiar(name) in image.tags), None)

    @property
    def names(self) -> dict[str, str]:
        """Name -> id."""
        return {tag: id_ for id_, image in self.held.items() for tag in image.tags}

    def load(self, tar: bytes) -> tuple[str, str]:
        """``docker load``: an error, or an empty text; and what else it says."""
        with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
            blobs = {m.name: f.read() for m in archive.getmembers() if (f := archive.extractfile(m))}
        [row] = json.loads(blobs["manifest.json"])
        config = blobs[row["Config"]]
        diff_ids = json.loads(config)["rootfs"]["diff_ids"]
        chains = {c for image in self.held.values() for c in chain_ids(image.settings["rootfs"]["diff_ids"])}
        for path, diff_id, chain in zip(row["Layers"], diff_ids, chain_ids(diff_ids), strict=True):
            if path not in blobs and chain not in chains:
                return f"open /tmp/{path}: no such file or directory", ""
            if path in blobs and (error := self._layer(blobs[path], diff_id)):
                return error, ""
        if row["RepoTags"] is None:
            image = HeldImage(config)
            id_ = str(image.inspected["Id"])
            self.held.setdefault(id_, image)
            return "", f"Loaded image ID: {id_}"
        for name in row["RepoTags"]:
            self.add(config, name)
        return "", "Loaded"

    @staticmethod
    def _layer(blob: bytes, diff_id: str) -> str:
        try:
            data = blob
            if blob.startswith(b"\x28\xb5\x2f\xfd"):
                data = zstandard.ZstdDecompressor().decompressobj(read_across_frames=True).decompress(blob)
            with tarfile.open(fileobj=io.BytesIO(data)) as archive:
                archive.getmembers()
        except (zstandard.ZstdError, tarfile.TarError, EOFError) as error:
            return f"archive/tar: {error}"
        return (
            ""
            if f"sha256:{hashlib.sha256(data).hexdigest()}" == diff_id
            else f"layer has another diffID than {diff_id}"
        )


class Handler(loopback.Handler):
    """Answers like Docker."""

    server: SmallEngine

    def address_string(self) -> str:
        return "here"

    def asked_for(self) -> str:
        """The path, without the version of the API."""
        return re.sub(r"^/v1\.\d+(?=/)", "", unquote(urlsplit(self.path).path))

    def answer(self, status: int, data: Any = None) -> None:
        self.reply(status, b"" if data is None else json.dumps(data).encode(), Content_Type="application/json")

    def body(self) -> bytes:
        """What comes with a request, in chunks or whole."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def do_GET(self) -> None:
        path = self.asked_for()
        engine = self.server
        engine.asked.append(f"GET {path}")
        if path == "/info":
            return self.answer(200, {"Driver": "overlay2", "DockerRootDir": "/nowhere", "NCPU": 2, "MemTotal": 1 << 32})
        if path == "/version":
            return self.answer(200, {"Version": "27.0", "ApiVersion": "1.47", "Os": "linux", "Arch": "amd64"})
        if path == "/images/json":
            return self.answer(200, [image.inspected for image in engine.held.values()])
        id_ = engine.find(path.removeprefix("/images/").removesuffix("/json"))
        if id_ is None:
            return self.answer(404, {"message": "no such image"})
        self.answer(200, engine.held[id_].inspected)

    def do_POST(self) -> None:
        split = urlsplit(self.path)
        path, engine = self.asked_for(), self.server
        body = self.body()
        engine.asked.append(f"POST {path}")
        if path == "/images/load":
            try:
                error, said = engine.load(body)
            except (tarfile.TarError, KeyError, ValueError, TypeError) as broken:
                error, said = f"archive/tar: {broken!r}", ""
            return self.answer(200, {"error": error} if error else {"stream": said})
        id_ = engine.find(path.removeprefix("/images/").removesuffix("/tag"))
        words = parse_qs(split.query)
        if id_ is None:
            return self.answer(404, {"message": "no such image"})
        engine.tag(id_, f"{words['repo'][0]}:{words['tag'][0]}")
        self.answer(201)

    def do_DELETE(self) -> None:
        name, engine = self.asked_for().removeprefix("/images/"), self.server
        engine.asked.append(f"DELETE {name}")
        id_ = engine.find(name)
        if id_ is None:
            return self.answer(404, {"message": "no such image"})
        image = engine.held[id_]
        image.tags.discard(familiar(name))
        if not image.tags:
            del engine.held[id_]
            engine.removed.append(id_)
        self.answer(200, [])


@contextlib.contextmanager
def small_engine(folder: Path) -> Iterator[SmallEngine]:
    """One that answers at a socket in a folder."""
    with loopback.answering(engine := SmallEngine(folder / "engine.sock")):
        yield engine
