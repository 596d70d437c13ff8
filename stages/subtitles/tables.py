"""Sentences as rows for a spreadsheet. Pure."""

from __future__ import annotations

import csv
import io

from cues import title
from sentences import Sentence

HEAD = ("number", "start", "end", "speaker", "text")
"""Times in seconds."""

FORMULA = tuple("=+-@＝＋－＠\t\r")
"""A cell that begins with one of these is a formula to a spreadsheet (OWASP, "CSV Injection")."""


def cell(text: str) -> str:
    """Text that no spreadsheet computes: an apostrophe before what would be a formula."""
    return f"'{text}" if text.lstrip().startswith(FORMULA) or text.startswith(FORMULA) else text


def table(sentences: list[Sentence], *, separator: str) -> str:
    """A row for each sentence, as RFC 4180 has it. The byte order mark tells spreadsheets that it is UTF-8."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=separator, lineterminator="\r\n")
    writer.writerow(HEAD)
    for number, said in enumerate(sentences, 1):
        writer.writerow(
            (
                number,
                f"{said.start:.3f}",
                f"{said.end:.3f}",
                cell(title(said.speaker)),
                cell(said.text.replace("\t", " ")),
            )
        )
    return "\ufeff" + out.getvalue()
