"""Words that a glossary's terms take the place of: those that are known for it, and doubtful ones that sound like it. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from glossary import Term
from sounding import FEWEST, Sounds, at_most, letters, likeness, sounds
from words import Word

ALIKE, ALIKE_OF_MANY, FEW = 0.6, 0.7, 100
"""Likeness from which doubtful words are taken for a term, of up to so many terms; and of more, where chance finds one sooner."""

ALIKE_SMALL, ALIKE_SMALL_WORDS = 0.8, 0.7
"""The same for one word in small letters, and for several, where the term has a capital: models write names with one."""

NEAR = 0.45
"""Likeness from which the model is told of a term and listens again."""

SPELLED, NAMED, LIKE = "spelled like the term", "heard in the term's place", "sounds like the term"
LEARNT = "taken for the term before"
"""Why a term took the place of words."""

WIDEST = 8
"""Words that a term can take the place of."""

GENITIVE = re.compile("['’]s$")
"""Of English."""

MANY = 500
"""Terms and names in them beyond which a text is compared with those that begin with the same sound."""

PART = 5
"""Letters of a word in a name, such as a family name, from which it stands for itself."""


@dataclass(frozen=True, kw_only=True)
class Correction:
    """A term in the place of words."""

    start: float
    end: float
    before: str
    after: str
    why: str
    likeness: float
    probability: float
    """The least of the words'."""

    def data(self) -> dict[str, Any]:
        """As a result says it."""
        return {
            "start": self.start,
            "end": self.end,
            "before": self.before,
            "after": self.after,
            "why": self.why,
            "probability": round(self.probability, 3),
            "likeness": round(self.likeness, 3),
        }


@dataclass(frozen=True)
class _Form:
    """A term as it is looked for."""

    text: str
    sounds: Sounds
    words: int


@dataclass(frozen=True)
class _Found:
    """A term for the words from ``first`` up to ``after``."""

    first: int
    after: int
    text: str
    why: str
    likeness: float
    genitive: bool = False
    """The words' ``'s`` isn't the term's, and stays."""


@dataclass
class Index:
    """The terms of one language."""

    exact: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Letters -> the term, and why."""
    forms: list[_Form] = field(default_factory=list)
    widest: int = 1
    starts: dict[str, list[_Form]] = field(default_factory=dict)
    """How forms begin -> these forms."""

    @staticmethod
    def of(terms: Iterable[Term], language: str | None) -> Index:
        """The terms as they are written where ``language`` is spoken."""
        index = Index()
        for term in terms:
            text = term.said(language)
            for heard in term.heard:
                index._add(heard, text, NAMED)
            for heard in term.doubtful:
                index._add(heard, text, LEARNT)
            names = [word for word in text.split() if word[:1].isupper() and len(letters(word)) >= PART]
            for form in dict.fromkeys((text, *names)):
                index._add(form, form, SPELLED)
                if len(letters(form)) >= FEWEST:
                    index.forms.append(_Form(form, sounds(form), len(form.split())))
        for one in index.forms:
            index.starts.setdefault(_start(one.sounds), []).append(one)
        return index

    def _add(self, heard: str, text: str, why: str) -> None:
        if key := letters(heard):
            self.exact.setdefault(key, (text, why))
            self.widest = min(max(self.widest, len(heard.split()) + 1), WIDEST)

    def closest(self, heard: str, width: int, least: float) -> tuple[str, float]:
        """The term that a text of ``width`` words sounds like most, and how much: ``least`` or more, else nothing."""
        mine = sounds(heard)
        best = "", 0.0
        if len(mine.letters) < FEWEST:
            return best
        for form in self.forms if len(self.forms) <= MANY else self.starts.get(_start(mine), ()):
            if abs(form.words - width) <= 1 and at_most(mine, form.sounds) >= max(least, best[1]):
                how = likeness(mine, form.sounds)
                if how >= least and (how, form.text) > (best[1], best[0]):
                    best = form.text, how
        return best


def _start(sounds: Sounds) -> str:
    return (sounds.code or sounds.letters)[:1]


def corrected(words: Sequence[Word], index: Index, below: float) -> tuple[list[Word], list[Correction]]:
    """The words with terms in their places, and what was changed.

    Args:
        words: of one segment.
        below: probability that words have at most that are taken for a term that sounds like them.
    """
    taken: list[_Found] = []
    for one in sorted(_found(words, index, below), key=lambda f: (-f.likeness, f.first - f.after, f.first)):
        if all(one.after <= other.first or other.after <= one.first for other in taken):
            taken.append(one)
    new: list[Word] = []
    changes: list[Correction] = []
    at = 0
    for one in sorted(taken, key=lambda f: f.first):
        old = words[one.first : one.after]
        written = _written(old, one)
        new += words[at : one.first]
        at = one.after
        before, after = "".join(w["word"] for w in old).strip(), "".join(w["word"] for w in written).strip()
        new += old if before == after else written
        if before != after:
            changes.append(
                Correction(
                    start=old[0]["start"],
                    end=old[-1]["end"],
                    before=before,
                    after=after,
                    why=one.why,
                    likeness=one.likeness,
                    probability=min(w["probability"] for w in old),
                )
            )
    return [*new, *words[at:]], changes


def near(words: Sequence[Word], index: Index, below: float) -> list[str]:
    """Terms that doubtful words may be, the likeliest first."""
    best: dict[str, float] = {}
    for first in range(len(words)):
        for after in range(first + 1, min(first + index.widest, len(words)) + 1):
            part = words[first:after]
            if all(w["probability"] < below for w in part):
                term, how = index.closest(framed("".join(w["word"] for w in part))[1], after - first, NEAR)
                if how >= NEAR:
                    best[term] = max(how, best.get(term, 0.0))
    return sorted(best, key=lambda term: (-best[term], term))


def _found(words: Sequence[Word], index: Index, below: float) -> Iterator[_Found]:
    """All terms that words may stand for; they may overlap."""
    for first in range(len(words)):
        for after in range(first + 1, min(first + index.widest, len(words)) + 1):
            part = words[first:after]
            found = _best(
                "".join(w["word"] for w in part), index, len(part), all(w["probability"] < below for w in part)
            )
            if found:
                yield replace(found, first=first, after=after)


def _best(text: str, index: Index, width: int, doubtful: bool) -> _Found | None:
    """The term for a text: with what may be a genitive as a part of it, and without."""
    whole = framed(text)[1]
    found = []
    for genitive in (True, False):
        heard = GENITIVE.sub("", whole) if genitive else whole
        if genitive and heard == whole:
            continue
        known = index.exact.get(letters(heard))
        if known and (doubtful or known[1] == NAMED or (known[1] == SPELLED and _peculiar(known[0]))):
            found.append(_Found(0, 0, known[0], known[1], 1.0, genitive))
        elif doubtful:
            term, how = index.closest(heard, width, ALIKE if len(index.forms) <= FEW else ALIKE_OF_MANY)
            small = heard.islower() and not term.islower()
            if term and (not small or how >= (ALIKE_SMALL if width == 1 else ALIKE_SMALL_WORDS)):
                found.append(_Found(0, 0, term, LIKE, how, genitive))
    return max(found, key=lambda f: (f.likeness, f.genitive), default=None)


def _peculiar(term: str) -> bool:
    """Whether no other word is spelled like a term, but for capitals: GitHub and Ada Lovelace, not May, Rust and US."""
    plain = term.islower() or term == term.capitalize() or (term.isupper() and len(term) < FEWEST)
    return " " in term or not plain


def framed(text: str) -> tuple[str, str, str]:
    """The marks before a text, the text itself, and the marks behind it; spaces around all belong to nobody."""
    text = text.strip()
    inner = [k for k, c in enumerate(text) if unicodedata.category(c)[0] not in "PSZC"]
    first, after = (inner[0], inner[-1] + 1) if inner else (len(text), len(text))
    return text[:first], text[first:after], text[after:]


def _written(old: Sequence[Word], found: _Found) -> list[Word]:
    """Words of a term in the time of others, with the marks around these."""
    text = "".join(w["word"] for w in old)
    space = text[: len(text) - len(text.lstrip())]
    before, whole, behind = framed(text)
    genitive = GENITIVE.search(whole) if found.genitive else None
    term = found.text + (genitive[0] if genitive else "")
    parts = f"{before}{term}{behind}".split()
    sure = round(sum(w["probability"] for w in old) / len(old), 3)
    same = {name: value for name, value in old[0].items() if name not in ("word", "start", "end", "probability")}
    if len(parts) == len(old):
        spans = [(w["start"], w["end"], w["probability"]) for w in old]
    else:
        spans = [(*span, sure) for span in _shared(old[0]["start"], old[-1]["end"], [len(p) for p in parts])]
    return [
        same | {"word": (space if k == 0 else " ") + part, "start": start, "end": end, "probability": chance}
        for k, (part, (start, end, chance)) in enumerate(zip(parts, spans, strict=True))
    ]


def _shared(start: float, end: float, shares: Sequence[int]) -> Iterator[tuple[float, float]]:
    """A time in parts of such sizes."""
    at, total = 0, sum(shares)
    for share in shares:
        yield round(start + (end - start) * at / total, 3), round(start + (end - start) * (at + share) / total, 3)
        at += share
