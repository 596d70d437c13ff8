"""Progress while it goes on.

On a terminal: what is at work stands in live rows at the bottom, and what has ended or is to be known scrolls away above
them. Elsewhere (CI, a pipe, TERM=dumb): one plain line when a thing starts, every ten seconds and when it ends, never
wrapped, so that logs can be searched.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from builder.core.progress import Progress
from builder.core.text import visible
from builder.receiver.display import behind, guard
from builder.ui.lines import masked, say
from builder.ui.rows import amount, row, words

if TYPE_CHECKING:
    from rich.live import Live as Rows

PLAIN_EVERY = 10.0
"""Seconds between two lines about the same thing when there is no terminal."""

DUMB = ("", "dumb", "unknown")
"""Values of TERM whose terminals can't move the cursor."""

PARTS = 6
"""Rows of parts that are shown at once."""


@dataclass
class Told:
    """What was last told of one thing."""

    step: Progress
    began: float
    """When it was first told of (``time.monotonic``)."""
    before: float
    """How much of it was done by then: rates leave out what was there."""
    at: float
    """When it was last told of."""
    said: float = 0.0
    """When the last plain line about it was written."""


class Live:
    """Shows :class:`Progress` reports while its ``with`` block runs; its :meth:`on_progress` is an ``OnProgress``."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self.plain = False
        self.reads_along = False
        """What is recognised is shown as it comes."""
        self._rows: Rows | None = None
        self._told: dict[str, Told] = {}
        self._lock = threading.RLock()

    def __enter__(self) -> Live:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the rows, so that what is printed next stands where they were."""
        with self._lock:
            self._told.clear()
            rows, self._rows = self._rows, None
        if rows is not None:
            rows.stop()

    def on_progress(self, step: Progress) -> None:
        """Take one step forward into account."""
        if self._quiet or (step.heard and not self.reads_along):
            return
        with self._lock:
            if step.heard:
                self._say(step.note)
            elif self._on_terminal():
                self._row(step)
            else:
                self._line(step)

    def _on_terminal(self) -> bool:
        if self._rows is not None:  # rich has put something of its own in the place of standard error
            return True
        return not self.plain and sys.stderr.isatty() and os.environ.get("TERM", "") not in DUMB and _unicode()

    def _say(self, line: str) -> None:
        """A line that stays: above the rows, where there are some."""
        if self._rows is None:
            say(line)
        else:
            self._rows.console.print(visible(masked(line)), markup=False, highlight=False, soft_wrap=True)

    def _note(self, step: Progress) -> Told:
        """Remember what was told."""
        now = time.monotonic()
        told = self._told.setdefault(step.what, Told(step=step, began=now, before=step.done, at=now))
        told.step, told.at = step, now
        return told

    def _line(self, step: Progress) -> None:
        if step.part and not step.note:
            return
        first = step.what not in self._told
        told = self._note(step)
        due = told.at - told.said >= PLAIN_EVERY
        if step.unit == "%":  # of a job whose stages have lines of their own
            if due and step.left is not None and not step.finished:
                told.said = told.at
                say(f"{step.what}: {amount(step)}, {words(step, 0.0)[-1]}")
        elif first or step.finished or step.note or due:
            told.said = told.at
            text = step.note or ", ".join(words(step, told.at - told.began, told.before))
            say(f"{step.what}: {text or 'begins'}")
        if step.finished:
            del self._told[step.what]

    def _row(self, step: Progress) -> None:
        told = self._note(step)
        if step.finished:
            del self._told[step.what]
            took = told.at - told.began
            if not step.part and step.unit != "%":
                self._say(f"{step.what}: {step.note or ', '.join(words(step, took, told.before)) or 'done'}")
        self._start()

    def _start(self) -> None:
        """The rows, begun with the first thing that is at work."""
        if self._rows is None and self._told:
            from rich.console import Console
            from rich.live import Live as Rows

            self._rows = Rows(
                get_renderable=self._shown,
                console=Console(file=behind(sys.stderr)),
                refresh_per_second=8,
                transient=True,
                redirect_stdout=False,
                vertical_overflow="crop",
            )
            self._rows.start()
            guard(visible)  # rich has put something of its own in the place of standard error

    def _shown(self) -> Any:
        """What stands at the bottom now: what is at work, its parts, then whole jobs."""
        from rich.console import Group
        from rich.text import Text

        # Without our lock: rich's thread holds its own here, and who holds ours may be waiting for that one to print a line.
        console = self._rows.console if self._rows is not None else None
        if console is None:
            return Text("")
        told = list(self._told.values())
        parts = [one for one in told if one.step.part]
        shown = [one for one in told if not one.step.part or one in parts[-PARTS:]]
        shown.sort(key=lambda one: one.step.unit in ("%", "jobs"))
        now = time.monotonic()
        lines = [
            row(one.step, width=console.width - 1, seconds=now - one.began, before=one.before, age=now - one.at)
            for one in shown[-max(1, console.height - 2) :]
        ]
        return Group(*(Text(line, no_wrap=True, overflow="crop") for line in lines))


def _unicode() -> bool:
    return (sys.stderr.encoding or "").lower().replace("-", "").startswith("utf")
