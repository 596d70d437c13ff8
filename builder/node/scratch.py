"""Where a node works: a folder of the run's own, whose ``jobs`` the stages see; what killed runs left is removed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from builder.node.faults import MACHINE, NodeFault, of_disk
from builder.receiver.jobs import places
from builder.receiver.jobs.untrusted import names_below

RUN = re.compile(r"batch-[0-9a-f]{12}")
"""Name of a run's folder, and of its containers (``{run}``)."""

WHAT = "the scratch folder"

ROOT = 0
"""User and group; the containers' user is in this group where the caller is root."""


@dataclass(frozen=True)
class Scratch:
    """A run's folder."""

    folder: Path
    run: str

    @property
    def jobs(self) -> Path:
        """What stages see and write: a folder for each recording, the list of them, what ended how."""
        return self.folder / "jobs"

    @property
    def list(self) -> Path:
        """Names of the folders that a stage works through, a line each."""
        return self.jobs / "list"

    @property
    def began(self) -> Path:
        """What begin made, where no stage changes it."""
        return self.folder / "began.json"

    @property
    def home(self) -> Path:
        """What the libraries of native stages write into."""
        return self.folder / "home"

    @property
    def logs(self) -> Path:
        """What the stages printed."""
        return self.folder / "logs"

    def make(self) -> None:
        """Empty folders for a shard.

        Raises:
            NodeFault: they can't be made.
        """
        try:
            for part in (self.jobs, self.home, self.logs):
                if os.path.lexists(part):
                    places.remove_tree(part)
                part.mkdir(mode=0o700)
            self.began.unlink(missing_ok=True)
            shared(self.jobs, 0o770)
        except OSError as error:
            raise of_disk(error, self.folder, WHAT) from error


def shared(path: Path, mode: int) -> None:
    """Let the containers' user into what root makes; other callers' containers have the caller's own rights."""
    if os.getuid() != ROOT:
        return
    with contextlib.suppress(OSError):  # a disk without groups
        os.chown(path, -1, ROOT)
    path.chmod(mode)


def usual() -> Path:
    """The scratch folder of this user, where none is named."""
    return Path(tempfile.gettempdir()) / f"whisperbake-batch-{os.getuid()}"


@contextlib.contextmanager
def opened(base: Path | None, end: Callable[[str], None]) -> Iterator[Scratch]:
    """A run's own folder below ``base`` (:func:`usual` without), gone after the block; that of a run that was killed goes first.

    Args:
        end: ends what a killed run of that name left running.

    Raises:
        NodeFault: the folder can't be used.
    """
    where = base or usual()
    try:
        where.mkdir(mode=0o700, parents=True, exist_ok=True)
        if base is None and (stat.S_ISLNK(os.lstat(where).st_mode) or os.lstat(where).st_uid != os.getuid()):
            raise NodeFault(MACHINE, f"{where} is somebody else's", "--scratch DIR")
        with _locked(where / f".whisperbake-{os.getuid()}.lock"):
            sweep(where, end)
            name = f"batch-{secrets.token_hex(6)}"
            scratch = Scratch(where / name, name)
            scratch.folder.mkdir(mode=0o700)
            lock = os.open(scratch.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with contextlib.suppress(OSError):  # a file system without locks is not swept either
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise of_disk(error, where, WHAT) from error
    try:
        scratch.make()
        yield scratch
    finally:
        places.remove_if_there(scratch.folder)
        os.close(lock)


def sweep(base: Path, end: Callable[[str], None]) -> None:
    """Remove the folders of runs that were killed: nobody holds their locks."""
    for name in names_below(base):
        folder = base / name
        if not RUN.fullmatch(name) or os.lstat(folder).st_uid != os.getuid():
            continue
        try:
            lock = os.open(folder / "lock", os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            places.remove_if_there(folder)
            continue
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            end(name)
            places.remove_if_there(folder)
        except OSError:  # it runs
            pass
        finally:
            os.close(lock)


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
