"""Which parts of the sound a model hears at once."""

from __future__ import annotations

import itertools
import math
import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contract import RATE

WINDOW = 29.0
"""Seconds. Whisper hears 30 s at a time; one second is for padding."""

PAD = 0.2
"""Seconds of sound around speech that the model gets to hear."""

KEPT = 1.0
"""Seconds. Of a longer silence inside a window the model hears so much, on either side a half: it invents text for long
ones, and windows that are full are fewer."""

OVERLAP = 1.0
"""Seconds that windows reach beyond a cut without a clear pause: a word at the cut is whole in one of them, and models
leave out the single word with which a sentence begins at a window's end."""

CLOSE = 0.6
"""Seconds of silence that are a clear pause."""

UNCLEAR = 0.3
"""What a cut without a pause costs, in windows; the longer a pause is, the less, up to twice :data:`CLOSE`."""

SHORT, PAUSE = 12.0, 0.6
"""Seconds of a window, and of a silence that always ends it, where each window's language is asked: people change it at
pauses."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """A part of the sound that a model hears at once; seconds."""

    start: float
    end: float
    pauses: tuple[tuple[float, float], ...] = ()
    """What is left out of it, in order."""

    @property
    def parts(self) -> list[tuple[float, float]]:
        """What the model hears, one after the other."""
        edges = [self.start, *itertools.chain(*self.pauses), self.end]
        return list(zip(edges[::2], edges[1::2], strict=True))

    def span(self, start: float, end: float) -> tuple[float, float]:
        """Where a word is in the recording whose times in what the model heard are these: within one of the parts."""
        middle, before = (start + end) / 2, 0.0
        for a, b in self.parts:
            if middle < before + b - a or b == self.end:
                break
            before += b - a
        start, end = (min(max(a + seconds - before, a), b) for seconds in (start, end))
        return round(start, 3), round(end, 3)


def windows(
    speech: Sequence[Sequence[float]],
    duration: float,
    doubts: Sequence[float] = (),
    *,
    longest: float = WINDOW,
    bridge: float = math.inf,
) -> list[Window]:
    """Group speech regions into windows of which at most ``longest`` seconds are heard.

    Of silences inside a window at most :data:`KEPT` seconds are heard; one of ``bridge`` seconds ends it. A region that is
    too long is cut where it is least like speech. Windows with less than :data:`CLOSE` between them overlap. All times are
    seconds.

    Args:
        doubts: good places to cut, sorted.
    """
    parts = [
        (a, b)
        for start, end in speech
        for a, b in itertools.pairwise([start, *cuts(start, end, doubts, longest=longest), end])
    ]
    gaps = [after - before for (_, before), (after, _) in itertools.pairwise(parts)]
    made: list[Window] = []
    groups = _groups(parts, gaps, longest, bridge)
    for first, last in groups:
        start, end = parts[first][0], parts[last][1]
        before = gaps[first - 1] if first else 2 * start
        after = gaps[last] if last < len(gaps) else 2 * (duration - end)
        left = OVERLAP if first and before < CLOSE else min(PAD, before / 2)  # half of a longer gap at most
        right = OVERLAP if last < len(gaps) and after < CLOSE else min(PAD, after / 2)
        low = made[-1].start if made else 0.0
        high = max(parts[k][1] for f, k in groups[len(made) : len(made) + 2]) if last < len(gaps) else duration
        pauses = tuple(
            (round(parts[k][1] + KEPT / 2, 3), round(parts[k + 1][0] - KEPT / 2, 3))
            for k in range(first, last)
            if gaps[k] > KEPT
        )
        made.append(Window(start=round(max(start - left, low), 3), end=round(min(end + right, high), 3), pauses=pauses))
    return made


def _groups(
    parts: Sequence[tuple[float, float]], gaps: Sequence[float], longest: float, bridge: float
) -> list[tuple[int, int]]:
    """First and last part of each window: few windows, with long pauses between them where possible."""
    costs, firsts = [0.0] + [math.inf] * len(parts), [0] * len(parts)
    for first in range(len(parts)):
        for last in _reach(parts, gaps, first, longest, bridge):
            cost = costs[first] + 1
            if last < len(gaps):
                cost += UNCLEAR * max(0.0, 1 - gaps[last] / (2 * CLOSE))
            if cost < costs[last + 1]:
                costs[last + 1], firsts[last] = cost, first
    found: list[tuple[int, int]] = []
    last = len(parts) - 1
    while last >= 0:
        found.append((firsts[last], last))
        last = firsts[last] - 1
    return found[::-1]


def _reach(
    parts: Sequence[tuple[float, float]], gaps: Sequence[float], first: int, longest: float, bridge: float
) -> Iterator[int]:
    """The parts with which a window can end that begins with ``first``; one at least."""
    seconds = OVERLAP if first and gaps[first - 1] < CLOSE else 0.0
    for last in range(first, len(parts)):
        if last > first:
            if gaps[last - 1] >= bridge:
                return
            seconds += min(gaps[last - 1], KEPT)
        seconds += parts[last][1] - parts[last][0]
        if last > first and seconds > longest:
            return
        shared = OVERLAP if last < len(gaps) and gaps[last] < CLOSE else 0.0
        if last == first or seconds + shared <= longest:
            yield last


def cuts(start: float, end: float, doubts: Sequence[float], *, longest: float = WINDOW) -> list[float]:
    """Where to cut a region so that no part and what it shares is longer than ``longest``: few parts, each cut where the
    region is least like speech near an even share.

    Without a good place in the last two thirds of a window, the rest is cut into equal parts.
    """
    found: list[float] = []
    room = longest - 2 * OVERLAP
    while end - start > room:
        parts = -int(-(end - start) // room)
        even = start + (end - start) / parts
        good = [d for d in doubts if start + room / 3 < d <= start + room and d < end - 1]
        start = min(good, key=lambda d: (abs(d - even), d)) if good else even
        found.append(start)
    return found


def read(path: Path, window: Window) -> Any:
    """Float32 samples of what is heard of a window of a WAV file."""
    import numpy as np

    with wave.open(str(path), "rb") as wav:
        data = bytearray()
        for start, end in window.parts:
            wav.setpos(min(round(start * RATE), wav.getnframes()))
            data += wav.readframes(round((end - start) * RATE))
    return np.frombuffer(bytes(data), dtype="<i2").astype(np.float32) / 32768.0
