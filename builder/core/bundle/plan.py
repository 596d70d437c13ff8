"""A bundle: what is in it, in which order, cut where. Pure: sizes and digests in, a plan and an inventory out.

A bundle is a folder: load.py, inventory.json (with its signature), and one tar in parts. The tar holds every blob once
and is an OCI image layout that ``docker load`` takes as it is, unless blobs were left out. docs/air-gap.md has the format.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from builder.core.images import oci
from builder.core.images.oci import digest
from builder.errors import UsageError

SCHEMA = 1

BLOCK = 512
"""Bytes of a tar header, and what every file is padded to."""

END = 2 * BLOCK
"""Zeros that end a tar."""

PART_NAME = "whisperbake.tar"

MIN_PART = 1_000_000
"""Bytes; the smallest part that makes sense."""

OLDEST_ENGINE = "23.0"
"""The first Docker Engine whose ``docker load`` unpacks zstd layers (moby's pkg/archive)."""

ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
PLAIN = oci.TAR

COMPLETE, DIFFERENCE, CODE, MODELS = "complete", "difference", "code", "models"
"""What a bundle holds."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer of an image as it travels: zstd for code, plain tar for weights."""

    digest: str
    """``sha256:…`` of the blob; for plain tar it is the diff id."""
    size: int
    diff_id: str
    unpacked: int
    """Bytes of the uncompressed tar."""
    media_type: str
    model: str | None = None
    """Id of the model whose weights it holds, or None for code."""


@dataclass(frozen=True, kw_only=True)
class Image:
    """One image as it travels."""

    name: str
    """As ``docker images`` shows it: ``whisperbake/asr:slim-cpu``."""
    stage: str | None
    config: bytes
    layers: tuple[Layer, ...]
    """Lowest first."""

    @property
    def manifest(self) -> bytes:
        """The OCI manifest; the same image has the same bytes."""
        layers = [{"mediaType": x.media_type, "digest": x.digest, "size": x.size} for x in self.layers]
        return _json(
            {
                "schemaVersion": 2,
                "mediaType": oci.MANIFEST,
                "config": {"mediaType": oci.CONFIG, "digest": digest(self.config), "size": len(self.config)},
                "layers": layers,
            }
        )


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file in the tar; its bytes begin at ``at``, after its header."""

    path: str
    at: int
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Part:
    """One piece of the tar: bytes ``begin`` to ``end``."""

    name: str
    begin: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.begin


@dataclass(frozen=True, kw_only=True)
class Licence:
    """What the inventory says of a model."""

    id: str
    title: str
    licence: str
    commercial: bool
    page: str | None
    revision: str
    size: int


@dataclass(frozen=True, kw_only=True)
class BundlePlan:
    """What will be written, to the byte, apart from the hashes of the parts."""

    content: str
    entries: tuple[Entry, ...]
    parts: tuple[Part, ...]
    small: Mapping[str, bytes]
    """Path -> bytes of what was made for the bundle: index, manifests, configs."""
    inventory: Mapping[str, Any]

    @property
    def size(self) -> int:
        """Bytes of the tar."""
        return self.parts[-1].end if self.parts else 0

    @property
    def key(self) -> str:
        """Names what is written: another plan has another key."""
        return hashlib.sha256(dump(self.inventory)).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Have:
    """What a receiver has: blobs and files by sha256, chains of layers, images."""

    store: str | None = None
    """Of its engine; None when it isn't known: then the plan suits all of them."""
    blobs: frozenset[str] = frozenset()
    chains: frozenset[tuple[str, ...]] = frozenset()
    """Diff ids of images, lowest first, with everything below."""
    files: frozenset[str] = frozenset()
    images: tuple[Mapping[str, Any], ...] = ()
    fingerprint: str | None = None


def dump(inventory: Mapping[str, Any]) -> bytes:
    """inventory.json: the same inventory has the same bytes."""
    return (json.dumps(inventory, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def full_name(name: str) -> str:
    """A reference with its registry, as containerd's image names have it: ``docker.io/whisperbake/asr:slim-cpu``."""
    first, slash, _ = name.partition("/")
    if not slash:
        return f"docker.io/library/{name}"
    return name if "." in first or ":" in first or first == "localhost" else f"docker.io/{name}"


def parse_size(text: str) -> int:
    """Bytes from ``4G``, ``700M``, ``4GiB``, ``1000000``.

    Raises:
        UsageError: none of these, or too small.
    """
    match = re.fullmatch(r"(\d+)\s*(?:([KMGT])(iB|B)?)?", text.strip(), re.IGNORECASE)
    if match is None:
        raise UsageError(f'"{text}" is no size', where="--part-size", expected="bytes, or 700M, 4G, 4GiB")
    step = 1024 if (match[3] or "").lower() == "ib" else 1000
    size = int(match[1])
    for _ in range(" KMGT".index(match[2].upper()) if match[2] else 0):
        size *= step
    if size < MIN_PART:
        raise UsageError(f"parts of {size} bytes are too small", where="--part-size", expected="1M or more")
    return size


def have(inventory: Mapping[str, Any]) -> Have:
    """What follows from an inventory: a receiver's own, or an earlier bundle's that it loaded.

    Args:
        inventory: checked (:func:`builder.load.check_inventory`).
    """
    layers = inventory["layers"]
    blobs: set[str] = set()
    chains: set[tuple[str, ...]] = set()
    for image in inventory["images"]:
        blobs |= {image["manifest"], image["config"], *image["layers"]}
        ids = tuple(layers[x]["diff_id"] for x in image["layers"])
        chains |= {ids[:n] for n in range(1, len(ids) + 1)}
    if inventory["content"] == MODELS:
        blobs |= set(layers)
    return Have(
        store=inventory.get("engine", {}).get("store"),
        blobs=frozenset(blobs),
        chains=frozenset(chains),
        files=frozenset(f["sha256"] for f in inventory["files"] if not f["path"].startswith("blobs/")),
        images=tuple(inventory["images"]),
        fingerprint=digest(dump(inventory)),
    )


def lacking(image: Image, there: Have) -> tuple[Layer, ...]:
    """The layers of an image that a receiver doesn't have in a place where its engine can use them.

    containerd finds a blob wherever it is. A graph driver knows a layer by the chain below it (design.md, Weights as
    layers): everything above the first difference counts. Where the store is unknown, as for a graph driver.
    """
    if there.store == "containerd":
        return tuple(x for x in image.layers if x.digest not in there.blobs)
    ids = tuple(x.diff_id for x in image.layers)
    known = max((n for n in range(len(ids) + 1) if n == 0 or ids[:n] in there.chains), default=0)
    return image.layers[known:]


def plan(
    images: Sequence[Image],
    *,
    extras: Mapping[str, tuple[int, str]] = {},
    licences: Sequence[Licence] = (),
    loader: bytes,
    made_by: str,
    platform: str,
    part_size: int,
    content: str = COMPLETE,
    base: Have | None = None,
    loose: Sequence[Layer] = (),
    acceptance: Mapping[str, Any] | None = None,
) -> BundlePlan:
    """Which bytes go where.

    Args:
        extras: path -> (size, sha256) of what is no blob: job templates, licences, the native set.
        loader: bytes of load.py.
        platform: ``linux/amd64``.
        part_size: bytes a part has at the most.
        content: COMPLETE, CODE (no weights) or MODELS (nothing else).
        base: what the receiver has already.
        loose: weights of no image, for native runs.
        acceptance: the job that shows that all works, with its expected result.

    Raises:
        UsageError: there is nothing to put into it.
    """
    chosen = {x.digest: x for image in images for x in (lacking(image, base) if base else image.layers)}
    chosen |= {x.digest: x for x in loose if not base or x.digest not in base.blobs}
    if content != COMPLETE:
        chosen = {d: x for d, x in chosen.items() if (x.model is not None) == (content == MODELS)}
    small: dict[str, bytes] = {}
    described = []
    for image in images:
        pair = (image.manifest, image.config)
        described.append(
            {
                "name": image.name,
                "stage": image.stage,
                "manifest": digest(pair[0]),
                "config": digest(pair[1]),
                "layers": [x.digest for x in image.layers],
            }
        )
        if content != MODELS:
            small |= {
                oci.blob_path(digest(data)): data for data in pair
            }  # of all images: one may be gone from the engine
    whole = content == COMPLETE and base is None
    if whole:
        small = {**_entrance(images), **small}
    wanted = {path: (len(data), hashlib.sha256(data).hexdigest()) for path, data in small.items()}
    wanted |= {p: found for p, found in sorted(extras.items()) if not base or found[1] not in base.files}
    layers = sorted(chosen.values(), key=lambda x: (x.model is not None, x.digest))
    wanted |= {oci.blob_path(x.digest): (x.size, x.digest.removeprefix("sha256:")) for x in layers}
    entries, end = _place(wanted)
    used = [*(x for image in images for x in image.layers), *loose]
    every = {x.digest: x for x in used if content != MODELS or x.model is not None}
    parts = _cut(end, part_size)
    inventory = {
        "schema": SCHEMA,
        "kind": "bundle",
        "made_by": made_by,
        "content": content if content != COMPLETE or base is None else DIFFERENCE,
        "base": base.fingerprint if base else None,
        "engine": {"oldest": OLDEST_ENGINE, "platform": platform},
        "images": [] if content == MODELS else described,
        "known": list(base.images) if base else [],
        "layers": {d: _layer(x) for d, x in every.items()},
        "models": [vars(x) for x in licences],
        "files": [vars(e) for e in entries],
        "parts": [{"name": p.name, "size": p.size} for p in parts],
        "loader": {"name": "load.py", "size": len(loader), "sha256": hashlib.sha256(loader).hexdigest()},
        "acceptance": acceptance,
    }
    return BundlePlan(content=str(inventory["content"]), entries=entries, parts=parts, small=small, inventory=inventory)


def _layer(x: Layer) -> dict[str, Any]:
    return {k: v for k, v in vars(x).items() if k != "digest"}


def _entrance(images: Sequence[Image]) -> dict[str, bytes]:
    """What ``docker load`` reads first: index.json (containerd) and manifest.json (graph drivers)."""
    manifests, legacy = [], []
    for image in images:
        made = image.manifest
        manifests.append(
            {
                "mediaType": oci.MANIFEST,
                "digest": digest(made),
                "size": len(made),
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
        "index.json": _json({"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": manifests}),
        "manifest.json": _json(legacy),
    }


def _place(wanted: Mapping[str, tuple[int, str]]) -> tuple[tuple[Entry, ...], int]:
    """Where each file's bytes begin, and where the tar ends."""
    at, entries = 0, []
    for path, (size, sha256) in wanted.items():
        at += head(path)
        entries.append(Entry(path=path, at=at, size=size, sha256=sha256))
        at += size + padding(size)
    return tuple(entries), at + END


def head(path: str) -> int:
    """Bytes of a file's header: GNU tar writes names over 100 bytes into a block of their own, with a header too."""
    return BLOCK if len(path.encode()) <= 100 else 3 * BLOCK


def padding(size: int) -> int:
    """Zeros after a file of ``size`` bytes."""
    return -size % BLOCK


def _cut(end: int, part_size: int) -> tuple[Part, ...]:
    begins = range(0, end, part_size)
    if len(begins) > 999:
        raise UsageError(f"that makes {len(begins)} parts", where="--part-size", expected="999 or fewer")
    return tuple(
        Part(name=f"{PART_NAME}.{number:03}", begin=begin, end=min(begin + part_size, end))
        for number, begin in enumerate(begins)
    )


def finished(plan: BundlePlan, parts: Sequence[str]) -> bytes:
    """inventory.json, with the sha256 of each part."""
    described = [{**p, "sha256": sha} for p, sha in zip(plan.inventory["parts"], parts, strict=True)]
    return dump({**plan.inventory, "parts": described})


@dataclass(frozen=True, kw_only=True)
class Change:
    """How two inventories differ."""

    images: tuple[tuple[str, str], ...]
    """(name, what happened): new, gone, other."""
    layers: tuple[tuple[str, str, int], ...] = field(default=())
    """(digest, what it holds, bytes) of the layers that only the second has."""

    @property
    def size(self) -> int:
        """Bytes of the new layers."""
        return sum(size for _, _, size in self.layers)


def compare(first: Mapping[str, Any], second: Mapping[str, Any]) -> Change:
    """What the second has that the first hasn't."""
    old, new = ({i["name"]: i["manifest"] for i in x["images"]} for x in (first, second))
    images = [(n, "new" if n not in old else "other") for n in new if old.get(n) != new[n]]
    images += [(n, "gone") for n in old if n not in new]
    users = _users(second["images"])
    layers = [
        (d, x["model"] or f"code of {', '.join(users.get(d, ()))}", x["size"])
        for d, x in second["layers"].items()
        if d not in first["layers"]
    ]
    return Change(images=tuple(sorted(images)), layers=tuple(sorted(layers, key=lambda x: -x[2])))


def _users(images: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for image in images:
        for name in image["layers"]:
            found.setdefault(name, []).append(image["stage"] or image["name"])
    return found


LOADER = ("inventory", "parts", "engine", "images", "run", "main")
"""Modules of builder/receiver in the order in which they stand in load.py."""

HEAD = '''#!/usr/bin/env python3
"""Load a whisperbake bundle into this machine's container engine: no network, nothing but Python 3.9 or later.

    python3 load.py                   load what this engine lacks, then offer the acceptance run
    python3 load.py --check           read everything once, name damaged parts; needs no engine
    python3 load.py --key sender.pem  refuse what this key didn't sign
"""

from __future__ import annotations
'''


def loader(sources: Mapping[str, str]) -> bytes:
    """load.py: the modules one after the other, without what they import from each other.

    Args:
        sources: text of each module of :data:`LOADER`.
    """
    parts = [HEAD]
    for name in LOADER:
        lines = sources[name].splitlines(keepends=True)
        tree = ast.parse(sources[name])
        for node in reversed(tree.body):
            docstring = node is tree.body[0]
            own = isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("builder.", "__future__"))
            if docstring or own:
                lines[node.lineno - 1 : node.end_lineno] = []
        title = (ast.get_docstring(tree) or name).splitlines()[0]
        parts.append(f"# {title}\n\n{''.join(lines).strip()}\n")
    return "\n\n".join(parts).encode()
