"""Files that a container's user can read and write."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path


def give(*places: Path) -> None:
    """Let the container's user into files and folders of a caller who is root; its group is root too.

    A recording is a hard link to the caller's own file, whose permissions stay: where they keep the user out, the job
    gets a copy.
    """
    if os.getuid() != 0:
        return
    for path in (each for place in places for each in (place, *place.rglob("*"))):
        found = path.lstat()
        if stat.S_ISDIR(found.st_mode):
            path.chmod(found.st_mode | 0o770)
        elif stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
            path.chmod(found.st_mode | 0o060)
        elif stat.S_ISREG(found.st_mode) and not readable(found):
            copy = path.with_name(f".{path.name}.copy")
            shutil.copyfile(path, copy)
            copy.chmod(0o640)
            copy.replace(path)


def readable(found: os.stat_result) -> bool:
    """Whether a user without rights in group 0 can read a file."""
    return bool(found.st_mode & stat.S_IROTH or (found.st_gid == 0 and found.st_mode & stat.S_IRGRP))
