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
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from builder.core.weights.model import FilePin, Model, Pin, snapshot_path
from builder.edges.system import files
from builder.errors import IntegrityError, MissingError

SPARE = 64 << 20
"""Bytes that stay free on the disk, whatever is fetched."""

STALE = 24 * 3600.0
"""Seconds after which what a dead process left in ``.incoming`` is no longer worth going on with."""


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
        """What a library loads the model from.

        Raises:
            IntegrityError: the names of the lock lead out of the store.
        """
        return _inside(self.root, snapshot_path(model, pin))

    def place(self, model: Model, pin: Pin, wanted: FilePin) -> Path:
        """Where one of its files is. Never outside of the model's own folder, whatever the lock says.

        Raises:
            IntegrityError: its path leads out.
        """
        return _inside(self.folder(model, pin), wanted.path)

    def missing(self, model: Model, pin: Pin) -> tuple[FilePin, ...]:
        """The files that are not there, or not of their size. Reads no bytes."""
        return tuple(f for f in pin.files if _size(self.place(model, pin, f)) != f.size)

    def verify(self, model: Model, pin: Pin, *, deep: bool) -> tuple[Problem, ...]:
        """Compare with the pin: presence, size, sha256.

        Args:
            deep: read every byte. Else a file whose identity (path, size, mtime, inode) was hashed before is not read.

        A file with other bytes is moved to quarantine, so that nothing ever loads it.
        """
        known = self._digests()
        before = dict(known)
        problems = []
        for wanted in pin.files:
            path = self.place(model, pin, wanted)
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
                problems.append(
                    Problem(path=path, what=what, moved_to=self._expel(model, path, digest=known[identity]))
                )
                del known[identity]
        if known != before:
            self._remember(known)
        return tuple(problems)

    def intact(self, model: Model, pin: Pin, known: dict[str, str]) -> bool:
        """True when every file is there with the pin's bytes. Like a shallow :meth:`verify`, and changes nothing.

        Args:
            known: digests by file identity that the caller keeps; files that had to be read are added.
        """
        if self.missing(model, pin):
            return False
        before = self._digests()
        for wanted in pin.files:
            try:
                identity = self._identity(path := self.place(model, pin, wanted))
                digest = before.get(identity) or known.get(identity) or files.sha256(path)
            except OSError:  # it has just gone, or may not be read
                return False
            known[identity] = digest
            if digest != wanted.sha256:
                return False
        return True

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
                where=str(problem.moved_to or problem.path),
                expected="the sha256 of models.lock",
                hint=again,
            )

    @contextlib.contextmanager
    def fetching(self, pin: FilePin, *, waiting: Callable[[], None] = lambda: None) -> Iterator[Path]:
        """Hold one file's place: a path in ``.incoming`` to write to. A second process waits for the first.

        Named by the digest, so that what was begun can be gone on with, also after kill -9.

        Args:
            waiting: called twice a second while another holds it; what it raises ends the wait.
        """
        self._make(self.incoming)
        with contextlib.ExitStack() as stack:
            while True:
                try:
                    stack.enter_context(files.locked(self.incoming / f"{pin.sha256}.lock", timeout=0.5))
                    break
                except TimeoutError:
                    waiting()
            yield self.incoming / f"{pin.sha256}.part"

    def admit(self, model: Model, pin: Pin, wanted: FilePin, incoming: Path, *, digest: str | None = None) -> None:
        """Move a file from ``.incoming`` into the tree.

        Args:
            digest: hex sha256 if it was computed while the bytes streamed in; else the file is read.

        Raises:
            IntegrityError: the bytes are not those of the pin; they were moved to quarantine.
        """
        final = self.place(model, pin, wanted)
        size = incoming.stat().st_size
        found = digest or files.sha256(incoming)
        if size != wanted.size or found != wanted.sha256:
            moved = self._expel(model, incoming, name=wanted.path, digest=found)
            raise IntegrityError(
                f"model {model.id}: {wanted.path} is not what models.lock says ({size} bytes, sha256 {found[:12]}…)",
                where=str(moved),
                expected=f"{wanted.size} bytes, sha256 {wanted.sha256[:12]}…",
                hint="try another source: models fetch --from DIR",
            )
        incoming.chmod(0o644)
        self._make(final.parent)
        if _in_hub(model):
            blob = self._blob(model, wanted)
            self._make(blob.parent)
            incoming.replace(blob)
            self._link(blob, final)
        else:
            incoming.replace(final)
        self._vouch(final, found)

    def reject(self, model: Model, path: Path, name: str, digest: str) -> Path | None:
        """Move a file that was fetched, and is not what the lock says, to quarantine; where it is now."""
        return self._expel(model, path, digest=digest, name=name)

    def adopt(self, model: Model, pin: Pin, wanted: FilePin) -> bool:
        """Link a blob that the repository has already: of another revision, or from a process killed before it linked.

        True when the file is in place then. Its bytes are read, since nobody vouches for them.
        """
        if not _in_hub(model):
            return False
        blob = self._blob(model, wanted)
        if _size(blob) != wanted.size or files.sha256(blob) != wanted.sha256:
            return False
        final = self.place(model, pin, wanted)
        self._make(final.parent)
        self._link(blob, final)
        self._vouch(final, wanted.sha256)
        return True

    def same(self, wanted: FilePin) -> Path | None:
        """A blob of any other repository that has the name of this file's digest; its bytes are to be checked."""
        blobs = self.root.glob(f"hub/*/blobs/{wanted.sha256}")
        return next((b for b in blobs if _size(b) == wanted.size), None)

    def finish(self, model: Model, pin: Pin) -> None:
        """All files are in: name the revision, as the last step, so that libraries find it by the repository's name."""
        if not _in_hub(model):
            return
        ref = self._repository(model) / "refs" / "main"
        with contextlib.suppress(OSError):
            if ref.read_text() == pin.revision:
                return
        self._make(ref.parent)
        # Made in .incoming: a process killed here leaves nothing in the tree.
        temporary = self.incoming / f"ref-{_own()}"
        files.write_atomic(temporary, pin.revision)
        temporary.replace(ref)

    def tidy(self) -> None:
        """Drop what dead processes left in ``.incoming`` a day ago or longer; what a live one holds stays."""
        for path in self.incoming.glob("*") if self.incoming.is_dir() else ():
            if path.suffix == ".lock" or time.time() - path.lstat().st_mtime < STALE:
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
        """Refuse before the first byte what would not fit.

        Raises:
            MissingError: the disk has less than the files and a reserve.
        """
        self._make(self.root)
        begun = sum(_allocated(self.incoming / f"{f.sha256}.part") for f in wanted)
        need = sum(f.size for f in wanted) - begun
        files.require_room({self.root: need}, "put the state elsewhere: --home DIR", reserve=SPARE)

    def _repository(self, model: Model) -> Path:
        assert model.repo is not None
        return self.root / "hub" / f"models--{model.repo.replace('/', '--')}"

    def _blob(self, model: Model, wanted: FilePin) -> Path:
        return _inside(self._repository(model) / "blobs", wanted.sha256)

    def _link(self, blob: Path, final: Path) -> None:
        """A relative link, made beside the tree and renamed: never seen, or left, half done."""
        self._make(self.incoming)
        temporary = self.incoming / f"link-{_own()}-{blob.name}"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(os.path.relpath(blob, final.parent))
        temporary.replace(final)

    def _make(self, folder: Path) -> None:
        """The folder and its parents within the store, readable for everyone, whatever the umask: images share it."""
        self.root.parent.mkdir(parents=True, exist_ok=True)
        new = [p for p in (folder, *folder.parents) if p.is_relative_to(self.root) and not p.exists()]
        for path in reversed(new):
            path.mkdir(exist_ok=True)
            path.chmod(0o755)

    def _expel(self, model: Model, path: Path, *, digest: str, name: str | None = None) -> Path | None:
        """Move a file with wrong bytes out of the tree; where it is now. None: only its link was removed,
        because the bytes are not the store's own.

        Raises:
            IntegrityError: it can't be moved (a read-only store); it stays, and is refused.
        """
        real = path.resolve()
        target = self.quarantine / f"{model.id}-{PurePosixPath(name or path.name).name}-{digest[:12]}"
        try:
            moved = None
            if real.is_relative_to(self.root.resolve()):
                self._make(self.quarantine)
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
        """Digests by file identity, from earlier looks; whatever is not such a table is forgotten."""
        known = files.read_json(self._checked)
        return {str(k): str(v) for k, v in known.items()} if isinstance(known, dict) else {}

    def _remember(self, known: dict[str, str]) -> None:
        """Keep the digests, one identity a path. Only a cache: the store may be read-only, the disk full."""
        latest = {identity.rsplit("|", 3)[0]: identity for identity in known}
        with contextlib.suppress(OSError):
            files.write_json(self._checked, {identity: known[identity] for identity in latest.values()})

    def _vouch(self, path: Path, digest: str) -> None:
        """Remember one digest; others may be at it, in this process and in others."""
        with contextlib.suppress(OSError), files.locked(self.incoming / "checked.lock"):
            self._remember({**self._digests(), self._identity(path): digest})

    def _identity(self, path: Path) -> str:
        real = path.stat()
        return f"{path.relative_to(self.root).as_posix()}|{real.st_size}|{real.st_mtime_ns}|{real.st_ino}"


def _in_hub(model: Model) -> bool:
    return bool(model.repo) and not model.target


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
    """Bytes that a file takes on the disk already: one that arrives in ranges has holes."""
    try:
        found = path.stat()
    except OSError:
        return 0
    return min(found.st_size, found.st_blocks * 512)


def _own() -> str:
    """A name for temporary files that no other process or thread uses."""
    return f"{os.getpid()}-{threading.get_ident()}"
