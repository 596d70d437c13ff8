"""What the nodes of a batch have written in its journals, read as a stranger's, and only what is new."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from builder.node.journal import JOURNAL, LONGEST_LINE, ShardRun, Tally
from builder.receiver.jobs.untrusted import names_below, open_below

FOLDER = "results/journal"
"""Of journals, below the batch's folder."""

LARGEST_JOURNAL = 256 << 20
"""Bytes of one journal that are read: a shard of all items, each a line, has fewer."""

CHUNK = 1 << 20
"""Bytes that are read at a time."""


class Journals:
    """The journals of a batch; each byte is read once."""

    def __init__(self, batch: Path, tally: Tally) -> None:
        """
        Args:
            batch: the batch's folder; it may be a link itself.
            tally: gets what the journals say.
        """
        self._batch, self.tally = batch.resolve(), tally
        self.runs: dict[str, ShardRun] = {}
        """Name of a journal -> the run that wrote it."""
        self._read: dict[str, int] = {}

    def update(self) -> None:
        """Read what was written since; a last line without its end is left for the next time."""
        for name in names_below(self._batch, FOLDER):
            if JOURNAL.fullmatch(name):
                run = self.runs.setdefault(name, ShardRun())
                with contextlib.suppress(OSError):  # a link, a FIFO, gone meanwhile
                    self._update(name, run)

    def _update(self, name: str, run: ShardRun) -> None:
        begin = self._read.get(name, 0)
        with open_below(self._batch, f"{FOLDER}/{name}") as source:
            end = min(os.fstat(source.fileno()).st_size, LARGEST_JOURNAL)
            if end <= begin:
                return
            source.seek(begin)
            rest, skipping = b"", False
            while begin < end and (data := source.read(min(CHUNK, end - begin))):
                begin += len(data)
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    if not skipping:
                        self.tally.add(line, run)
                    skipping = False
                if len(rest) > LONGEST_LINE:  # the rest of such a line is passed over, however long it is
                    rest, skipping = b"", True
        self._read[name] = begin - len(rest)
