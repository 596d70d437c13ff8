"""What effects report to the user interface while they work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far one named thing is; ``builder.ui`` shows it as a bar or a line.

    ``done`` and ``total`` are in ``unit``: bytes, seconds of audio (``s``), percent (``%``), jobs, or steps. ``total`` is
    None while it isn't known. ``finished`` closes the bar; ``note`` is a short line to show.
    A ``part`` belongs to another thing that is shown too: it has no lines, and its bar disappears at the end.
    """

    what: str
    done: float = 0.0
    total: float | None = None
    unit: str = "steps"
    note: str = ""
    finished: bool = False
    part: bool = False
    source: str = ""
    """Where bytes come from: a host, a folder."""
    left: float | None = None
    """Seconds that the whole job will probably take from now on; None while nobody can tell."""
    heard: bool = False
    """``note`` is what somebody says in a recording: shown to those who want to read along (``run --live``)."""


OnProgress = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """Shows nothing."""
