"""One thing's progress in words, and as a row of a terminal. Pure."""

from __future__ import annotations

import unicodedata

from builder.core.progress import Progress
from builder.core.text import format_clock, format_size, visible

SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"

BAR = 16
"""Columns of a bar, where there is room."""


def amount(step: Progress) -> str:
    """How much is done: ``12:03 of 31:12``, ``70.1 MB of 145.2 MB``, ``43 %``, ``2 of 5``; empty when nobody can tell."""
    if step.unit == "%":
        return f"{step.done:.0f} %"
    if step.unit == "bytes":
        return format_size(step.done) + (f" of {format_size(step.total)}" if step.total else "")
    if step.unit == "s":
        return f"{format_clock(step.done)} of {format_clock(step.total)}" if step.total else ""
    if step.unit == "jobs":
        return f"{step.done:.0f} of {step.total or 0:.0f} jobs done"
    return f"{step.done:.0f} of {step.total:.0f}" if step.total else ""


def words(step: Progress, seconds: float, before: float = 0.0, *, age: float = 0.0) -> list[str]:
    """The amount, the rate, the time left, the source: what of them is known.

    Args:
        seconds: since it was first told of; ``before``: what was done by then.
        age: seconds since it was last told of, by which the time left is shorter now.
    """
    rate = (step.done - before) / seconds if seconds >= 0.5 and step.done > before else 0.0
    left = step.left
    said = [amount(step)]
    if step.unit == "bytes" and rate and not step.finished:
        said.append(f"{format_size(rate)}/s")
        left = (step.total - step.done) / rate if step.total else None
    if step.unit == "s" and rate:
        said.append(f"{rate:.1f} ×")
    if left is not None and not step.finished:
        said.append(f"{format_clock(left - age)} left")
    if step.source and not step.finished:
        said.append(f"from {visible(step.source)}")
    return [word for word in said if word]


def row(step: Progress, *, width: int, seconds: float, before: float = 0.0, age: float = 0.0) -> str:
    """A row of a terminal, never wider than it: spinner, name, bar, and as many words as there is room for.

    Args:
        width: columns of the terminal.
        seconds, before, age: as in :func:`words`.
    """
    name = visible(step.what)
    wide = max(8, min(28, width // 3))
    known = bool(step.total) and step.unit != "jobs"
    said = [visible(step.note)] if step.note else words(step, seconds, before, age=age)
    if not step.note and not known and step.unit != "jobs":
        said.append(format_clock(seconds))
    begin = f"{SPINNER[int(seconds * 8) % len(SPINNER)]} {fitted(name, wide)} "
    bar = ""
    if known and step.total:
        length = BAR if width >= 70 else 8 if width >= 44 else 0
        full = round(length * min(1.0, step.done / step.total))
        bar = "━" * full + "─" * (length - full) + (" " if length else "")
    room = width - cells(begin) - cells(bar)
    while len(said) > 1 and cells(", ".join(said)) > room:
        # The amount and the time left go last.
        said.pop(next((k for k in range(len(said) - 1, 0, -1) if not said[k].endswith(" left")), len(said) - 1))
    return fitted(f"{begin}{bar}{', '.join(said)}", width).rstrip()


def fitted(text: str, width: int) -> str:
    """Text in exactly so many columns: cut with an ellipsis, or filled with blanks."""
    if cells(text) <= width:
        return text + " " * (width - cells(text))
    kept = ""
    for character in text:
        if cells(kept) + cells(character) > width - 1:
            break
        kept += character
    return f"{kept}…" + " " * (width - 1 - cells(kept))


def cells(text: str) -> int:
    """Columns that a text takes: two for wide characters, none for marks that combine."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
