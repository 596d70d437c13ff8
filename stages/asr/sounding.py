"""How alike two texts sound, by their letters and by Metaphone's code of them (the library jellyfish). Pure.

Metaphone (Lawrence Philips, Computer Language 7(12), 1990) is made for English. Of a text without Latin letters it says nothing,
and the letters alone count.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

FEWEST = 4
"""Letters below which a text is like too many others."""


@dataclass(frozen=True)
class Sounds:
    """A text as it is compared."""

    letters: str
    """Without capitals, accents, spaces and marks."""
    code: str
    """Metaphone's; empty: it has none."""


def letters(text: str) -> str:
    """What two spellings of a text have in common."""
    plain = (c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    return "".join(c for c in plain if c.isalnum())


def sounds(text: str) -> Sounds:
    """A text, made ready to be compared with many."""
    import jellyfish

    own = letters(text)
    # Of the letters without spaces: where a model puts these in a name that it doesn't know is chance.
    return Sounds(own, jellyfish.metaphone(own).replace(" ", "") if own.isascii() else "")


def likeness(one: Sounds, other: Sounds) -> float:
    """0 to 1: the mean of how much of the letters and of the codes is the same (Damerau and Levenshtein's distance)."""
    spelled = _same(one.letters, other.letters)
    return (spelled + _same(one.code, other.code)) / 2 if one.code and other.code else spelled


def at_most(one: Sounds, other: Sounds) -> float:
    """What their likeness can't be more than, by their lengths."""
    spelled = _shorter(one.letters, other.letters)
    return (spelled + _shorter(one.code, other.code)) / 2 if one.code and other.code else spelled


def _shorter(one: str, other: str) -> float:
    return min(len(one), len(other)) / max(len(one), len(other), 1)


def _same(one: str, other: str) -> float:
    import jellyfish

    longer = max(len(one), len(other))
    return 1 - jellyfish.damerau_levenshtein_distance(one, other) / longer if longer else 1.0
