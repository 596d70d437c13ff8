"""What others left in a job's folder: no link is followed, no FIFO is waited for, nothing is read without a bound.

In a container links lead nowhere else. A native stage may read what a container left, and there they lead to this machine.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

LARGEST = 64 << 20
"""Bytes of a file that is read whole; the words of ten hours take a fifth of it."""

UNLINKED = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Flags to open what may be anything: a link is an error, and a FIFO isn't waited for."""


def _opened(root: Path, relative: str) -> int:
    """The descriptor of a regular file below a folder, each folder on the way opened relative to its parent."""
    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    *folders, name = relative.split("/")
    for part, kind in (*((folder, os.O_DIRECTORY) for folder in folders), (name, 0)):
        try:
            inner = os.open(part, os.O_RDONLY | UNLINKED | kind, dir_fd=handle)
        finally:
            os.close(handle)
        handle = inner
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise FileNotFoundError
    return handle


def file(root: Path, relative: str) -> Path:
    """A regular file below a folder.

    Raises:
        FileNotFoundError: there is none, or something else stands in its place.
    """
    try:
        os.close(_opened(root, relative))
    except OSError as error:
        raise FileNotFoundError(2, "there is no such file", relative) from error
    return root / relative


def is_there(root: Path, relative: str) -> bool:
    """Whether there is such a file."""
    try:
        return bool(file(root, relative))
    except FileNotFoundError:
        return False


def read(root: Path, relative: str, most: int = LARGEST) -> bytes:
    """The bytes of a file below a folder.

    Raises:
        OSError: there is no regular file of that name, or it can't be read.
        ValueError: it has more than ``most`` bytes.
    """
    with os.fdopen(_opened(root, relative), "rb") as source:
        data = source.read(most + 1)
    if len(data) > most:
        raise ValueError(f"{relative} has more than {most >> 20} MiB")
    return data


def load(root: Path, relative: str) -> Any:
    """The JSON of a file below a folder; raises as :func:`read`, and ValueError where it isn't JSON."""
    try:
        return json.loads(read(root, relative))
    except RecursionError:
        raise ValueError(f"{relative} is nested too deeply") from None


def dump(value: Any) -> str:
    """JSON that is the same every time: sorted keys, non-ASCII characters unescaped."""
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
