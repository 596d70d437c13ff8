"""The second pass: what is in doubt is translated again, and the text that has less against it stays.

A line is done again together with its neighbours, or by another backend. Each way gets all that is in doubt at once, and nothing
twice, so that it costs at most what the first pass did.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import doubts
from lines import Line

PAUSE = 2.0
"""Seconds between two lines of one speaker that may belong together."""

LONGEST = 20.0
"""Seconds of lines that are translated together."""

MARK = r"[.!?…。！？]+[\"'»”’)\]]*"
ENDED = re.compile(MARK + "$")
SENTENCE = re.compile(rf".+?(?:{MARK}(?=\s|$)|$)", re.DOTALL)

Texts = Callable[[list[str], str], list[str]]
"""Texts and a language -> their translations, as many."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """How lines are done again."""

    name: str
    """The backend."""
    texts: Texts
    """The language is the texts'."""
    context: bool
    """It is the draft's own backend, and would say the same of a line alone: neighbours come with it."""


@dataclass(frozen=True, kw_only=True)
class Cue:
    """Lines that one translation is of, and this translation; None where there is none."""

    said: tuple[Line, ...]
    told: Line | None

    @property
    def source(self) -> str:
        return " ".join(line.text for line in self.said)

    @property
    def text(self) -> str:
        return "" if self.told is None else self.told.text


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """What is translated for cues that are in doubt."""

    over: range
    """The cues that get one translation."""
    text: str
    part: tuple[int, int, int] | None = None
    """Of its sentences the first that is theirs, the first that isn't, and how many there have to be; None: all is theirs."""

    def mine(self, told: str) -> str:
        """What of a translation belongs to the cues; nothing where that can't be told."""
        if self.part is None:
            return told
        first, last, count = self.part
        found = sentences(told)
        return " ".join(found[first:last]) if len(found) == count else ""


@dataclass(kw_only=True)
class Pass:
    """The second pass of one recording's translation into one language."""

    language: Callable[[Line], str]
    ways: Sequence[Way]
    back: Callable[[list[str], str], list[str] | None] | None = None
    """Translates back, into the language that is named; None, or returning None, where nothing does."""
    every: bool = False
    """Translate all lines back, and not only those that something else speaks against."""
    check: Callable[[str, str], dict[str, float]] = lambda said, told: {}
    """Further doubts of a text and its translation, with their weights, such as terms that it doesn't have."""
    doubted: int = 0
    """Translations that were in doubt after the first pass."""
    _changes: dict[tuple[float, float, int | None], dict[str, Any]] = field(default_factory=dict)
    _ratio: float = 1.0

    @property
    def changes(self) -> list[dict[str, Any]]:
        """What was changed, in the order of time (docs/job-format.md)."""
        return sorted(self._changes.values(), key=lambda change: (change["start"], change["end"]))

    def better(self, said: Sequence[Line], told: Sequence[Line]) -> list[Line]:
        """The lines of a translation, some of them replaced.

        Args:
            said: what is translated, in the order of time.
            told: its translation; a line covers one or more of ``said``.
        """
        cues: list[Cue | None] = list(paired(said, told))
        self._ratio = doubts.ratio((cue.source, cue.text) for cue in cues if cue)
        against = dict(enumerate(self._against([cue for cue in cues if cue], deep=self.every)))
        wrong = [k for k, found in against.items() if found]
        self.doubted = len(wrong)
        if not self.every:
            judged = self._against([cue for k in wrong if (cue := cues[k])], deep=True)
            against |= dict(zip(wrong, judged, strict=True))
        for way in self.ways:
            self._do(way, cues, against)
        made = [cue.told for cue in cues if cue and cue.told]
        return sorted(made, key=lambda line: (line.start, line.end))

    def summary(self) -> str:
        """What was in doubt and what became of it, for a person."""
        head = f"{self.doubted} translation{'s' * (self.doubted > 1)} in doubt"
        if not self.changes:
            return f"{head}, and nothing better found"
        by = ", ".join(dict.fromkeys(change["backend"] for change in self.changes))
        return f"{head}, {len(self.changes)} replaced by the second pass ({by})"

    def _do(self, way: Way, cues: list[Cue | None], against: dict[int, dict[str, float]]) -> None:
        """Try one way for all that is in doubt, and keep what is better."""
        wrong = [k for k, found in against.items() if found and cues[k] and cues[k].said]  # type: ignore[union-attr]
        tries = list(attempts(cues, wrong, context=way.context))
        made = []
        for language, group in groupby(tries, key=lambda one: self._spoken(cues, one)):
            mine = list(group)
            made += way.texts([one.text for one in mine], language)
        new = [self._cue(cues, one, text) for one, text in zip(tries, made, strict=True)]
        for one, cue, found in zip(tries, new, self._against(new, deep=True), strict=True):
            before = sum(doubts.total(against[k]) for k in one.over)
            why = list(dict.fromkeys(reason for k in one.over for reason in against[k]))
            draft = " ".join(old.text for k in one.over if (old := cues[k]) and old.told)
            # Rules translate back well what they left as it was.
            literal = why == [doubts.BACK] and doubts.left(cue.source, cue.text) > doubts.left(cue.source, draft)
            if cue.told is None or doubts.total(found) >= before or literal:
                continue
            self._changed(cue.told, draft, why, way.name)
            for k in one.over:
                cues[k], against[k] = None, {}
            cues[one.over[0]], against[one.over[0]] = cue, found

    def _spoken(self, cues: Sequence[Cue | None], one: Attempt) -> str:
        cue = cues[one.over[0]]
        assert cue is not None
        return self.language(cue.said[0])

    def _cue(self, cues: Sequence[Cue | None], one: Attempt, told: str) -> Cue:
        """What cues are, should they get this text."""
        said = tuple(line for k in one.over if (cue := cues[k]) for line in cue.said)
        text = one.mine(told).strip()
        if not text:
            return Cue(said=said, told=None)
        line = Line(start=said[0].start, end=max(each.end for each in said), text=text, channel=said[0].channel)
        return Cue(said=said, told=line.told(text))

    def _changed(self, told: Line, before: str, why: list[str], backend: str) -> None:
        start, end = round(told.start, 3), round(told.end, 3)
        new = {"start": start, "end": end, "before": before, "after": told.text, "why": why, "backend": backend}
        # Where the second way finds something still better, the first's entry stays, with another text.
        self._changes.setdefault((start, end, told.channel), new).update(after=told.text, backend=backend)

    def _against(self, cues: Sequence[Cue], *, deep: bool) -> list[dict[str, float]]:
        """What speaks against each cue's translation.

        Args:
            deep: translate it back, too.
        """
        backs: list[str | None] = [None] * len(cues)
        if deep and self.back is not None:
            which = [k for k, cue in enumerate(cues) if cue.said and cue.told]
            for language, group in groupby(which, key=lambda k: self.language(cues[k].said[0])):
                mine = list(group)
                texts = self.back([cues[k].text for k in mine], language)
                for k, text in zip(mine, texts or [None] * len(mine), strict=True):
                    backs[k] = text
        return [
            doubts.against(cue.source, cue.text, ratio=self._ratio, back=back) | self.check(cue.source, cue.text)
            if cue.said
            else {}
            for cue, back in zip(cues, backs, strict=True)
        ]


def paired(said: Sequence[Line], told: Sequence[Line]) -> list[Cue]:
    """Which lines a translation's lines are of, by their spans: each of both once, in the order of time."""
    found: list[Cue] = []
    for channel in dict.fromkeys(line.channel for line in (*said, *told)):
        mine = sorted((line for line in told if line.channel == channel), key=lambda line: line.start)
        starts = [line.start for line in mine]
        parts: list[list[Line]] = [[] for _ in mine]
        for line in said:
            if line.channel != channel:
                continue
            middle = (line.start + line.end) / 2
            k = bisect_right(starts, middle) - 1
            if k >= 0 and mine[k].end >= middle:
                parts[k].append(line)
            else:
                found.append(Cue(said=(line,), told=None))
        found += [Cue(said=tuple(part), told=line) for part, line in zip(parts, mine, strict=True)]
    return sorted(found, key=lambda cue: ((cue.said or (cue.told,))[0].start, cue.told is None))  # type: ignore[union-attr]


def attempts(cues: Sequence[Cue | None], wrong: Iterable[int], *, context: bool) -> Iterable[Attempt]:
    """What is translated for the cues that are in doubt.

    With ``context`` a line that a sentence goes beyond is joined with its neighbours for good. One of whole sentences is
    translated between its neighbours and cut out by the number of sentences; where nobody is near, nothing is tried.
    """
    ahead = 0
    for k in wrong:
        cue = cues[k]
        if cue is None or k < ahead:
            continue
        if not context:
            yield Attempt(over=range(k, k + 1), text=cue.source)
            continue
        before = cues[k - 1] if k > ahead and _near(cues[k - 1], cue) else None
        after = cues[k + 1] if k + 1 < len(cues) and _near(cue, cues[k + 1]) else None
        low = k - 1 if before and not ENDED.search(before.source) else k
        high = k + 1 if after and not ENDED.search(cue.source) else k
        ahead = high + 1
        if low < high:
            yield Attempt(over=range(low, high + 1), text=_joined(cues[low : high + 1]))
        elif before or after:
            counts = [len(sentences(one.source)) if one else 0 for one in (before, cue, after)]
            part = (counts[0], counts[0] + counts[1], sum(counts))
            yield Attempt(over=range(k, k + 1), text=_joined((before, cue, after)), part=part)


def sentences(text: str) -> list[str]:
    """A text's sentences, by their marks."""
    return [part.strip() for part in SENTENCE.findall(text) if part.strip()]


def _joined(cues: Iterable[Cue | None]) -> str:
    return " ".join(cue.source for cue in cues if cue)


def _near(one: Cue | None, other: Cue | None) -> bool:
    """Whether one speaker goes on in the same language, within what may be translated together."""
    if one is None or other is None or not (one.said and other.said):
        return False
    a, b = one.said[-1], other.said[0]
    same = (a.speaker, a.channel, a.language) == (b.speaker, b.channel, b.language)
    return same and b.start - a.end <= PAUSE and other.said[-1].end - one.said[0].start <= LONGEST
