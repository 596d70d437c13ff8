"""What an inventory says that a bundle or a receiver has, what a receiver lacks, and how two of them differ. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from builder.core.bundle.image import BundledImage, BundledLayer
from builder.core.images.oci import digest
from builder.receiver.missing import EngineContents, chain_ids, missing_layers

COMPLETE, DIFFERENCE, CODE, MODELS = "complete", "difference", "code", "models"
"""What a bundle holds."""


def dump(inventory: Mapping[str, Any]) -> bytes:
    """inventory.json: the same inventory has the same bytes."""
    return (json.dumps(inventory, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def planned(inventory: Mapping[str, Any]) -> dict[str, Any]:
    """An inventory as its plan had it: without the hashes that came of writing the parts."""
    return {**inventory, "parts": [{"name": p["name"], "size": p["size"]} for p in inventory["parts"]]}


@dataclass(frozen=True, kw_only=True)
class Base:
    """What a receiver has already, so that a bundle need not bring it."""

    contents: EngineContents = field(default_factory=EngineContents)
    files: frozenset[tuple[str, str]] = frozenset()
    """(path, hex sha256) of files that are not blobs."""
    images: tuple[Mapping[str, Any], ...] = ()
    """As the inventory describes them."""
    fingerprint: str | None = None
    """``sha256:…`` of the inventory."""


def base_of(inventory: Mapping[str, Any]) -> Base:
    """What follows from an inventory: a receiver's own, or that of an earlier bundle which it loaded.

    Args:
        inventory: checked (:func:`builder.receiver.inventory.check_inventory`).
    """
    layers = inventory["layers"]
    blobs: set[str] = set()
    chains: set[str] = set()
    for image in inventory["images"]:
        blobs |= {image["manifest"], image["config"], *image["layers"]}
        chains |= set(chain_ids([layers[x]["diff_id"] for x in image["layers"]]))
    if inventory["content"] == MODELS:
        blobs |= set(layers)
    contents = EngineContents(
        store=inventory.get("engine", {}).get("store"), blobs=frozenset(blobs), chains=frozenset(chains)
    )
    return Base(
        contents=contents,
        files=frozenset((f["path"], f["sha256"]) for f in inventory["files"] if not f["path"].startswith("blobs/")),
        images=tuple(inventory["images"]),
        fingerprint=digest(dump(inventory)),
    )


def lacking(image: BundledImage, contents: EngineContents) -> tuple[BundledLayer, ...]:
    """The layers of an image that a receiver's engine lacks, lowest first (:func:`missing_layers` is the rule)."""
    return tuple(image.layers[k] for k in missing_layers([(x.digest, x.diff_id) for x in image.layers], contents))


def distinct(bases: Iterable[Base]) -> tuple[Base, ...]:
    """Bases of different states: what several sites say alike counts once."""
    return tuple({base.fingerprint: base for base in bases}.values())


def needed(
    images: Sequence[BundledImage], loose: Sequence[BundledLayer], bases: Sequence[Base]
) -> dict[str, BundledLayer]:
    """The layers that at least one of several receivers lacks, by digest; without a base, all.

    Args:
        loose: weights of no image.
    """
    if not bases:
        return {x.digest: x for x in [*(x for image in images for x in image.layers), *loose]}
    layers = {x.digest: x for base in bases for image in images for x in lacking(image, base.contents)}
    return layers | {x.digest: x for x in loose for base in bases if x.digest not in base.contents.blobs}


def known(images: Sequence[BundledImage], bases: Sequence[Base]) -> list[Mapping[str, Any]]:
    """The images that receivers may have, by whose manifests a containerd store's blobs are known; each once.

    Args:
        images: the bundle's own, which its inventory has already.
    """
    own = {digest(image.manifest) for image in images}
    return list({i["manifest"]: i for base in bases for i in base.images if i["manifest"] not in own}.values())


@dataclass(frozen=True, kw_only=True)
class InventoryChange:
    """How two inventories differ."""

    images: tuple[tuple[str, str], ...]
    """(name, what happened): new, gone, other."""
    layers: tuple[tuple[str, str, int], ...] = ()
    """(digest, what it holds, bytes) of the layers that only the second has, the largest first."""

    @property
    def size(self) -> int:
        """Bytes of the new layers."""
        return sum(size for _, _, size in self.layers)


def compare(first: Mapping[str, Any], second: Mapping[str, Any]) -> InventoryChange:
    """What the second inventory has that the first hasn't."""
    old, new = ({i["name"]: i["manifest"] for i in x["images"]} for x in (first, second))
    images = [(n, "new" if n not in old else "other") for n in new if old.get(n) != new[n]]
    images += [(n, "gone") for n in old if n not in new]
    users = _users(second["images"])
    layers = [
        (d, x["model"] or f"code of {', '.join(users.get(d, ()))}", x["size"])
        for d, x in second["layers"].items()
        if d not in first["layers"]
    ]
    return InventoryChange(images=tuple(sorted(images)), layers=tuple(sorted(layers, key=lambda x: -x[2])))


def _users(images: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Digest of a layer -> the stages that use it."""
    users: dict[str, list[str]] = {}
    for image in images:
        for layer in image["layers"]:
            users.setdefault(layer, []).append(image["stage"] or image["name"])
    return users


@dataclass(frozen=True, kw_only=True)
class BundleSizes:
    """Sizes of a bundle, or of what a receiver was sent; in bytes."""

    content: str
    """complete, difference, code or models."""
    whole: int
    """Of the tar."""
    weights: int
    code: int
    other: int
    """Of files that are not blobs."""
    left_out: int
    """Of layers that its images have and that are not in it."""


def sizes(inventory: Mapping[str, Any]) -> BundleSizes:
    """What an inventory says of sizes."""
    files = {f["path"]: f["size"] for f in inventory["files"]}
    weights = {d for d, x in inventory["layers"].items() if x["model"] is not None}
    held = {d: x["size"] for d, x in inventory["layers"].items() if f"blobs/sha256/{d[7:]}" in files}
    return BundleSizes(
        content=inventory["content"],
        whole=sum(p["size"] for p in inventory["parts"]),
        weights=sum(size for d, size in held.items() if d in weights),
        code=sum(size for d, size in held.items() if d not in weights),
        other=sum(size for p, size in files.items() if not p.startswith("blobs/")),
        left_out=sum(x["size"] for d, x in inventory["layers"].items() if d not in held),
    )


@dataclass(frozen=True, kw_only=True)
class ImageRow:
    """What an inventory says of one image."""

    name: str
    manifest: str
    size: int
    """Bytes of its layers."""
    held: int
    """Layers that are in the bundle."""
    layers: int
    """Layers of the image."""
    models: tuple[str, ...]
    """Ids of the models inside."""


def image_rows(inventory: Mapping[str, Any]) -> tuple[ImageRow, ...]:
    """What an inventory says of its images, in its order."""
    paths = {f["path"] for f in inventory["files"]}
    rows = []
    for image in inventory["images"]:
        layers = [inventory["layers"][x] for x in image["layers"]]
        rows.append(
            ImageRow(
                name=image["name"],
                manifest=image["manifest"],
                size=sum(x["size"] for x in layers),
                held=sum(1 for x in image["layers"] if f"blobs/sha256/{x[7:]}" in paths),
                layers=len(layers),
                models=tuple(dict.fromkeys(x["model"] for x in layers if x["model"])),
            )
        )
    return tuple(rows)
