"""Which parts of the sound a model hears at once."""

from __future__ import annotations

import itertools
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

BRIDGE = 2.0
"""Seconds. Shorter silences stay inside a window. The model never hears longer ones: it invents text for them."""

OVERLAP = 1.0
"""Seconds that windows reach beyond a cut without a clear pause: a word at the cut is whole in one of them, and models
leave out the single word with which a sentence begins at a window's end."""

CLOSE = 0.6
"""Seconds of silence that are a clear pause."""

SHORT, PAUSE = 12.0, 0.6
"""The same as :data:`WINDOW` and :data:`BRIDGE` where each window's language is asked: people change it at pauses."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """A part of the sound that a model hears at once; seconds."""

    start: float
    end: float


def windows(
    speech: Sequence[Sequence[float]],
    duration: float,
    doubts: Sequence[float] = (),
    *,
    longest: float = WINDOW,
    bridge: float = BRIDGE,
) -> list[Window]:
    """Group speech regions into windows of at most ``longest`` seconds.

    Regions less than ``bridge`` apart go together. A longer region is cut where it is least like speech. Windows with less
    than :data:`CLOSE` between them overlap. All times are seconds.

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
    groups = list(_groups(parts, gaps, longest, bridge))
    for first, last in groups:
        start, end = parts[first][0], parts[last][1]
        before = gaps[first - 1] if first else 2 * start
        after = gaps[last] if last < len(gaps) else 2 * (duration - end)
        left = OVERLAP if first and before < CLOSE else min(PAD, before / 2)  # half of a longer gap at most
        right = OVERLAP if last < len(gaps) and after < CLOSE else min(PAD, after / 2)
        low = made[-1].start if made else 0.0
        high = max(parts[k][1] for f, k in groups[len(made) : len(made) + 2]) if last < len(gaps) else duration
        made.append(Window(start=round(max(start - left, low), 3), end=round(min(end + right, high), 3)))
    return made


def _groups(
    parts: Sequence[tuple[float, float]], gaps: Sequence[float], longest: float, bridge: float
) -> Iterator[tuple[int, int]]:
    """First and last part of each window: as many as it has room for, or up to a clear pause in its last third."""
    first = 0
    while first < len(parts):
        shared = OVERLAP if first and gaps[first - 1] < CLOSE else 0.0
        last, pause = first, -1
        for k in range(first, len(parts)):
            close = k < len(gaps) and gaps[k] < CLOSE
            length = parts[k][1] - parts[first][0] + shared + (OVERLAP if close else 0.0)
            if k > first and (gaps[k - 1] >= bridge or length > longest):
                break
            last = k
            if not close and length > longest * 2 / 3:
                pause = k
        if last < len(gaps) and gaps[last] < CLOSE and pause >= 0:
            last = pause
        yield first, last
        first = last + 1


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


def read(path: Path, start: float, end: float) -> Any:
    """Float32 samples of a WAV file between two times in seconds."""
    import numpy as np

    with wave.open(str(path), "rb") as wav:
        wav.setpos(min(round(start * RATE), wav.getnframes()))
        data = wav.readframes(round((end - start) * RATE))
    return np.frombuffer(data, dtype="<i2").astype(np.float32) / 32768.0
