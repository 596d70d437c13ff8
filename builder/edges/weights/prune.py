"""What the store holds and no pin needs: listed first, removed afterwards."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from builder.core.weights.model import Model, PinnedModel, cache_folder, snapshot_path
from builder.edges.system import files
from builder.edges.weights.store import Store, stale


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """A file, a link, or a folder with its contents that may be removed."""

    path: Path
    why: str
    size: int
    """Bytes that its removal frees."""
    lock: str = ""
    """Name of the lock in ``.incoming`` that a process holds while it uses the file; empty: none does."""


def leftovers(store: Store, known: Sequence[PinnedModel]) -> tuple[Leftover, ...]:
    """Old revisions, their blobs, quarantine, and what dead processes left in ``.incoming``.

    Never what a pin names, nor repositories that models.yaml doesn't know (see :func:`foreign`).
    """
    return (*_quarantine(store), *_incoming(store, known), *_repositories(store, known))


def foreign(store: Store, known: Sequence[Model]) -> tuple[Path, ...]:
    """Repositories and files that models.yaml doesn't know: somebody else's, left alone."""
    repositories = {cache_folder(m.repo) for m in known if m.repo is not None and m.in_hub_layout}
    targets = {PurePosixPath(m.target).parts[0] for m in known if m.target}
    return tuple(
        path
        for folder, ours in ((store.root, {"hub", *targets, *store.own}), (store.root / "hub", repositories))
        for path in sorted(folder.glob("*"))
        if path.name not in ours and not (path.name.startswith(".") and path.name.endswith(".tmp"))
    )


def remove(store: Store, what: Sequence[Leftover]) -> tuple[Leftover, ...]:
    """Remove leftovers, except those that a live process uses or that can't be removed; returns what was removed."""
    gone = []
    for item in what:
        with contextlib.suppress(OSError, TimeoutError), _held(store, item):
            if item.path.is_dir() and not item.path.is_symlink():
                shutil.rmtree(item.path)
            else:
                item.path.unlink()
            gone.append(item)
            _empty_parents(store, item.path.parent)
    return tuple(gone)


def _held(store: Store, item: Leftover) -> contextlib.AbstractContextManager[None]:
    if not item.lock:
        return contextlib.nullcontext()
    return files.locked(store.incoming / item.lock, timeout=0)


def _empty_parents(store: Store, folder: Path) -> None:
    """Remove the folders that became empty, up to the store's root."""
    while folder != store.root and folder.is_relative_to(store.root) and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def _quarantine(store: Store) -> Iterator[Leftover]:
    for path in sorted(store.quarantine.glob("*")):
        yield Leftover(path=path, why="in quarantine: not the lock's bytes", size=files.size_of(path))


def _incoming(store: Store, known: Sequence[PinnedModel]) -> Iterator[Leftover]:
    """Begun files that no pin names any more, and whatever is there for more than a day."""
    pinned = {f.sha256 for _, pin in known for f in (*pin.files, *pin.source_files)}
    for path in sorted(store.incoming.glob("*")):
        name = path.name.split(".")[0]
        if path.suffix == ".lock":
            continue
        old = stale(path)
        if old or (path.suffix in (".part", ".ranges") and name not in pinned):
            why = "begun more than a day ago" if old else "begun, for no pin"
            yield Leftover(path=path, why=why, size=files.size_of(path), lock=f"{name}.lock")


def _repositories(store: Store, known: Sequence[PinnedModel]) -> Iterator[Leftover]:
    repositories: dict[str, list[PinnedModel]] = {}
    for model, pin in known:
        if model.repo is not None and model.in_hub_layout:
            repositories.setdefault(cache_folder(model.repo), []).append((model, pin))
    for name, pinned in sorted(repositories.items()):
        folder = store.root / "hub" / name
        keep = {store.root / snapshot_path(m, p) for m, p in pinned}
        for snapshot in sorted((folder / "snapshots").glob("*")):
            if snapshot not in keep:
                yield Leftover(path=snapshot, why="an old revision", size=files.size_of(snapshot))
        blobs = {f.sha256 for _, p in pinned for f in p.files}
        for blob in sorted((folder / "blobs").glob("*")):
            if blob.name not in blobs:
                yield Leftover(path=blob, why="of no pinned file", size=files.size_of(blob), lock=f"{blob.name}.lock")
        ref = folder / "refs" / "main"
        with contextlib.suppress(OSError):
            if ref.read_text().strip() not in {p.revision for _, p in pinned}:
                yield Leftover(path=ref, why="names an old revision", size=0)
