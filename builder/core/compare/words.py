"""Words of a text, and how two sequences of them differ: edits, errors, agreement. Pure."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

# fmt: off
SMALL = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)
# fmt: on
"""English numbers: one model writes 20, another twenty."""

ALONE = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Scripts without spaces (Thai, Lao, Burmese, Khmer, kana, Han): each character counts as a word."""

FEW = 4 << 20
"""Bits of a table of differences that is kept whole; larger ones are divided."""


@dataclass(frozen=True, kw_only=True)
class SpokenWord:
    """One word of a text."""

    key: str
    """What is compared: without case and punctuation."""
    shown: str
    """As it is written, with what stands around it and a space after the text's last word: together they are the text."""
    start: float | None = None
    """Seconds, where they are known."""


def words_of(text: str, language: str | None = None, *, start: float | None = None) -> tuple[SpokenWord, ...]:
    """The words of a text. Apostrophes inside a word stay; marks of vowels belong to their letters.

    Args:
        language: of the text; English numbers up to twenty are compared as words.
        start: seconds at which it is said.
    """
    text = unicodedata.normalize("NFC", text).strip()
    marks = "".join(map(re.escape, sorted({c for c in text if unicodedata.category(c)[0] == "M"})))
    letter = rf"[^\W_{ALONE}]" + (f"[{marks}]*" if marks else "")
    single = rf"[{ALONE}]" + (f"[{marks}]*" if marks else "")
    found = list(re.finditer(rf"(?:{letter})+(?:['’](?:{letter})+)*|{single}", text))
    small = {str(n): word for n, word in enumerate(SMALL)} if language == "en" else {}
    if found and not re.match(single, found[-1][0]):
        text += " "  # before the next text
    cuts = [0, *(match.start() for match in found[1:]), len(text)]
    words = []
    for match, (begin, end) in zip(found, itertools.pairwise(cuts), strict=False):
        key = unicodedata.normalize("NFKC", match[0].replace("’", "'")).casefold()
        words.append(SpokenWord(key=small.get(key, key), shown=text[begin:end], start=start))
    return tuple(words)


Kind = Literal["equal", "substituted", "inserted", "deleted"]
"""What became of a word: as it was, another one, one more, or left out."""


@dataclass(frozen=True, kw_only=True)
class Edit:
    """A step from one sequence to another."""

    kind: Kind
    left: int | None
    """Index in the first sequence; None: the word is in the second alone."""
    right: int | None


@dataclass(frozen=True, kw_only=True)
class WordErrors:
    """Edits from what is true to what was heard, counted."""

    substituted: int = 0
    inserted: int = 0
    deleted: int = 0
    total: int = 0
    """True words."""

    def __add__(self, other: WordErrors) -> WordErrors:
        return WordErrors(
            substituted=self.substituted + other.substituted,
            inserted=self.inserted + other.inserted,
            deleted=self.deleted + other.deleted,
            total=self.total + other.total,
        )

    @property
    def rate(self) -> float | None:
        """The word error rate, which can be above 1; None without a true word."""
        return (self.substituted + self.inserted + self.deleted) / self.total if self.total else None


def errors_of(edits: Sequence[Edit]) -> WordErrors:
    """How many edits there are of each kind, and how many true words."""
    kinds = [edit.kind for edit in edits]
    return WordErrors(
        substituted=kinds.count("substituted"),
        inserted=kinds.count("inserted"),
        deleted=kinds.count("deleted"),
        total=len(kinds) - kinds.count("inserted"),
    )


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How many words two texts share, in the same order."""

    shared: int = 0
    words: int = 0
    """Of both together."""

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(shared=self.shared + other.shared, words=self.words + other.words)

    @property
    def rate(self) -> float | None:
        """Twice the shared words by all words (Dice's coefficient): 0 to 1; None where neither has a word."""
        return 2 * self.shared / self.words if self.words else None


def agreement_of(edits: Sequence[Edit]) -> Agreement:
    """The agreement of two sequences, which is the same both ways."""
    equal = sum(edit.kind == "equal" for edit in edits)
    both = sum((edit.left is not None) + (edit.right is not None) for edit in edits)
    return Agreement(shared=equal, words=both)


def edits_between(left: Sequence[str], right: Sequence[str]) -> tuple[Edit, ...]:
    """The fewest edits from one sequence to another (Levenshtein), in order.

    Bit-parallel (Myers 1999, Hyyrö 2003): a column of the table of distances is an integer with a bit for each word. Long
    sequences are divided where the way must pass (Hirschberg 1975), so that memory stays linear: three hours of speech take
    a few seconds.
    """
    found: list[Edit] = []
    for a, b, i, j in _divided(left, right):
        found += _aligned(a, b, i, j)
    return tuple(found)


Part = tuple[Sequence[str], Sequence[str], int, int]
"""Two sequences, and where they begin in the whole ones."""


def _divided(left: Sequence[str], right: Sequence[str]) -> Iterator[Part]:
    """Parts of which the tables are small, in order; the fewest edits of the parts are those of the whole."""
    waiting: list[Part] = [(left, right, 0, 0)]
    while waiting:
        a, b, i, j = waiting.pop()
        if len(a) * len(b) <= FEW or len(b) < 2:
            yield a, b, i, j
            continue
        half = len(b) // 2
        ahead = _distances(a, b[:half])
        behind = _distances(a[::-1], b[half:][::-1])
        cut = min(range(len(a) + 1), key=lambda k: ahead[k] + behind[len(a) - k])
        waiting += [(a[cut:], b[half:], i + cut, j + half), (a[:cut], b[:half], i, j)]


def _columns(left: Sequence[str], right: Sequence[str]) -> Iterator[tuple[int, int]]:
    """After each word of ``right``: bits where the distance goes up, and down, from one word of ``left`` to the next."""
    places: dict[str, int] = {}
    for k, word in enumerate(left):
        places[word] = places.get(word, 0) | 1 << k
    every = (1 << len(left)) - 1
    up, down = every, 0
    for word in right:
        equal = places.get(word, 0)
        zero = (((equal & up) + up) ^ up) | equal | down
        rise, fall = down | (every & ~(zero | up)), up & zero
        rise = rise << 1 | 1
        fall <<= 1
        up, down = (fall | (every & ~(zero | rise))) & every, rise & zero & every
        yield up, down


def _distances(left: Sequence[str], right: Sequence[str]) -> list[int]:
    """The distance of ``right`` from each beginning of ``left``, the empty one first."""
    up, down = (1 << len(left)) - 1, 0
    for up, down in _columns(left, right):  # noqa: B007 - the last one is kept
        pass
    ups, downs = (f"{bits:0{len(left)}b}"[::-1] for bits in (up, down))
    steps = (int(a) - int(b) for a, b in zip(ups, downs, strict=True)) if left else ()
    return list(itertools.accumulate(steps, initial=len(right)))


def _aligned(left: Sequence[str], right: Sequence[str], i0: int, j0: int) -> list[Edit]:
    """The edits of a small part, traced back through its whole table."""
    columns = [((1 << len(left)) - 1, 0), *_columns(left, right)]
    found: list[Edit] = []
    i, j = len(left), len(right)
    while i or j:
        up, _ = columns[j]
        if i and up >> (i - 1) & 1:
            i -= 1
            found.append(Edit(kind="deleted", left=i0 + i, right=None))
        elif j and (not i or columns[j - 1][1] >> (i - 1) & 1):
            j -= 1
            found.append(Edit(kind="inserted", left=None, right=j0 + j))
        else:
            i, j = i - 1, j - 1
            kind: Kind = "equal" if left[i] == right[j] else "substituted"
            found.append(Edit(kind=kind, left=i0 + i, right=j0 + j))
    return found[::-1]
