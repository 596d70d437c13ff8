"""models.lock: which bytes each model is; read, checked and written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

import yaml
from pydantic import Field

from builder.core.weights.catalog import COMMIT, LOCK_HEADER, REVISION, SHA256, unsafe
from builder.core.weights.model import (
    FilePin,
    Model,
    Pin,
    snapshot_path,
)
from builder.core.yaml_document import Document, Strict
from builder.errors import did_you_mean


class FileShape(Strict):
    """One pinned file."""

    path: str
    size: int = Field(ge=0)
    sha256: str


class PinShape(Strict):
    """One model of models.lock."""

    revision: str
    files: list[FileShape]
    source_files: list[FileShape] = []
    records: list[str] = []
    licence: str = ""
    layers: dict[str, str] = {}


class LockShape(Strict):
    """models.lock."""

    models: dict[str, PinShape]


def parse_lock(text: str, name: str = "models.lock", *, known: Mapping[str, Model] | None = None) -> dict[str, Pin]:
    """The pins; with ``known``, every one must belong to a model of the catalogue."""
    document = Document(name, text)
    shape = document.read(LockShape)
    pins = {}
    places: dict[str, tuple[str, FilePin]] = {}
    for id_, entry in shape.models.items():
        at = ("models", id_)
        if known is not None and id_ not in known:
            raise document.error(f'"{id_}" is not in models.yaml', at, hint=did_you_mean(id_, known))
        if not REVISION.fullmatch(entry.revision):
            raise document.error(f'"{entry.revision}" is no revision', (*at, "revision"))
        for key, files in (("files", entry.files), ("source_files", entry.source_files)):
            seen: set[str] = set()
            for k, file in enumerate(files):
                if why := unsafe(file.path):
                    raise document.error(f'unsafe path "{file.path}": {why}', (*at, key, k))
                if file.path in seen:
                    raise document.error(f'"{file.path}" stands here twice', (*at, key, k))
                if not SHA256.fullmatch(file.sha256):
                    raise document.error(f'"{file.sha256}" is no sha256', (*at, key, k), expected="64 hex digits")
                seen.add(file.path)
        if not entry.files:
            raise document.error("a pin without files", at)
        for name_, digest in entry.layers.items():
            if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
                raise document.error(
                    f'"{digest}" is no digest', (*at, "layers", name_), expected="sha256:<64 hex digits>"
                )
        if known is not None:
            _fits(document, at, known[id_], entry)
        pins[id_] = Pin(
            revision=entry.revision,
            files=tuple(sorted((_pin(f) for f in entry.files), key=lambda f: f.path)),
            source_files=tuple(sorted((_pin(f) for f in entry.source_files), key=lambda f: f.path)),
            records=tuple(entry.records),
            licence=entry.licence,
            layers=MappingProxyType(dict(entry.layers)),
        )
        if known is not None:
            # Models that share a folder, such as torchaudio's checkpoints, must not overwrite each other.
            folder = snapshot_path(known[id_], pins[id_])
            for pinned in pins[id_].files:
                other, there = places.setdefault(f"{folder}/{pinned.path}", (id_, pinned))
                if there.sha256 != pinned.sha256:
                    raise document.error(
                        f'"{id_}" and "{other}" both put {folder}/{pinned.path}, with different bytes', at
                    )
    return pins


def _fits(document: Document, at: tuple[str, ...], model: Model, entry: PinShape) -> None:
    """Refuse a pin that this model of the catalogue can't be fetched by."""
    if model.repo and not model.target and not COMMIT.fullmatch(entry.revision):
        raise document.error(
            f'"{entry.revision}" is no commit of {model.repo}',
            (*at, "revision"),
            expected="40 hex digits, not a branch",
        )
    if model.convert is None and entry.source_files:
        raise document.error(f'"{model.id}" is not converted: it has no source files', (*at, "source_files"))
    if model.convert is not None:
        for key, files, path in (
            ("files", entry.files, model.convert.result),
            ("source_files", entry.source_files, model.convert.source),
        ):
            if [f.path for f in files] != [path]:
                raise document.error(f'"{model.id}" needs exactly one pin here', (*at, key), expected=path)


def _pin(file: FileShape) -> FilePin:
    return FilePin(path=file.path, size=file.size, sha256=file.sha256)


def dump_lock(pins: Mapping[str, Pin]) -> str:
    """models.lock as text: sorted, one line a file, so that a change is one line of a diff."""

    def files(title: str, pinned: tuple[FilePin, ...]) -> list[str]:
        rows = [f"      - {{path: {_quoted(f.path)}, size: {f.size}, sha256: {_quoted(f.sha256)}}}" for f in pinned]
        return [f"    {title}:", *rows] if rows else []

    if not pins:
        return LOCK_HEADER + "models: {}\n"
    lines = [LOCK_HEADER + "models:"]
    for id_, pin in sorted(pins.items()):
        lines += [f"  {_quoted(id_)}:", f"    revision: {_quoted(pin.revision)}"]
        lines += files("files", pin.files) + files("source_files", pin.source_files)
        if pin.records:
            lines += ["    records:", *(f"      - {_quoted(r)}" for r in pin.records)]
        if pin.licence:
            lines.append(f"    licence: {_quoted(pin.licence)}")
        if pin.layers:
            lines += ["    layers:", *(f"      {_quoted(k)}: {_quoted(v)}" for k, v in sorted(pin.layers.items()))]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A YAML scalar that reads back as this text: plain where nothing in it could mean something, else in quotes."""
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]*", text) and yaml.safe_load(text) == text:
        return text
    return str(yaml.safe_dump(text, default_style='"', allow_unicode=True, width=10_000)).strip("\n")
