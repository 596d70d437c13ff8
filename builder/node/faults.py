"""Why a shard can't be worked off, as data, and the exit codes that tell an engine whether to try again."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

DONE = 0
"""Every recording of the shard has a result."""

BUG = 1
"""Something nobody foresaw, or a stage that ended without a reason: try again."""

WRONG = 2
"""The batch, its version or the shard's number is wrong: don't try again."""

MACHINE = 3
"""This machine's fault (a full disk, a folder that can't be written, no engine): try again, elsewhere."""

DIFFERS = 5
"""The models are not the batch's, or a second run came to another result: don't try again."""

PARTLY = 8
"""Done, and some recordings failed, each with its reason: don't try again."""

OF_MACHINE = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.ENOTCONN,
    errno.EHOSTDOWN,
    errno.EREMOTEIO if hasattr(errno, "EREMOTEIO") else errno.EIO,
)
"""Errors of the operating system that say nothing of a recording."""

FULL = (errno.ENOSPC, errno.EDQUOT)


class NodeFault(Exception):
    """A shard ends here.

    Args:
        code: the exit code.
        what: one sentence: what is wrong.
        do: what to change or type next.
        detail: the last lines that a stage said.
    """

    def __init__(self, code: int, what: str, do: str = "", detail: Any = ()) -> None:
        super().__init__(what)
        self.code, self.what, self.do, self.detail = code, what, do, tuple(detail)


class NodeStopped(Exception):
    """A signal asks for the end: what is done is published, the rest is left whole.

    Args:
        number: the signal's.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.code = 128 + number


def of_disk(error: OSError, where: Path, what: str) -> NodeFault:
    """A folder of the shard can't be written or read.

    Args:
        what: the folder, in words.
    """
    if error.errno in FULL:
        return NodeFault(MACHINE, f"the disk of {what} is full: {where}", "free some space, then run the shard again")
    reason = error.strerror or str(error)
    return NodeFault(
        MACHINE, f"{what} can't be used ({reason}): {where}", "see that this user may read and write there"
    )


def free_bytes(folder: Path) -> int:
    """Bytes that this user may still write where a folder is."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize
