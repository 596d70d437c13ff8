"""The store: the one tree of verified weights on this machine, laid out as the libraries expect it.

    models/hub/models--<org>--<name>/{refs/main, blobs/<sha256>, snapshots/<revision>/<file> -> ../../blobs/<sha256>}
    models/<target>/<file>                for models without a hub repository
    models/.incoming/                     what is being fetched; same file system, so that a rename is enough
    models/.quarantine/                   files whose bytes were not what the lock says
    models/.checked.json                  digests by file identity: the next look reads nothing

A file is in the tree only after its size and sha256 matched its pin.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.core.types import FilePin, Model, Pin, snapshot_path
from builder.edges import files
from builder.errors import IntegrityError, MissingError

SPARE = 64 << 20
"""Bytes that stay free on the disk, whatever is fetched."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One file that is not as its pin says."""

    path: Path
    what: str
    moved_to: Path | None = None


class Store:
    """The tree below ``root``; making one touches nothing."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.incoming = root / ".incoming"
        self.quarantine = root / ".quarantine"
        self._checked = root / ".checked.json"

    def folder(self, model: Model, pin: Pin) -> Path:
        """What a library loads the model from."""
        return self.root / snapshot_path(model, pin)

    def missing(self, model: Model, pin: Pin) -> tuple[FilePin, ...]:
        """The files that are not there, or not of their size. Reads no bytes."""
        folder = self.folder(model, pin)
        return tuple(f for f in pin.files if _size(folder / f.path) != f.size)

    def verify(self, model: Model, pin: Pin, *, deep: bool) -> tuple[Problem, ...]:
        """Compare with the pin: presence, size, sha256.

        Args:
            deep: read every byte. Else a file whose identity (path, size, mtime, inode) was hashed before is not read.

        A file with other bytes is moved to quarantine, so that nothing ever loads it.
        """
        known: dict[str, str] = files.read_json(self._checked) or {}
        before = dict(known)
        folder = self.folder(model, pin)
        problems = []
        for wanted in pin.files:
            path = folder / wanted.path
            size = _size(path)
            if size is None:
                problems.append(Problem(path=path, what="not there"))
                continue
            identity = self._identity(path)
            if deep or identity not in known:
                known[identity] = files.sha256(path)
            if size != wanted.size or known[identity] != wanted.sha256:
                what = (
                    f"{size} bytes in place of {wanted.size}" if size != wanted.size else "its sha256 is not the lock's"
                )
                problems.append(Problem(path=path, what=what, moved_to=self._expel(model, path)))
                del known[identity]
        if known != before:
            with contextlib.suppress(OSError):  # only a cache; the store may be read-only
                files.write_json(self._checked, known)
        return tuple(problems)

    def require(self, model: Model, pin: Pin) -> None:
        """Nothing loads a model that isn't whole.

        Raises:
            MissingError: a file is not there.
            IntegrityError: a file's bytes are wrong; it was moved to quarantine.
        """
        for problem in self.verify(model, pin, deep=False):
            again = f"models fetch {model.id}"
            if problem.moved_to is None and problem.what == "not there":
                raise MissingError(f"model {model.id} is not whole: {problem.path.name} is not there", hint=again)
            raise IntegrityError(
                f"model {model.id}: {problem.path.name} is not what models.lock says ({problem.what})",
                where=str(problem.moved_to or problem.path), expected="the sha256 of models.lock", hint=again,
            )  # fmt: skip

    @contextlib.contextmanager
    def fetching(self, pin: FilePin) -> Iterator[Path]:
        """Hold one file's place: a path in ``.incoming`` to write to. A second process waits for the first.

        Named by the digest, so that what was begun can be gone on with, also after kill -9.
        """
        self.incoming.mkdir(parents=True, exist_ok=True)
        with files.locked(self.incoming / f"{pin.sha256}.lock"):
            yield self.incoming / f"{pin.sha256}.part"

    def admit(self, model: Model, pin: Pin, wanted: FilePin, incoming: Path, *, digest: str | None = None) -> None:
        """Move a file from ``.incoming`` into the tree.

        Args:
            digest: hex sha256 if it was computed while the bytes streamed in; else the file is read.

        Raises:
            IntegrityError: the bytes are not those of the pin; they were moved to quarantine.
        """
        size = incoming.stat().st_size
        found = digest or files.sha256(incoming)
        if size != wanted.size or found != wanted.sha256:
            moved = self._expel(model, incoming, name=wanted.path)
            raise IntegrityError(
                f"model {model.id}: {wanted.path} is not what models.lock says ({size} bytes, sha256 {found[:12]}…)",
                where=str(moved),
                expected=f"{wanted.size} bytes, sha256 {wanted.sha256[:12]}…",
                hint="try another source: models fetch --from DIR",
            )
        incoming.chmod(0o644)
        final = self.folder(model, pin) / wanted.path
        final.parent.mkdir(parents=True, exist_ok=True)
        if model.target or not model.repo:
            incoming.replace(final)
        else:
            self._link(model, wanted, incoming, final)
        known: dict[str, str] = files.read_json(self._checked) or {}
        known[self._identity(final)] = found
        files.write_json(self._checked, known)

    def finish(self, model: Model, pin: Pin) -> None:
        """All files are in: name the revision, as the last step, so that libraries find it by the repository's name."""
        if model.repo and not model.target:
            files.write_atomic(self._repository(model) / "refs" / "main", pin.revision)

    def require_space(self, wanted: Sequence[FilePin]) -> None:
        """Refuse before the first byte what would not fit.

        Raises:
            MissingError: the disk has less than the files and a reserve.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.root).free
        need = sum(f.size for f in wanted) + SPARE
        if free < need:
            raise MissingError(
                f"the disk has {free / 1e6:.0f} MB free, the models need {need / 1e6:.0f} MB", where=str(self.root),
                hint="free some space, or put the state elsewhere: --home DIR",
            )  # fmt: skip

    def _repository(self, model: Model) -> Path:
        assert model.repo is not None
        return self.root / "hub" / f"models--{model.repo.replace('/', '--')}"

    def _link(self, model: Model, wanted: FilePin, incoming: Path, final: Path) -> None:
        blob = self._repository(model) / "blobs" / wanted.sha256
        blob.parent.mkdir(parents=True, exist_ok=True)
        incoming.replace(blob)
        # Through a temporary name: a link that is made in place could be seen, or left, half done.
        temporary = final.with_name(f".{final.name}.{os.getpid()}")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(os.path.relpath(blob, final.parent))
        temporary.replace(final)

    def _expel(self, model: Model, path: Path, *, name: str | None = None) -> Path | None:
        """Move a file with wrong bytes out of the tree; where it is now."""
        real = path.resolve()
        target = self.quarantine / f"{model.id}-{Path(name or path.name).name}-{files.sha256(real)[:12]}"
        target.parent.mkdir(parents=True, exist_ok=True)
        real.replace(target)
        if path.is_symlink():
            path.unlink()
        return target

    def _identity(self, path: Path) -> str:
        real = path.stat()
        return f"{path.relative_to(self.root).as_posix()}|{real.st_size}|{real.st_mtime_ns}|{real.st_ino}"


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
