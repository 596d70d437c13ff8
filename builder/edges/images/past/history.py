"""The file with what was built when; see :mod:`builder.core.images.history`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from builder.core.images.history import BuildRecord, line, parsed
from builder.edges.system import files

MOST = 20_000
"""Lines that are kept, at most twice as many until the file is written anew: the builds of years."""


def read(path: Path) -> tuple[BuildRecord, ...]:
    """What was built, oldest first."""
    return parsed((files.read_file(path) or b"").splitlines())


def note(path: Path, records: Sequence[BuildRecord]) -> None:
    """Add what was built."""
    with files.locked(path.with_suffix(".lock")):
        before = (files.read_file(path) or b"").splitlines(keepends=True)
        if len(before) > 2 * MOST:
            files.write_atomic(path, b"".join(before[-MOST:]))
        whole = not before or before[-1].endswith(b"\n")
        with path.open("a", encoding="utf-8") as out:  # a line that was cut short spoils no other
            out.write(("" if whole else "\n") + "".join(map(line, records)))
