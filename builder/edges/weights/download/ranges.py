"""How far each chunk of a part file has come: notes beside it that stay right whenever the process dies.

<sha256>.part      the bytes, each at its place; holes where a range has not arrived
<sha256>.ranges    the notes; without them, the part file is a plain beginning
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

HEADER = struct.Struct("<8sQQ")
MAGIC = b"ranges 1"


def forget(target: Path) -> None:
    """Drop what has arrived of a file. Whoever writes to ``target`` in another way calls this first."""
    target.unlink(missing_ok=True)
    target.with_suffix(".ranges").unlink(missing_ok=True)


class Ranges:
    """The notes of one part file.

    Their file: ``ranges 1``, the size and the chunk's size as uint64, then one uint64 a chunk; little-endian.

    Args:
        target: the part file.
        size: bytes that it will have.
        chunk: bytes of a chunk; notes of an earlier run keep theirs.
    """

    def __init__(self, target: Path, size: int, chunk: int) -> None:
        self.size = size
        self.chunk = chunk
        self.path = target.with_suffix(".ranges")
        begun = target.stat().st_size if target.exists() else 0
        noted = self._read(begun)
        if noted is None and (begun > size or self.path.exists()):  # of another file, or cut short
            forget(target)
            begun = 0
        self.done = noted or [min(max(begun - start, 0), self._length(start)) for start in range(0, size, self.chunk)]
        """Bytes of each chunk that have arrived, from its start."""
        self._first = 0
        self._file: int | None = None
        if len(self.done) > 1:
            if noted is None:
                self._write()
            self._file = os.open(self.path, os.O_WRONLY)

    def _length(self, start: int) -> int:
        return min(self.chunk, self.size - start)

    def _read(self, begun: int) -> list[int] | None:
        """What an earlier run noted, in chunks of its size; None when that is of no use."""
        try:
            raw = self.path.read_bytes()
            magic, size, chunk = HEADER.unpack_from(raw)
            count = -(-size // chunk)
            marks = struct.unpack_from(f"<{count}Q", raw, HEADER.size)
        except (OSError, struct.error, ZeroDivisionError):
            return None
        if magic != MAGIC or size != self.size or len(raw) != HEADER.size + 8 * count:
            return None
        self.chunk = chunk
        # Never more than the file holds: another program may have cut it.
        return [min(m, self._length(i * chunk), max(begun - i * chunk, 0)) for i, m in enumerate(marks)]

    def _write(self) -> None:
        temporary = self.path.with_suffix(".ranges-new")
        temporary.write_bytes(
            HEADER.pack(MAGIC, self.size, self.chunk) + struct.pack(f"<{len(self.done)}Q", *self.done)
        )
        temporary.replace(self.path)

    def whole(self, index: int) -> bool:
        """True when a chunk has arrived to its end."""
        return self.done[index] == self._length(index * self.chunk)

    def lacking(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """The parts (start, stop) between two offsets that continue what their chunk has: what may be written."""
        for base in range(start // self.chunk * self.chunk, stop, self.chunk):
            at, end = base + self.done[base // self.chunk], min(stop, base + self._length(base))
            if start <= at < end:
                yield at, end

    def add(self, stop: int) -> None:
        """Note that the chunk with the byte before ``stop`` is written up to there."""
        index = (stop - 1) // self.chunk
        self.done[index] = stop - index * self.chunk
        if self._file is not None:
            os.pwrite(self._file, struct.pack("<Q", self.done[index]), HEADER.size + 8 * index)

    def edge(self) -> int:
        """Bytes from the file's start that have arrived without a hole."""
        while self._first < len(self.done) and self.whole(self._first):
            self._first += 1
        return self.size if self._first == len(self.done) else self._first * self.chunk + self.done[self._first]

    def close(self) -> None:
        """Close the file of the notes; it stays."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
