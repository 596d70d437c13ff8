"""Files that a container's user can read and write, in folders that containers write as well.

What a container left in such a folder, or changes in it at this moment, is an attacker's: links, hard links, FIFOs in place
of files. So nothing there is reached by a path: a folder is opened relative to the one above it, no link is followed, and
what is changed is the file that was opened and looked at.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

SHARED = ("input", "work", "output")
"""Folders of a job that its containers see; they write the last two."""

EVENTS = "events.jsonl"
"""The file of a job that its containers write."""

DEPTH = 2
"""Levels below a folder of :data:`SHARED` on which files of ours lie: ``work/<stage>/<file>``."""

COPY = ".recording.copy"
"""A recording on its way into ``input``, in the job's folder, which no container sees."""

ROOT = 0
"""User and group: the group is that of the containers' user too."""


def give(place: Path) -> None:
    """Let the containers' user into a job's folder whose owner is root: nothing to do for other callers.

    Files and folders of root get the rights of its group; what the containers made is theirs already. A file that has
    another name somewhere keeps its mode: a recording is a hard link to the caller's own file. Where that keeps the
    containers out, the job gets a copy.

    Raises:
        OSError: the disk is full; or a part of the job is no folder.
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


def take(folder: Path, name: str, target: Path) -> None:
    """Move what a container wrote into ``folder`` to ``target``, in a folder that no container sees, on the same disk.

    Raises:
        OSError: there is no such file, or it is no plain file with this name alone.
    """
    with _opened(folder) as source, _opened(target.parent) as place:
        os.rename(name, target.name, src_dir_fd=source, dst_dir_fd=place)
        found = os.stat(target.name, dir_fd=place, follow_symlinks=False)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        raise OSError(f"{name} is not a plain file")


_SAFELY = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Open what may be anything: a link is an error, a FIFO doesn't wait for its writer."""


@contextlib.contextmanager
def _opened(name: str | Path, parent: int | None = None) -> Iterator[int]:
    """The descriptor of a folder that is no link."""
    handle = os.open(name, _SAFELY | os.O_DIRECTORY, dir_fd=parent)
    try:
        yield handle
    finally:
        os.close(handle)


def _plain(name: str, folder: int) -> int | None:
    """The descriptor of a file in an open folder; None where there is none, or a link, a FIFO, a folder in its place."""
    try:
        if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            return None  # not even opened: a device does something then
        handle = os.open(name, _SAFELY, dir_fd=folder)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(handle).st_mode):  # it was swapped meanwhile
        os.close(handle)
        return None
    return handle


def _share(folder: int, depth: int) -> None:
    """Give an open folder, and what is in it down to ``depth`` levels, the rights of its group."""
    found = os.fstat(folder)
    if found.st_uid == ROOT:
        os.fchmod(folder, stat.S_IMODE(found.st_mode) | 0o770)
    for name in os.listdir(folder) if depth else ():
        _share_file(folder, name)
        # No folder, a link, or gone by now: nothing of ours.
        with contextlib.suppress(OSError), _opened(name, folder) as inner:
            _share(inner, depth - 1)


def _share_file(folder: int, name: str) -> None:
    """Give a file of root the rights of its group, unless it has other names."""
    if (handle := _plain(name, folder)) is None:
        return
    try:
        found = os.fstat(handle)
        if found.st_uid == ROOT and found.st_nlink == 1:
            os.fchmod(handle, stat.S_IMODE(found.st_mode) | 0o060)
    finally:
        os.close(handle)


def _copy_closed(folder: int, job: int) -> None:
    """Replace the recordings in ``folder`` that the containers may not read by copies, made in ``job`` beside it."""
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
                    os.fchmod(new, 0o640)
                os.rename(COPY, name, src_dir_fd=job, dst_dir_fd=folder)
            except BaseException:
                os.unlink(COPY, dir_fd=job)
                raise
