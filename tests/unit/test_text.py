"""Sizes, times and tables at their edges."""

from __future__ import annotations

import sys
import unicodedata

import pytest

from builder.core.text import format_size, format_time, table, visible


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (999, "999 B"),
        (1000, "1.0 kB"),
        (-999, "-999 B"),
        (-1000, "-1.0 kB"),
        (999_999, "1000.0 kB"),
        (1_000_000, "1.0 MB"),
        (1_000_000_000, "1.0 GB"),
        (2_500_000_000_000, "2500.0 GB"),
    ],
)
def test_a_size_has_the_largest_unit_below_it(count: float, text: str) -> None:
    """Decimal, and negative for what gets smaller."""
    assert format_size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (59.9, "59.9 s"),
        (60, "1:00"),
        (61.4, "1:01"),
        (3599, "59:59"),
        (3600, "1:00:00"),
        (3661, "1:01:01"),
    ],
)
def test_a_time_has_hours_when_there_are_some(seconds: float, text: str) -> None:
    assert format_time(seconds) == text


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    """Two spaces apart, and no blanks at the end of a line."""
    rows = [["a", 1, ""], ["longer", 22, "x"]]
    assert table(["NAME", "N", "LAST"], rows) == ["NAME    N   LAST", "a       1", "longer  22  x"]


def test_a_table_without_rows_is_its_head() -> None:
    assert table(["A", "BB"], []) == ["A  BB"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 漢字 کتاب\u200cها", "plain é 漢字 کتاب\u200cها"),
        ("\x1b[31m\x07", "\\x1b[31m\\x07"),
        ("\x9b2J", "\\x9b2J"),
        ("a\u202eb\u2066", "a\\u202eb\\u2066"),
        ("line\u2028break", "line\\u2028break"),
        ("\U000e0041", "\\U000e0041"),
        ("\udcff", "\\udcff"),
        ("tab\tline\n", "tab\tline\\x0a"),
    ],
)
def test_what_steers_a_terminal_is_written_by_its_number(text: str, shown: str) -> None:
    """Controls of both sets, directions, tags, bytes that are no text; joiners of scripts stay."""
    assert visible(text) == shown


def test_every_control_and_format_character_is_one_of_them() -> None:
    """As this Python's Unicode has them; what later ones add to those blocks, too."""
    every = [chr(code) for code in range(sys.maxunicode + 1)]
    hidden = {c for c in every if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")} - set("\t\u200c\u200d")
    written: list[str] = []
    visible("".join(every), escape=lambda c: written.append(c) or "")  # type: ignore[func-returns-value]
    assert set(written) >= hidden
    assert [c for c in written if unicodedata.category(c)[0] not in "CZ" and ord(c) < 0x13000] == []


def test_a_cell_is_one_line() -> None:
    """And the columns are as wide as what is shown."""
    assert table(["A", "B"], [["x\ny", "1"], ["z", "\u2028"]]) == ["A       B", "x\\x0ay  1", "z       \\u2028"]
