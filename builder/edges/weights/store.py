"""The store: the one tree of verified weights on this machine, laid out as the libraries expect it.

    models/hub/models--<org>--<name>/{refs/main, blobs/<sha256>, snapshots/<revision>/<file> -> ../../blobs/<sha256>}
    models/<target>/<file>                for models without a hub repository
    models/.incoming/                     what is being fetched; same file system, so that a rename is enough
    models/.quarantine/                   files whose bytes were not what the lock says
    models/.checked.json                  digests by file identity: the next check reads no bytes

A file is in the tree only after its size and sha256 matched its pin.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from builder.core.weights.model import FilePin, Model, Pin, cache_folder, snapshot_path
from builder.edges.system import files
from builder.errors import IntegrityError, MissingError

STALE = 24 * 3600.0
"""Seconds after which what a dead process left in ``.incoming`` is not worth resuming."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One file that is not as its pin says."""

    path: Path
    what: str
    moved_to: Path | None = None


class Store:
    """The tree below ``root``; creating an instance doesn't touch the disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.incoming = root / ".incoming"
        self.quarantine = root / ".quarantine"
        self._checked = root / ".checked.json"
        self.own = tuple(path.name for path in (self.incoming, self.quarantine, self._checked))
        """Names below ``root`` that aren't of models."""

    def folder(self, model: Model, pin: Pin) -> Path:
        """The folder that a library loads the model from.

        Raises:
            IntegrityError: names in the lock lead out of the store.
        """
        return _inside(self.root, snapshot_path(model, pin))

    def path(self, model: Model, pin: Pin, file: FilePin) -> Path:
        """Where one of a model's files is: always inside the model's own folder, whatever the lock says.

        Raises:
            IntegrityError: the file's path leads out of the folder.
        """
        return _inside(self.folder(model, pin), file.path)

    def missing(self, model: Model, pin: Pin) -> tuple[FilePin, ...]:
        """The files that are absent or have another size than the pin says. Reads no bytes."""
        return tuple(f for f in pin.files if _size(self.path(model, pin, f)) != f.size)

    def verify(self, model: Model, pin: Pin, *, deep: bool) -> tuple[Problem, ...]:
        """Compare with the pin: presence, size, sha256. A file with other bytes is moved to quarantine: nothing ever loads it.

        Args:
            deep: read every byte; else a file that was hashed before, by its identity (path, size, mtime, inode), is not read.
        """
        known = self._digests()
        before = dict(known)
        problems = []
        for file in pin.files:
            path = self.path(model, pin, file)
            size = _size(path)
            if size is None:
                problems.append(Problem(path=path, what="not there"))
                continue
            identity = self._identity(path)
            if deep or identity not in known:
                known[identity] = files.sha256(path)
            if size != file.size or known[identity] != file.sha256:
                what = f"{size} bytes in place of {file.size}" if size != file.size else "its sha256 is not the lock's"
                problems.append(
                    Problem(path=path, what=what, moved_to=self._expel(model, path, digest=known[identity]))
                )
                del known[identity]
        if known != before:
            self._remember(known)
        return tuple(problems)

    def intact(self, model: Model, pin: Pin, known: dict[str, str]) -> bool:
        """True when every file has the pin's bytes: a shallow :meth:`verify` that changes nothing on the disk.

        Args:
            known: digests by file identity that the caller keeps; those of files that had to be read are added.
        """
        if self.missing(model, pin):
            return False
        before = self._digests()
        for file in pin.files:
            try:
                identity = self._identity(path := self.path(model, pin, file))
                digest = before.get(identity) or known.get(identity) or files.sha256(path)
            except OSError:  # it has just been removed, or can't be read
                return False
            known[identity] = digest
            if digest != file.sha256:
                return False
        return True

    def require(self, model: Model, pin: Pin) -> None:
        """Refuse a model that isn't complete, before anything loads it.

        Raises:
            MissingError: a file is absent.
            IntegrityError: a file's bytes are wrong; it was moved to quarantine.
        """
        for problem in self.verify(model, pin, deep=False):
            again = f"models fetch {model.id}"
            if problem.moved_to is None and problem.what == "not there":
                raise MissingError(f"model {model.id} is not complete: {problem.path.name} is missing", hint=again)
            raise IntegrityError(
                f"model {model.id}: {problem.path.name} is not what models.lock says ({problem.what})",
                where=str(problem.moved_to or problem.path),
                expected="the sha256 of models.lock",
                hint=again,
            )

    @contextlib.contextmanager
    def fetching(self, pin: FilePin, *, waiting: Callable[[], None] = lambda: None) -> Iterator[Path]:
        """Lock one file and give its path in ``.incoming``, to write to. A second process waits for the first.

        The path is named after the digest: the next fetch resumes what was begun, even after kill -9.

        Args:
            waiting: called twice a second while another process has the lock; what it raises ends the wait.
        """
        self._create(self.incoming)
        with contextlib.ExitStack() as stack:
            while True:
                try:
                    stack.enter_context(files.locked(self.incoming / f"{pin.sha256}.lock", timeout=0.5))
                    break
                except TimeoutError:
                    waiting()
            yield self.incoming / f"{pin.sha256}.part"

    def admit(self, model: Model, pin: Pin, file: FilePin, incoming: Path, *, digest: str | None = None) -> None:
        """Move a file from ``.incoming`` into the tree.

        Args:
            digest: hex sha256, when it was computed while the bytes streamed in; else the file is read.

        Raises:
            IntegrityError: the bytes are not the pin's; they were moved to quarantine.
        """
        final = self.path(model, pin, file)
        size = incoming.stat().st_size
        sha256 = digest or files.sha256(incoming)
        if size != file.size or sha256 != file.sha256:
            moved = self._expel(model, incoming, name=file.path, digest=sha256)
            raise IntegrityError(
                f"model {model.id}: {file.path} is not what models.lock says ({size} bytes, sha256 {sha256[:12]}…)",
                where=str(moved),
                expected=f"{file.size} bytes, sha256 {file.sha256[:12]}…",
                hint="try another source: models fetch --from DIR",
            )
        incoming.chmod(0o644)
        self._create(final.parent)
        if model.in_hub_layout:
            blob = self._blob(model, file)
            self._create(blob.parent)
            incoming.replace(blob)
            self._link(blob, final)
        else:
            incoming.replace(final)
        self._vouch(final, sha256)

    def reject(self, model: Model, path: Path, name: str, digest: str) -> Path | None:
        """Move a fetched file that is not what the lock says to quarantine; returns its path there."""
        return self._expel(model, path, digest=digest, name=name)

    def adopt(self, model: Model, pin: Pin, file: FilePin) -> bool:
        """Link a blob that the repository has already: another revision's, or left by a process killed before it linked.

        Its bytes are read, since nobody vouches for them. True when the file is now in its place.
        """
        if not model.in_hub_layout:
            return False
        blob = self._blob(model, file)
        if _size(blob) != file.size or files.sha256(blob) != file.sha256:
            return False
        final = self.path(model, pin, file)
        self._create(final.parent)
        self._link(blob, final)
        self._vouch(final, file.sha256)
        return True

    def same(self, file: FilePin) -> Path | None:
        """Another repository's blob that is named after this file's digest; the caller has to check its bytes."""
        blobs = self.root.glob(f"hub/*/blobs/{file.sha256}")
        return next((b for b in blobs if _size(b) == file.size), None)

    def finish(self, model: Model, pin: Pin) -> None:
        """Name the revision, when all files are in: the last step, after which libraries find it by the repository's name."""
        if not model.in_hub_layout:
            return
        ref = self._repository(model) / "refs" / "main"
        with contextlib.suppress(OSError):
            if ref.read_text() == pin.revision:
                return
        self._create(ref.parent)
        # Written in .incoming: a process killed here leaves nothing in the tree.
        temporary = self.incoming / f"ref-{_unique()}"
        files.write_atomic(temporary, pin.revision)
        temporary.replace(ref)

    def tidy(self) -> None:
        """Remove what dead processes left in ``.incoming`` a day ago or longer; what a live one has locked stays."""
        for path in self.incoming.glob("*") if self.incoming.is_dir() else ():
            if path.suffix == ".lock" or not stale(path):
                continue
            with (
                contextlib.suppress(OSError),
                files.locked(self.incoming / f"{path.name.split('.')[0]}.lock", timeout=0),
            ):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()

    def require_space(self, wanted: Sequence[FilePin]) -> None:
        """Refuse, before the first byte, files that would not fit on the disk.

        Raises:
            MissingError: less is free than the files and a reserve need.
        """
        self._create(self.root)
        begun = sum(_allocated(self.incoming / f"{f.sha256}.part") for f in wanted)
        need = sum(f.size for f in wanted) - begun
        files.require_room({self.root: need}, "put the state elsewhere: --home DIR")

    def _repository(self, model: Model) -> Path:
        assert model.repo is not None
        return self.root / "hub" / cache_folder(model.repo)

    def _blob(self, model: Model, file: FilePin) -> Path:
        return _inside(self._repository(model) / "blobs", file.sha256)

    def _link(self, blob: Path, final: Path) -> None:
        """Create a relative link in ``.incoming`` and rename it: nobody sees half a link, and a kill leaves none."""
        self._create(self.incoming)
        temporary = self.incoming / f"link-{_unique()}-{blob.name}"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(os.path.relpath(blob, final.parent))
        temporary.replace(final)

    def _create(self, folder: Path) -> None:
        """Create a folder and its parents within the store, readable for everyone whatever the umask: images share it."""
        self.root.parent.mkdir(parents=True, exist_ok=True)
        new = [p for p in (folder, *folder.parents) if p.is_relative_to(self.root) and not p.exists()]
        for path in reversed(new):
            path.mkdir(exist_ok=True)
            path.chmod(0o755)

    def _expel(self, model: Model, path: Path, *, digest: str, name: str | None = None) -> Path | None:
        """Move a file with wrong bytes out of the tree, to quarantine.

        Returns:
            Its path there; None when only its link was removed, because it led out of the store.

        Raises:
            IntegrityError: it can't be moved (a read-only store). It stays, and is refused.
        """
        real = path.resolve()
        target = self.quarantine / f"{model.id}-{PurePosixPath(name or path.name).name}-{digest[:12]}"
        try:
            moved = None
            if real.is_relative_to(self.root.resolve()):
                self._create(self.quarantine)
                real.replace(target)
                moved = target
            if path.is_symlink():
                path.unlink()
        except OSError as error:
            raise IntegrityError(
                f"model {model.id}: {path.name} is not what models.lock says, and can't be moved away ({error.strerror})",
                where=str(path),
                hint="remove it by hand",
            ) from error
        return moved

    def _digests(self) -> dict[str, str]:
        """Digests by file identity, from earlier checks; anything but such a table is ignored."""
        return {str(k): str(v) for k, v in files.read_object(self._checked).items()}

    def _remember(self, known: dict[str, str]) -> None:
        """Keep the digests, one identity for each path. Only a cache: the store may be read-only, the disk full."""
        latest = {identity.rsplit("|", 3)[0]: identity for identity in known}
        with contextlib.suppress(OSError):
            files.write_json(self._checked, {identity: known[identity] for identity in latest.values()})

    def _vouch(self, path: Path, digest: str) -> None:
        """Remember one digest, while other threads and processes may do the same."""
        with contextlib.suppress(OSError), files.locked(self.incoming / "checked.lock"):
            self._remember({**self._digests(), self._identity(path): digest})

    def _identity(self, path: Path) -> str:
        real = path.stat()
        return f"{path.relative_to(self.root).as_posix()}|{real.st_size}|{real.st_mtime_ns}|{real.st_ino}"


def stale(path: Path) -> bool:
    """Whether nobody has touched something of ``.incoming`` for a day; False for what has gone meanwhile."""
    try:
        return time.time() - path.lstat().st_mtime > STALE
    except OSError:
        return False


def write_failure(error: OSError, target: Path) -> MissingError:
    """What an error of the operating system means for whoever writes weights below ``target``."""
    if files.disk_full(error):
        return MissingError("the disk is full", where=str(target), hint="free some space, then again")
    return MissingError(f"it can't be written ({error.strerror})", where=str(error.filename or target))


def _inside(folder: Path, name: str) -> Path:
    """``folder / name``, when that is below ``folder``."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or "\0" in name or any(p in ("..", "~") for p in parts):
        raise IntegrityError(f'models.lock or models.yaml names a path that leads out of its folder: "{name}"')
    return folder.joinpath(*parts)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _allocated(path: Path) -> int:
    """Bytes that a file takes on the disk; fewer than its size, when ranges have left holes."""
    try:
        state = path.stat()
    except OSError:
        return 0
    return min(state.st_size, state.st_blocks * 512)


def _unique() -> str:
    """A name for temporary files that no other process or thread uses."""
    return f"{os.getpid()}-{threading.get_ident()}"
