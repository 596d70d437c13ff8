"""Whose a project is. Its settings and stages run as the caller: one that was found has to be the caller's, as for git."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from builder.errors import UsageError
from builder.program import shell_word

TRUSTED = "BAKE_PROJECT"
"""The variable that names a project; who names it trusts those who can write there."""

FILES = ("", "bake.yaml", "models.yaml", "models.lock", ".bake")
"""What decides what is run; the first is the project's folder itself."""

FOLDERS = ("compose", "images", "requirements", "stages", "templates")
"""Of a checkout: all of it is read, and much of it run."""


def require_own(root: Path, env: Mapping[str, str]) -> None:
    """Refuse a project that others than the caller and root could have written.

    With sudo the caller is also who called sudo.

    Args:
        root: the folder with bake.yaml.
        env: for SUDO_UID.

    Raises:
        UsageError: with the first file that isn't the caller's, or that others may write.
    """
    own = {0, os.geteuid()}
    if os.geteuid() == 0 and env.get("SUDO_UID", "").isdecimal():
        own.add(int(env["SUDO_UID"]))
    for path in _files(root):
        for status in _statuses(path):
            if (why := _open_to_others(status, own)) is not None:
                raise UsageError(
                    f"this project is not used: {why}",
                    where=str(path),
                    expected="a project that only you and root can write, since it runs as you",
                    hint=f"{TRUSTED}={shell_word(root)}, if you trust whoever can; or cd to another folder",
                )


def require_own_folder(folder: Path) -> None:
    """Raises UsageError unless it is a folder, not a link to one, that nobody but the caller and root can write."""
    status = folder.lstat()
    why = _open_to_others(status, {os.geteuid()}) if stat.S_ISDIR(status.st_mode) else "it is not a folder"
    if why is not None:
        raise UsageError(f"this folder is not used: {why}", where=str(folder))


def _files(root: Path) -> Iterator[Path]:
    """What the project consists of: links to folders are followed, each folder once."""
    yield from (root / name for name in FILES)
    waiting, seen = [root / name for name in FOLDERS], set[tuple[int, int]]()
    while waiting:
        path = waiting.pop()
        yield path
        try:
            status = path.stat()
            if not stat.S_ISDIR(status.st_mode) or (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            waiting += [Path(entry.path) for entry in os.scandir(path)]
        except OSError:  # not there, or not for us to read: then nothing of it is run either
            continue


def _statuses(path: Path) -> Iterator[os.stat_result]:
    """What stands there, and behind a link what it leads to; nothing where there is nothing."""
    try:
        status = path.lstat()
        yield status
        if stat.S_ISLNK(status.st_mode):
            yield path.stat()
    except OSError:
        return


def _open_to_others(status: os.stat_result, own: set[int]) -> str | None:
    """Why others than ``own`` could have written it; None when they can't."""
    if status.st_uid not in own:
        return f"it belongs to {_name(status.st_uid)}"
    if stat.S_ISLNK(status.st_mode):  # its mode says nothing
        return None
    if status.st_mode & stat.S_IWOTH:
        return "everybody may write it"
    if status.st_mode & stat.S_IWGRP and not _private(status.st_gid, status.st_uid):
        return f"the group {status.st_gid} may write it"
    return None


def _name(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


def _private(gid: int, uid: int) -> bool:
    """Whether a group is its owner's alone: of his name, without other members. With it umask 002 is as good as 022."""
    if gid == 0:
        return True
    try:
        user, group = pwd.getpwuid(uid), grp.getgrgid(gid)
    except KeyError:
        return False
    return user.pw_gid == gid and user.pw_name == group.gr_name and set(group.gr_mem) <= {user.pw_name}
