"""What a run of a shard tells others while it goes on: lines appended to a file of its own in ``results/journal``.

    {"event":"begin","host":"n1","items":40,"pid":7,"shard":3,"t":1764000000.0}
    {"event":"done","key":"4f…","seconds":61.2,"took":9.5}
    {"event":"failed","key":"90…","kind":"recording","reason":"it is not media","stage":"demux"}
    {"event":"alive","t":1764000010.0}
    {"event":"end","code":0,"t":1764000030.0}

In place of the end stands ``begun`` where somebody else starts the stages, who says nothing.
:mod:`builder.core.batch.tally` reads them.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import threading
import time
from pathlib import Path
from typing import Any

from builder.node.faults import of_disk
from builder.node.items import compact
from builder.node.results.folder import WHAT, host_name, sign_of_life

FOLDER = "journal"

JOURNAL = re.compile(r"[0-9]{1,7}-[A-Za-z0-9._-]{1,80}\.jsonl")
"""Names of journals: ``<shard>-<host>-<pid>-<random>.jsonl``."""

LONGEST_LINE = 4000
"""Bytes; a reason has at most 500 characters, of which JSON makes six bytes each."""

EVERY = 10.0
"""Seconds between two signs of life."""


class RunJournal:
    """The journal of one run."""

    def __init__(self, results: Path, shard: int, temporary: Path) -> None:
        """
        Args:
            temporary: the run's folder in that of the results, which lives as long as the run.

        Raises:
            NodeFault: the folder of results can't be written.
        """
        host, pid = host_name(), os.getpid()
        self.path = results / FOLDER / f"{shard}-{host}-{pid}-{secrets.token_hex(4)}.jsonl"
        self.about: dict[str, Any] = {"shard": shard, "host": host, "pid": pid}
        self._temporary = temporary
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._live, name="journal", daemon=True)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise of_disk(error, results, WHAT) from error

    def begin(self, items: int) -> None:
        """The run takes up a shard of so many items; from here on it shows that it lives."""
        self.write("begin", t=now(), items=items, **self.about)
        self._thread.start()

    def end(self, code: int | None) -> None:
        """The run is over; None: somebody else starts the stages, and what follows them has a journal of its own."""
        self._over.set()
        with contextlib.suppress(OSError):  # the exit code says it, too
            if code is None:
                self.write("begun", t=now())
            else:
                self.write("end", t=now(), code=code)
        os.close(self._handle)

    def write(self, event: str, **fields: Any) -> None:
        """Append a line, in one write.

        Raises:
            OSError: the disk is full, or the folder gone.
        """
        data = compact({"event": event, **fields}).encode() + b"\n"

        written = os.write(self._handle, data)
        if written != len(data):  # the rest would stand on a line of its own, and both are passed over
            os.write(self._handle, b"\n")

    def _live(self) -> None:
        while not self._over.wait(EVERY):
            with contextlib.suppress(OSError):
                sign_of_life(self._temporary)
            with contextlib.suppress(OSError):
                self.write("alive", t=now())


def now() -> float:
    """Seconds since 1970."""
    return round(time.time(), 3)
