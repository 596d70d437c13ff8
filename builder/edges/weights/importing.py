"""Bring files from anywhere into the store when they match the lock, whatever they are called."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from builder.core.progress import OnProgress, Progress
from builder.core.weights.model import FilePin, Model, Pin, PinnedModel, WheelSource
from builder.edges.system import files
from builder.edges.weights import convert
from builder.edges.weights.sources import folder
from builder.edges.weights.store import Store, write_failure
from builder.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class ImportedFile:
    """A file of the source that is a model's."""

    path: str
    """In the source; for a file that was joined, all of its parts, with commas between them."""
    model: str
    file: str
    """Its path in the model."""
    size: int
    """Bytes."""


@dataclass(kw_only=True)
class ImportResult:
    """What an import did with every file it was shown."""

    took: list[ImportedFile] = field(default_factory=list)
    present: list[ImportedFile] = field(default_factory=list)
    """Files that the store had already."""
    ignored: list[tuple[str, str]] = field(default_factory=list)
    """Each with its path and the reason."""


@dataclass(frozen=True, kw_only=True)
class _PinnedFile:
    """A file that the lock names: one of a model's, or the one that a model is converted from."""

    model: Model
    pin: Pin
    file: FilePin
    converted: bool
    """True when the model is converted from it."""


class _Unreadable(Exception):
    """The bytes of a source can't be read: a bad stick, a broken archive, a missing permission."""


def import_files(
    store: Store, models: Sequence[PinnedModel], paths: Sequence[Path], on_progress: OnProgress
) -> ImportResult:
    """Copy into the store what matches the lock by size and sha256, from files, folders and the insides of wheels.

    Raises:
        UsageError: a path doesn't exist.
        MissingError: the disk is full, or the store can't be written.
    """
    result = ImportResult()
    entries = tuple(entry for path in paths for entry in _entries(path))
    sizes = {entry.size for entry in entries}
    # Those in int8 share files with their model, of which they are made when they are wanted.
    models = [(m, p) for m, p in models if m.int8_of is None or sizes.issuperset(f.size for f in p.files)]
    by_size: dict[int, list[_PinnedFile]] = {}
    for model, pin in models:
        for file in (*pin.files, *(pin.source_files if model.int8_of is None else ())):
            pinned = _PinnedFile(model=model, pin=pin, file=file, converted=file in pin.source_files)
            by_size.setdefault(file.size, []).append(pinned)
    parts = {entry.path for entry in _parts(models, entries)}
    try:
        for entry in entries:
            same_size = by_size.get(entry.size, [])
            if not same_size and (entry.path in parts or entry.path.endswith(".whl")):
                continue  # a part is handled when its file is joined; of a wheel, its insides are entries too
            try:
                _import_entry(store, same_size, entry, result, on_progress)
            except _Unreadable as error:
                result.ignored.append((entry.path, f"can't be read: {error}"))
        for model, pin in models:
            _join(store, model, pin, entries, result, on_progress)
            if not store.missing(model, pin):
                store.finish(model, pin)
    except OSError as error:
        raise write_failure(error, store.root) from error
    return result


def _read(entry: folder.Entry) -> Iterator[bytes]:
    """An entry's bytes; an error in them is the source's, and kept apart from the store's.

    Raises:
        _Unreadable: they can't be read to the end.
    """
    try:
        yield from entry.read()
    except (OSError, *folder.BROKEN) as error:
        raise _Unreadable(str(error) or type(error).__name__) from error


def _entries(path: Path) -> list[folder.Entry]:
    if path.is_dir():
        return list(folder.index(path))
    if not path.is_file():
        raise UsageError("nothing is there to import", where=str(path), expected="a folder, a file or a wheel")
    members = folder.members(path) if path.suffix == ".whl" else ()
    return [*members, folder.file_entry(path)]


def _import_entry(
    store: Store,
    same_size: Sequence[_PinnedFile],
    entry: folder.Entry,
    result: ImportResult,
    on_progress: OnProgress,
) -> None:
    """One file of the source: imported, present already, or ignored with the reason."""
    if not same_size:
        result.ignored.append((entry.path, f"models.lock names no file of {entry.size} bytes"))
        return
    sha256 = hashlib.sha256()
    for chunk in _shown(entry, on_progress):
        sha256.update(chunk)
    matching = [pinned for pinned in same_size if pinned.file.sha256 == sha256.hexdigest()]
    if not matching:
        close = same_size[0]
        result.ignored.append((entry.path, f"as long as {close.model.id}'s {close.file.path}, but with other bytes"))
    for pinned in matching:
        missing = store.missing(pinned.model, pinned.pin)
        imported = _imported(entry.path, pinned)
        if not missing or (not pinned.converted and pinned.file not in missing):
            result.present.append(imported)
        elif _copy(store, pinned, functools.partial(_read, entry)):
            result.took.append(imported)
        else:
            result.ignored.append((entry.path, "it changed while it was read"))


def _imported(path: str, pinned: _PinnedFile) -> ImportedFile:
    return ImportedFile(path=path, model=pinned.model.id, file=pinned.file.path, size=pinned.file.size)


def _shown(entry: folder.Entry, on_progress: OnProgress) -> Iterator[bytes]:
    """An entry's bytes; the progress of a large one is shown."""
    done = 0
    for chunk in _read(entry):
        done += len(chunk)
        if entry.size > files.CHUNK * 16:
            last = done == entry.size
            on_progress(Progress(what=entry.name, done=done, total=entry.size, unit="bytes", finished=last))
        yield chunk


def _copy(store: Store, pinned: _PinnedFile, read: Callable[[], Iterable[bytes]]) -> bool:
    """Copy one file into the store; False when the bytes are no longer those that were hashed a moment ago."""
    model, pin = pinned.model, pinned.pin
    store.require_space([pinned.file])
    with store.fetching(pinned.file) as incoming:
        if not pinned.converted and pinned.file not in store.missing(model, pin):
            return True  # another process was quicker
        if not pinned.converted and store.adopt(model, pin, pinned.file):
            return True
        incoming.unlink(missing_ok=True)
        if files.copy_hashed(read(), incoming) != pinned.file.sha256:
            incoming.unlink(missing_ok=True)
            return False
        if not pinned.converted:
            store.admit(model, pin, pinned.file, incoming, digest=pinned.file.sha256)
            return True
        assert model.convert is not None
        with store.fetching(pin.files[0]) as result:
            convert.converter(model.convert.how, model.convert.labels)(incoming, result)
            store.admit(model, pin, pin.files[0], result)
        incoming.unlink(missing_ok=True)
    return True


def _parts(models: Sequence[PinnedModel], entries: Sequence[folder.Entry]) -> Iterator[folder.Entry]:
    """Entries that are one part of a file which wheels cut in pieces."""
    for model, _ in models:
        for source in model.sources:
            for members in source.files.values() if isinstance(source, WheelSource) else ():
                if len(members) > 1:
                    ends = tuple(f"/{m.member}" for m in members)
                    yield from (e for e in entries if f"/{e.path}".endswith(ends))


def _join(
    store: Store,
    model: Model,
    pin: Pin,
    entries: tuple[folder.Entry, ...],
    result: ImportResult,
    on_progress: OnProgress,
) -> None:
    """Join the files that come in parts, when all parts are at hand."""
    parts = tuple(replace(e, read=functools.partial(_read, e)) for e in _parts([(model, pin)], entries))
    if not parts:
        return
    for file in store.missing(model, pin):
        pinned = _PinnedFile(model=model, pin=pin, file=file, converted=False)
        for read in folder.candidates(file, model, parts):
            on_progress(Progress(what=f"{model.id} {file.path}", note="joining its parts", finished=True))
            try:
                joined = _copy(store, pinned, read)
            except _Unreadable:
                joined = False
            if joined:
                result.took.append(_imported(", ".join(part.path for part in parts), pinned))
                return
    lacking = bool(store.missing(model, pin))
    why = f"a part of {model.id}; the others are not here" if lacking else f"a part of {model.id}, which is here"
    result.ignored += [(part.path, why) for part in parts]
