"""A batch's plan and its journals, read into a tally: all of them once, then only what was added."""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from builder.core.batch.tally import BatchTally
from builder.errors import ConfigError, MissingError
from builder.node.results.record import JOURNAL
from builder.program import command, shell_word
from builder.receiver.jobs.untrusted import object_below, open_below

CHUNK = 1 << 20
"""Bytes read at a time."""

LONGEST_LINE = 64 << 10
"""Bytes of a line; a longer one isn't ours."""

LARGEST_JOURNAL = 1 << 30
"""Bytes of a journal that are read; a recording takes a hundred or so."""

MOST_JOURNALS = 2_000_000
"""Files in the folder of journals that are looked at."""

NAME, ITEMS = "batch.yaml", "items.jsonl"
RESULTS, JOURNALS = "results", "journal"
"""Folders of a batch, one in the other; ``results`` may be a link of the user's own."""

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(slots=True)
class _Read:
    """How far a journal is read."""

    inode: int
    size: int
    changed: int
    """Nanoseconds since the epoch."""
    end: int = 0
    """Where its first line begins that isn't read."""


class BatchFollower:
    """Reads a batch's folder into a :class:`BatchTally`, again and again."""

    def __init__(self, batch: Path) -> None:
        """
        Raises:
            UsageError: there is no batch.
            ConfigError: it is of another version.
        """
        _require_batch(batch)
        self.batch = batch.resolve()
        self.tally = BatchTally()
        self._read: dict[str, _Read] = {}
        self._plan: tuple[int, int, int] | None = None

    def look(self) -> bool:
        """Read what is new; whether anything was.

        Raises:
            ConfigError: items.jsonl is not what batch plan writes.
            MissingError: it can't be read.
        """
        new = self._items()
        if new:
            self._read.clear()
        for name, handle, status in self._journals():
            new = True
            self._add(name, handle, status)
        return new

    def looked(self) -> BatchTally:
        """The tally after a look; raises what :meth:`look` raises."""
        self.look()
        return self.tally

    def _items(self) -> bool:
        """Read the plan, where it is another than before: what was counted then is forgotten."""
        try:
            with open_below(self.batch, ITEMS) as source:
                status = os.fstat(source.fileno())
                seen = (status.st_ino, status.st_size, status.st_mtime_ns)
                if seen == self._plan:
                    return False
                self.tally, number = BatchTally(), 0
                for lines in chunks_of_lines(source.fileno()):
                    wrong = self.tally.add_items(lines)
                    if wrong is not None:
                        raise unplanned(self.batch, number + wrong)
                    number += lines.count(b"\n")
        except OSError as error:
            raise MissingError(f"the plan can't be read ({error.strerror})", where=str(self.batch / ITEMS)) from error
        self._plan = seen
        return True

    def _journals(self) -> Iterator[tuple[str, int, os.stat_result]]:
        """Name, open file and status of each journal that has changed; the file is closed when the next is asked for."""
        with (
            contextlib.suppress(OSError),
            _opened(self.batch / RESULTS, JOURNALS) as folder,
            os.scandir(folder) as entries,
        ):
            for entry in itertools.islice(entries, MOST_JOURNALS):
                try:
                    if not self._changed(entry):
                        continue
                    handle = os.open(entry.name, _FLAGS, dir_fd=folder)
                except OSError:  # gone, or not ours to read
                    continue
                try:
                    status = os.fstat(handle)
                    if stat.S_ISREG(status.st_mode):
                        yield entry.name, handle, status
                finally:
                    os.close(handle)

    def _changed(self, entry: os.DirEntry[str]) -> bool:
        known = self._read.get(entry.name)
        if known is None:
            return JOURNAL.fullmatch(entry.name) is not None and entry.is_file(follow_symlinks=False)
        status = entry.stat(follow_symlinks=False)
        return (known.inode, known.size, known.changed) != (status.st_ino, status.st_size, status.st_mtime_ns)

    def _add(self, name: str, handle: int, status: os.stat_result) -> None:
        known = self._read.get(name)
        if known is None or known.inode != status.st_ino or status.st_size < known.end:
            known = self._read[name] = _Read(status.st_ino, 0, 0)
        known.size, known.changed = status.st_size, status.st_mtime_ns
        journal = self.tally.journal(name, changed=status.st_mtime_ns / 1e9)
        if known.end:
            os.lseek(handle, known.end, os.SEEK_SET)
        left = min(status.st_size, LARGEST_JOURNAL) - known.end
        for lines in chunks_of_lines(handle, torn=False, most=left):
            self.tally.add_events(journal, lines)
            known.end += len(lines)


def _require_batch(batch: Path) -> None:
    """Refuse a folder that has no batch of this version's. Reading batch.yaml with all doubt takes as long as the journals."""
    if object_below(batch.resolve(), NAME).get("schema") != 1:
        from builder.edges.batch import folder

        folder.read(batch)


@contextlib.contextmanager
def _opened(parent: Path, name: str) -> Iterator[int]:
    """A folder in a folder; a link in its place isn't followed."""
    outer = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        inner = os.open(name, _FLAGS | os.O_DIRECTORY, dir_fd=outer)
    finally:
        os.close(outer)
    try:
        yield inner
    finally:
        os.close(inner)


def chunks_of_lines(handle: int, *, torn: bool = True, most: int | None = None) -> Iterator[bytes]:
    """Whole lines of an open file, about :data:`CHUNK` bytes at a time.

    Args:
        torn: the last line counts without its end, too.
        most: bytes that are read.

    A line that is too long comes in pieces, which are no lines of ours.
    """
    rest, left = b"", most
    while left is None or left > 0:
        chunk = os.read(handle, CHUNK if left is None else min(CHUNK, left))
        if not chunk:
            break
        left = None if left is None else left - len(chunk)
        end = chunk.rfind(b"\n") + 1
        if end:
            yield rest + chunk[:end]
            rest = chunk[end:]
        else:
            rest += chunk
        if len(rest) > LONGEST_LINE:
            yield rest
            rest = b""
    if rest and torn:
        yield rest


def unplanned(batch: Path, line: int) -> ConfigError:
    """A line of the plan that isn't one."""
    return ConfigError(
        "this line is no item of a batch",
        where=f"{batch / ITEMS}:{line}",
        hint=f"plan again: {command('batch plan')} … --out {shell_word(batch)}",
    )
