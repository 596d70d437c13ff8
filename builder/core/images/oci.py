"""OCI images as data: read what a builder wrote, put weight layers between, write config, manifest and index. Pure.

Follows the OCI image specification 1.1 (image-spec: manifest.md, config.md, layout.md).
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from builder.errors import IntegrityError

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
TAR = "application/vnd.oci.image.layer.v1.tar"

LAYERS = (TAR, f"{TAR}+gzip", f"{TAR}+zstd")
"""Media types of layers that an engine unpacks."""

MOST_LAYERS, LARGEST_CONFIG, LARGEST_BLOB = 127, 4 << 20, 1 << 44
"""Layers that an engine takes, bytes of a config, bytes of a blob: what a stranger's image may have."""

EMPTY = f"sha256:{hashlib.sha256(bytes(1024)).hexdigest()}"
"""Diff id of a layer without files: a place that a Dockerfile kept free for a model."""

LAYOUT = '{"imageLayoutVersion": "1.0.0"}'
"""The file ``oci-layout``."""


@dataclass(frozen=True, kw_only=True)
class Descriptor:
    """A blob by what it is."""

    media_type: str
    digest: str
    """``sha256:…`` of the blob."""
    size: int

    @property
    def json(self) -> dict[str, Any]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer of an image; ``diff_id`` is the digest of its tar, the blob's own when that isn't compressed."""

    blob: Descriptor
    diff_id: str
    history: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Image:
    """A config without its layers, and the layers, lowest first."""

    config: Mapping[str, Any]
    layers: tuple[Layer, ...]
    rest: tuple[tuple[int, Mapping[str, Any]], ...]
    """History entries of no layer, each with the number of layers below it."""

    @property
    def labels(self) -> Mapping[str, str]:
        return dict(self.config.get("config", {}).get("Labels") or {})


@dataclass(frozen=True, kw_only=True)
class Written:
    """An image as bytes, with what its manifest says."""

    manifest: bytes
    config: bytes
    image: Image

    @property
    def config_descriptor(self) -> Descriptor:
        return describe(CONFIG, self.config)


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def describe(media_type: str, data: bytes) -> Descriptor:
    return Descriptor(media_type=media_type, digest=digest(data), size=len(data))


def named(manifest: bytes, where: str) -> tuple[Descriptor, tuple[Descriptor, ...]]:
    """The config and the layers, lowest first, that a manifest names.

    Raises:
        IntegrityError: not a manifest.
    """
    try:
        value = json.loads(manifest)
        config, *layers = (
            Descriptor(media_type=entry["mediaType"], digest=entry["digest"], size=int(entry["size"]))
            for entry in (value["config"], *value["layers"])
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise IntegrityError(f"not a manifest: {error}", where=where) from None
    return config, tuple(layers)


def received(manifest: bytes, where: str) -> tuple[Descriptor, tuple[Descriptor, ...]]:
    """The config and the layers, lowest first, that a stranger's manifest names: within what engines take, or an error.

    Raises:
        IntegrityError: not an image's manifest, or one that no engine would take.
    """
    config, layers = named(manifest, where)
    odd = next((b for b in (config, *layers) if not _usable(b)), None)
    if odd is not None or config.media_type != CONFIG or any(layer.media_type not in LAYERS for layer in layers):
        raise IntegrityError("not an image's manifest: a blob has another type, digest or size", where=where)
    if len(layers) > MOST_LAYERS or config.size > LARGEST_CONFIG:
        raise IntegrityError("not an image's manifest: an engine takes no such image", where=where)
    return config, layers


def received_of(index: bytes, architecture: str, where: str) -> Descriptor:
    """The manifest for Linux on an architecture that a stranger's index names.

    Raises:
        IntegrityError: not an index, or it names none for that platform.
    """
    try:
        rows = [row for row in json.loads(index)["manifests"] if row.get("mediaType") == MANIFEST]
        platforms = [(row["platform"]["os"], row["platform"]["architecture"]) for row in rows]
        row = rows[platforms.index(("linux", architecture))]
        found = Descriptor(media_type=MANIFEST, digest=row["digest"], size=int(row["size"]))
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError):
        raise IntegrityError(f"no image for linux/{architecture} is there", where=where) from None
    if not _usable(found):
        raise IntegrityError("not an index of images: a manifest has another digest or size", where=where)
    return found


def require_plain(image: Image, where: str) -> None:
    """Raises IntegrityError where a stranger's config has labels or ids of layers that are something else than text."""
    try:
        labels: list[object] = [text for pair in image.labels.items() for text in pair]
    except (ValueError, TypeError, AttributeError):
        labels = [None]
    if not all(isinstance(text, str) for text in labels) or not all(_digest(x.diff_id) for x in image.layers):
        raise IntegrityError("not an image: its config has other types than a config has", where=where)


def _digest(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"sha256:[0-9a-f]{64}", value) is not None


def _usable(blob: Descriptor) -> bool:
    return _digest(blob.digest) and isinstance(blob.media_type, str) and 0 <= blob.size <= LARGEST_BLOB


def read(manifest: bytes, config: bytes, where: str) -> Image:
    """The image of a manifest and a config.

    Raises:
        IntegrityError: the two don't belong together, or are something else.
    """
    _, blobs = named(manifest, where)
    try:
        settings = json.loads(config)
        diffs = list(settings["rootfs"]["diff_ids"])
        history = list(settings.get("history") or [{} for _ in diffs])
        filled = [h for h in history if not h.get("empty_layer")]
        if len(blobs) != len(diffs) or len(filled) != len(diffs):
            raise ValueError(f"{len(blobs)} layers, {len(diffs)} diff ids, {len(filled)} entries of history")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise IntegrityError(f"not an image: {error}", where=where) from None
    layers = tuple(
        Layer(blob=b, diff_id=d, history=h) for b, d, h in zip(blobs, diffs, filled, strict=True) if d != EMPTY
    )
    rest, below = [], 0
    left = iter(diffs)
    for entry in history:
        if entry.get("empty_layer"):
            rest.append((below, entry))
        elif next(left) != EMPTY:
            below += 1
    return Image(config=settings, layers=layers, rest=tuple(rest))


def weight_layer(digest_: str, size: int, name: str) -> Layer:
    """A layer of weights: not compressed, so that the engine, a push and this tool name it alike."""
    return Layer(
        blob=Descriptor(media_type=TAR, digest=digest_, size=size),
        diff_id=digest_,
        history={"created_by": f"whisperbake: weights of {name}", "comment": "whisperbake"},
    )


def assemble(code: Image, layers: Sequence[Layer], labels: Mapping[str, str]) -> Image:
    """The image with these layers (its own among them, in their own order) and more labels.

    Times of history entries become the image's own: when a layer was built says nothing and would change the digest.
    """
    config = copy.deepcopy(dict(code.config))
    config.setdefault("config", {})
    config["config"]["Labels"] = {**(config["config"].get("Labels") or {}), **labels}
    own = [k for k, layer in enumerate(layers) if layer in code.layers]
    if [layers[k] for k in own] != list(code.layers):
        raise ValueError("the layers of the code have another order")
    places = [*own, len(layers)]
    rest = tuple((places[below], entry) for below, entry in code.rest)
    return Image(config=config, layers=tuple(layers), rest=rest)


def write(image: Image) -> Written:
    """Config and manifest as bytes: sorted keys, no spaces; the same image, the same bytes."""
    config = copy.deepcopy(dict(image.config))
    config["rootfs"] = {"type": "layers", "diff_ids": [layer.diff_id for layer in image.layers]}
    history: list[dict[str, Any]] = []
    for k, layer in enumerate((*image.layers, None)):
        history += [dict(h) for below, h in image.rest if below == k]
        if layer is not None:
            history.append(dict(layer.history))
    when = config.get("created")
    config["history"] = [{**h, "created": when} if when else h for h in history]
    raw = dump(config)
    manifest_ = manifest(describe(CONFIG, raw), [layer.blob for layer in image.layers])
    return Written(manifest=manifest_, config=raw, image=image)


def manifest(config: Descriptor, layers: Sequence[Descriptor]) -> bytes:
    """The manifest of an image: sorted keys, no spaces."""
    blobs = {"config": config.json, "layers": [layer.json for layer in layers]}
    return dump({"schemaVersion": 2, "mediaType": MANIFEST, **blobs})


def index(manifests: Sequence[tuple[Descriptor, str | None]]) -> bytes:
    """index.json of a layout: manifests with the reference each is known by."""
    rows = []
    for descriptor, name in manifests:
        row = descriptor.json
        if name:
            row["annotations"] = {"org.opencontainers.image.ref.name": name}
        rows.append(row)
    return dump({"schemaVersion": 2, "mediaType": INDEX, "manifests": rows})


def architecture(config: bytes) -> str:
    """The architecture that a config is for, by the OCI's name; empty where it doesn't say."""
    return str(json.loads(config).get("architecture") or "")


def platform_index(images: Sequence[Written]) -> bytes:
    """The index of one image for several platforms (image-index.md): its manifests, with what each config says.

    In the order of platforms' names: the same images, the same bytes.

    Raises:
        ValueError: two of them are for one platform.
    """
    rows = []
    for image in images:
        config = json.loads(image.config)
        names = {name: config[name] for name in ("os", "architecture", "variant") if config.get(name)}
        rows.append({**describe(MANIFEST, image.manifest).json, "platform": names})
    rows.sort(key=lambda row: sorted(row["platform"].items()))
    if any(one["platform"] == other["platform"] for one, other in itertools.pairwise(rows)):
        raise ValueError("two manifests are for one platform")
    return dump({"schemaVersion": 2, "mediaType": INDEX, "manifests": rows})


def docker_manifest(image: Written) -> bytes:
    """manifest.json of ``docker load``, without a tag: what graph drivers read."""
    layers = [blob_path(layer.blob.digest) for layer in image.image.layers]
    return dump([{"Config": blob_path(image.config_descriptor.digest), "RepoTags": None, "Layers": layers}])


def blob_path(digest_: str) -> str:
    """Where a blob is in a layout."""
    algorithm, _, name = digest_.partition(":")
    return f"blobs/{algorithm}/{name}"


def dump(value: Any) -> bytes:
    """JSON without spaces: the same value has the same bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
