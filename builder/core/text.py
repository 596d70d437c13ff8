"""Sizes, times and tables as people read them."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence

HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Categories of characters that a terminal doesn't show but obeys, or that turn the direction of what follows."""

JOINERS = "\u200c\u200d"
"""Of these, what scripts need between their letters."""


def escaped(character: str) -> str:
    """``\\x1b``, ``\\u202e``: a character by its number."""
    return (
        character.encode("ascii", "backslashreplace").decode() if ord(character) > 127 else f"\\x{ord(character):02x}"
    )


def visible(text: str, *, keep: str = "\t", escape: Callable[[str], str] = escaped) -> str:
    """Text that can't steer a terminal: control and direction characters are written by their number.

    Args:
        keep: control characters that stay.
        escape: how a character is written.
    """
    if text.isprintable():
        return text
    return "".join(c if c in keep or c in JOINERS or unicodedata.category(c) not in HIDDEN else escape(c) for c in text)


def format_size(count: float) -> str:
    """``145.2 MB``: decimal units, as registries and hubs count."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


def format_time(seconds: float) -> str:
    """``1:02:03``, ``2:03`` or ``4.5 s``."""
    return f"{seconds:.1f} s" if seconds < 60 else format_clock(seconds)


def format_clock(seconds: float) -> str:
    """``1:02:03``, ``2:03`` or ``0:04``: always minutes and seconds, so that a column keeps its width.

    More than a year is an estimate from next to nothing: ``-:--``.
    """
    if not seconds < 365 * 86_400:  # NaN too
        return "-:--"
    whole = max(0, round(seconds))
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Left-aligned columns, two spaces apart; the same on a terminal and in a pipe."""
    lines = [list(head), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)
