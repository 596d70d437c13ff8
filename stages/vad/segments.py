"""Where somebody speaks, by pyannote's segmentation-3.0: windows of ten seconds, each moment heard in two of them."""

from __future__ import annotations

import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

from contract import RATE

STEP, FIRST = 270, 496
"""Samples between the model's frames, and before the middle of a window's first one."""

FRAMES, SAMPLES = 589, 160_000
"""Of a window."""

HOP = 296
"""Frames between windows: half of one."""

INPUT = "sound"
"""The model's input, by which it is known."""


def chances(path: Path, session: Any, window: int, on_progress: Callable[[float, float], None]) -> tuple[Any, float]:
    """The probability of speech, one for each ``window`` samples of a WAV file, and the file's seconds.

    The model says which of up to three voices are heard in a frame; its first class is nobody. Where windows overlap, their
    mean counts, as in pyannote.audio.

    Args:
        on_progress: called with the seconds that are done, and all.
    """
    import numpy as np

    with wave.open(str(path), "rb") as wav:
        total = wav.getnframes()
        begins = range(0, max(total - SAMPLES, 0) + HOP * STEP, HOP * STEP)
        speech = np.zeros(len(begins) * HOP + FRAMES, dtype=np.float32)
        seen = np.zeros(len(speech), dtype=np.uint8)
        for number, begin in enumerate(begins):
            wav.setpos(begin)
            sound = np.frombuffer(wav.readframes(SAMPLES), dtype="<i2").astype(np.float32) / 32768.0
            sound = np.pad(sound, (0, SAMPLES - len(sound)))
            out = session.run(None, {INPUT: sound[None, None]})[0][0]
            at = slice(number * HOP, number * HOP + FRAMES)
            speech[at] += 1 - np.exp(out[:, 0])
            seen[at] += 1
            on_progress(min(begin + SAMPLES, total) / RATE, total / RATE)
    known = seen > 0
    middles = (np.flatnonzero(known) * STEP + FIRST).astype(np.float64)
    wanted = (np.arange(-(-total // window)) + 0.5) * window
    return np.interp(wanted, middles, speech[known] / seen[known]), total / RATE
