"""What a person sees: progress, tables, errors. Standard error only; results for scripts are cli.py's.

On a terminal: live bars. Elsewhere (CI, a pipe): one plain line when a thing starts, every ten seconds and when
it ends, never wrapped, so that logs can be searched.
"""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

from builder.core import mask
from builder.core.progress import Progress
from builder.core.text import format_size, format_time
from builder.errors import BakeError

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

PLAIN_EVERY = 10.0
"""Seconds between two lines about the same thing when there is no terminal."""


def masked(text: str) -> str:
    """Without secrets that an error of somebody else's brought along (a header, the index's address with a password)."""
    return mask.masked(text, mask.secrets_of(os.environ))


def say(line: str) -> None:
    """One line on standard error."""
    print(masked(line), file=sys.stderr, flush=True)


def show_error(error: BakeError) -> None:
    """What failed, where, what was expected, what to type next."""
    say(f"error: {error.where}: {error.what}" if error.where else f"error: {error.what}")
    for line in error.detail:
        say(f"  | {line}")
    if error.expected:
        say(f"  expected: {error.expected}")
    if error.hint:
        say(f"  next: {error.hint}")


def error_data(error: BakeError) -> dict[str, Any]:
    """The same for ``--json``."""
    return {
        "error": {
            "code": error.kind,
            "what": masked(error.what),
            "where": error.where and masked(error.where),
            "expected": error.expected and masked(error.expected),
            "hint": error.hint and masked(error.hint),
            "detail": [masked(line) for line in error.detail],
            "exit_code": error.exit_code,
        }
    }


class Live:
    """Shows :class:`Progress` reports while its ``with`` block runs; its :meth:`on_progress` is an ``OnProgress``."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self.plain = False
        self._bars: Bars | None = None
        self._tasks: dict[str, Any] = {}
        self._last: dict[str, float] = {}
        self._began: dict[str, tuple[float, float]] = {}
        """What -> when it was first told of, and how much of it was done by then: rates leave out what was there."""

    def __enter__(self) -> Live:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the bars, so that what is printed next stands below them."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
        self._tasks.clear()

    def on_progress(self, step: Progress) -> None:
        """Take one step forward into account."""
        if self._quiet:
            return
        if sys.stderr.isatty() and not self.plain:
            self._bar(step)
        else:
            self._line(step)

    def _line(self, step: Progress) -> None:
        if step.part and not step.note:
            return
        now = time.monotonic()
        first = step.what not in self._began
        began, before = self._began.setdefault(step.what, (now, step.done))
        if first or step.finished or step.note or now - self._last[step.what] >= PLAIN_EVERY:
            self._last[step.what] = now
            text = f"{step.what}: {step.note}" if step.note else f"{step.what}: {_amount(step, now - began, before)}"
            say(text.rstrip(": "))
        if step.finished:
            del self._began[step.what]

    def _bar(self, step: Progress) -> None:
        if self._bars is None:
            from rich.console import Console
            from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bars

            self._bars = Bars(
                SpinnerColumn(finished_text="✓"),
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[amount]}", markup=False),
                TimeElapsedColumn(),
                console=Console(stderr=True),
            )
            self._bars.start()
        now = time.monotonic()
        if step.part and step.finished and step.what not in self._tasks:
            return  # too small to have had a bar
        began, before = self._began.setdefault(step.what, (now, step.done))
        if step.what not in self._tasks:
            self._tasks[step.what] = self._bars.add_task(step.what, total=step.total, amount="")
        task = self._tasks[step.what]
        amount = step.note or _amount(step, now - began, before)
        self._bars.update(task, total=step.total, completed=step.done, amount=amount)
        if step.finished:
            total = step.total or step.done or 1.0
            self._bars.update(task, total=total, completed=total, amount=amount, visible=not step.part)
            del self._tasks[step.what], self._began[step.what]


def _amount(step: Progress, seconds: float, before: float = 0.0) -> str:
    """``12.5 of 31.2 s, 8.1 ×``, ``70.1 of 145.2 MB, 31.0 MB/s, 2.4 s left``: what a bar says in words.

    Args:
        seconds: since it was first told of; ``before``: what was done by then.
    """
    if step.unit == "bytes":
        done = format_size(step.done) + (f" of {format_size(step.total)}" if step.total else "")
        if step.finished or seconds < 0.5 or step.done <= before:
            return done
        rate = (step.done - before) / seconds
        left = f", {format_time((step.total - step.done) / rate)} left" if step.total else ""
        return f"{done}, {format_size(rate)}/s{left}"
    if step.unit == "s":
        done = f"{step.done:.1f}" + (f" of {step.total:.1f} s" if step.total else " s")
        return f"{done}, {step.done / seconds:.1f} ×" if seconds > 0.2 and step.done else done
    return f"{step.done:.0f} of {step.total:.0f}" if step.total else ""
