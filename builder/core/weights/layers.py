"""The layers that a model's files become: deterministic, uncompressed tars, whose sizes are known without reading a byte. Pure.

A layer's bytes depend only on the pin, whatever machine writes it and whatever source the files came from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from builder.core.weights.model import Model, Pin, model_digest, snapshot_path
from builder.receiver.tar import END, folder_header, header, padding

ROOT = "models"
"""The image's folder of weights."""

LISTS = f"{ROOT}/.baked"
"""Folder with a list of each model's files, ``<id>.json``, which a container checks at its start (stages/contract.py)."""

OWN = 64 << 20
"""Bytes from which a file has a layer to itself."""

MOST = 100
"""Layers that an image may have: engines allow 125 to 127."""

LARGEST = 10_000_000_000
"""Bytes from which some registries refuse a layer."""

REST = "rest"
"""The name of the layer that a model's smaller files share."""

FILE, FOLDER, PARENT = 0o444, 0o555, 0o755
"""Modes of a file, of a model's own folders, and of the folders above them, which models share."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """One file of a layer."""

    path: str
    """In the image, without the leading slash."""
    size: int
    sha256: str
    """Hex."""
    source: str | None = None
    """Path in the store; None when ``text`` is its content."""
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class WeightLayer:
    """A layer, before any of its bytes is read."""

    name: str
    """``<model>/<file>`` or ``<model>/rest``; the names of folded layers are joined by ``+``."""
    models: tuple[str, ...]
    members: tuple[Member, ...]
    """Sorted by path."""
    folders: Mapping[str, int]
    """Mode of each folder by path, parents first."""
    digest: str | None = None
    """``sha256:…``; None when models.lock doesn't have it."""

    @property
    def size(self) -> int:
        """Bytes of the tar."""
        folders = sum(len(folder_header(path, mode)) for path, mode in self.folders.items())
        return folders + sum(len(header(m.path, m.size, FILE)) + m.size + padding(m.size) for m in self.members) + END

    @property
    def key(self) -> str:
        """Hex sha256 over what determines its bytes: layers with the same key have the same digest."""
        rows = [(m.path, m.size, m.sha256) for m in self.members]
        text = json.dumps([rows, sorted(self.folders.items()), FILE, END])
        return hashlib.sha256(text.encode()).hexdigest()


def listed(model: Model, pin: Pin) -> str:
    """The list of a model's files that an image has: JSON, with paths relative to the folder of weights."""
    folder = snapshot_path(model, pin)
    value = {
        "id": model.id,
        "digest": model_digest(pin),
        "files": [{"path": f"{folder}/{f.path}", "size": f.size, "sha256": f.sha256} for f in pin.files],
    }
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def layers(model: Model, pin: Pin) -> tuple[WeightLayer, ...]:
    """One model's layers: one for each large file, then the rest with its list and, for a hub repository, ``refs/main``."""
    folder, model_folder = snapshot_path(model, pin), own(model, pin)
    small = [_text(f"{LISTS}/{model.id}.json", listed(model, pin))]
    if model.in_hub_layout:
        small.append(_text(f"{model_folder}/refs/main", pin.revision))
    large = []
    for file in pin.files:
        member = Member(
            path=f"{ROOT}/{folder}/{file.path}", size=file.size, sha256=file.sha256, source=f"{folder}/{file.path}"
        )
        if file.size >= OWN:
            large.append(_layer(model.id, file.path, (member,), model_folder, pin))
        else:
            small.append(member)
    return (*large, _layer(model.id, REST, small, model_folder, pin))


def own(model: Model, pin: Pin) -> str:
    """A model's own folder in an image. It holds no other model, so it needn't be writable."""
    folder = f"{ROOT}/{snapshot_path(model, pin)}"
    return folder.rsplit("/snapshots/", 1)[0] if model.in_hub_layout else folder


def _layer(id_: str, name: str, members: Sequence[Member], model_folder: str, pin: Pin) -> WeightLayer:
    folders: dict[str, int] = {}
    for member in members:
        parts = member.path.split("/")[:-1]
        for k in range(1, len(parts) + 1):
            path = "/".join(parts[:k])
            inside = f"{path}/".startswith(f"{model_folder}/")
            folders[path] = FOLDER if inside else PARENT
    return WeightLayer(
        name=f"{id_}/{name}",
        models=(id_,),
        members=tuple(sorted(members, key=lambda m: m.path)),
        folders=dict(sorted(folders.items())),
        digest=pin.layers.get(name),
    )


def _text(path: str, text: str) -> Member:
    raw = text.encode()
    return Member(path=path, size=len(raw), sha256=hashlib.sha256(raw).hexdigest(), text=text)


def fold(unfolded: Sequence[WeightLayer], most: int) -> tuple[WeightLayer, ...]:
    """At most ``most`` layers: the smallest are merged, in the place of the first of them."""
    if len(unfolded) <= most:
        return tuple(unfolded)
    smallest = sorted(range(len(unfolded)), key=lambda k: (unfolded[k].size, unfolded[k].name))[
        : len(unfolded) - most + 1
    ]
    merged = [unfolded[k] for k in sorted(smallest)]
    members = {m.path: m for layer in merged for m in layer.members}
    together = WeightLayer(
        name="+".join(layer.name for layer in merged),
        models=tuple(dict.fromkeys(m for layer in merged for m in layer.models)),
        members=tuple(members[path] for path in sorted(members)),
        folders=dict(sorted({p: mode for k in smallest for p, mode in unfolded[k].folders.items()}.items())),
    )
    first = min(smallest)
    return tuple(
        together if k == first else layer for k, layer in enumerate(unfolded) if k == first or k not in smallest
    )


def pieces(layer: WeightLayer) -> Iterator[bytes | Member]:
    """The tar, in order: headers and padding as bytes, and in place of each file's bytes its :class:`Member`."""
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
