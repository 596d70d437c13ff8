"""Which parts of the sound a model hears at once."""

from __future__ import annotations

import itertools
import wave
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from contract import RATE

WINDOW = 29.0
"""Seconds. Whisper hears 30 s at a time; one second is for padding."""

PAD = 0.2
"""Seconds of sound around speech that the model gets to hear."""

BRIDGE = 2.0
"""Seconds. Shorter silences stay inside a window. The model never hears longer ones: it invents text for them."""

PIECE = 600.0
"""Seconds of sound whose features are computed at once: memory doesn't grow with the recording."""

HEARD = 30.0
"""Seconds of speech from which a language is told: what Whisper hears at a time."""

LISTEN = 4
"""How often more speech is heard while the language is in doubt."""


def windows(speech: list[list[float]], duration: float, doubts: Sequence[float] = ()) -> list[tuple[float, float]]:
    """Group speech regions into windows of at most ``WINDOW`` seconds that don't overlap.

    Regions less than ``BRIDGE`` apart go together. A longer region is cut where it is least like speech. All times are
    seconds.

    Args:
        doubts: good places to cut, sorted.
    """
    joined: list[list[float]] = []
    for start, end in speech:
        for k, (a, b) in enumerate(itertools.pairwise([start, *cuts(start, end, doubts), end])):
            if joined and k == 0 and a - joined[-1][1] < BRIDGE and b - joined[-1][0] <= WINDOW:
                joined[-1][1] = b
            else:
                joined.append([a, b])
    padded: list[tuple[float, float]] = []
    for k, (a, b) in enumerate(joined):
        before = joined[k - 1][1] if k else 0.0
        after = joined[k + 1][0] if k + 1 < len(joined) else duration
        # At most half of the gap, so that neighbours never overlap.
        padded.append((round(a - min(PAD, (a - before) / 2), 3), round(b + min(PAD, (after - b) / 2), 3)))
    return padded


def cuts(start: float, end: float, doubts: Sequence[float]) -> list[float]:
    """Where to cut a region so that no part is longer than ``WINDOW``: few parts, each cut at the last good place.

    Without a good place in the last two thirds of a window, the rest is cut into equal parts.
    """
    found: list[float] = []
    while end - start > WINDOW:
        parts = -int(-(end - start) // WINDOW)
        even = start + (end - start) / parts
        good = [d for d in doubts if start + WINDOW / 3 < d <= start + WINDOW and d < end - 1]
        start = min(good, key=lambda d: (abs(d - even), d)) if good else even
        found.append(start)
    return found


def samples(speech: list[list[float]]) -> Iterator[list[tuple[float, float]]]:
    """Up to ``LISTEN`` groups of spans (seconds), each ``HEARD`` seconds of speech, in order."""
    group: list[tuple[float, float]] = []
    room, groups = HEARD, 0
    for start, end in speech:
        while end - start > 0:
            taken = min(end - start, room)
            group.append((start, start + taken))
            start, room = start + taken, room - taken
            if room <= 0.001:
                yield group
                group, room, groups = [], HEARD, groups + 1
                if groups == LISTEN:
                    return
    if group:
        yield group


def pieces(spans: list[tuple[float, float]]) -> Iterator[list[tuple[float, float]]]:
    """Consecutive windows, together at most ``PIECE`` seconds long."""
    group: list[tuple[float, float]] = []
    for span in spans:
        if group and span[1] - group[0][0] > PIECE:
            yield group
            group = []
        group.append(span)
    if group:
        yield group


def within(spans: list[tuple[float, float]], samples: int) -> list[tuple[float, float]]:
    """Windows in seconds from the start of the first: none goes beyond the last sample, and none overlap.

    Times are rounded to a millisecond, which may be later than the last sample.

    Args:
        spans: windows of one piece, in seconds on the recording's timeline.
        samples: how many were read for the piece.
    """
    offset, end = spans[0][0], samples / RATE
    inside: list[tuple[float, float]] = []
    for a, b in spans:
        start = min(max(a - offset, inside[-1][1] if inside else 0.0), end)
        inside.append((start, max(start, min(b - offset, end))))
    return inside


def read(path: Path, start: float, end: float) -> Any:
    """Float32 samples of a WAV file between two times in seconds."""
    import numpy as np

    with wave.open(str(path), "rb") as wav:
        wav.setpos(min(round(start * RATE), wav.getnframes()))
        data = wav.readframes(round((end - start) * RATE))
    return np.frombuffer(data, dtype="<i2").astype(np.float32) / 32768.0
