"""What the effects tell the user interface while they work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One step forward of one named thing; ``ui.py`` shows it as a bar or a line.

    ``done`` and ``total`` are in ``unit``: bytes, seconds of audio (``s``), or steps. ``total`` is
    None while it isn't known. ``finished`` closes the bar; ``note`` is one short line to show.
    A ``part`` belongs to another thing that is shown too: its bar goes when it is finished, and it has no lines.
    """

    what: str
    done: float = 0.0
    total: float | None = None
    unit: str = "steps"
    note: str = ""
    finished: bool = False
    part: bool = False


OnProgress = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """Progress that nobody looks at."""
