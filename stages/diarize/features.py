"""The mel energies that the d-vector was trained on (resemblyzer/audio.py), in NumPy: librosa would add SciPy and more."""

from __future__ import annotations

from typing import Any

import numpy as np

RATE = 16_000
WINDOW = 400
"""Samples of a frame (25 ms)."""
HOP = 160
"""Samples between frames (10 ms)."""
MELS = 40
LEVEL = -30.0
"""dBFS (RMS) to which speech is scaled."""


def level(sound: Any) -> Any:
    """Float32 samples scaled to ``LEVEL``; silence stays."""
    rms = float(np.sqrt(np.mean(np.square(sound), dtype=np.float64))) if len(sound) else 0.0
    return sound if rms < 1e-6 else sound * np.float32(10 ** (LEVEL / 20) / rms)


def mels(sound: Any) -> Any:
    """Mel power [frames, 40] of float32 samples: frame i is centred at sample ``i * HOP``."""
    padded = np.pad(sound, WINDOW // 2)
    count = 1 + len(sound) // HOP
    padded = np.pad(padded, (0, max(0, (count - 1) * HOP + WINDOW - len(padded))))
    rows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP][:count]
    power = np.abs(np.fft.rfft(rows * _hann(), axis=1)) ** 2
    return (power @ _bank().T).astype(np.float32)


def _hann() -> Any:
    """A periodic Hann window."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)).astype(np.float32)


def _bank() -> Any:
    """The mel filters [40, 201] of Slaney's Auditory Toolbox: linear to 1 kHz, then logarithmic, equal area."""
    edge, step = 1000.0, 200 / 3
    log_step = np.log(6.4) / 27

    def mel(hertz: float) -> float:
        return hertz / step if hertz < edge else edge / step + float(np.log(hertz / edge)) / log_step

    points = np.linspace(mel(0.0), mel(RATE / 2), MELS + 2)
    hertz = np.where(points < edge / step, points * step, edge * np.exp(log_step * (points - edge / step)))
    bins = np.fft.rfftfreq(WINDOW, 1 / RATE)
    rise = (bins[None] - hertz[:-2, None]) / (hertz[1:-1] - hertz[:-2])[:, None]
    fall = (hertz[2:, None] - bins[None]) / (hertz[2:] - hertz[1:-1])[:, None]
    bank = np.maximum(0.0, np.minimum(rise, fall))
    return bank * (2.0 / (hertz[2:] - hertz[:-2]))[:, None]
