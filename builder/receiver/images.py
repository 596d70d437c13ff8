"""Images into the engine: the layers that it lacks, under temporary names; the real names at the very end."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.receiver.engine import EngineSocket, LacksLayer
from builder.receiver.inventory import PLAIN, FileEntry, Inventory, LoaderError, bad, need, read_json
from builder.receiver.jobs.kept import release
from builder.receiver.missing import EngineContents, chain_ids, missing_layers
from builder.receiver.parts import Bundle, Guard
from builder.receiver.tar import BLOCK, END, header, padding
from builder.receiver.unpack import NATIVE

TEMPORARY = "whisperbake-load"
"""Repository of the names that images have until all of them are there."""

LOADING = re.compile(rf"{TEMPORARY}/[0-9a-f]{{24}}:loading")

SMALL = 4 << 20
"""Bytes; a manifest or a config is never larger."""

LISTED = 8
"""Layers that an error lists."""

SPARE = 64 << 20
"""Bytes that stay free on the engine's disk."""


@dataclass
class Sources:
    """Bundles that bytes may come from: the one that is loaded, and others beside it (``--with``)."""

    bundles: Sequence[Bundle]

    def find(self, digest: str) -> tuple[Bundle, FileEntry] | None:
        path = f"blobs/sha256/{digest[7:]}"
        return next(((b, b.files[path]) for b in self.bundles if path in b.files), None)

    def open(self, digest: str, guard: Guard | None = None) -> Iterator[bytes]:
        place = self.find(digest)
        assert place is not None
        bundle, entry = place
        return bundle.open(entry["path"], guard)

    def small(self, digest: str) -> bytes:
        """A manifest or a config. Raises LoaderError: it is not here, or too large."""
        place = self.find(digest)
        if place is None or place[1]["size"] > SMALL:
            raise bad(f"{digest[:19]} is not in the bundle, or too large for what it is")
        return b"".join(self.open(digest))


@dataclass
class Delivery:
    """One image and what has to be sent of it."""

    image: dict[str, Any]
    layers: list[str]
    """Digests of layers to send, lowest first."""
    present: str = ""
    """The image's id, when the engine has it already."""


def inspect(engine: EngineSocket, known: Sequence[dict[str, Any]]) -> EngineContents:
    """Ask an engine what it has.

    Args:
        known: images as inventories describe them: a containerd store names an image by its manifest, and its blobs follow.
    """
    ids: set[str] = set()
    blobs: set[str] = set()
    chains: set[str] = set()
    blobs_of = {i["manifest"]: {i["manifest"], i["config"], *i["layers"]} for i in known}
    for image in engine.images():
        ids.add(image["Id"])
        blobs |= blobs_of.get(image["Id"], set())
        chains |= set(chain_ids(image.get("RootFS", {}).get("Layers") or ()))
    return EngineContents(engine.store, frozenset(ids), frozenset(blobs), frozenset(chains))


def plan(inventory: Inventory, contents: EngineContents) -> list[Delivery]:
    """What to send of each image; what an earlier one brings, a later one finds."""
    deliveries = []
    for image in inventory["images"]:
        if present := contents.has_image(image["manifest"], image["config"]):
            deliveries.append(Delivery(image, [], present))
            continue
        layers = [(digest, inventory["layers"][digest]["diff_id"]) for digest in image["layers"]]
        deliveries.append(Delivery(image, [layers[k][0] for k in missing_layers(layers, contents)]))
        contents = contents.plus(blobs=image["layers"], chains=chain_ids([diff_id for _, diff_id in layers]))
    return deliveries


def require_layers(inventory: Inventory, deliveries: Sequence[Delivery], sources: Sources, own: str | None) -> None:
    """Raises LoaderError when something that has to be sent is not in the bundle.

    Args:
        own: ``sha256:…`` of this machine's inventory; None where it has none.
    """
    absent = list(dict.fromkeys(x for delivery in deliveries for x in delivery.layers if sources.find(x) is None))
    if not absent:
        return
    size = sum(inventory["layers"][x]["size"] for x in absent) / 1e6
    what = f"this engine lacks {len(absent)} layers ({size:.1f} MB) that this bundle doesn't hold"
    do = "ask the sender for a complete one, or for one with --base and this machine's inventory.json"
    bases = [*inventory.get("bases", ()), *([inventory["base"]] if inventory["base"] else ())]
    if inventory["content"] == "code":
        do = "add the bundle that has the weights: --with FOLDER"
    elif bases and own in bases:
        what += ", which this machine's inventory.json says it has"
    elif bases:
        what += f"; it is for {len(bases)} other state{'s' if len(bases) > 1 else ''} than this machine's"
    lines = [_about_layer(inventory, x) for x in absent[:LISTED]]
    more = [f"and {len(absent) - LISTED} more"] if len(absent) > LISTED else []
    raise LoaderError(3, what, do, [*lines, *more])


def _about_layer(inventory: Inventory, digest: str) -> str:
    """A layer in words: whose weights, or whose code."""
    layer = inventory["layers"][digest]
    users = ", ".join(image["stage"] or image["name"] for image in inventory["images"] if digest in image["layers"])
    what = f"weights of {layer['model']}" if layer["model"] else f"code of {users}"
    return f"{digest[:19]}: {what}, {layer['size'] / 1e6:.1f} MB"


def require_room_beside(inventory: Inventory, target: Path) -> None:
    """Raises LoaderError when the disk of the receiver's folder is too small for what is kept there."""
    beside = sum(f["size"] for f in inventory["files"] if not f["path"].startswith("blobs/"))
    if any(f["path"].startswith(f"{NATIVE}/") for f in inventory["files"]):
        beside += sum(x["size"] for x in inventory["layers"].values() if x["model"] is not None)
    if (free := shutil.disk_usage(target).free) < beside + SPARE:
        raise LoaderError(
            3,
            f"{target} has {free / 1e9:.1f} GB free; {(beside + SPARE) / 1e9:.1f} GB go there",
            "name another folder: --to",
        )


def require_space(engine: EngineSocket, inventory: Inventory, deliveries: Sequence[Delivery]) -> None:
    """Raises LoaderError when the engine's disk is too small for what is sent and what it unpacks to."""
    layers = {x: inventory["layers"][x] for delivery in deliveries for x in delivery.layers}
    needed = sum(x["size"] + x["unpacked"] for x in layers.values())
    if not layers or not engine.host.startswith("unix:") or not Path(engine.root).is_dir():
        return
    free = shutil.disk_usage(engine.root).free
    if free < needed + SPARE:
        raise LoaderError(
            3,
            f"{engine.root} has {free / 1e9:.1f} GB free; this bundle needs {(needed + SPARE) / 1e9:.1f} GB",
            "free some space, then run this again",
        )


def send(
    engine: EngineSocket,
    inventory: Inventory,
    sources: Sources,
    delivery: Delivery,
    on_bytes: Callable[[int], None],
) -> str:
    """Bring one image into the engine under a temporary name; that name.

    Args:
        on_bytes: gets the bytes of each chunk of a layer that was sent.

    Raises:
        LoaderError: the bundle contradicts itself, a layer is not in it, or the engine refuses.
    """
    image = delivery.image
    name = f"{TEMPORARY}/{image['manifest'][7:31]}:loading"
    manifest, config = sources.small(image["manifest"]), sources.small(image["config"])
    diff_ids = [inventory["layers"][x]["diff_id"] for x in image["layers"]]
    need(
        _fit(manifest, config, image, diff_ids),
        f"{image['name']}: manifest, config and inventory contradict each other",
    )
    small = _entrance(image, name, manifest, config)
    try:
        engine.load(*_tar(inventory, sources, small, delivery.layers, on_bytes))
    except LacksLayer as error:
        delivery.layers = list(dict.fromkeys(image["layers"]))
        if any(sources.find(x) is None for x in delivery.layers):
            raise LoaderError(
                3,
                f"the engine lost layers of an image that it still lists ({error})",
                "ask the sender for a complete bundle",
            ) from None
        engine.load(*_tar(inventory, sources, small, delivery.layers, on_bytes))
    loaded = engine.image(name)
    if not loaded or loaded["RootFS"]["Layers"] != diff_ids or loaded["Id"] not in (image["manifest"], image["config"]):
        raise LoaderError(
            5, f"the engine made something else of {image['name']}", "load.py --check reads the whole bundle"
        )
    return name


def _fit(manifest: bytes, config: bytes, image: dict[str, Any], diff_ids: Sequence[str]) -> bool:
    """Whether a manifest and a config say what the inventory says of an image."""
    try:
        described, settings = read_json(manifest), read_json(config)
        return bool(
            [x["digest"] for x in described["layers"]] == image["layers"]
            and described["config"]["digest"] == image["config"]
            and settings["rootfs"]["diff_ids"] == diff_ids
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def _entrance(image: dict[str, Any], name: str, manifest: bytes, config: bytes) -> dict[str, bytes]:
    """What ``docker load`` reads first: path -> bytes. containerd reads index.json, graph drivers manifest.json."""
    row = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": image["manifest"],
        "size": len(manifest),
        "annotations": {"io.containerd.image.name": f"docker.io/{name}"},
    }
    legacy = {"Config": _path(image["config"]), "RepoTags": [name], "Layers": [_path(x) for x in image["layers"]]}
    return {
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        "index.json": json.dumps({"schemaVersion": 2, "manifests": [row]}).encode(),
        "manifest.json": json.dumps([legacy]).encode(),
        _path(image["manifest"]): manifest,
        _path(image["config"]): config,
    }


def _tar(
    inventory: Inventory,
    sources: Sources,
    small: dict[str, bytes],
    layers: Sequence[str],
    on_bytes: Callable[[int], None],
) -> tuple[int, Iterator[bytes]]:
    """Size and bytes of the tar that ``docker load`` gets: the small files, then each layer once."""
    sizes = {x: inventory["layers"][x]["size"] for x in dict.fromkeys(layers)}

    def chunks() -> Iterator[bytes]:
        for path, data in small.items():
            yield header(path, len(data)) + data + bytes(padding(len(data)))
        for layer, size in sizes.items():
            yield header(_path(layer), size)
            described = inventory["layers"][layer]
            plain = described["media_type"] == PLAIN
            for chunk in sources.open(layer, None if plain else Guard(layer[:19], described["unpacked"])):
                yield chunk
                on_bytes(len(chunk))
            yield bytes(padding(size))
        yield bytes(END)

    every = [*(len(data) for data in small.values()), *sizes.values()]
    return sum(BLOCK + size + padding(size) for size in every) + END, chunks()


def _path(digest: str) -> str:
    return f"blobs/sha256/{digest[7:]}"


def name_all(
    engine: EngineSocket,
    deliveries: Sequence[Delivery],
    names: Sequence[str],
    jobs: Path,
    given: Mapping[str, set[str]],
) -> list[dict[str, Any]]:
    """The last step: give every image its name, remove the temporary names, and the images that lost theirs.

    Args:
        jobs: the receiver's folder of jobs; images that they name stay.
        given: name -> ids that earlier bundles of this sender gave it; no other image is removed.

    Returns:
        The inventory's images, each with the id that this engine knows it by.
    """
    replaced, named = [], []
    for delivery, name in zip(deliveries, names):
        before = engine.image(delivery.image["name"])
        engine.tag(name, delivery.image["name"])
        now = engine.image(delivery.image["name"])
        if before and before["Id"] != now["Id"] and before["Id"] in given[delivery.image["name"]]:
            replaced.append(before["Id"])
        named.append({**delivery.image, "id": now["Id"]})
    sweep(engine)
    for old in dict.fromkeys(replaced):
        image = engine.image(old)
        if image and not [t for t in image.get("RepoTags") or () if "<none>" not in t]:
            engine.remove(old)
    release(engine, jobs)
    return named


def sweep(engine: EngineSocket) -> None:
    """Remove temporary names, those of killed runs too."""
    for image in engine.need("GET", "/images/json") or []:
        for tag in image.get("RepoTags") or ():
            if LOADING.fullmatch(tag):
                engine.remove(tag)
