"""Small images and bundles of them, made without an engine: real tars, real zstd, real digests."""

from __future__ import annotations

import hashlib
import io
import json
import random
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard

from builder.core.bundle import plan as core
from builder.core.bundle.image import PLAIN, ZSTD, BundledImage, BundledLayer
from builder.core.bundle.plan import TarEntry
from builder.core.images.oci import digest
from builder.edges.bundle import folder as edge
from builder.edges.bundle.part_writer import PartSource
from builder.receiver.checking.pieces import TarMap

REGISTRY = "wb-bundle"


@dataclass
class Set:
    """Images with the bytes of their blobs."""

    images: list[BundledImage] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)

    def layer(self, files: Mapping[str, bytes], model: str | None = None) -> BundledLayer:
        """A layer of these files: plain tar for a model, zstd for code."""
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size, info.mode = len(data), 0o444
                archive.addfile(info, io.BytesIO(data))
        tar = out.getvalue()
        blob = tar if model else zstandard.ZstdCompressor().compress(tar)
        made = BundledLayer(
            digest=digest(blob),
            size=len(blob),
            diff_id=digest(tar),
            unpacked=len(tar),
            media_type=PLAIN if model else ZSTD,
            model=model,
        )
        self.blobs[made.digest] = blob
        return made

    def image(self, stage: str, layers: Sequence[BundledLayer], **config: Any) -> BundledImage:
        """An image of layers; ``config`` joins what an image's config says of running it."""
        settings = {
            "architecture": "amd64",
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [x.diff_id for x in layers]},
            "history": [{"created_by": "test"} for _ in layers],
        }
        made = BundledImage(
            name=f"{REGISTRY}/{stage}:slim-cpu", stage=stage, config=json.dumps(settings).encode(), layers=tuple(layers)
        )
        self.images.append(made)
        return made

    def open(self, entry: TarEntry) -> Iterator[bytes]:
        data = self.blobs[f"sha256:{entry.sha256}"]
        for at in range(0, len(data), 1 << 16):
            yield data[at : at + (1 << 16)]

    def write(self, folder: Path, *, extras: Mapping[str, bytes] = {}, **more: Any) -> bytes:
        """Make a bundle of them; its inventory's bytes.

        Args:
            extras: path -> bytes of files that are not blobs.
        """
        self.blobs |= {digest(data): data for data in extras.values()}
        described = {p: (len(d), hashlib.sha256(d).hexdigest()) for p, d in extras.items()}
        plan = planned(self, extras=described, **more)
        loader = edge.loader()
        source = PartSource(open=self.open)
        return edge.create(folder, plan, source, texts={"load.py": loader}, on_progress=lambda _: None)


def planned(images: Set, **more: Any) -> core.BundlePlan:
    """The plan of a bundle of these images."""
    usual = {
        **({} if "loader" in more else {"loader": edge.loader()}),
        "made_by": "test",
        "platform": "linux/amd64",
        "part_size": 1_000_000,
    }
    return core.plan(images.images, **{**usual, **more})


def finished(plan: core.BundlePlan) -> bytes:
    """inventory.json of a bundle that nobody wrote: each hash that it has of a part is zeros."""
    return core.finished(plan, [["0" * 64] * len(plan.tar.cuts(p.begin, p.end)) for p in plan.parts])


def damaged(folder: Path) -> list[str]:
    """Names of the files of a bundle that are damaged or missing."""
    return [fault.part for fault in edge.faults(edge.open_bundle(folder), lambda _: None)]


def fit(folder: Path, data: dict[str, Any]) -> None:
    """Make what an inventory says of parts fit the bytes that they have now."""
    begin = 0
    tar = TarMap(data["files"])
    for part in data["parts"]:
        raw = (folder / part["name"]).read_bytes()
        cuts = tar.cuts(begin, begin + part["size"])
        part["cuts"] = [hashlib.sha256(raw[c.begin - begin : c.end - begin]).hexdigest() for c in cuts]
        begin += part["size"]


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that don't compress (up to 16 MiB, then again); the same for the same seed."""
    block = random.Random(seed).randbytes(min(size, 16 << 20))
    return (block * (size // max(len(block), 1) + 1))[:size]


def three(weights: int = 2_500_000, code: bytes = b"print(1)\n", mark: str = "shared") -> Set:
    """Three images: a common base, weights (bytes) below code in one of them.

    Args:
        mark: in every layer. Sets of different marks have no blob in common: a containerd store that still collects
            what a test removed can't take it from under a plain ``docker load``, which doesn't send it again.
    """
    made = Set()
    own = {"etc/mark": mark.encode()}
    base = made.layer({"etc/base": noise(200_000, 2), **own})
    heavy = made.layer({"models/weights.bin": noise(weights, 3), **own}, model="tiny")
    made.image("base", [base])
    made.image("asr", [base, heavy, made.layer({"opt/asr.py": code, **own})])
    made.image("vad", [base, made.layer({"opt/vad.py": b"print(2)\n", **own})])
    return made
