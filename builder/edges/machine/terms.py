"""A file with terms that somebody names: a glossary, a cast list."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from builder.core import glossary
from builder.core.glossary import Term
from builder.edges.system import files
from builder.errors import ConfigError, UsageError

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


@dataclass(frozen=True, kw_only=True)
class Found:
    """The terms of a glossary, and where they come from."""

    terms: tuple[Term, ...] = ()
    note: str = ""
    """What a person should know, where nobody asked for them."""


def find(word: str, root: Path) -> Found:
    """What ``--glossary`` means.

    Args:
        word: a file, or :data:`builder.core.glossary.AUTO` or ``NONE``.
        root: the folder of bake.yaml.

    Raises:
        UsageError, ConfigError: as of :func:`read`.
        ConfigError: several lie beside bake.yaml.
    """
    if word == glossary.NONE:
        return Found()
    if word != glossary.AUTO:
        return Found(terms=read(word, where="--glossary"))
    there = [path for suffix in glossary.SUFFIXES if (path := root / f"{glossary.OWN}{suffix}").is_file()]
    if not there:
        return Found()
    names = " and ".join(path.name for path in there)
    if len(there) > 1:
        raise ConfigError(f"{names} lie beside bake.yaml", where=str(root), hint="--glossary FILE says which")
    terms = read(str(there[0]), where="beside bake.yaml:")
    count = f"{len(terms)} term{'' if len(terms) == 1 else 's'}"
    return Found(terms=terms, note=f"{count} of {names} beside bake.yaml: --glossary none leaves them out")
