"""Kaldi's filter bank, which CAM++ was trained on, in NumPy (feat/feature-window.cc and feat/mel-computations.cc)."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

RATE = 16_000
WINDOW = 400
"""Samples of a frame (25 ms)."""
HOP = 160
"""Samples between frames (10 ms)."""
BINS = 80
LENGTH = 512
"""Of the spectrum."""
LOWEST = 20.0
"""Hertz where the first mel filter begins; the last one ends at half the rate."""
EMPHASIS = 0.97
LEAST = 1.1920929e-07
"""Below every energy: the smallest step of a float32, as in Kaldi."""


def filterbank(frames: Any) -> Any:
    """Logarithms of mel energies, float32 [n, 80], of frames of samples [n, 400] between -1 and 1."""
    rows = frames.astype(np.float32)
    rows = rows - rows.mean(axis=1, keepdims=True)
    before = np.concatenate([rows[:, :1], rows[:, :-1]], axis=1)
    rows = (rows - np.float32(EMPHASIS) * before) * _povey()
    power = np.abs(np.fft.rfft(rows, LENGTH, axis=1)).astype(np.float32) ** 2
    return np.log(np.maximum(power[:, :-1] @ _bank().T, np.float32(LEAST)))


def framed(sound: Any) -> Any:
    """A view of all frames [n, 400] that lie whole within samples; frame i begins at sample ``i * HOP``."""
    if len(sound) < WINDOW:
        return np.zeros((0, WINDOW), dtype=np.float32)
    return np.lib.stride_tricks.sliding_window_view(sound, WINDOW)[::HOP]


@cache
def _povey() -> Any:
    """Povey's window: a symmetric Hann window to the power of 0.85."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / (WINDOW - 1))
    return (hann**0.85).astype(np.float32)


@cache
def _bank() -> Any:
    """Triangles [80, 256] that are of one width, and rise and fall straight, on the mel scale."""

    def mel(hertz: Any) -> Any:
        return 1127.0 * np.log(1.0 + hertz / 700.0)

    edges = np.linspace(mel(LOWEST), mel(RATE / 2), BINS + 2)
    bins = mel(np.arange(LENGTH // 2) * RATE / LENGTH)[None]
    step = edges[1] - edges[0]
    rise, fall = (bins - edges[:-2, None]) / step, (edges[2:, None] - bins) / step
    return np.maximum(0.0, np.minimum(rise, fall)).astype(np.float32)
