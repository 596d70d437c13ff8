"""What speaks against a line's translation, told by the two texts alone. Pure.

Each doubt has a weight: 1 where it is just enough to have the line done again. Of two translations the one with less against it
is the better. The limits are wide, since a line that is done again for nothing costs time, and one that is fine may become worse.
"""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

LENGTH, REPEATS, UNTRANSLATED, NOTHING, BACK = (
    "length",
    "repeats itself",
    "not translated",
    "nothing was translated",
    "says something else, translated back",
)
"""Reasons, as a result names them."""

LETTERS = 12
"""Letters that a text has at least where its length is compared: "Yes." is four times as long in some languages."""

TIMES = 2.5
"""How many times as long or as short as others a translation may be."""

RATIOS = 8
"""Lines from which on a recording says itself how long its translations are."""

RUNS = 3
"""Times that a group of words stands in a row at most, of which more is taken for a loop."""

GROUP = 12
"""Words of the longest group that is looked for."""

SHARE = 0.5
"""Share of the words of a translation that stand in the source, too, from which on it counts as none."""

WORDS = 3
"""Different words in which it has to be so at least: a name or a greeting is the same in many languages."""

ALIKE = 0.5
"""Character n-grams (chrF, 0 to 1) that a text shares with itself translated back, at least. Of 21 lines of Whisper base's
English of Spanish prompts, translated back by Apertium, wrong ones had 0.38 to 0.51 (where one word was wrong, up to 0.9), good
ones 0.54 and more but for one (0.47). Short ones aren't judged: 0.17 was a good one's."""

LONG = 30
"""Letters from which on a text is compared so."""

WORD = re.compile(r"[^\W\d_]+")


def against(said: str, told: str, *, ratio: float = 1.0, back: str | None = None) -> dict[str, float]:
    """Doubts of a translation, each with its weight; none is 1.

    Args:
        said: what is translated.
        told: the translation.
        ratio: letters of a translation for each of the source (:func:`ratio`).
        back: the translation in the source's language again, where somebody asked for it.
    """
    if not told.strip():
        return {NOTHING: 10.0} if WORD.search(said) else {}
    found = {
        LENGTH: _length(said, told, ratio),
        REPEATS: _loop(told) / max(_loop(said), RUNS),
        UNTRANSLATED: _same(said, told),
        BACK: 0.0 if back is None else _other(said, back),
    }
    return {reason: round(weight, 2) for reason, weight in found.items() if weight > 1}


def ratio(pairs: Iterable[tuple[str, str]]) -> float:
    """How many letters translations of two languages have for each of the source: the middle of what there is.

    Args:
        pairs: texts and their translations. Of a few, no ratio can be told; it is 1 then.
    """
    ratios = [len(told) / len(said) for said, told in pairs if len(said) >= LETTERS and told.strip()]
    return statistics.median(ratios) if len(ratios) >= RATIOS else 1.0


def _length(said: str, told: str, usual: float) -> float:
    """How many times the limit the ratio of two lengths is, by logarithms."""
    if max(len(said), len(told)) < LETTERS:
        return 0.0
    # A few letters more or less say nothing of a short text.
    times = (len(told) + LETTERS / 2) / (len(said) * usual + LETTERS / 2)
    return abs(math.log(times)) / math.log(TIMES)


def _loop(text: str) -> int:
    """How often a group of words stands in a row, the most of all groups; of letters, where no spaces part words."""
    words: Sequence[str] = [word.casefold() for word in WORD.findall(text)]
    if len(words) * 12 < len(text):
        words = [letter for letter in text if letter.isalpha()]
    most = 1 if words else 0
    for size in range(1, min(GROUP, len(words) // 2) + 1):
        same = 0
        for k in range(size, len(words)):
            same = same + 1 if words[k] == words[k - size] else 0
            most = max(most, same // size + 1)
    return most


def left(said: str, told: str) -> int:
    """Words of a translation that stand in the source, too, names aside: what a backend without a word for it leaves."""
    return len(_common(said, told)[0])


def _same(said: str, told: str) -> float:
    """How many times the limit the share of words is that stand in the source as well. Names count for nothing."""
    same, words = _common(said, told)
    return len(same) / len(words) / SHARE if len(set(same)) >= WORDS else 0.0


def _common(said: str, told: str) -> tuple[list[str], list[str]]:
    """The words of a translation that the source has too, and those that count; names don't."""
    theirs = {word.casefold() for word in WORD.findall(said)}
    words = [word for k, word in enumerate(WORD.findall(told)) if (k == 0 or not word[0].isupper())]
    words = [word.casefold() for word in words if len(word) > 1]
    return [word for word in words if word in theirs], words


def _other(said: str, back: str) -> float:
    """How far a text that was translated there and back is from itself, in times of the limit."""
    if len(said) < LONG:
        return 0.0
    return (1 - chrf(said, back)) / (1 - ALIKE)


def chrf(one: str, other: str, *, longest: int = 4) -> float:
    """The share of character n-grams that two texts have in common, 0 to 1; the order of the texts doesn't count.

    As chrF (Popovic 2015) with precision and recall of equal weight, and n-grams up to ``longest`` letters; capitals and marks
    don't count.
    """
    scores = []
    texts = [" ".join(WORD.findall(text.casefold())) for text in (one, other)]
    for size in range(1, longest + 1):
        mine, theirs = (_grams(text, size) for text in texts)
        total = mine.total() + theirs.total()
        if total:
            scores.append(2 * (mine & theirs).total() / total)
    return statistics.fmean(scores) if scores else 1.0


def _grams(text: str, size: int) -> Counter[str]:
    return Counter(text[k : k + size] for k in range(len(text) - size + 1))


def total(found: Mapping[str, float]) -> float:
    """All that speaks against a translation."""
    return sum(found.values())
