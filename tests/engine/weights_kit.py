"""A small image of code with weights of random bytes, through the same functions that a build uses.

As a program (``python -m tests.engine.weights_kit FOLDER HOST STORE POINT``) it assembles and loads once, and kills itself
with SIGKILL at one of :data:`POINTS`.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import signal
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType

import docker

from builder.core.images import assembly, oci
from builder.core.images.layer_order import Block
from builder.core.terms import Purpose
from builder.core.weights.model import FilePin, Model, Pin
from builder.edges.engine.connection import Engine
from builder.edges.images import assemble, load
from builder.edges.images.layout import Layout, Stored
from builder.edges.system import files

MB = 1 << 20

POINTS = (
    "hashing",
    "digest known",
    "recipe",
    "config",
    "manifest",
    "recorded",
    "looked",
    "first byte",
    "half sent",
    "sent",
    "loaded",
    "tagged",
)


def quiet(_: object) -> None:
    return None


def connect(host: str, store: str) -> Engine:
    client = docker.DockerClient(base_url=host, timeout=600)
    root = str(client.info()["DockerRootDir"])
    return Engine(host=host, version="", store=store, architecture="amd64", root=root, client=client, cpus=1, memory=1)


def tar(files_: dict[str, bytes]) -> bytes:
    """A layer with some files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in files_.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o755
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


class Kit:
    """A layout and a store below a folder."""

    def __init__(self, folder: Path) -> None:
        self.layout = Layout(folder / "layout", folder / "models")

    def model(self, name: str, size: int) -> tuple[Model, Pin]:
        """A model of one file of random bytes, in the store; made once."""
        path = self.layout.store / "onnx" / name / "model.bin"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            chance = random.Random(name)
            with path.open("wb") as out:
                for _ in range(size // MB):
                    out.write(chance.randbytes(MB))
        pin = FilePin(path="model.bin", size=path.stat().st_size, sha256=files.sha256(path))
        model = Model(id=name, purpose=Purpose.OTHER, title=name, licence="MIT", target=f"onnx/{name}")
        return model, Pin(revision="1", files=(pin,), layers=MappingProxyType({}))

    def code(self, ref: str, layers: Sequence[bytes]) -> str:
        """Put a code image into the layout; its manifest's digest."""
        made = []
        for data in layers:
            blob = self.layout.take(iter([data]), oci.TAR)
            made.append(oci.Layer(blob=blob, diff_id=blob.digest, history={"created_by": "test"}))
        config = {"created": "2020-01-01T00:00:00Z", "architecture": "amd64", "os": "linux", "config": {"Cmd": ["/x"]}}
        written = oci.write(oci.Image(config=config, layers=tuple(made), rest=()))
        self.layout.put(written.config)
        manifest = self.layout.put(written.manifest)
        self.layout.record(ref, {"code": manifest, "inputs": "", "base": ""})
        return manifest

    def assemble(
        self,
        ref: str,
        models: Sequence[tuple[Model, Pin]],
        *,
        manifest: str | None = None,
        below: int = 0,
        code: int = 2,
    ) -> Stored:
        """An image with its weights above ``below`` of its ``code`` layers."""
        kinds = ["base", *["requirement"] * (code - 2), "code"]
        own = [Block(name=f"{kind} {k}", kind=kind, size=1) for k, kind in enumerate(kinds)]
        carried = [Block(name=f"model {m.id}", kind="model", size=1) for m, _ in models]
        blocks = (*own[:below], *carried, *own[below:])
        manifest = manifest or str(self.layout.images()[ref]["code"])
        labels = assembly.labels(blocks, models)
        return assemble.assemble(self.layout, ref, manifest, blocks, models, labels=labels, on_progress=quiet)

    def load(self, engine: Engine, image: Stored) -> load.Loaded:
        contents = load.inspect(engine, self.layout)
        return load.load(engine, self.layout, image, contents=contents, built=(), on_bytes=lambda done, total: None)


def weights_in(engine: Engine, ref: str, path: str) -> str:
    """Hex sha256 of a file of an image."""
    container = engine.client.containers.create(ref, ["/x"], network_mode="none")
    try:
        chunks, _ = container.get_archive(path)
        with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
            inside = archive.extractfile(archive.getmembers()[0])
            assert inside is not None
            return hashlib.sha256(inside.read()).hexdigest()
    finally:
        container.remove()


def main(folder: Path, host: str, store: str, point: str) -> None:
    """Assemble and load, and die at ``point``."""

    def at(name: str) -> None:
        if name == point:
            os.kill(os.getpid(), signal.SIGKILL)

    kit, engine = Kit(folder), connect(host, store)
    written, seen = files.write_atomic, {"digests.json": "digest known", "images.json": "recorded"}

    def write_atomic(path: Path, data: bytes | str, *, mode: int = 0o644) -> None:
        written(path, data, mode=mode)
        at("recipe" if path.parent.name == "recipes" else seen.get(path.name, ""))
        if path.parent.name == "sha256":
            at("config" if b"diff_ids" in (data if isinstance(data, bytes) else b"") else "manifest")

    files.write_atomic = write_atomic  # type: ignore[assignment]
    models = [kit.model("killed", 8 * MB)]
    bytes_ = kit.layout._bytes

    def reading(*arguments):  # type: ignore[no-untyped-def]
        for k, chunk in enumerate(bytes_(*arguments)):
            if k == 4 and not (kit.layout.root / "digests.json").exists():
                at("hashing")
            yield chunk

    kit.layout._bytes = reading  # type: ignore[method-assign]
    with files.locked(kit.layout.lock):
        image = kit.assemble("wb-kill/image:1", models)
        contents = load.inspect(engine, kit.layout)
        at("looked")

        def tell(done: int, total: int) -> None:
            at("first byte")
            at("half sent" if done > total / 2 else "")
            at("sent" if done == total else "")

        tag = engine.client.api.tag

        def tagging(*arguments, **more):  # type: ignore[no-untyped-def]
            at("loaded")
            done = tag(*arguments, **more)
            at("tagged")
            return done

        engine.client.api.tag = tagging
        load.load(engine, kit.layout, image, contents=contents, built=(), on_bytes=tell)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4])
