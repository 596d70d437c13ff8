"""How far a fetch has come: bytes of each file, each model and all. Many threads add up; a few times a second it is shown."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from builder.core.progress import OnProgress, Progress
from builder.core.weights.model import FilePin

EVERY = 0.1
"""Seconds between two updates of the same bar."""


class BytesTally:
    """Adds up what has arrived, and shows it.

    Args:
        sizes: bytes that each model lacks, by its id.
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
        self._sources: dict[str, str] = {}
        """Where each model that is being fetched comes from."""

    def show(self, step: Progress) -> None:
        """Show a step that is not about bytes."""
        with self._lock:
            self._on_progress(step)

    def note(self, line: str) -> None:
        """Show one line about a source."""
        self.show(Progress(what="hub", note=line, finished=True))

    def source(self, name: str, source: str) -> None:
        """A model is being fetched from there now; empty when it is here."""
        with self._lock:
            self._sources[name] = source

    def model(self, name: str, done: int) -> None:
        """``done`` of the bytes that a model lacked have arrived. Never goes backwards, whatever is tried again."""
        with self._lock:
            self._arrived[name] = max(self._arrived[name], min(done, self._sizes[name]))
            arrived = sum(self._arrived.values())
            if self._due(self._title, arrived == self._total):
                source = ", ".join(dict.fromkeys(filter(None, self._sources.values())))
                self._on_progress(
                    Progress(what=self._title, done=arrived, total=self._total, unit="bytes", source=source)
                )

    def file(self, model: str, file: FilePin, done: int, *, note: str = "", finished: bool = False) -> None:
        """``done`` of one file's bytes are here, with those from earlier runs."""
        what = f"{model} {file.path}"
        with self._lock:
            if self._due(what, finished or bool(note)):
                self._on_progress(
                    Progress(
                        what=what, done=done, total=file.size, unit="bytes", note=note, finished=finished, part=True
                    )
                )

    def waiting(self, model: str, file: FilePin) -> None:
        """Show, once, that another process or another model fetches this file."""
        with self._lock:
            if file in self._waited:
                return
            self._waited.add(file)
        self.file(model, file, 0, note="being fetched already; waiting for it")

    def finished(self) -> None:
        """Everything has arrived."""
        self.show(Progress(what=self._title, done=self._total, total=self._total, unit="bytes", finished=True))

    def _due(self, what: str, now: bool) -> bool:
        clock = time.monotonic()
        if now or clock - self._last.get(what, 0.0) >= EVERY:
            self._last[what] = clock
            return True
        return False
