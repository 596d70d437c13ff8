"""pipeline.log in a job's folder: what ran there, when, by which versions and commands, and what was noted. Bounded."""

from __future__ import annotations

import contextlib
import os
import platform
import stat
import time
from pathlib import Path

from builder import __version__
from builder.core.text import visible
from builder.errors import BakeError

FILE = "pipeline.log"

LARGEST = 1 << 20
"""Bytes after which only the end is kept, when a run begins."""

KEPT = 256 << 10
"""Bytes of that end."""

LINE = 1000
"""Characters of a line."""

LINES = 500
"""Lines of one run: a recording may make a stage note without end."""


class PipelineLog:
    """Appends lines, each with its UTC time. What can't be written is left out: no job fails for its log."""

    def __init__(self, folder: Path, *, mode: str) -> None:
        """
        Args:
            folder: the job's.
            mode: where its stages are to run.
        """
        self._path, self._lines = folder / FILE, 0
        self._shorten()
        system = f"Python {platform.python_version()}, {platform.system()} {platform.release()} {platform.machine()}"
        self.add(f"begin: whisperbake {__version__}, {system}, {mode}")

    def add(self, line: str) -> None:
        """A line; what would steer a terminal is made visible, and a long one is cut."""
        self._lines += 1
        if self._lines > LINES:
            return
        text = visible(line[:LINE])[:LINE] if self._lines < LINES else "more lines of this run are left out"
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        with contextlib.suppress(OSError):
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            handle = os.open(self._path, flags, 0o644)
            try:
                os.write(handle, f"{stamp} {text}\n".encode("utf-8", "backslashreplace"))
            finally:
                os.close(handle)

    def failed(self, error: BaseException) -> None:
        """Why the run ended."""
        self._lines = min(self._lines, LINES - 2)
        where = f" ({error.where})" if isinstance(error, BakeError) and error.where else ""
        self.add(f"fail: {error}{where}" if str(error) else f"fail: {type(error).__name__}")

    def ended(self, line: str) -> None:
        """How the run ended, whatever was left out before."""
        self._lines = min(self._lines, LINES - 2)
        self.add(line)

    def _shorten(self) -> None:
        with contextlib.suppress(OSError):
            handle = os.open(self._path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(handle, "r+b") as log:
                status = os.fstat(handle)
                if not stat.S_ISREG(status.st_mode) or status.st_size <= LARGEST:
                    return
                log.seek(-KEPT, os.SEEK_END)
                end = log.read().partition(b"\n")[2]
                log.seek(0)
                log.write(end)
                log.truncate()
