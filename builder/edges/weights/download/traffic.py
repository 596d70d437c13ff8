"""What the connections of one fetch share: limits, who is down, who asked for a pause, and whether to stop."""

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
    """How a fetch treats the hosts it asks."""

    patience: float = PATIENCE
    """Seconds without an answer, or without one more byte, until a connection is given up."""
    attempts: int = 5
    """Failures in a row, none of which brought ``least`` bytes, until a file is given up."""
    least: int = 64 << 10
    """Bytes that make another try worthwhile: with a server that sends one byte and falls silent, a file would never end."""
    pause: float = 0.5
    """Seconds before the second try; doubled for each later one, with a jitter of a half either way."""
    longest_wait: float = 300.0
    """The longest Retry-After that is obeyed, in seconds: the window in which the hub counts requests."""
    chunk: int = 8 << 20
    """Bytes of a file's smallest range, and the most that may come twice after a kill."""
    files: int = 8
    """Files at a time; each has one connection to itself."""
    spare: int = 8
    """Additional connections, for large files."""
    per_file: int = 8
    """One file's connections at most."""


class Traffic:
    """What the connections of one fetch share.

    Args:
        note: called with one line about each long wait.
        env: says which hosts may have secrets over plain HTTP.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        note: Callable[[str], None] = lambda _: None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.limits = limits
        self.env = env or {}
        self.files = threading.Semaphore(limits.files)
        self.spare = threading.Semaphore(limits.spare)
        self.stopped = threading.Event()
        self.down: set[str] = set()
        self._up: set[str] = set()
        self._asking: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._until: dict[str, float] = {}
        self._note = note

    def reach(self, address: str, *, named: str = "") -> None:
        """Call :func:`reach` once for each address, whoever asks.

        Raises:
            SourceError: nobody answers there.
        """
        with self._asking[address]:
            if address not in self._up:
                reach(address, self.down, patience=self.limits.patience, named=named, env=self.env)
                self._up.add(address)

    def check_stopped(self) -> None:
        """Raises :class:`Interrupted` when the fetch is being cancelled."""
        if self.stopped.is_set():
            raise Interrupted("interrupted")

    def sleep(self, seconds: float) -> None:
        """Wait, but not when the fetch is being cancelled.

        Raises:
            Interrupted: the fetch is being cancelled.
        """
        self.stopped.wait(seconds)
        self.check_stopped()

    def back_off(self, failures: int) -> None:
        """Wait after the n-th failure in a row: twice as long each time, at most 8 s, not in step with others.

        By hand rather than with stamina: Ctrl-C ends the wait, and a connection that brought bytes begins to count again.
        """
        self.sleep(min(self.limits.pause * 2 ** (failures - 1), 8.0) * random.uniform(0.5, 1.5))

    def asked_to_wait(self, host: str, headers: Mapping[str, str]) -> None:
        """Let nobody ask ``host`` before its Retry-After (seconds or a date) is over.

        Raises:
            SourceError: it asks for more than ``Limits.longest_wait``.
        """
        seconds = retry_after(headers.get("Retry-After", ""))
        if seconds > self.limits.longest_wait:
            raise SourceError(f"{host} is busy, and asks to come back in {seconds:.0f} s", hint="try again then")
        if seconds > 2.0:
            self._note(f"{host} is busy and asks for {seconds:.0f} s of patience")
        self._until[host] = max(self._until.get(host, 0.0), time.monotonic() + seconds)

    def turn(self, host: str) -> None:
        """Wait until ``host`` may be asked.

        Raises:
            Interrupted: the fetch is being cancelled.
        """
        while (left := self._until.get(host, 0.0) - time.monotonic()) > 0:
            self.sleep(left)
        self.check_stopped()
