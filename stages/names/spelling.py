"""Whether two spellings may be one name: what is heard the same, and letters that are nearly the same. Pure.

Metaphone (L. Philips, 1990) writes down an English word's consonants as they sound; vowels are compared apart, because names of
two people often differ in nothing else (Maria and Mario, Jane and June).
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import lru_cache

import jellyfish

SHORTEST = 3
"""Letters of a word that is compared at all."""

SHORT = 4
"""Letters up to which the first vowels must sound alike too."""

LEAST = 5
"""Letters from which on a sound may be lacking: Homes for Holmes."""

VOWELS = {"a": "a", "e": "e", "i": "e", "y": "e", "o": "o", "u": "o"}
"""A vowel, and the sound that it is taken for."""


def plain(word: str) -> str:
    """A word's letters without accents and capitals."""
    apart = unicodedata.normalize("NFKD", word.casefold())
    return "".join(c for c in apart if c.isalpha())


@lru_cache(maxsize=20_000)
def sound(word: str) -> str:
    """The code of a plain word's sound; empty where it has no Latin letters."""
    return jellyfish.metaphone(word) if word.isascii() else ""


def close(one: str, other: str) -> str:
    """Why two words may be one name; empty: they aren't close, or are the same.

    Args:
        one, other: with their accents and capitals, which don't count.
    """
    a, b = plain(one), plain(other)
    if a == b or min(len(a), len(b)) < SHORTEST or not sound(a) or not sound(b):
        return ""
    if _ending(a) != _ending(b) or (min(len(a), len(b)) <= SHORT and _vowel(a) != _vowel(b)):
        return ""
    longer, steps = max(len(a), len(b)), jellyfish.damerau_levenshtein_distance(a, b)
    if sound(a) == sound(b) and steps <= max(1, longer // 2):
        return "sounds the same"
    if min(len(a), len(b)) >= LEAST and steps <= longer // 4 and _lacks_one(sound(a), sound(b)):
        return "sounds nearly the same"
    return ""


class Index:
    """Names by how they sound, so that a word is compared with few of them."""

    def __init__(self, names: Iterable[str]) -> None:
        self._by_sound: dict[str, list[str]] = defaultdict(list)
        self._by_less: dict[str, list[str]] = defaultdict(list)
        for name in names:
            code = sound(plain(name))
            self._by_sound[code].append(name)
            for less in _less(code):
                self._by_less[less].append(name)

    def nearest(self, word: str, may: Callable[[str], bool] = lambda name: True) -> tuple[str, str] | None:
        """The name that a word is close to, and why; None: none is, or several are equally close.

        Args:
            may: whether a name counts.
        """
        code = sound(plain(word))
        near = {*self._by_sound.get(code, ()), *self._by_less.get(code, ())}
        near.update(name for less in _less(code) for name in self._by_sound.get(less, ()))
        found = [(steps(word, name), name, why) for name in near if may(name) and (why := close(word, name))]
        found.sort()
        if not found or (len(found) > 1 and found[0][0] == found[1][0] and plain(found[0][1]) != plain(found[1][1])):
            return None
        return found[0][1], found[0][2]


def steps(one: str, other: str) -> int:
    """Letters that are added, taken away, changed or swapped from one word to another."""
    return jellyfish.damerau_levenshtein_distance(plain(one), plain(other))


def _ending(word: str) -> str:
    """The vowel a or o that a name ends in, which tells Maria from Mario and Paul from Paula."""
    last = word.rstrip("h")[-1:]
    return last if last in ("a", "o") else ""


def _vowel(word: str) -> str:
    return next((VOWELS[c] for c in word if c in VOWELS), "")


def _less(code: str) -> set[str]:
    """A code without one of its letters, but the first."""
    return {code[:k] + code[k + 1 :] for k in range(1, len(code))}


def _lacks_one(one: str, other: str) -> bool:
    """Whether one of two codes is the other without one of its letters, but the first."""
    short, long = sorted((one, other), key=len)
    return short in _less(long)
