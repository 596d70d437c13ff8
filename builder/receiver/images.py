"""Images into the engine: what it lacks of each, under temporary names, the real names at the very end."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from builder.receiver.engine import Engine, Lacking
from builder.receiver.inventory import PLAIN, Entry, Inventory, Stop, bad, header, inside, need
from builder.receiver.parts import Bundle, Guard

TEMPORARY = "whisperbake-load"
"""Repository of the names that images have until all of them are there."""

SMALL = 4 << 20
"""Bytes; a manifest or a config is never larger."""

NATIVE = "native/project"
"""Folder of this project for native runs; its weights go below it, where it looks for them."""

SPARE = 64 << 20
"""Bytes that stay free on the engine's disk."""


@dataclass
class Sources:
    """Bundles that bytes may come from: the one that is loaded, and others beside it (``--with``)."""

    bundles: Sequence[Bundle]

    def find(self, digest: str) -> tuple[Bundle, Entry] | None:
        path = f"blobs/sha256/{digest[7:]}"
        return next(((b, b.files[path]) for b in self.bundles if path in b.files), None)

    def open(self, digest: str, guard: Guard | None = None) -> Iterator[bytes]:
        found = self.find(digest)
        assert found is not None
        return found[0].open(found[1]["path"], guard)

    def small(self, digest: str) -> bytes:
        """A manifest or a config."""
        found = self.find(digest)
        if found is None or found[1]["size"] > SMALL:
            raise bad(f"{digest[:19]} is not in the bundle, or too large for what it is")
        return b"".join(self.open(digest))


@dataclass
class Work:
    """One image and what has to be sent of it."""

    image: dict[str, Any]
    layers: list[str]
    """Digests of layers to send, lowest first."""
    present: str = ""
    """Its id, when the engine has it already."""


@dataclass
class There:
    """What an engine has."""

    ids: set[str] = field(default_factory=set)
    chains: set[str] = field(default_factory=set)
    """Chain ids of layers (OCI image-spec, config.md)."""
    blobs: set[str] = field(default_factory=set)
    """Blobs of images whose manifests are known; only for a containerd store."""


def look(engine: Engine, known: Sequence[dict[str, Any]]) -> There:
    """Ask an engine what it has.

    Args:
        known: images as inventories describe them: a containerd store names an image by its manifest, and its blobs follow.
    """
    there = There()
    blobs = {i["manifest"]: {i["manifest"], i["config"], *i["layers"]} for i in known}
    for found in engine.images():
        there.ids.add(found["Id"])
        there.blobs |= blobs.get(found["Id"], set())
        there.chains |= set(chain(found.get("RootFS", {}).get("Layers") or ()))
    return there


def chain(diffs: Sequence[str]) -> list[str]:
    """The chain id of each layer."""
    made: list[str] = []
    for diff in diffs:
        made.append(f"sha256:{hashlib.sha256(f'{made[-1]} {diff}'.encode()).hexdigest()}" if made else diff)
    return made


def plan(engine: Engine, inventory: Inventory, there: There) -> list[Work]:
    """What to send of each image. containerd finds a blob wherever it is, a graph driver only on its own chain."""
    made, chains, blobs = [], set(there.chains), set(there.blobs)
    for image in inventory["images"]:
        own = image["manifest"] if engine.store == "containerd" else image["config"]
        if own in there.ids:
            made.append(Work(image, [], own))
            continue
        links = chain([inventory["layers"][x]["diff_id"] for x in image["layers"]])
        if engine.store == "containerd":
            layers = [x for x in dict.fromkeys(image["layers"]) if x not in blobs]
        else:
            layers = image["layers"][max((n + 1 for n, link in enumerate(links) if link in chains), default=0) :]
        chains |= set(links)
        blobs |= {*image["layers"]}
        made.append(Work(image, layers))
    return made


def require_layers(inventory: Inventory, works: Sequence[Work], sources: Sources) -> None:
    """Everything that has to be sent is in the bundle. Raises Stop."""
    lacking = {x for work in works for x in work.layers if sources.find(x) is None}
    if lacking:
        size = sum(inventory["layers"][x]["size"] for x in lacking) / 1e6
        do = "ask the sender for a complete one, or for one with --base and this machine's inventory.json"
        if inventory["content"] == "code":
            do = "add the bundle that has the weights: --with FOLDER"
        raise Stop(3, f"this engine lacks {len(lacking)} layers ({size:.1f} MB) that this bundle doesn't hold", do)


def require_space(engine: Engine, inventory: Inventory, works: Sequence[Work], target: Path) -> None:
    """Refuse to begin what can't end: what is sent, what it unpacks to, what is kept beside it. Raises Stop."""
    beside = sum(f["size"] for f in inventory["files"] if not f["path"].startswith("blobs/"))
    if any(f["path"].startswith(f"{NATIVE}/") for f in inventory["files"]):
        beside += sum(x["size"] for x in inventory["layers"].values() if x["model"] is not None)
    if (free := shutil.disk_usage(target).free) < beside + SPARE:
        raise Stop(
            3, f"{target} has {free / 1e9:.1f} GB free; {(beside + SPARE) / 1e9:.1f} GB go there", "--to, elsewhere"
        )
    layers = {x: inventory["layers"][x] for work in works for x in work.layers}
    wanted = sum(x["size"] + x["unpacked"] for x in layers.values())
    if not layers or not engine.host.startswith("unix:") or not Path(engine.root).is_dir():
        return
    free = shutil.disk_usage(engine.root).free
    if free < wanted + SPARE:
        raise Stop(
            3,
            f"{engine.root} has {free / 1e9:.1f} GB free; this bundle needs {(wanted + SPARE) / 1e9:.1f} GB",
            "free some space, then run this again",
        )


def send(engine: Engine, inventory: Inventory, sources: Sources, work: Work, tell: Callable[[int], None]) -> str:
    """Bring one image into the engine under a temporary name; that name."""
    image = work.image
    name = f"{TEMPORARY}/{image['manifest'][7:31]}:loading"
    manifest, config = sources.small(image["manifest"]), sources.small(image["config"])
    diffs = [inventory["layers"][x]["diff_id"] for x in image["layers"]]
    try:
        made, settings = json.loads(manifest), json.loads(config)
        same = [x["digest"] for x in made["layers"]] == image["layers"] and made["config"]["digest"] == image["config"]
        same = same and settings["rootfs"]["diff_ids"] == diffs
    except (ValueError, KeyError, TypeError, RecursionError):
        same = False
    need(same, f"{image['name']}: its manifest, its config and the inventory contradict each other")
    try:
        _post(engine, inventory, sources, image, name, (manifest, config), work.layers, tell)
    except Lacking as lack:
        work.layers = list(dict.fromkeys(image["layers"]))
        if any(sources.find(x) is None for x in work.layers):
            raise Stop(
                3,
                f"the engine lost layers of an image that it still lists ({lack})",
                "ask the sender for a complete bundle",
            ) from None
        _post(engine, inventory, sources, image, name, (manifest, config), work.layers, tell)
    found = engine.image(name)
    if not found or found["RootFS"]["Layers"] != diffs or found["Id"] not in (image["manifest"], image["config"]):
        raise Stop(5, f"the engine made something else of {image['name']}", "load.py --check reads the whole bundle")
    return name


def _post(
    engine: Engine,
    inventory: Inventory,
    sources: Sources,
    image: dict[str, Any],
    name: str,
    pair: tuple[bytes, bytes],
    layers: Sequence[str],
    tell: Callable[[int], None],
) -> None:
    row = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": image["manifest"],
        "size": len(pair[0]),
        "annotations": {"io.containerd.image.name": f"docker.io/{name}"},
    }
    legacy = {"Config": _path(image["config"]), "RepoTags": [name], "Layers": [_path(x) for x in image["layers"]]}
    small = {
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        "index.json": json.dumps({"schemaVersion": 2, "manifests": [row]}).encode(),
        "manifest.json": json.dumps([legacy]).encode(),
        _path(image["manifest"]): pair[0],
        _path(image["config"]): pair[1],
    }
    sizes = {x: inventory["layers"][x]["size"] for x in dict.fromkeys(layers)}

    def chunks() -> Iterator[bytes]:
        for path, data in small.items():
            yield header(path, len(data)) + data + bytes(-len(data) % 512)
        for layer, size in sizes.items():
            yield header(_path(layer), size)
            described = inventory["layers"][layer]
            plain = described["media_type"] == PLAIN
            for chunk in sources.open(layer, None if plain else Guard(layer[:19], described["unpacked"])):
                yield chunk
                tell(len(chunk))
            yield bytes(-size % 512)
        yield bytes(1024)

    every = [*(len(data) for data in small.values()), *sizes.values()]
    engine.load(sum(512 + size + -size % 512 for size in every) + 1024, chunks())


def _path(digest: str) -> str:
    return f"blobs/sha256/{digest[7:]}"


def name_all(engine: Engine, works: Sequence[Work], names: Sequence[str]) -> list[dict[str, Any]]:
    """The last step: every image gets its name, temporary ones go, and what lost its name goes too.

    Returns the images as they are named, with the ids that this engine knows them by.
    """
    replaced, made = [], []
    for work, name in zip(works, names):
        before = engine.image(work.image["name"])
        engine.tag(name, work.image["name"])
        now = engine.image(work.image["name"])
        if before and before["Id"] != now["Id"]:
            replaced.append(before["Id"])
        made.append({**work.image, "id": now["Id"]})
    sweep(engine)
    for old in dict.fromkeys(replaced):
        found = engine.image(old)
        if found and not [t for t in found.get("RepoTags") or () if "<none>" not in t]:
            engine.remove(old)
    return made


def sweep(engine: Engine) -> None:
    """Remove temporary names, of this run and of those that were killed."""
    for found in engine.need("GET", "/images/json") or []:
        for tag in found.get("RepoTags") or ():
            if tag.startswith(f"{TEMPORARY}/"):
                engine.remove(tag)


def unpack(bundle: Bundle, target: Path) -> list[Entry]:
    """What is no blob goes into the receiver's folder: job templates, licences, the native set."""
    kept = []
    for path, entry in bundle.files.items():
        if path.split("/")[0] in ("job", "licences", "native"):
            with writing(target, path) as out:
                for chunk in bundle.open(path):
                    out.write(chunk)
            kept.append({"path": path, "size": entry["size"], "sha256": entry["sha256"]})
    if any(f["path"].startswith(f"{NATIVE}/") for f in kept):
        for digest, layer in bundle.inventory["layers"].items():
            if layer["model"] is not None and f"blobs/sha256/{digest[7:]}" in bundle.files:
                _weights(bundle, digest, target)
    return kept


@contextlib.contextmanager
def writing(target: Path, path: str) -> Iterator[IO[bytes]]:
    """A file below the target, there when it is whole. No link on the way is followed."""
    place = target / path
    for above in [place, *place.parents]:
        if above == target:
            break
        if above.is_symlink():
            raise Stop(3, f"{above} is a link", f"remove it, or name another folder than {target}: --to")
    place.parent.mkdir(parents=True, exist_ok=True)
    beside = place.with_name(f".{place.name[:100]}.part")
    try:
        with beside.open("wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        beside.replace(place)
    finally:
        beside.unlink(missing_ok=True)


class _Stream(io.RawIOBase):
    """An iterator of bytes as a file for tarfile."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.chunks, self.held = chunks, b""

    def read(self, size: int = -1) -> bytes:
        while len(self.held) < size and (chunk := next(self.chunks, b"")):
            self.held += chunk
        data, self.held = self.held[:size], self.held[size:]
        return data


def _weights(bundle: Bundle, digest: str, target: Path) -> None:
    """The files of a weight layer, for native runs: plain files below ``models/``, nothing else is taken."""
    stream = _Stream(bundle.open(f"blobs/sha256/{digest[7:]}"))
    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                if member.isdir():
                    continue
                name = f"{NATIVE}/.bake/{member.name}"
                fitting = member.isreg() and inside(name) and member.name.startswith("models/")
                need(fitting, f"{name!r} is no weight file")
                if not member.name.startswith("models/.baked/"):
                    with writing(target, name) as out:
                        shutil.copyfileobj(archive.extractfile(member), out, 1 << 20)  # type: ignore[arg-type]
        while stream.read(1 << 20):  # to the last byte: only then is it what the inventory says
            pass
    except tarfile.TarError as error:
        raise bad(f"{digest[:19]} is no tar ({error})") from None
