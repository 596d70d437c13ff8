"""Give a container's user access to a job's files, in folders that containers write too.

An attacker may control what a container left in such a folder or changes there at this moment: links, hard links, FIFOs
in place of files. So nothing there is reached by a path: each folder is opened relative to its parent, no link is followed,
and changes are made to the file that was opened and checked.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from builder.receiver.jobs import places

SHARED = ("input", "work", "output")
"""Folders of a job that its containers see; they write the last two."""

EVENTS = "events.jsonl"
"""The file of a job that its containers write."""

DEPTH = 2
"""Levels below a folder of :data:`SHARED` that hold our files: ``work/<stage>/<file>``."""

COPY = ".recording.copy"
"""A recording on its way into ``input``: a file in the job's folder, which no container sees."""

ROOT = 0
"""Id of the user and of the group; the containers' user is in this group."""


def foreign(place: Path) -> bool:
    """Whether a file or a folder isn't the caller's: somebody else decides what is in it.

    Raises:
        OSError: it can't be looked at.
    """
    found = os.lstat(place)
    if found.st_uid == os.geteuid():
        return False
    try:  # what we make there may have the same owner: of a stick, a Windows disk, a network folder
        with tempfile.TemporaryFile(dir=place.parent) as made:
            return os.fstat(made.fileno()).st_uid != found.st_uid
    except OSError:
        return True


def close(place: Path, recordings: Sequence[Path]) -> None:
    """Close a job's folder to whoever can't read its recordings, and to writers; one that is closed stays so.

    Args:
        recordings: in the folder; those that are missing don't count.

    Raises:
        OSError: it isn't a folder, or its mode can't be changed.
    """
    with _opened(place) as job:
        found = os.fstat(job)
        if stat.S_IMODE(found.st_mode) & 0o077 == 0:
            return
        there = [path for path in recordings if path.is_file()]
        bits = places.readers(there, found.st_gid, above=False) if there else 0o044
        mode = places.folder_mode(stat.S_IMODE(found.st_mode), bits)
        if mode != stat.S_IMODE(found.st_mode):
            os.fchmod(job, mode)


def give(place: Path) -> None:
    """Let the containers' user into a job's folder when the caller is root; other callers need nothing.

    Root's files and folders get rights for its group; the containers own what they made. A file with another name
    somewhere keeps its mode, since a recording is a hard link to the caller's own file: if the containers can't read it,
    the job gets a copy.

    Raises:
        OSError: the disk is full, or a part of the job is not a folder.
    """
    if os.getuid() != ROOT:
        return
    with _opened(place) as job:
        _share_file(job, EVENTS)
        for name in SHARED:
            with _opened(name, job) as part:
                _share(part, DEPTH)
                if name == "input":
                    _copy_closed(part, job)


def readable(found: os.stat_result) -> bool:
    """Whether a user without rights in group 0 can read a file."""
    return bool(found.st_mode & stat.S_IROTH or (found.st_gid == ROOT and found.st_mode & stat.S_IRGRP))


def to_group(part: int | Path, mode: int) -> None:
    """Give root's file or folder to root's group, which the containers' user is in, with a mode.

    In a folder with the set-group-ID bit what is made has that folder's group: the containers would be kept out, and its
    members let in.
    """
    with contextlib.suppress(OSError):  # a stick has no groups
        os.chown(part, -1, ROOT)
    os.chmod(part, mode)  # noqa: PTH101 - an open one, too


def take(folder: Path, name: str, target: Path) -> None:
    """Move a file that a container wrote in ``folder`` to ``target``, in a folder that no container sees, on the same disk.

    Raises:
        OSError: the file is missing, or isn't a plain file with one name.
    """
    with _opened(folder) as source, _opened(target.parent) as place:
        os.rename(name, target.name, src_dir_fd=source, dst_dir_fd=place)
        found = os.stat(target.name, dir_fd=place, follow_symlinks=False)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        raise OSError(f"{name} is not a plain file")


_SAFELY = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Flags to open what may be anything: a link is an error, and a FIFO doesn't wait for its writer."""


@contextlib.contextmanager
def _opened(name: str | Path, parent: int | None = None) -> Iterator[int]:
    """The descriptor of a folder that is not a link."""
    handle = os.open(name, _SAFELY | os.O_DIRECTORY, dir_fd=parent)
    try:
        yield handle
    finally:
        os.close(handle)


def _plain(name: str, folder: int) -> int | None:
    """The descriptor of a plain file in an open folder; None when it is missing, a link, a FIFO or a folder."""
    try:
        if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            return None  # not even opened: opening a device can have effects
        handle = os.open(name, _SAFELY, dir_fd=folder)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(handle).st_mode):  # another file took its place meanwhile
        os.close(handle)
        return None
    return handle


def _share(folder: int, depth: int) -> None:
    """Give an open folder, and what is in it down to ``depth`` levels, rights for its group."""
    found = os.fstat(folder)
    if found.st_uid == ROOT:
        to_group(folder, stat.S_IMODE(found.st_mode) | 0o770)
    for name in os.listdir(folder) if depth else ():
        _share_file(folder, name)
        # Not a folder, a link, or gone by now: not ours.
        with contextlib.suppress(OSError), _opened(name, folder) as inner:
            _share(inner, depth - 1)


def _share_file(folder: int, name: str) -> None:
    """Give root's file rights for its group, unless it has other names."""
    if (handle := _plain(name, folder)) is None:
        return
    try:
        found = os.fstat(handle)
        if found.st_uid == ROOT and found.st_nlink == 1:
            to_group(handle, stat.S_IMODE(found.st_mode) | 0o060)
    finally:
        os.close(handle)


def _copy_closed(folder: int, job: int) -> None:
    """Replace recordings in ``folder`` that the containers can't read by copies, which are written in ``job``."""
    for name in os.listdir(folder):
        if (handle := _plain(name, folder)) is None:
            continue
        with os.fdopen(handle, "rb") as source:
            if readable(os.fstat(handle)):
                continue
            with contextlib.suppress(FileNotFoundError):  # of a run that was killed
                os.unlink(COPY, dir_fd=job)
            new = os.open(COPY, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640, dir_fd=job)
            try:
                with os.fdopen(new, "wb") as made:
                    shutil.copyfileobj(source, made, 1 << 20)
                    to_group(new, 0o640)
                os.rename(COPY, name, src_dir_fd=job, dst_dir_fd=folder)
            except BaseException:
                os.unlink(COPY, dir_fd=job)
                raise
