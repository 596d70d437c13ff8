"""Many channels to one, so that nothing said on any of them is lost; and loudness. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from contract import RATE

BLOCK = RATE // 10
"""Samples for which one way of mixing is chosen."""

FADE = RATE // 100
"""Samples in which one way of mixing becomes another."""

WEIGHTS = {"FC": 1.0, "FL": 0.5, "FR": 0.5, "LFE": 0.0, "LFE2": 0.0}
"""Of the channels of a surround layout: films have their dialogue in the centre."""

OTHERS = 0.25
"""Of a surround layout's other channels."""

DROWNED = 0.35
"""Share of the loudest channel's level (-9 dB) below which a mix has lost it: channels cancel, or the others dilute it."""

CANCELLED = 0.49
"""The same for two channels (-6 dB), whose mean has half of one when the other is silent, and less only when they cancel."""

FLOOR = 10 ** (-70 / 20)
"""Level below which nothing is heard, so nothing is lost."""

KEEP = 0.7
"""A channel that was alone stays so until another is 3 dB louder."""

APART = 0.25
"""Level of one channel against another's (-12 dB) at which only the other speaks."""

ALIKE = 0.3
"""Correlation below which two channels that both sound have different things to say."""

SURE = 1.0
"""Seconds of difference after which two channels count as different."""


def weights(names: Sequence[str]) -> Any:
    """How much of each channel a mix has, by the channels' names in FFmpeg's spelling; float32, one a channel."""
    if "FC" in names and len(names) > 1:
        return np.array([WEIGHTS.get(name, OTHERS) for name in names], dtype=np.float32)
    return np.full(len(names), 1 / max(len(names), 1), dtype=np.float32)


def level(sound: Any) -> Any:
    """Root mean square of each column, with the bass taken down as speech codecs do: hum and offsets don't count."""
    edge = sound[1:] - 0.97 * sound[:-1]
    return np.sqrt((edge * edge).mean(axis=0)) if len(edge) else np.zeros(sound.shape[1], np.float32)


@dataclass(kw_only=True)
class Mixer:
    """Mixes a stream of blocks; remembers what it had to do."""

    names: Sequence[str]
    alone: int | None = None
    """The channel that is heard alone at the moment."""
    saved: int = 0
    """Samples that the plain mix would have lost."""
    different: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    """Seconds in which only the first of two channels sounds, only the second, and both with different things."""
    alike: float = 0.0
    """Seconds in which two channels sound alike."""

    def __post_init__(self) -> None:
        self.plain = weights(self.names)
        self._used = self.plain

    def mix(self, block: Any) -> Any:
        """Float32 [n] of float32 [n, channels], at most ``BLOCK`` samples."""
        if block.shape[1] != len(self.plain):  # a format that changes in the middle; nobody knows its channels' places
            self.names = ["?"] * block.shape[1]
            self.plain = self._used = weights(self.names)
            self.alone = None
        if block.shape[1] == 1:
            return block[:, 0]
        levels = level(block)
        loudest = int(levels.argmax())
        mixed = block @ self.plain
        now = self.plain
        least = (CANCELLED if len(levels) == 2 else DROWNED) * levels[loudest]
        if levels[loudest] > FLOOR and float(level(mixed[:, None])[0]) < least:
            if self.alone is None or levels[self.alone] < KEEP * levels[loudest]:
                self.alone = loudest
            now = np.zeros_like(self.plain)
            now[self.alone] = 1.0
            self.saved += len(block)
            mixed = block[:, self.alone]
        else:
            self.alone = None
        if len(levels) == 2:
            self._compare(block, levels)
        if now is not self._used and not np.array_equal(now, self._used):
            count = min(FADE, len(block))
            rise = np.linspace(0, 1, count, dtype=np.float32)
            mixed = mixed.copy()
            mixed[:count] = mixed[:count] * rise + (block[:count] @ self._used) * (1 - rise)
        self._used = now
        return mixed

    def _compare(self, block: Any, levels: Any) -> None:
        seconds, (first, second) = len(block) / RATE, (float(x) for x in levels)
        if max(first, second) < 10 * FLOOR:
            return
        if second < APART * first:
            self.different[0] += seconds
        elif first < APART * second:
            self.different[1] += seconds
        else:
            edge = block[1:] - 0.97 * block[:-1]
            both = float(np.abs((edge[:, 0] * edge[:, 1]).mean()))
            if both < ALIKE * first * second:
                self.different[2] += seconds
            else:
                self.alike += seconds

    def notes(self) -> list[str]:
        """What a user should know of the channels."""
        notes = []
        if self.saved > RATE // 2:
            lost = "cancel each other" if len(self.plain) == 2 else "would drown or cancel each other"
            notes.append(f"its channels {lost} for {self.saved / RATE:.1f} s: there the loudest one is heard alone")
        return notes

    @property
    def differ(self) -> bool:
        """Whether two channels carry different sound: each speaks alone for a while, or both at once."""
        first, second, both = self.different
        return min(first, second) >= SURE or both >= 2 * SURE

    @property
    def same(self) -> bool:
        """Whether two channels carry the same sound: hearing them apart gives every word twice."""
        return self.alike > 10 * sum(self.different)


QUIET = 10 ** (-50 / 20)
"""Level of the loudest half second below which 16 bits and speech detection lose a recording."""

TARGET = 10 ** (-20 / 20)
"""Level that the loudest half second of a quiet recording is raised to."""

MOST = 10 ** (60 / 20)
"""The most that a recording is raised by: beyond, there is only noise."""

SPAN = RATE // 2
"""Samples whose level counts."""


@dataclass(kw_only=True)
class Loudness:
    """Levels of a whole recording, from a stream of samples (1.0: full scale)."""

    peak: float = 0.0
    spans: list[float] = field(default_factory=list)
    """Level of each half second."""
    over: int = 0
    """Samples beyond full scale."""
    count: int = 0
    total: float = 0.0
    _rest: Any = None

    def hear(self, sound: Any) -> None:
        """Take float32 [n] into account."""
        size = np.abs(sound)
        self.peak = max(self.peak, float(size.max(initial=0.0)))
        self.over += int((size > 1.0).sum())
        self.count += len(sound)
        self.total += float(sound.sum(dtype=np.float64))
        whole = sound if self._rest is None else np.concatenate([self._rest, sound])
        count = len(whole) // SPAN
        rows = whole[: count * SPAN].reshape(count, SPAN)
        self.spans += np.sqrt(((rows - rows.mean(axis=1, keepdims=True)) ** 2).mean(axis=1)).tolist() if count else []
        self._rest = whole[count * SPAN :]

    def loudest(self) -> float:
        """Level of the loudest half second, but for the loudest two seconds of a long recording: a bump is no speech."""
        if self.spans:
            return sorted(self.spans)[-5 if len(self.spans) > 20 else -1]
        rest = self._rest if self._rest is not None else np.zeros(0)
        return float(np.sqrt(((rest - rest.mean()) ** 2).mean())) if len(rest) else 0.0

    def adjustment(self) -> tuple[float, float, str] | None:
        """What makes the recording fit 16 bits: an offset to take away, a factor, and the note; None when it fits."""
        if not self.count:
            return None
        offset, loudest = self.total / self.count, self.loudest()
        if 0 < loudest < QUIET:
            factor = min(TARGET / loudest, MOST)
            return offset, factor, f"it is very quiet: raised by {20 * np.log10(factor):.0f} dB"
        if self.over > 1e-4 * self.count and self.peak > 1.1:
            factor = 0.99 / self.peak
            return 0.0, factor, f"it is louder than full scale: lowered by {-20 * np.log10(factor):.0f} dB"
        if abs(offset) > 0.05:
            return offset, 1.0, "it has a constant offset, which is taken away"
        return None


def pcm(sound: Any) -> bytes:
    """Signed 16-bit little-endian samples of float32 [n]."""
    return np.clip(np.rint(sound * 32768.0), -32768, 32767).astype("<i2").tobytes()


AUDIBLE = -55.0
"""Decibels below which a track has nothing that could be speech."""


def liveliness(levels: Any) -> float:
    """How much a track sounds like speech, from its levels (decibels, ten a second or more); 0 for silence.

    Speech rises and falls by tens of decibels from syllable to pause; hum, noise and most music don't.
    """
    if not len(levels):
        return 0.0
    heard = np.maximum(np.asarray(levels, dtype=np.float64), -70.0)
    loud = (heard > AUDIBLE).mean()
    return float(heard.std() * min(1.0, loud * 20)) if loud > 0 else 0.0
