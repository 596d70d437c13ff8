"""Weights from anywhere, taken in when they match the lock; and written out for another machine."""

from __future__ import annotations

import functools
import hashlib
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from builder.core.progress import OnProgress, Progress
from builder.core.weights.model import FilePin, Model, Pin, WheelSource, snapshot_path
from builder.edges.system import files
from builder.edges.weights import convert
from builder.edges.weights.sources import folder as folders
from builder.edges.weights.store import Store
from builder.errors import IntegrityError, MissingError, UsageError

Pinned = tuple[Model, Pin]


@dataclass(kw_only=True)
class Taken:
    """What an import did with every file that it was shown."""

    took: list[tuple[str, str, str, int]] = field(default_factory=list)
    """(path, model, file of it, bytes)."""
    there: list[tuple[str, str, str]] = field(default_factory=list)
    """(path, model, file of it): in the store already."""
    ignored: list[tuple[str, str]] = field(default_factory=list)
    """(path, why)."""


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """A file that the lock names: of a model, or what a model is converted from."""

    model: Model
    pin: Pin
    file: FilePin
    origin: bool


def take(store: Store, known: Sequence[Pinned], paths: Sequence[Path], on_progress: OnProgress) -> Taken:
    """Bring into the store what matches the lock, by size and sha256, whatever it is called; wheels are looked into.

    Raises:
        UsageError: a path is not there.
        MissingError: the disk is full.
    """
    taken = Taken()
    entries = [entry for path in paths for entry in _entries(path)]
    wanted: dict[int, list[_Wanted]] = {}
    for model, pin in known:
        for file in (*pin.files, *pin.source_files):
            item = _Wanted(model=model, pin=pin, file=file, origin=file in pin.source_files)
            wanted.setdefault(file.size, []).append(item)
    parts = {e.path: used for used, e in _parts(known, entries)}
    try:
        for entry in entries:
            try:
                _offer(store, wanted.get(entry.size, []), entry, taken, on_progress, part=parts.get(entry.path))
            except _Unreadable as error:
                taken.ignored.append((entry.path, f"can't be read: {error}"))
        for model, pin in known:
            _join(store, model, pin, tuple(entries), taken, on_progress)
            if not store.missing(model, pin):
                store.finish(model, pin)
    except OSError as error:
        raise _unwritable(error, store.root) from error
    return taken


class _Unreadable(Exception):
    """A source's bytes can't be had: a bad stick, a broken archive, a right that is missing."""


def _read(entry: folders.Entry) -> Iterator[bytes]:
    """An entry's bytes; what goes wrong with them is the source's fault, and told apart from the store's.

    Raises:
        _Unreadable: they can't be read to the end.
    """
    try:
        yield from entry.read()
    except (
        OSError,
        EOFError,
        RuntimeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:  # RuntimeError: an encrypted member
        raise _Unreadable(str(error) or type(error).__name__) from error


def _unwritable(error: OSError, place: Path) -> MissingError:
    if files.disk_full(error):
        return MissingError("the disk is full", where=str(place), hint="free some space, then again")
    return MissingError(f"it can't be written ({error.strerror})", where=str(error.filename or place))


def _entries(path: Path) -> list[folders.Entry]:
    if path.is_dir():
        return list(folders.index(path))
    if not path.is_file():
        raise UsageError("nothing is there to import", where=str(path), expected="a folder, a file or a wheel")
    inside = folders.members(path) if path.suffix == ".whl" else ()
    return [
        *inside,
        folders.Entry(path=path.as_posix(), size=path.stat().st_size, read=lambda: files.chunks(path)),
    ]


def _offer(
    store: Store,
    fitting: Sequence[_Wanted],
    entry: folders.Entry,
    taken: Taken,
    on_progress: OnProgress,
    *,
    part: str | None,
) -> None:
    """One file of the source: taken, known, or ignored with the reason."""
    if not fitting:
        if part:
            return  # told when the parts are joined
        if not entry.path.endswith(".whl"):
            taken.ignored.append((entry.path, f"models.lock names no file of {entry.size} bytes"))
        return
    seen = hashlib.sha256()
    for chunk in _told(entry, on_progress):
        seen.update(chunk)
    digest = seen.hexdigest()
    matching = [w for w in fitting if w.file.sha256 == digest]
    if not matching:
        close = fitting[0]
        taken.ignored.append((entry.path, f"as long as {close.model.id}'s {close.file.path}, but with other bytes"))
    for want in matching:
        lacking = store.missing(want.model, want.pin)
        if not lacking or (not want.origin and want.file not in lacking):
            taken.there.append((entry.path, want.model.id, want.file.path))
            continue
        if _put(store, want, lambda: _read(entry)):
            taken.took.append((entry.path, want.model.id, want.file.path, want.file.size))
        else:
            taken.ignored.append((entry.path, "it changed while it was read"))


def _told(entry: folders.Entry, on_progress: OnProgress) -> Iterable[bytes]:
    done = 0
    for chunk in _read(entry):
        done += len(chunk)
        if entry.size > files.CHUNK * 16:
            last = done == entry.size
            on_progress(Progress(what=entry.name, done=done, total=entry.size, unit="bytes", finished=last))
        yield chunk


def _put(store: Store, want: _Wanted, read: Callable[[], Iterable[bytes]]) -> bool:
    """Copy one file in; False when what was read is not what was hashed a moment ago."""
    model, pin = want.model, want.pin
    store.require_space([want.file])
    with store.fetching(want.file) as incoming:
        if not want.origin and want.file not in store.missing(model, pin):
            return True  # another process was quicker
        if not want.origin and store.adopt(model, pin, want.file):
            return True
        incoming.unlink(missing_ok=True)
        if files.copy_hashed(read(), incoming) != want.file.sha256:
            incoming.unlink(missing_ok=True)
            return False
        if not want.origin:
            store.admit(model, pin, want.file, incoming, digest=want.file.sha256)
            return True
        assert model.convert is not None
        with store.fetching(pin.files[0]) as result:
            convert.converter(model.convert.how)(incoming, result)
            store.admit(model, pin, pin.files[0], result)
        incoming.unlink(missing_ok=True)
    return True


def _parts(known: Sequence[Pinned], entries: Sequence[folders.Entry]) -> Iterable[tuple[str, folders.Entry]]:
    """Entries that are one part of a file which wheels cut in pieces, with that file's name."""
    for model, _ in known:
        for source in model.sources:
            for path, members in source.files.items() if isinstance(source, WheelSource) else ():
                if len(members) > 1:
                    ends = tuple(f"/{m.member}" for m in members)
                    yield from ((f"{model.id} {path}", e) for e in entries if f"/{e.path}".endswith(ends))


def _join(
    store: Store, model: Model, pin: Pin, entries: tuple[folders.Entry, ...], taken: Taken, on_progress: OnProgress
) -> None:
    """Files that come in parts: joined when all are there."""
    used = [replace(e, read=functools.partial(_read, e)) for _, e in _parts([(model, pin)], entries)]
    if not used:
        return
    for file in store.missing(model, pin):
        for read in folders.candidates(file, model, tuple(used)):
            on_progress(Progress(what=f"{model.id} {file.path}", note="joining its parts", finished=True))
            try:
                joined = _put(store, _Wanted(model=model, pin=pin, file=file, origin=False), read)
            except _Unreadable:
                joined = False
            if joined:
                taken.took.append((", ".join(e.path for e in used), model.id, file.path, file.size))
                return
    for entry in used:
        lacking = bool(store.missing(model, pin))
        why = f"a part of {model.id}; the others are not here" if lacking else f"a part of {model.id}, which is here"
        taken.ignored.append((entry.path, why))


def export(store: Store, wanted: Sequence[Pinned], target: Path, on_progress: OnProgress) -> tuple[int, int]:
    """Write models to a folder as plain files, laid out as the store is; (files, bytes) that were written.

    What is there already with the right bytes stays. Each file is hashed while it is copied, flushed, and renamed last.

    Raises:
        UsageError: the folder is the store's own.
        MissingError: a model is not whole, or the disk is full.
        IntegrityError: a file of the store is not what the lock says.
    """
    if target.resolve().is_relative_to(store.root.resolve()):
        raise UsageError("that is inside of the store", where=str(target), hint="another folder, on a stick")
    lock = target / ".export.lock"
    try:
        target.mkdir(parents=True, exist_ok=True)
        with files.locked(lock, timeout=0):
            written = _export(store, wanted, target, on_progress)
            lock.unlink(missing_ok=True)
            return written
    except TimeoutError:
        raise UsageError("another export is writing there", where=str(target), hint="wait for it") from None
    except OSError as error:
        raise _unwritable(error, target) from error


def _export(store: Store, wanted: Sequence[Pinned], target: Path, on_progress: OnProgress) -> tuple[int, int]:
    todo = []
    for model, pin in wanted:
        store.require(model, pin)
        folder = target / snapshot_path(model, pin)
        for file in pin.files:
            there = folder / file.path
            if not (there.is_file() and there.stat().st_size == file.size and files.sha256(there) == file.sha256):
                todo.append((model, pin, file, there))
    total, done = sum(file.size for _, _, file, _ in todo), 0
    files.require_room({target: total}, "export to another disk", reserve=0)
    for model, pin, file, there in todo:
        there.parent.mkdir(parents=True, exist_ok=True)
        temporary = there.with_name(f".{file.sha256[:16]}.tmp")  # what a killed export left is written over

        def tell(n: int, before: int = done) -> None:
            on_progress(Progress(what="export", done=before + n, total=total, unit="bytes"))

        try:
            found = files.copy_hashed(files.chunks(store.place(model, pin, file)), temporary, tell)
            if found != file.sha256:
                raise IntegrityError(f"{model.id}: {file.path} changed on the disk", hint="models verify --deep")
            temporary.replace(there)
        finally:
            temporary.unlink(missing_ok=True)
        done += file.size
    for model, pin in wanted:  # so that a hub client finds it by name, with HF_HUB_CACHE at the folder's hub
        if model.repo and not model.target:
            ref = target / snapshot_path(model, pin).rsplit("/snapshots/", 1)[0] / "refs" / "main"
            if not ref.is_file() or ref.read_text() != pin.revision:
                files.write_atomic(ref, pin.revision)
    on_progress(Progress(what="export", done=total, total=total, unit="bytes", finished=True))
    return len(todo), total
