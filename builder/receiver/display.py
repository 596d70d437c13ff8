"""What the loader tells a person: lines on standard error, and below them what is going on at the moment."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterable
from typing import Any, Callable, TextIO

EVERY = 10.0
"""Seconds between two lines of progress where nothing can be written over: a log, a pipe, TERM=dumb."""

REDRAWN = 0.1
"""Seconds between two of them on a terminal, where the next takes the last one's place."""


class VisibleStream:
    """A text stream in which everything can be seen: what would steer a terminal is written by its number.

    It stands before standard output and standard error, for what comes from libraries: usage errors that repeat what was
    typed, warnings, tracebacks.
    """

    def __init__(self, stream: TextIO, show: Callable[[str], str]) -> None:
        self.stream, self.show = stream, show

    def write(self, text: str) -> int:
        """Write the text, each of its lines shown; returns its length, as it was given."""
        self.stream.write("\n".join(map(self.show, text.split("\n"))))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Each as :meth:`write`."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def guard(show: Callable[[str], str] | None = None) -> None:
    """Put one before this process's standard output and standard error; twice is once.

    Args:
        show: what makes a line safe; :func:`shown` without it.
    """
    for name in ("stdout", "stderr"):
        if not isinstance(stream := getattr(sys, name), VisibleStream):
            setattr(sys, name, VisibleStream(stream, show or shown))


def behind(stream: TextIO) -> TextIO:
    """The stream itself, for what this program does to a terminal: rows of progress, a cleared screen."""
    return stream.stream if isinstance(stream, VisibleStream) else stream


class Display:
    """Standard error, with at most one line that the next one replaces."""

    def __init__(self) -> None:
        self.live = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self.said, self.drawn = time.monotonic(), False

    def line(self, text: str) -> None:
        """A line that stays: no name in it makes another."""
        self._clear()
        sys.stderr.write(f"{shown(text)}\n")
        sys.stderr.flush()

    def status(self, text: str) -> None:
        """What is going on now; left out when the last time was just before."""
        if time.monotonic() - self.said < (REDRAWN if self.live else EVERY):
            return
        self.said = time.monotonic()
        if not self.live:
            self.line(text)
            return
        self._clear()
        sys.stderr.write(shown(text)[: shutil.get_terminal_size().columns - 1])
        sys.stderr.flush()
        self.drawn = True

    def _clear(self) -> None:
        if self.drawn:
            behind(sys.stderr).write("\r\x1b[K")
            self.drawn = False


DISPLAY = Display()


def say(text: str) -> None:
    """A line for the person who runs the loader."""
    DISPLAY.line(text)


class Percent:
    """Shows how much of ``total`` bytes is done, and how fast it goes."""

    def __init__(self, total: int, what: str) -> None:
        self.total, self.what, self.done, self.began = total, what, 0, time.monotonic()

    def __call__(self, size: int) -> None:
        self.done += size
        rate = self.done / max(time.monotonic() - self.began, 0.001)
        DISPLAY.status(
            f"  {self.what}: {self.done / 1e6:.0f} of {self.total / 1e6:.0f} MB"
            f" ({100 * self.done // max(self.total, 1)} %), {rate / 1e6:.0f} MB/s"
        )


def shown(text: str) -> str:
    """Any text on one line, with what would steer a terminal made visible: a recording's name, what a container wrote."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def clock(seconds: float) -> str:
    """``1:05``, ``1:02:03``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
