"""What the connections of one fetch share: limits, who is down, who asked for a pause, and the end."""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from builder.edges.system.http import PATIENCE, reach, retry_after
from builder.errors import Interrupted, SourceError


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How a fetch behaves towards those it asks."""

    patience: float = PATIENCE
    attempts: int = 5
    """Failures in a row, none of which brought ``least`` bytes, until a file is given up."""
    least: int = 64 << 10
    """Bytes that are worth another try: a server that sends one byte and falls silent would take for ever."""
    pause: float = 0.5
    """Seconds before the second try; doubled for each one after, with a jitter of a half either way."""
    longest_wait: float = 300.0
    """Seconds that a Retry-After is obeyed for: the window in which the hub counts requests."""
    chunk: int = 8 << 20
    """Bytes of a file's smallest range of its own, and the most that may come twice after a kill."""
    files: int = 8
    """Files at once; each has one connection of its own."""
    spare: int = 8
    """More connections, for whatever files are large."""
    per_file: int = 8
    """Connections of one file at most."""


class Traffic:
    """What the connections of one fetch share: their number, who is down, who asked for a pause, and the end.

    Args:
        note: hears one line about a wait that is longer than a moment.
    """

    def __init__(self, limits: Limits, *, note: Callable[[str], None] = lambda _: None) -> None:
        self.limits = limits
        self.files = threading.Semaphore(limits.files)
        self.spare = threading.Semaphore(limits.spare)
        self.stopped = threading.Event()
        self.down: set[str] = set()
        self._up: set[str] = set()
        self._asking: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._until: dict[str, float] = {}
        self._note = note

    def reach(self, address: str) -> None:
        """:func:`reach`, once an address, whoever asks."""
        with self._asking[address]:
            if address not in self._up:
                reach(address, self.down, patience=self.limits.patience)
                self._up.add(address)

    def go_on(self) -> None:
        """Nothing, unless the fetch is to end.

        Raises:
            Interrupted: it is.
        """
        if self.stopped.is_set():
            raise Interrupted("interrupted")

    def sleep(self, seconds: float) -> None:
        """Wait, but not beyond the end of the fetch."""
        self.stopped.wait(seconds)
        self.go_on()

    def back_off(self, failures: int) -> None:
        """Wait after the n-th failure in a row: twice as long each time, at most 8 s, never in step with others."""
        self.sleep(min(self.limits.pause * 2 ** (failures - 1), 8.0) * random.uniform(0.5, 1.5))

    def asked_to_wait(self, host: str, headers: Mapping[str, str]) -> None:
        """Nobody asks ``host`` before its Retry-After (seconds or a date) is over.

        Raises:
            SourceError: it wants more time than anybody would wait.
        """
        seconds = retry_after(headers.get("Retry-After", ""))
        if seconds > self.limits.longest_wait:
            raise SourceError(f"{host} is busy, and asks to come back in {seconds:.0f} s", hint="try again then")
        if seconds > 2.0:
            self._note(f"{host} is busy and asks for {seconds:.0f} s of patience")
        self._until[host] = max(self._until.get(host, 0.0), time.monotonic() + seconds)

    def turn(self, host: str) -> None:
        """Wait until ``host`` may be asked."""
        while (left := self._until.get(host, 0.0) - time.monotonic()) > 0:
            self.sleep(left)
        self.go_on()
