"""logs/<stage>.log in a job's folder: what a stage prints, bounded where it is written."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from builder.receiver.jobs.untrusted import append_below

MOST = 8 << 20
"""Bytes of one run that are kept from its beginning; a recording may make a stage print without end."""

END = 64 << 10
"""Bytes of its end that are kept after them: the last line says why a stage failed."""


class StageLog:
    """Appends what one run of a stage prints. What can't be written is left out: no stage fails for its log."""

    def __init__(self, folder: Path, name: str) -> None:
        """
        Args:
            folder: the job's.
            name: path of the log there.
        """
        self._folder, self._name = folder, name
        self._left, self._dropped, self._end = MOST, 0, bytearray()

    def add(self, data: bytes) -> None:
        """Append bytes; after :data:`MOST` of them, keep the last ones for :meth:`close`."""
        if now := data[: self._left]:
            self._left -= len(now)
            self._write(now)
        self._end += data[len(now) :]
        if (more := len(self._end) - END) > 0:
            self._dropped += more
            del self._end[:more]

    def close(self) -> None:
        """Write the end of what was too much."""
        if self._dropped:
            self._write(f"\nwhisperbake: {self._dropped} bytes are left out here\n".encode())
        self._write(self._end)
        self._dropped, self._end = 0, bytearray()

    def _write(self, data: bytes | bytearray) -> None:
        with contextlib.suppress(OSError):
            handle = append_below(self._folder, self._name)
            with os.fdopen(handle, "ab") as out:
                out.write(data)
