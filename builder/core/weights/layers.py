"""The layers that a model's files become: one deterministic, uncompressed tar each, known by size without a byte read. Pure.

The bytes of a layer depend on the pin alone, whatever machine writes it and whatever source the files came from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from builder.core.weights.catalog import model_digest
from builder.core.weights.model import Model, Pin, snapshot_path
from builder.receiver.tar import END, folder_header, header, padding

ROOT = "models"
"""Folder of an image that all weights are below."""

LISTS = f"{ROOT}/.baked"
"""Folder with one list a model, ``<id>.json``: what a container checks at its start (stages/weights.py)."""

OWN = 64 << 20
"""Bytes from which a file has a layer of its own."""

MOST = 100
"""Layers that an image may have: engines hold at most 125 to 127."""

LARGEST = 10_000_000_000
"""Bytes of a layer that some registries refuse to take."""

REST = "rest"
"""Name of the layer that a model's smaller files share."""

FILE, FOLDER, PARENT = 0o444, 0o555, 0o755
"""Modes: of a file, of a model's own folders, of the folders above them, which models share."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """One file of a layer."""

    path: str
    """In the image, without the leading slash."""
    size: int
    sha256: str
    """Hex."""
    source: str | None = None
    """Path in the store; None: ``text`` is all of it."""
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class WeightLayer:
    """A layer before anything of it was read."""

    name: str
    """``<model>/<file>`` or ``<model>/rest``; of layers folded together, joined by ``+``."""
    models: tuple[str, ...]
    members: tuple[Member, ...]
    """Sorted by path."""
    folders: Mapping[str, int]
    """Path -> mode, parents first."""
    digest: str | None = None
    """``sha256:…`` when models.lock has it."""

    @property
    def size(self) -> int:
        """Bytes of the tar."""
        folders = sum(len(folder_header(path, mode)) for path, mode in self.folders.items())
        return folders + sum(len(header(m.path, m.size, FILE)) + m.size + padding(m.size) for m in self.members) + END

    @property
    def key(self) -> str:
        """Hex sha256 over what decides its bytes: the same key, the same digest."""
        rows = [(m.path, m.size, m.sha256) for m in self.members]
        text = json.dumps([rows, sorted(self.folders.items()), FILE, END])
        return hashlib.sha256(text.encode()).hexdigest()


def listed(model: Model, pin: Pin) -> str:
    """The list of a model's files, as it stands in an image: JSON, paths relative to the folder of weights."""
    folder = snapshot_path(model, pin)
    value = {
        "id": model.id,
        "digest": model_digest(pin),
        "files": [{"path": f"{folder}/{f.path}", "size": f.size, "sha256": f.sha256} for f in pin.files],
    }
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def layers(model: Model, pin: Pin) -> tuple[WeightLayer, ...]:
    """One model's layers: its large files, then the rest with its list and, for a hub repository, ``refs/main``."""
    folder, inside = snapshot_path(model, pin), own(model, pin)
    small = [_text(f"{LISTS}/{model.id}.json", listed(model, pin))]
    if inside != f"{ROOT}/{folder}":
        small.append(_text(f"{inside}/refs/main", pin.revision))
    made = []
    for file in pin.files:
        member = Member(
            path=f"{ROOT}/{folder}/{file.path}", size=file.size, sha256=file.sha256, source=f"{folder}/{file.path}"
        )
        if file.size >= OWN:
            made.append(_layer(model.id, file.path, (member,), inside, pin))
        else:
            small.append(member)
    return (*made, _layer(model.id, REST, small, inside, pin))


def own(model: Model, pin: Pin) -> str:
    """A model's own folder in an image: nothing of another model is in it, so that nobody has to write there."""
    folder = f"{ROOT}/{snapshot_path(model, pin)}"
    return folder if model.target or not model.repo else folder.rsplit("/snapshots/", 1)[0]


def _layer(id_: str, name: str, members: Sequence[Member], own_: str, pin: Pin) -> WeightLayer:
    found: dict[str, int] = {}
    for member in members:
        parts = member.path.split("/")[:-1]
        for k in range(1, len(parts) + 1):
            path = "/".join(parts[:k])
            inside = f"{path}/".startswith(f"{own_}/")
            found[path] = FOLDER if inside else PARENT
    return WeightLayer(
        name=f"{id_}/{name}",
        models=(id_,),
        members=tuple(sorted(members, key=lambda m: m.path)),
        folders=dict(sorted(found.items())),
        digest=pin.layers.get(name),
    )


def _text(path: str, text: str) -> Member:
    raw = text.encode()
    return Member(path=path, size=len(raw), sha256=hashlib.sha256(raw).hexdigest(), text=text)


def fold(found: Sequence[WeightLayer], most: int) -> tuple[WeightLayer, ...]:
    """At most ``most`` layers: the smallest become one, in the place of the first of them."""
    if len(found) <= most:
        return tuple(found)
    small = sorted(range(len(found)), key=lambda k: (found[k].size, found[k].name))[: len(found) - most + 1]
    members = {m.path: m for k in small for m in found[k].members}
    together = WeightLayer(
        name="+".join(found[k].name for k in sorted(small)),
        models=tuple(dict.fromkeys(m for k in sorted(small) for m in found[k].models)),
        members=tuple(members[path] for path in sorted(members)),
        folders=dict(sorted({p: mode for k in small for p, mode in found[k].folders.items()}.items())),
    )
    return tuple(
        together if k == min(small) else layer for k, layer in enumerate(found) if k == min(small) or k not in small
    )


def pieces(layer: WeightLayer) -> Iterator[bytes | Member]:
    """The tar, in order: heads and padding as bytes, and each file that is to be read in its place."""
    files = {m.path: m for m in layer.members}
    for path in sorted([*layer.folders, *files]):
        if path not in files:
            yield folder_header(path, layer.folders[path])
            continue
        member = files[path]
        yield header(path, member.size, FILE)
        if member.source is None:
            yield member.text.encode()
        else:
            yield member
        yield bytes(padding(member.size))
    yield bytes(END)
