"""models.lock: which bytes each model is; parsed, checked and written as text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import yaml
from pydantic import Field

from builder.core.weights.model import (
    COMMIT,
    REVISION,
    SHA256,
    FilePin,
    Model,
    Pin,
    snapshot_path,
    unsafe,
)
from builder.core.yaml_document import Document, Strict
from builder.errors import did_you_mean

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

HEADER = """\
# The pins: exactly which bytes each model is. Written by `build.py models lock`; `records` names the independent public
# records that agree. A model of models.yaml that is not here is unpinned, and refused for building.
"""


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


def parse_lock(text: str, *, known: Mapping[str, Model] | None = None) -> dict[str, Pin]:
    """The pins by model.

    Args:
        known: the catalogue; with it, each pin must belong to one of its models.

    Raises:
        ConfigError: with file and line.
    """
    document = Document("models.lock", text)
    shape = document.read(LockShape)
    pins = {}
    for id_, entry in shape.models.items():
        at = ("models", id_)
        if known is not None and id_ not in known:
            raise document.error(f'"{id_}" is not in models.yaml', at, hint=did_you_mean(id_, known))
        _check_pin(document, at, entry)
        if known is not None:
            _check_model(document, at, known[id_], entry)
        pins[id_] = Pin(
            revision=entry.revision,
            files=_file_pins(entry.files),
            source_files=_file_pins(entry.source_files),
            records=tuple(entry.records),
            licence=entry.licence,
            layers=MappingProxyType(dict(entry.layers)),
        )
    if known is not None:
        _check_shared_folders(document, known, pins)
        for id_ in pins:
            _check_int8(document, known[id_], pins)
    return pins


def _check_int8(document: Document, model: Model, pins: Mapping[str, Pin]) -> None:
    """Refuse weights in int8 that are made from others than the lock pins."""
    if model.int8_of is None:
        return
    pin, of = pins[model.id], pins.get(model.int8_of)
    assert model.convert is not None
    same = of is not None and set(of.files) == {
        *pin.source_files,
        *(f for f in pin.files if f.path != model.convert.result),
    }
    if of is None or not same or of.revision != pin.revision:
        raise document.error(
            f'"{model.id}" is not made from what "{model.int8_of}" is here',
            ("models", model.id),
            hint=f"models lock {model.id}",
        )


def _check_pin(document: Document, at: tuple[str, ...], entry: PinShape) -> None:
    """Refuse a pin that can't be compared with bytes."""
    if not REVISION.fullmatch(entry.revision):
        raise document.error(f'"{entry.revision}" is not a revision', (*at, "revision"))
    if not entry.files:
        raise document.error("a pin without files", at)
    _check_files(document, (*at, "files"), entry.files)
    _check_files(document, (*at, "source_files"), entry.source_files)
    for name, digest in entry.layers.items():
        if not DIGEST.fullmatch(digest):
            raise document.error(
                f'"{digest}" is not a digest', (*at, "layers", name), expected="sha256:<64 hex digits>"
            )


def _check_files(document: Document, at: tuple[str, ...], files: Sequence[FileShape]) -> None:
    seen: set[str] = set()
    for k, file in enumerate(files):
        if why := unsafe(file.path):
            raise document.error(f'unsafe path "{file.path}": {why}', (*at, k))
        if file.path in seen:
            raise document.error(f'"{file.path}" is listed twice', (*at, k))
        if not SHA256.fullmatch(file.sha256):
            raise document.error(f'"{file.sha256}" is not a sha256', (*at, k), expected="64 hex digits")
        seen.add(file.path)


def _check_shared_folders(document: Document, models: Mapping[str, Model], pins: Mapping[str, Pin]) -> None:
    """Refuse models that share a folder, such as torchaudio's checkpoints, and would overwrite each other's files."""
    owners: dict[str, tuple[str, FilePin]] = {}
    for id_, pin in pins.items():
        folder = snapshot_path(models[id_], pin)
        for file in pin.files:
            other, owned = owners.setdefault(f"{folder}/{file.path}", (id_, file))
            if owned.sha256 != file.sha256:
                raise document.error(
                    f'"{id_}" and "{other}" both put {folder}/{file.path}, with different bytes', ("models", id_)
                )


def _check_model(document: Document, at: tuple[str, ...], model: Model, entry: PinShape) -> None:
    """Refuse a pin with which its model can't be fetched."""
    if model.in_hub_layout and not COMMIT.fullmatch(entry.revision):
        raise document.error(
            f'"{entry.revision}" is not a commit of {model.repo}',
            (*at, "revision"),
            expected="40 hex digits, not a branch",
        )
    if model.convert is None and entry.source_files:
        raise document.error(f'"{model.id}" is not converted: it has no source files', (*at, "source_files"))
    if model.convert is not None:
        kept, fetched = [f.path for f in entry.files], [f.path for f in entry.source_files]
        if model.convert.result not in kept or (model.int8_of is None and len(kept) > 1):
            raise document.error(
                f'"{model.id}" needs exactly one pin here', (*at, "files"), expected=model.convert.result
            )
        if fetched != [model.convert.source]:
            raise document.error(
                f'"{model.id}" needs exactly one pin here', (*at, "source_files"), expected=model.convert.source
            )


def _file_pins(files: Sequence[FileShape]) -> tuple[FilePin, ...]:
    pins = (FilePin(path=file.path, size=file.size, sha256=file.sha256) for file in files)
    return tuple(sorted(pins, key=lambda pin: pin.path))


def dump_lock(pins: Mapping[str, Pin]) -> str:
    """models.lock as text: sorted, with one line for each file, so that a changed file is one changed line."""

    def files(title: str, pinned: tuple[FilePin, ...]) -> list[str]:
        rows = [f"      - {{path: {_quoted(f.path)}, size: {f.size}, sha256: {_quoted(f.sha256)}}}" for f in pinned]
        return [f"    {title}:", *rows] if rows else []

    if not pins:
        return HEADER + "models: {}\n"
    lines = [HEADER + "models:"]
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
    """A YAML scalar that reads back as this text: plain where YAML can't take it for anything else, otherwise in quotes."""
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]*", text) and yaml.safe_load(text) == text:
        return text
    return str(yaml.safe_dump(text, default_style='"', allow_unicode=True, width=10_000)).strip("\n")
