"""Write models to a folder as plain files, laid out as the store is, for another machine to import."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.core.progress import OnProgress, Progress
from builder.core.weights.model import FilePin, Model, Pin, PinnedModel, snapshot_path
from builder.edges.system import files
from builder.edges.weights.store import Store, write_failure
from builder.errors import IntegrityError, UsageError


@dataclass(frozen=True, kw_only=True)
class ExportedFiles:
    """What an export wrote; files that the folder had already don't count."""

    count: int
    size: int
    """Bytes."""


@dataclass(frozen=True, kw_only=True)
class _Copy:
    """One file to write."""

    model: Model
    pin: Pin
    file: FilePin
    target: Path


def export_models(store: Store, models: Sequence[PinnedModel], target: Path, on_progress: OnProgress) -> ExportedFiles:
    """Copy models from the store to a folder.

    A file that the folder has already with the right bytes stays. Each is hashed while it is copied, flushed to disk, and
    renamed last.

    Raises:
        UsageError: the folder is inside the store, or another export writes there.
        MissingError: a model isn't complete, the disk is full, or the folder can't be written.
        IntegrityError: a file of the store is not what the lock says.
    """
    if target.resolve().is_relative_to(store.root.resolve()):
        raise UsageError("that is inside the store", where=str(target), hint="another folder, on a stick")
    lock = target / ".export.lock"
    try:
        target.mkdir(parents=True, exist_ok=True)
        with files.locked(lock, timeout=0):
            copies = _plan(store, models, target)
            size = sum(copy.file.size for copy in copies)
            files.require_room({target: size}, "export to another disk", reserve=0)
            done = 0
            for copy in copies:
                _write(store, copy, functools.partial(_show, on_progress, done, size))
                done += copy.file.size
            _name_revisions(models, target)
            on_progress(Progress(what="export", done=size, total=size, unit="bytes", finished=True))
            lock.unlink(missing_ok=True)
            return ExportedFiles(count=len(copies), size=size)
    except TimeoutError:
        raise UsageError("another export is writing there", where=str(target), hint="wait for it") from None
    except OSError as error:
        raise write_failure(error, target) from error


def _plan(store: Store, models: Sequence[PinnedModel], target: Path) -> list[_Copy]:
    """The files that the folder lacks, or has with other bytes."""
    copies = []
    for model, pin in models:
        store.require(model, pin)
        for file in pin.files:
            path = target / snapshot_path(model, pin) / file.path
            if not (path.is_file() and path.stat().st_size == file.size and files.sha256(path) == file.sha256):
                copies.append(_Copy(model=model, pin=pin, file=file, target=path))
    return copies


def _show(on_progress: OnProgress, before: int, total: int, count: int) -> None:
    on_progress(Progress(what="export", done=before + count, total=total, unit="bytes"))


def _write(store: Store, copy: _Copy, on_bytes: functools.partial[None]) -> None:
    copy.target.parent.mkdir(parents=True, exist_ok=True)
    temporary = copy.target.with_name(f".{copy.file.sha256[:16]}.tmp")  # a killed export's is overwritten
    try:
        source = files.chunks(store.path(copy.model, copy.pin, copy.file))
        if files.copy_hashed(source, temporary, on_bytes) != copy.file.sha256:
            raise IntegrityError(f"{copy.model.id}: {copy.file.path} changed on the disk", hint="models verify --deep")
        temporary.replace(copy.target)
    finally:
        temporary.unlink(missing_ok=True)


def _name_revisions(models: Sequence[PinnedModel], target: Path) -> None:
    """Write each repository's ``refs/main``: with HF_HUB_CACHE at the folder's ``hub``, clients find models by name."""
    for model, pin in models:
        if model.in_hub_layout:
            ref = target / snapshot_path(model, pin).rsplit("/snapshots/", 1)[0] / "refs" / "main"
            if not ref.is_file() or ref.read_text() != pin.revision:
                files.write_atomic(ref, pin.revision)
