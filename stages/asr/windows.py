"""Which parts of the sound a model hears at once."""

from __future__ import annotations

import itertools
import wave
from collections.abc import Sequence
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
"""Seconds that two windows share on each side of a cut where there is no pause: a word at the cut is whole in one of them."""

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

    Regions less than ``bridge`` apart go together. A longer region is cut where it is least like speech, and both parts
    reach :data:`OVERLAP` beyond the cut. All times are seconds.

    Args:
        doubts: good places to cut, sorted.
    """
    joined: list[list[float]] = []
    for start, end in speech:
        inner = cuts(start, end, doubts, longest=longest)
        for k, (a, b) in enumerate(itertools.pairwise([start, *inner, end])):
            shared = OVERLAP * (k < len(inner)) + OVERLAP * (len(joined) > 1 and joined[-2][1] == joined[-1][0])
            if joined and k == 0 and a - joined[-1][1] < bridge and b - joined[-1][0] + shared <= longest:
                joined[-1][1] = b
            else:
                joined.append([a, b])
    padded: list[Window] = []
    for k, (a, b) in enumerate(joined):
        before = joined[k - 1][1] if k else 0.0
        after = joined[k + 1][0] if k + 1 < len(joined) else duration
        # At most half of a gap: only windows that a cut divides overlap.
        left = OVERLAP if k and before == a else min(PAD, (a - before) / 2)
        right = OVERLAP if k + 1 < len(joined) and after == b else min(PAD, (after - b) / 2)
        padded.append(Window(start=round(a - left, 3), end=round(b + right, 3)))
    return padded


def cuts(start: float, end: float, doubts: Sequence[float], *, longest: float = WINDOW) -> list[float]:
    """Where to cut a region so that no part and what it shares is longer than ``longest``: few parts, each cut where the
    region is least like speech near an even share.

    Without a good place in the last two thirds of a window, the rest is cut into equal parts.
    """
    found: list[float] = []
    if end - start <= longest:
        return found
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
