"""Folders of jobs on the disk: who may read what is made of a recording, and removal, whatever containers left there."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

GROUP, STRANGERS = 0o040, 0o004
"""Bits of a mode: who may read."""

DEEPEST = 1 << 20
"""Levels of a tree that are removed, and rounds: somebody who goes on writing doesn't keep us."""

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""Flags to open a folder that isn't a link."""


def readers(recordings: Sequence[Path], group: int, *, above: bool = True) -> int:
    """Who beside the owner may read what is made of recordings: 0o044, 0o040 (its group) or 0; who can read all of them.

    Args:
        group: of what is made.
        above: folders count too: who can't enter one of them can't read what is in it.
    """
    bits = GROUP | STRANGERS
    for recording in recordings:
        try:
            path = recording.resolve(strict=True)
            statuses = [path.stat(), *(folder.stat() for folder in (path.parents if above else ()))]
        except (OSError, RuntimeError):
            return 0
        bits &= _common(statuses, group)
    return bits if recordings else 0


def _common(statuses: Sequence[os.stat_result], group: int) -> int:
    """Who gets through folders to a file, which is first."""
    everybody = members = True
    for number, status in enumerate(statuses):
        need = 1 if number else 4
        of_group, of_others = bool(status.st_mode >> 3 & need), bool(status.st_mode & need)
        everybody = everybody and of_group and of_others
        members = members and (of_group if status.st_gid == group else of_group and of_others)
    if everybody:
        return GROUP | STRANGERS
    return GROUP if members and group != 0 else 0  # group 0 is the containers' user


def folder_mode(usual: int, bits: int) -> int:
    """The mode of a folder that those of :func:`readers` may look into, and nobody else writes.

    Args:
        usual: what it would be by the caller's umask.
    """
    return usual & (0o700 | bits | bits >> 2)


def file_mode(usual: int, bits: int) -> int:
    """The same for a file."""
    return usual & (0o600 | bits)


def alive(pid: int) -> bool:
    """Whether a process of this machine lives: what a dead one left half-made may go."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def remove_tree(folder: Path) -> None:
    """Remove a folder and all that is in it. No link is followed, whatever is swapped meanwhile; no tree is too deep.

    shutil.rmtree needs a level of the stack or an open folder for each level of the tree; a stage can make a million.
    So what lies deeper is moved up: no more than two folders are open.

    Raises:
        OSError: it isn't a folder, or something in it can't be removed.
    """
    with _opened(folder.name, folder.parent) as top:
        _empty(top)
    folder.rmdir()


def _empty(top: int) -> None:
    """Remove what is in an open folder."""
    mark, number = f".{secrets.token_hex(8)}-", 0
    for _ in range(DEEPEST):
        names = os.listdir(top)
        if not names:
            return
        for name in names:
            if _removed(name, top):
                continue
            with _opened(name, top) as inner:
                number = _move_up(inner, top, mark, number)
            os.rmdir(name, dir_fd=top)


def _move_up(inner: int, top: int, mark: str, number: int) -> int:
    """Remove what is in ``inner``, but for its folders, which get new names in ``top``; the last one's number."""
    for name in os.listdir(inner):
        if not _removed(name, inner):
            _make_writable(name, inner)
            number += 1
            os.rename(name, f"{mark}{number}", src_dir_fd=inner, dst_dir_fd=top)
    return number


def remove_if_there(folder: Path) -> None:
    """The same where it doesn't matter whether it succeeds."""
    with contextlib.suppress(OSError):
        remove_tree(folder)


def _removed(name: str, folder: int) -> bool:
    """Remove what isn't a folder, or an empty one; False where it is a folder with something in it."""
    if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=folder)
        return True
    try:
        os.rmdir(name, dir_fd=folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


@contextlib.contextmanager
def _opened(name: str, parent: int | Path) -> Iterator[int]:
    """The descriptor of a folder that isn't a link, with all rights for its owner."""
    above = os.open(parent, FOLDER) if isinstance(parent, Path) else parent
    try:
        _make_writable(name, above)
        handle = os.open(name, FOLDER, dir_fd=above)
    finally:
        if isinstance(parent, Path):
            os.close(above)
    try:
        yield handle
    finally:
        os.close(handle)


def _make_writable(name: str, parent: int) -> None:
    """Give the owner of a folder all rights to it, where one is lacking."""
    status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if not stat.S_ISDIR(status.st_mode) or status.st_mode & 0o700 == 0o700:
        return
    if os.chmod in os.supports_follow_symlinks:
        os.chmod(name, 0o700, dir_fd=parent, follow_symlinks=False)
        return
    handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        Path(f"/proc/self/fd/{handle}").chmod(0o700)  # an open folder without rights can't be had
    finally:
        os.close(handle)
