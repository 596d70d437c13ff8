"""A bundle: what is in it, in which order, cut where. Pure: sizes and digests in, a plan and an inventory out.

A bundle is a folder: load.py, inventory.json (with its signature), and one tar in parts. The tar holds every blob once
and is an OCI image layout that ``docker load`` takes as it is, unless blobs were left out. docs/air-gap.md has the format.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from builder.core.bundle.contents import COMPLETE, DIFFERENCE, MODELS, Base, distinct, dump, known, needed
from builder.core.bundle.image import BundledImage, BundledLayer, full_name
from builder.core.bundle.licences import ModelLicence
from builder.core.images import oci
from builder.core.images.oci import digest
from builder.errors import UsageError
from builder.receiver.checking.pieces import TarMap
from builder.receiver.inventory import MANUAL, MOST_IMAGES
from builder.receiver.tar import END, header, padding

SCHEMA = 2

PART_NAME = "whisperbake.tar"

MIN_PART = 1_000_000
"""Bytes; the smallest part that makes sense."""

OLDEST_ENGINE = "23.0"
"""The first Docker Engine whose ``docker load`` unpacks zstd layers (moby's pkg/archive)."""


@dataclass(frozen=True, kw_only=True)
class TarEntry:
    """One file in the tar; its bytes begin at ``at``, after its header."""

    path: str
    at: int
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class BundlePart:
    """One piece of the tar: bytes ``begin`` to ``end``."""

    name: str
    begin: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.begin


@dataclass(frozen=True, kw_only=True)
class BundlePlan:
    """What will be written, to the byte, apart from the hashes of the parts."""

    content: str
    entries: tuple[TarEntry, ...]
    parts: tuple[BundlePart, ...]
    small: Mapping[str, bytes]
    """Path -> bytes of what was made for the bundle: index, manifests, configs."""
    inventory: Mapping[str, Any]

    @property
    def size(self) -> int:
        """Bytes of the tar."""
        return self.parts[-1].end if self.parts else 0

    @property
    def tar(self) -> TarMap:
        """Where everything is in the tar."""
        return TarMap(self.inventory["files"])

    @property
    def key(self) -> str:
        """Names what is written: another plan has another key."""
        return hashlib.sha256(dump(self.inventory)).hexdigest()


def parse_size(text: str) -> int:
    """Bytes from ``4G``, ``700M``, ``4GiB``, ``1000000``.

    Raises:
        UsageError: the text is something else, or the size is too small.
    """
    match = re.fullmatch(r"(\d+)\s*(?:([KMGT])(iB|B)?)?", text.strip(), re.IGNORECASE)
    if match is None:
        raise UsageError(f'"{text}" is not a size', where="--part-size", expected="bytes, or 700M, 4G, 4GiB")
    step = 1024 if (match[3] or "").lower() == "ib" else 1000
    size = int(match[1])
    for _ in range(" KMGT".index(match[2].upper()) if match[2] else 0):
        size *= step
    if size < MIN_PART:
        raise UsageError(f"parts of {size} bytes are too small", where="--part-size", expected="1M or more")
    return size


def plan(
    images: Sequence[BundledImage],
    *,
    extras: Mapping[str, tuple[int, str]] = {},
    licences: Sequence[ModelLicence] = (),
    loader: bytes,
    made_by: str,
    platform: str,
    part_size: int,
    content: str = COMPLETE,
    bases: Sequence[Base] = (),
    loose: Sequence[BundledLayer] = (),
    memory: Mapping[str, int] = {},
    acceptance: Mapping[str, Any] | None = None,
    made: Mapping[str, str] | None = None,
) -> BundlePlan:
    """Which bytes go where.

    Args:
        extras: path -> (size, hex sha256) of files that are not blobs: job templates, licences, the native set.
        loader: bytes of load.py.
        platform: ``linux/amd64``.
        part_size: the most bytes of a part.
        content: COMPLETE, CODE (no weights) or MODELS (only weights).
        bases: what each receiver has already, of one or of a fleet: what all of them have is left out.
        loose: weights of no image, for native runs.
        memory: stage -> bytes that its container should get.
        acceptance: the job that shows that all works, with its expected result.
        made: ``commit`` of the code, and ``python`` that wheels are for, as far as they are known.

    Raises:
        UsageError: the parts are too many, or the receivers are.
    """
    bases = distinct(bases)
    chosen = _chosen(images, loose, bases, content)
    # The manifests of all images, also of those that the receiver has: one may be gone from its engine.
    small = {} if content == MODELS else _descriptions(images)
    if content == COMPLETE and not bases:
        small = {**_entrance(images), **small}
    files = {path: (len(data), hashlib.sha256(data).hexdigest()) for path, data in small.items()}
    files |= {path: file for path, file in sorted(extras.items()) if not _all_have(bases, path, file[1])}
    files |= {oci.blob_path(x.digest): (x.size, x.digest.removeprefix("sha256:")) for x in chosen}
    entries, end = _entries(files)
    used = [*(x for image in images for x in image.layers), *loose]
    every = {x.digest: x for x in used if content != MODELS or x.model is not None}
    parts = _cut(end, part_size)
    inventory = {
        "schema": SCHEMA,
        "kind": "bundle",
        "made_by": made_by,
        "made": dict(made) if made is not None else None,
        "content": content if content != COMPLETE or not bases else DIFFERENCE,
        "base": bases[0].fingerprint if len(bases) == 1 else None,
        **({"bases": sorted(str(base.fingerprint) for base in bases)} if len(bases) > 1 else {}),
        "engine": {"oldest": OLDEST_ENGINE, "platform": platform},
        "images": [] if content == MODELS else [_image(image) for image in images],
        "known": _known(images, bases),
        "layers": {d: _layer(x) for d, x in every.items()},
        "models": [vars(x) for x in licences],
        "files": [vars(e) for e in entries],
        "parts": [{"name": p.name, "size": p.size} for p in parts],
        "loader": {"name": "load.py", "size": len(loader), "sha256": hashlib.sha256(loader).hexdigest()},
        "memory": dict(memory),
        "acceptance": acceptance,
    }
    return BundlePlan(content=str(inventory["content"]), entries=entries, parts=parts, small=small, inventory=inventory)


def _chosen(
    images: Sequence[BundledImage], loose: Sequence[BundledLayer], bases: Sequence[Base], content: str
) -> list[BundledLayer]:
    """The layers that go into the bundle, each once: code first, weights last."""
    layers = needed(images, loose, bases)
    if content != COMPLETE:
        layers = {d: x for d, x in layers.items() if (x.model is not None) == (content == MODELS)}
    return sorted(layers.values(), key=lambda x: (x.model is not None, x.digest))


def _all_have(bases: Sequence[Base], path: str, sha256: str) -> bool:
    """Whether no receiver needs a file."""
    return bool(bases) and all((path, sha256) in base.files for base in bases)


def _known(images: Sequence[BundledImage], bases: Sequence[Base]) -> list[Mapping[str, Any]]:
    found = known(images, bases)
    if len(found) > MOST_IMAGES:
        raise UsageError(
            f"these {len(bases)} receivers have {len(found)} images between them",
            where="--base",
            expected=f"{MOST_IMAGES} or fewer",
            hint="make two bundles, each for some of them",
        )
    return found


def _image(image: BundledImage) -> dict[str, Any]:
    return {
        "name": image.name,
        "stage": image.stage,
        "manifest": digest(image.manifest),
        "config": digest(image.config),
        "layers": [x.digest for x in image.layers],
    }


def _layer(layer: BundledLayer) -> dict[str, Any]:
    return {k: v for k, v in vars(layer).items() if k != "digest"}


def _descriptions(images: Sequence[BundledImage]) -> dict[str, bytes]:
    """Path -> bytes of the manifests and configs."""
    return {oci.blob_path(digest(data)): data for image in images for data in (image.manifest, image.config)}


def _entrance(images: Sequence[BundledImage]) -> dict[str, bytes]:
    """What ``docker load`` reads first: index.json (containerd) and manifest.json (graph drivers)."""
    manifests, legacy = [], []
    for image in images:
        manifest = image.manifest
        manifests.append(
            {
                "mediaType": oci.MANIFEST,
                "digest": digest(manifest),
                "size": len(manifest),
                "annotations": {
                    "io.containerd.image.name": full_name(image.name),
                    "org.opencontainers.image.ref.name": image.name.rpartition(":")[2],
                },
            }
        )
        legacy.append(
            {
                "Config": oci.blob_path(digest(image.config)),
                "RepoTags": [image.name],
                "Layers": [oci.blob_path(x.digest) for x in image.layers],
            }
        )
    return {
        "oci-layout": oci.LAYOUT.encode(),
        "index.json": oci.dump({"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": manifests}),
        "manifest.json": oci.dump(legacy),
    }


def _entries(files: Mapping[str, tuple[int, str]]) -> tuple[tuple[TarEntry, ...], int]:
    """Where each file's bytes begin, and where the tar ends.

    Args:
        files: path -> (size, hex sha256), in the order of the tar.
    """
    at, entries = 0, []
    for path, (size, sha256) in files.items():
        at += len(header(path, size))
        entries.append(TarEntry(path=path, at=at, size=size, sha256=sha256))
        at += size + padding(size)
    return tuple(entries), at + END


def _cut(end: int, part_size: int) -> tuple[BundlePart, ...]:
    begins = range(0, end, part_size)
    if len(begins) > 999:
        raise UsageError(f"that makes {len(begins)} parts", where="--part-size", expected="999 or fewer")
    return tuple(
        BundlePart(name=f"{PART_NAME}.{number:03}", begin=begin, end=min(begin + part_size, end))
        for number, begin in enumerate(begins)
    )


def dated(plan: BundlePlan, created: str) -> BundlePlan:
    """The plan of a bundle that was made at a time (ISO 8601, UTC)."""
    return replace(plan, inventory={**plan.inventory, "made": {**(plan.inventory["made"] or {}), "created": created}})


def with_manual(plan: BundlePlan, text: bytes) -> BundlePlan:
    """The plan of a bundle that has this README.txt beside its parts."""
    row = {"name": MANUAL, "size": len(text), "sha256": hashlib.sha256(text).hexdigest()}
    return replace(plan, inventory={**plan.inventory, "manual": row})


def finished(plan: BundlePlan, parts: Sequence[Sequence[str]]) -> bytes:
    """inventory.json, with what each part has a sha256 of.

    Args:
        parts: hex sha256 of the files that each part has only in part (:meth:`builder.receiver.checking.pieces.TarMap.cuts`). All
            else of the tar follows from the inventory: whole files have a sha256 there, headers and padding have no choice.
    """
    described = [{**p, "cuts": list(cuts)} for p, cuts in zip(plan.inventory["parts"], parts, strict=True)]
    return dump({**plan.inventory, "parts": described})
