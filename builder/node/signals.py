"""SIGTERM, SIGINT and SIGHUP while a shard runs: noted, and acted on between two steps of the work."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from builder.node.faults import NodeStopped

PATIENCE = 22.0
"""Seconds from the signal to the end of the program: engines give 30."""

HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Stopping:
    """Whether the shard is asked to end. Nobody is woken: an event can't be set safely by a signal's handler."""

    def __init__(self) -> None:
        self.number = 0
        """The signal's; 0: there was none."""
        self.since = 0.0
        """When it came (``time.monotonic``)."""

    def ask(self, number: int) -> None:
        """Ask for the end; a second time changes nothing."""
        if not self.number:
            self.number, self.since = number, time.monotonic()

    def check(self) -> None:
        """Raises NodeStopped when the shard is asked to end."""
        if self.number:
            raise NodeStopped(self.number)

    @property
    def late(self) -> bool:
        """Whether the time that a signal leaves is used up."""
        return bool(self.number) and time.monotonic() - self.since > PATIENCE


@contextlib.contextmanager
def heard(stopping: Stopping) -> Iterator[None]:
    """Signals in the block are noted; outside of the main thread none come."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(number: int, frame: FrameType | None) -> None:
        stopping.ask(number)

    before = {number: signal.signal(number, note) for number in HEARD}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
