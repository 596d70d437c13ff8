"""Words on the recording's timeline: joined from windows that overlap, and what speech none of them covers. Pure.

A word is a dict: ``word`` (with its leading space), ``start``, ``end`` (seconds), ``probability``, and ``unsure`` where
nothing supports it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

Word = dict[str, Any]
Span = tuple[float, float]

NEAR = 0.6
"""Seconds by which two windows may give one word different times."""

SLACK = 0.3
"""Seconds around a word that it accounts for: Whisper's times are that inexact."""

STRETCHED, SILENT = 2.0, 1.2
"""Seconds of a word, and of detected speech in it, from which the model is taken to have left words out there: it lets
the last word that it writes reach to where it goes on."""

ONSET, RELEASE = 0.055, 0.11
"""Seconds from the edges of a region of speech to its first and last sound. The edges are within 15 ms of these on prompts
between silences; Whisper's own times of such words are 80 to 100 ms off, this way or that by the model."""

SHORTEST = 0.02
"""Seconds that a word lasts at least when it is moved."""

SNAP = 0.5
"""Seconds by which a word's edge moves at most to that of the speech it lies in."""

ENDS = ".?!…。？！।؟۔"
"""Marks that end a sentence."""

BREAK = 1.0
"""Seconds of silence that end a segment."""

LONG, BREATH = 12.0, 0.25
"""Seconds of a segment after which it ends at the next such pause or mark."""


def bare(word: Word) -> str:
    """What two windows' spellings of a word have in common."""
    return "".join(c for c in word["word"].casefold() if c.isalnum())


def joined(
    left: Sequence[Word], right: Sequence[Word], start: float, end: float, *, cut: float | None = None
) -> list[Word]:
    """Words of two hearings that both heard the sound between ``start`` and ``end``, each word once.

    They go over into each other at a word that both have, the nearest to ``cut`` (by default the middle, where neither
    heard half of a word), or at ``cut`` itself.
    """
    cut = (start + end) / 2 if cut is None else cut
    both = [
        (abs((a["start"] + b["start"]) / 2 - cut), i, k)
        for i, a in _between(left, start, end)
        for k, b in _between(right, start, end)
        if bare(a) and bare(a) == bare(b) and abs(a["start"] - b["start"]) <= NEAR
    ]
    if both:
        _, i, k = min(both)
        return [*left[:i], *right[k:]]
    kept = [w for w in left if centre(w) < cut]
    following = [w for w in right if centre(w) >= cut]
    if kept and following and bare(kept[-1]) == bare(following[0]) and following[0]["start"] - kept[-1]["start"] < NEAR:
        following = following[1:]
    return kept + following


def _between(words: Sequence[Word], start: float, end: float) -> Iterator[tuple[int, Word]]:
    return ((k, w) for k, w in enumerate(words) if start <= centre(w) <= end)


def centre(word: Word) -> float:
    """The middle of a word, in seconds."""
    return float(word["start"] + word["end"]) / 2


def common(spans: Iterable[Sequence[float]], start: float, end: float) -> float:
    """Seconds of ``spans`` between two times."""
    return sum(max(0.0, min(b, end) - max(a, start)) for a, b in spans)


def without(spans: Iterable[Sequence[float]], taken: Iterable[Sequence[float]]) -> list[Span]:
    """What is left of sorted ``spans`` outside of ``taken``."""
    holes = sorted((a, b) for a, b in taken if b > a)
    left: list[Span] = []
    k = 0
    for a, b in spans:
        at = a
        while k and holes[k - 1][1] > a:
            k -= 1
        while k < len(holes) and holes[k][0] < b:
            if holes[k][0] > at:
                left.append((at, min(holes[k][0], b)))
            at = max(at, holes[k][1])
            if at >= b:
                break
            k += 1
        if at < b:
            left.append((at, b))
    return left


def filled(words: list[Word], new: Sequence[Word], hole: Span, context: float) -> list[Word]:
    """Words with those of ``new`` that lie in a part which none covers; a word that is stretched over it gives way.

    Args:
        hole: start and end of the part, in seconds.
        context: seconds around it in which ``new`` has words as well.
    """
    start, end = hole
    if not any(start - SLACK <= centre(w) <= end + SLACK for w in new):
        return words
    over = [w for w in words if w["end"] - w["start"] > STRETCHED and w["start"] < end and w["end"] > start]
    before = [w for w in words if w not in over and centre(w) < (start + end) / 2]
    after = [w for w in words if w not in over and centre(w) >= (start + end) / 2]
    left = joined(before, new, start - context, start + SLACK, cut=start - SLACK)
    both = joined(left, after, end - SLACK, end + context, cut=end + SLACK)
    return both if len(both) >= len(words) else words


def stretched(word: Word, speech: Sequence[Sequence[float]]) -> bool:
    """Whether a word lies over seconds of speech, so that others are missing."""
    return word["end"] - word["start"] > STRETCHED and common(speech, word["start"], word["end"]) > SILENT


def uncovered(words: Sequence[Word], speech: Sequence[Sequence[float]], least: float) -> list[Span]:
    """Parts of sorted ``speech`` of at least ``least`` seconds that no word accounts for.

    A stretched word accounts for nothing.
    """
    near = _Near(speech)
    taken = [(w["start"] - SLACK, w["end"] + SLACK) for w in words if not stretched(w, near.by(w["start"], w["end"]))]
    return [(a, b) for a, b in without(speech, merged(taken)) if b - a >= least]


def merged(spans: Iterable[Span]) -> list[Span]:
    """Sorted spans that don't overlap."""
    out: list[Span] = []
    for a, b in sorted(spans):
        if out and a <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], b))
        else:
            out.append((a, b))
    return out


class _Near:
    """Regions near a time, without a look at all of them."""

    def __init__(self, speech: Sequence[Sequence[float]]) -> None:
        self.speech = speech
        self.ends = [b for _, b in speech]

    def by(self, start: float, end: float) -> Sequence[Sequence[float]]:
        first = bisect_left(self.ends, start)
        last = first
        while last < len(self.speech) and self.speech[last][0] < end:
            last += 1
        return self.speech[first:last]


def segments(words: Sequence[Word]) -> Iterator[list[Word]]:
    """Words in groups that end where a sentence does, at a pause, or when they get long."""
    group: list[Word] = []
    for word, following in pairwise([*words, None]):
        assert word is not None
        group.append(word)
        if following is None or _ends(group, following):
            yield group
            group = []


def _ends(group: Sequence[Word], following: Word) -> bool:
    last, pause = group[-1], following["start"] - group[-1]["end"]
    if pause >= BREAK or last.get("language") != following.get("language"):
        return True
    if not following["word"][:1].isspace() and following["word"][:1].isalnum() and following["word"].isascii():
        return False  # the rest of a word
    text = last["word"].rstrip("\"'”’)]»")
    if text.endswith(tuple(ENDS)) and not following["word"].strip()[:1].isdigit():  # not within "10." "30"
        return True
    return last["end"] - group[0]["start"] > LONG and (pause >= BREATH or text.endswith((",", "，", "、", ";", ":")))


def snapped(words: Sequence[Word], speech: Sequence[Sequence[float]]) -> list[Word]:
    """The words, those after and before a pause with the edges of detected speech.

    Args:
        speech: sorted regions, not overlapping.
    """
    ends = [b for _, b in speech]
    regions = [min(bisect_left(ends, centre(w)), len(speech) - 1) for w in words]
    moved = []
    for k, word in enumerate(words):
        start, end = word["start"], word["end"]
        if speech and speech[regions[k]][0] <= centre(word):
            a, b = speech[regions[k]][0] + ONSET, speech[regions[k]][1] - RELEASE
            if (k == 0 or regions[k - 1] != regions[k]) and abs(start - a) <= SNAP and a < end - SHORTEST:
                start = max(a, moved[-1]["end"] if moved else 0.0)
            if (k + 1 == len(words) or regions[k + 1] != regions[k]) and abs(end - b) <= SNAP and b > start + SHORTEST:
                end = b
        moved.append(word | {"start": round(start, 3), "end": round(max(start, end), 3)})
    for before, word in pairwise(moved):  # two windows may give neighbours times that overlap
        if before["end"] > word["start"]:
            before["end"] = max(before["start"], min(before["end"], word["start"]))
            word["start"] = max(word["start"], before["end"])
            word["end"] = max(word["end"], word["start"])
    return moved
