"""How far a fetch has come: bytes of files, of models and of all, told from many threads, a few times a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from builder.core.progress import OnProgress, Progress
from builder.core.weights.model import FilePin

EVERY = 0.1
"""Seconds between two looks at the same bar."""


class Tally:
    """Adds up what has arrived, and reports it.

    Args:
        sizes: model -> bytes that it lacks.
    """

    def __init__(self, on_progress: OnProgress, sizes: Mapping[str, int]) -> None:
        self._on_progress = on_progress
        self._sizes = sizes
        self._arrived = dict.fromkeys(sizes, 0)
        self._total = sum(sizes.values())
        self._title = next(iter(sizes)) if len(sizes) == 1 else "models"
        self._lock = threading.Lock()
        self._last: dict[str, float] = {}
        self._waited: set[FilePin] = set()

    def say(self, step: Progress) -> None:
        with self._lock:
            self._on_progress(step)

    def note(self, line: str) -> None:
        """One line about a source."""
        self.say(Progress(what="hub", note=line, finished=True))

    def model(self, name: str, done: int) -> None:
        """So many of the bytes that a model lacked are here. Never backwards, whatever is tried again."""
        with self._lock:
            self._arrived[name] = max(self._arrived[name], min(done, self._sizes[name]))
            here = sum(self._arrived.values())
            if self._due(self._title, here == self._total):
                self._on_progress(Progress(what=self._title, done=here, total=self._total, unit="bytes"))

    def file(self, model: str, wanted: FilePin, done: int, *, note: str = "", finished: bool = False) -> None:
        """The same for one file, whatever of it was there before."""
        what = f"{model} {wanted.path}"
        with self._lock:
            if self._due(what, finished or bool(note)):
                self._on_progress(
                    Progress(
                        what=what, done=done, total=wanted.size, unit="bytes", note=note, finished=finished, part=True
                    )
                )

    def waiting(self, model: str, wanted: FilePin) -> None:
        """Another process, or another model, fetches this file. Said once."""
        with self._lock:
            if wanted in self._waited:
                return
            self._waited.add(wanted)
        self.file(model, wanted, 0, note="being fetched already; waiting for it")

    def finished(self) -> None:
        """All is there."""
        self.say(Progress(what=self._title, done=self._total, total=self._total, unit="bytes", finished=True))

    def _due(self, what: str, now: bool) -> bool:
        clock = time.monotonic()
        if now or clock - self._last.get(what, 0.0) >= EVERY:
            self._last[what] = clock
            return True
        return False
