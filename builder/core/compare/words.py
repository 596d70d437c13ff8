"""Words of a text, and how two sequences of them differ: edits, errors, agreement. Pure."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Sequence
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

KINDS: dict[str, Kind] = {"equal": "equal", "substitute": "substituted", "insert": "inserted", "delete": "deleted"}
"""By jiwer's names."""


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
    """The fewest edits from one sequence to another (Levenshtein), in order, by jiwer.

    Args:
        left: words without line ends, none of them empty.
        right: the same.
    """
    import jiwer  # not above: the results of run are shown by a module that imports this one

    apart = jiwer.ReduceToListOfListOfWords("\n")  # a word's compatibility form can have a space in it
    [chunks] = jiwer.process_words("\n".join(left), "\n".join(right), apart, apart).alignments
    found: list[Edit] = []
    for chunk in chunks:
        lefts = range(chunk.ref_start_idx, chunk.ref_end_idx)
        rights = range(chunk.hyp_start_idx, chunk.hyp_end_idx)
        for i, j in itertools.zip_longest(lefts, rights):
            found.append(Edit(kind=KINDS[chunk.type], left=i, right=j))
    return tuple(found)
