"""Words that a glossary's terms take the place of: those that are known for it, and doubtful ones that sound like it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from glossary import Term
from sounding import FEWEST, Sounds, letters, likeness, sounds
from words import Word

ALIKE = 0.6
"""Likeness from which a doubtful word is taken for a term."""

SPELLED, NAMED, LIKE = "spelled like the term", "heard in the term's place", "sounds like the term"
"""Why a term took the place of words."""

WIDEST = 8
"""Words that a term can take the place of."""

MARKS = re.compile(r"^(\W*)(.*?)((?:['’]s)?\W*)$", re.DOTALL)
"""What stands before a text, the text, and what stands behind it, with an English genitive."""


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


@dataclass
class Index:
    """The terms of one language."""

    exact: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Letters -> the term, and why."""
    forms: list[_Form] = field(default_factory=list)
    widest: int = 1

    @staticmethod
    def of(terms: Iterable[Term], language: str | None) -> Index:
        """The terms as they are written where ``language`` is spoken."""
        index = Index()
        for term in terms:
            text = term.said(language)
            index._add(text, text, SPELLED)
            for heard in term.heard:
                index._add(heard, text, NAMED)
            if len(letters(text)) >= FEWEST:
                index.forms.append(_Form(text, sounds(text), len(text.split())))
        return index

    def _add(self, heard: str, text: str, why: str) -> None:
        if key := letters(heard):
            self.exact.setdefault(key, (text, why))
            self.widest = min(max(self.widest, len(heard.split()) + 1), WIDEST)

    def closest(self, heard: str, width: int) -> tuple[str, float]:
        """The term that a text of ``width`` words sounds like most, and how much."""
        mine = sounds(heard)
        if len(mine.letters) < FEWEST:
            return "", 0.0
        able = (form for form in self.forms if abs(form.words - width) <= 1)
        best = max(((likeness(mine, form.sounds), form.text) for form in able), default=(0.0, ""))
        return best[1], best[0]


def corrected(words: Sequence[Word], index: Index, below: float) -> tuple[list[Word], list[Correction]]:
    """The words with terms in their places, and what was changed.

    Args:
        words: of one segment.
        below: probability that words have at most that are taken for a term that sounds like them.
    """
    taken: list[_Found] = []
    for one in sorted(
        _found(words, index, below), key=lambda f: (f.why == LIKE, -f.likeness, f.first - f.after, f.first)
    ):
        if all(one.after <= other.first or other.after <= one.first for other in taken):
            taken.append(one)
    new: list[Word] = []
    changes: list[Correction] = []
    at = 0
    for one in sorted(taken, key=lambda f: f.first):
        old = words[one.first : one.after]
        written = _written(old, one.text)
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


def _found(words: Sequence[Word], index: Index, below: float) -> Iterator[_Found]:
    """All terms that words may stand for; they may overlap."""
    for first in range(len(words)):
        for after in range(first + 1, min(first + index.widest, len(words)) + 1):
            part = words[first:after]
            text = MARKS.sub(r"\2", "".join(w["word"] for w in part))
            doubtful = all(w["probability"] < below for w in part)
            known = index.exact.get(letters(text))
            if known and (doubtful or known[1] == NAMED or _peculiar(known[0])):
                yield _Found(first, after, known[0], known[1], 1.0)
            elif doubtful and not known:
                term, how = index.closest(text, after - first)
                if how >= ALIKE:
                    yield _Found(first, after, term, LIKE, how)


def _peculiar(term: str) -> bool:
    """Whether no other word is spelled like a term, but for capitals: GitHub and Ada Lovelace, not May, Rust and US."""
    plain = term.islower() or term == term.capitalize() or (term.isupper() and len(term) < FEWEST)
    return " " in term or not plain


def _written(old: Sequence[Word], term: str) -> list[Word]:
    """Words of a term in the time of others, with the marks around these."""
    text = "".join(w["word"] for w in old)
    space = text[: len(text) - len(text.lstrip())]
    marks = MARKS.match(text.strip())
    before, behind = (marks[1], marks[3]) if marks else ("", "")
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
