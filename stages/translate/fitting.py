"""A translation that was heard in windows, cut into the spans of what it translates. Pure.

Whisper translates a window of sound as a whole, and its sentences need not be those of the transcript. Both are in the same
order, so the cheapest way through both is found by dynamic programming: each step takes a few lines of either (Gale and
Church, "A Program for Aligning Sentences in Bilingual Corpora", 1993, whose costs are of lengths; here times count most).
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import replace

from lines import Line

NEAR = 15.0
"""Seconds between two lines that may belong together."""

STEPS = ((1, 1, 0.0), (2, 1, 0.6), (1, 2, 0.6), (2, 2, 1.2), (3, 1, 1.4), (1, 3, 1.4), (1, 0, 2.5), (0, 1, 3.0))
"""Lines of the transcript, lines of the translation, and the price of taking them together."""

MOVED = 2.0
"""Seconds by which an edge is moved for a price of 1: times of words of a translation are that inexact."""

SPREAD = 0.6
"""Standard deviation of the logarithm of the ratio of two lines' lengths."""

ACROSS = 2.0
"""Price of one line for what two speakers say."""


def fitted(said: Sequence[Line], told: Sequence[Line]) -> list[Line]:
    """The translation's text with the spans of the transcript's lines.

    Args:
        said: what is translated, in the order of time.
        told: its translation, with the times at which the model heard it.

    Returns:
        Each text of ``told`` once, in order. A line that covers several of ``said`` has the span of all; what has nothing to
        translate keeps its own.
    """
    found: list[Line] = []
    for channel in sorted({line.channel for line in (*said, *told)}, key=lambda c: c or 0):
        found += _fitted([x for x in said if x.channel == channel], [x for x in told if x.channel == channel])
    return sorted(found, key=lambda line: line.start)


def _fitted(said: Sequence[Line], told: Sequence[Line]) -> list[Line]:
    starts = [line.start for line in told]
    best: dict[tuple[int, int], tuple[float, tuple[int, int]]] = {(0, 0): (0.0, (0, 0))}
    ahead = [line.start for line in said] + [math.inf]
    ratio = _ratio(said, told)
    reach: list[tuple[int, int]] = []
    for i in range(len(said) + 1):
        low = bisect_left(starts, ahead[i - 1] - NEAR) if i else 0
        high = bisect_right(starts, (ahead[i] if i < len(said) else math.inf) + NEAR)
        reach.append((low, high))
    for i in range(len(said) + 1):
        for j in range(reach[i][0], reach[i][1] + 1):
            here = best.get((i, j))
            if here is None:
                continue
            for m, n, price in STEPS:
                if i + m > len(said) or j + n > len(told) or not reach[i + m][0] <= j + n <= reach[i + m][1]:
                    continue
                cost = here[0] + price + _price(said[i : i + m], told[j : j + n], ratio)
                if (i + m, j + n) not in best or cost < best[i + m, j + n][0]:
                    best[i + m, j + n] = cost, (i, j)
    at = len(said), len(told)
    if at not in best:  # times out of order are of no use
        return list(told)
    found = []
    while at != (0, 0):
        before = best[at][1]
        mine, theirs = said[before[0] : at[0]], told[before[1] : at[1]]
        if theirs:
            span = mine or theirs
            line = max(mine, key=lambda x: x.end - x.start) if mine else theirs[0]
            text = " ".join(x.text for x in theirs)
            found.append(Line(start=span[0].start, end=max(x.end for x in span), text=text, channel=line.channel))
        at = before
    return _ordered(found[::-1])


def _ordered(found: list[Line]) -> list[Line]:
    """The lines in the order of their texts: what kept its own span begins no later than the line behind it, nor sooner than
    the one before."""
    for k in reversed(range(len(found) - 1)):
        if found[k].start > found[k + 1].start:
            found[k] = replace(found[k], start=found[k + 1].start)
    for k in range(1, len(found)):
        if found[k].start < found[k - 1].start:
            start = found[k - 1].start
            found[k] = replace(found[k], start=start, end=max(found[k].end, start))
    return found


def _ratio(said: Sequence[Line], told: Sequence[Line]) -> float:
    """How many letters the translation has for each of the transcript."""
    ours, theirs = sum(len(x.text) for x in said), sum(len(x.text) for x in told)
    return theirs / ours if ours and theirs else 1.0


def _price(mine: Sequence[Line], theirs: Sequence[Line], ratio: float) -> float:
    if not mine or not theirs:
        return 0.0
    start = abs(mine[0].start - theirs[0].start)
    end = abs(max(x.end for x in mine) - max(x.end for x in theirs))
    lengths = sum(len(x.text) for x in theirs) / max(sum(len(x.text) for x in mine) * ratio, 1.0)
    price = min((start + end) / MOVED, 8.0) + min((math.log(max(lengths, 0.01)) / SPREAD) ** 2 / 2, 6.0)
    return price + ACROSS * (len({x.speaker for x in mine}) > 1)
