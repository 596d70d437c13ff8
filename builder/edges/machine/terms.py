"""A file with terms that somebody names: a glossary, a cast list."""

from __future__ import annotations

from builder.core import glossary
from builder.core.glossary import Term
from builder.edges.system import files
from builder.errors import UsageError

LARGEST = 4 << 20
"""Bytes of a file."""


def read(path: str, *, where: str) -> tuple[Term, ...]:
    """The terms of a file.

    Args:
        where: what names it: ``--cast``.

    Raises:
        UsageError: there is none, it can't be read, is too large, isn't UTF-8 or has no terms.
        ConfigError: a line of it is wrong.
    """
    place = files.expanded(path)
    data = files.read_file(place, limit=LARGEST, follow=True)
    if data is None:
        raise UsageError("there is no such file", where=f"{where} {path}", expected="a name a line, or a table (.tsv)")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UsageError("the file isn't UTF-8", where=f"{path}:{line}", hint="save it as UTF-8") from error
    terms = glossary.parse(place.name, text)
    if not terms:
        raise UsageError("the file has no terms", where=f"{where} {path}", expected="a name a line")
    return terms
