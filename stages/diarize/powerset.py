"""Who of up to three voices speaks in each frame of windows of ten seconds, which overlap; and how many speak in all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

RATE = 16_000
STEP = 270
"""Samples between frames (16.875 ms)."""
FIRST = 496
"""Samples before the middle of a window's first frame."""
FRAMES = 589
"""Frames of a window."""
SAMPLES = 160_000
"""Samples of a window."""
HOP = 148
"""Frames between windows (2.5 s): each moment is heard four times."""
LOCAL = 3
"""Voices that one window can tell apart."""
BATCH = 2
"""Windows that are heard at once: more take more memory, and no less time."""

PAIRS = 4
"""The first class of two at once."""

SOMEBODY, TWO = 0.5, 0.3
"""Chances from which somebody, or two at once, are believed to speak. Measured on meetings, where a smaller chance of two
misses less and invents no more; on mixes there is no difference."""

SETS = np.array(
    [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]],
    dtype=bool,
)
"""The voices of each of the model's classes (pyannote.audio's powerset of two out of three)."""


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What the windows of one recording heard."""

    classes: Any
    """uint8 [windows, FRAMES]: rows of ``SETS``, the likeliest; window w begins at frame ``w * HOP``."""
    chances: Any
    """uint8 [2, windows, FRAMES]: of somebody, and of two at once, in parts of 255."""
    frames: int
    """Frames of the whole recording."""

    def active(self, window: int) -> Any:
        """bool [FRAMES, LOCAL]: who speaks."""
        return SETS[self.classes[window]]

    def count(self) -> Any:
        """How many speak in each frame, int8 [frames], 0 to 2: by the mean of the windows that hear it."""
        total = np.zeros((2, len(self.classes) * HOP + FRAMES), dtype=np.uint16)
        seen = np.zeros(total.shape[1], dtype=np.uint16)
        for window in range(len(self.classes)):
            at = slice(window * HOP, window * HOP + FRAMES)
            total[:, at] += self.chances[:, window]
            seen[at] += 1
        mean = (total / np.maximum(seen, 1))[:, : self.frames] / 255
        return (mean[0] > SOMEBODY).astype(np.int8) + (mean[1] > TWO)


def starts(samples: int) -> range:
    """The first sample of each window; the last one ends with or after the recording."""
    extra = max(0, samples - SAMPLES)
    return range(0, -(-extra // (HOP * STEP)) * HOP * STEP + 1, HOP * STEP)


def frames_of(samples: int) -> int:
    """Frames of a recording whose middle lies within it, and in a window."""
    windows = len(starts(samples))
    return min(max(0, (samples - FIRST) // STEP + 1), (windows - 1) * HOP + FRAMES)


def tile(window: int, windows: int) -> slice:
    """The frames of a window that are nearest to its middle: each frame is in the tile of one window."""
    left = (FRAMES - HOP) // 2
    return slice(0 if window == 0 else left, FRAMES if window == windows - 1 else left + HOP)


def time_of(frame: float) -> float:
    """Seconds at a frame's middle."""
    return float((frame * STEP + FIRST) / RATE)
