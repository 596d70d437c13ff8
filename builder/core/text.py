"""Sizes, times and tables as people read them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

HIDDEN = re.compile(
    "[\0-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\udfff\ufeff\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001345f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]"
)
"""Characters that a terminal doesn't show but obeys, or that turn the direction of what follows: Unicode's control and format
characters, line ends and halves of surrogates. Without the joiners U+200C and U+200D, which scripts need between letters."""


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
    return HIDDEN.sub(lambda found: found[0] if found[0] in keep else escape(found[0]), text)


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


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Lines of left-aligned columns, two spaces apart; the same on a terminal and in a pipe."""
    lines = [list(head), *([visible(str(cell), keep="") for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return ["  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines]
