"""What a person changed in a finished transcript: the names of speakers, and words (docs/job-format.md).

Words that stayed keep their times, the others get times between them.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from itertools import accumulate
from typing import Any

from sentences import CARRIES, CLINGS, Sentence, Word, clean, is_mark, sentences, unspaced

FILE = "edits.json"
"""Beside the recordings."""

PACE = 0.07
"""Seconds for a letter of a word that nobody heard."""

NEAR = 0.002
"""Seconds by which a turn's start, which was rounded, may miss its first word's."""

LONGEST = 3000
"""Words up to which neighbouring turns are compared together."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What one speaker says, as it was edited."""

    speaker: str | None
    text: str
    start: float | None = None
    """When it began before it was edited, in seconds; None for a turn that the person added."""


@dataclass(frozen=True)
class _Unit:
    """What is compared: a word, or a letter in scripts without spaces."""

    text: str
    space: bool
    """Whether a space stands before it."""
    start: float = 0.0
    end: float = 0.0
    word: int = -1
    """Index of the heard word that it is of."""
    last: bool = True
    """Whether that word ends with it."""


@dataclass(frozen=True, kw_only=True)
class Edits:
    """The changes to one recording's transcript."""

    names: dict[str, str] = field(default_factory=dict)
    """Speaker -> what people call them."""
    turns: tuple[Turn, ...] | None = None
    """What is said, in place of what was heard; times in the film that the job has. None: as it was heard."""

    def said(self, heard: list[Sentence], *, duration: float) -> list[Sentence]:
        """The sentences as they were edited; ``duration`` of the recording in seconds."""
        if self.turns is None:
            return heard
        turns = realigned([word for s in heard for word in s.words], self.turns, duration=duration)
        return [replace(s, speaker=who) for who, words in turns for s in sentences(words, None)]

    def name(self, speaker: str) -> str:
        """What people call a speaker."""
        return self.names.get(speaker, speaker)

    def named(self, said: list[Sentence]) -> list[Sentence]:
        """Sentences with the names in place of the speakers."""
        return [replace(s, speaker=s.speaker and self.name(s.speaker)) for s in said]


def read(data: bytes | None, recording: str) -> Edits:
    """The edits of one recording.

    Args:
        data: the file; None where there is none.

    Raises:
        ValueError: it is not what the builder writes.
    """
    if data is None:
        return Edits()
    try:
        whole = json.loads(data)
        if whole["schema"] != 1:
            raise ValueError(f"schema {whole['schema']}")
        entry = whole["recordings"].get(recording) or {}
        turns = entry.get("turns")
        return Edits(
            names={str(who): clean(str(name)) for who, name in (entry.get("names") or {}).items() if clean(str(name))},
            turns=None if turns is None else tuple(map(_turn, turns)),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{FILE} is damaged: {error!r}") from error


def _turn(entry: dict[str, Any]) -> Turn:
    start, who = entry["start"], entry["speaker"]
    return Turn(
        speaker=None if who is None else str(who),
        text=str(entry["text"]),
        start=None if start is None else float(start),
    )


def realigned(heard: Sequence[Word], turns: Sequence[Turn], *, duration: float) -> list[tuple[str | None, list[Word]]]:
    """The turns with words; times in seconds.

    Turns whose words are those that were heard from their start on fix the places between which others are compared.

    Args:
        duration: of the recording; no word ends after it.
    """
    made: list[tuple[str | None, list[Word]]] = []
    group: list[Turn] = []
    begin, size = 0, 0
    for turn, (first, after) in zip(turns, _slices(heard, turns), strict=True):
        units = _split(turn.text)
        kept = turn.start is not None and _same(units, heard[first:after])
        if group and (kept or size + len(units) > LONGEST):
            made += _compared(heard, begin, first, group, duration)
            group, size = [], 0
        if kept:
            made.append((turn.speaker, list(heard[first:after])))
            continue
        if not group:
            begin = first
        group.append(turn)
        size += len(units)
    if group:
        made += _compared(heard, begin, len(heard), group, duration)
    return made


def _slices(heard: Sequence[Word], turns: Sequence[Turn]) -> list[tuple[int, int]]:
    """The heard words from each turn's start to the next one's, as indices.

    A turn without a start has none, except at the beginning.
    """
    starts = list(accumulate((w.start for w in heard), max))
    firsts: list[int | None] = []
    last = 0
    for turn in turns:
        if turn.start is not None:
            last = max(last, bisect_left(starts, turn.start - NEAR))
        firsts.append(last if turn.start is not None or not firsts else None)
    slices = []
    after = len(heard)
    for first in reversed(firsts):
        slices.append((after if first is None else first, after))
        after = after if first is None else first
    return slices[::-1]


def _same(units: Sequence[_Unit], words: Sequence[Word]) -> bool:
    return [u.text for u in units] == [u.text for u in _heard(words)]


def _split(text: str) -> list[_Unit]:
    """A text as units. Marks and what clings to a letter stay with it."""
    units: list[_Unit] = []
    for chunk in clean(text).split(" "):
        pieces: list[str] = []
        for char in chunk:
            together = pieces and (
                is_mark(char)
                or char in CLINGS
                or pieces[-1][-1] in CARRIES
                or not (unspaced(char) or unspaced(pieces[-1][-1]))
            )
            if together:
                pieces[-1] += char
            else:
                pieces.append(char)
        units += [_Unit(piece, k == 0) for k, piece in enumerate(pieces)]
    return units


def _heard(words: Sequence[Word]) -> list[_Unit]:
    """Words as units; those of several letters share their word's time by length."""
    units = []
    for index, word in enumerate(words):
        pieces = _split(word.text)
        spread = _spread(pieces, word.start, word.end)
        units += [replace(u, word=index, last=k == len(spread) - 1) for k, u in enumerate(spread)]
    return units


def _compared(
    heard: Sequence[Word], begin: int, end: int, turns: Sequence[Turn], duration: float
) -> list[tuple[str | None, list[Word]]]:
    """Turns that were changed, with the words that were heard in their place."""
    before = _heard(heard[begin:end])
    texts = [_split(turn.text) for turn in turns]
    after = [unit for text in texts for unit in text]
    heads = set(accumulate((len(text) for text in texts), initial=0))
    floor = heard[begin - 1].end if begin else 0.0
    ceiling = heard[end].start if end < len(heard) else duration
    placed: list[_Unit] = []
    matcher = SequenceMatcher(None, [u.text for u in before], [u.text for u in after], autojunk=False)
    for kind, i, i2, j, j2 in matcher.get_opcodes():
        if kind == "equal":
            placed += [replace(b, text=a.text, space=a.space) for b, a in zip(before[i:i2], after[j:j2], strict=True)]
        elif j2 > j:
            new = after[j:j2]
            if kind == "replace":
                span = before[i].start, max(u.end for u in before[i:i2])
            else:
                left = max(floor, before[i - 1].end if i else floor)
                right = max(left, before[i].start if i < len(before) else ceiling)
                length = min(right - left, PACE * sum(len(u.text) for u in new))
                # With the words of its own turn, not with those before a pause.
                span = (right - length, right) if j in heads and i < len(before) else (left, left + length)
            placed += _spread(new, *span)
    made = []
    at = 0
    for turn, text in zip(turns, texts, strict=True):
        made.append((turn.speaker, _words(placed[at : at + len(text)], heard, begin)))
        at += len(text)
    return made


def _spread(units: Sequence[_Unit], start: float, end: float) -> list[_Unit]:
    """Units one after the other from ``start`` to ``end``, each as long as its text."""
    total = sum(len(u.text) for u in units)
    inner = [round(start + (end - start) * n / total, 3) for n in accumulate(len(u.text) for u in units[:-1])]
    edges = [start, *(min(max(edge, start), end) for edge in inner), end]
    return [replace(u, start=a, end=b) for u, a, b in zip(units, edges[:-1], edges[1:], strict=True)]


def _words(units: Sequence[_Unit], heard: Sequence[Word], begin: int) -> list[Word]:
    """Units as words: those of one heard word that follow each other are one again."""
    words: list[Word] = []
    before: _Unit | None = None
    for unit in units:
        text = f" {unit.text}" if unit.space and (words or not unspaced(unit.text[0])) else unit.text
        if before is not None and unit.word >= 0 and unit.word == before.word and not before.last and not unit.space:
            words[-1] = replace(words[-1], text=words[-1].text + text, end=unit.end)
        elif unit.word >= 0:
            words.append(replace(heard[begin + unit.word], text=text, start=unit.start, end=unit.end, channel=None))
        else:
            words.append(Word(text=text, start=unit.start, end=unit.end, probability=1.0, source="edited"))
        before = unit
    return words
