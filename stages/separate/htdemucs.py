"""HTDemucs on ONNX Runtime: the voice without its music, segment by segment.

Method: S. Rouard, F. Massa, A. Défossez, "Hybrid Transformers for Music Source Separation" (2023): segments of 7.8 s, a
quarter of each under the next, faded into each other. The network knows 44.1 kHz stereo. What comes in is 16 kHz mono: each
segment's spectrum is copied into one of more samples, and both channels carry it, as upstream's own program does with such
a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]

SEGMENT, STRIDE = 124_800, 93_600
"""Samples of 16 kHz of a segment (7.8 s), and from one to the next (5.85 s)."""

MARGIN = 1600
"""Samples around a segment (0.1 s): what a change of the rate does at the ends stays there."""

TIMES = 441, 160
"""The network's rate by ours."""

SIZE, HOP = 4096, 1024
"""Samples of 44.1 kHz of a spectrum's window, and between two windows."""

INPUTS, OUTPUTS = ("spectrum", "sound"), ("voice_spectrum", "voice_sound")
"""Names in the network."""


class Separator:
    """What is said and sung in sounds."""

    def __init__(self, session: Any) -> None:
        """Args:
        session: an inference session of the network (builder/edges/weights/convert/demucs.py).
        """
        self.session = session
        self.window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(SIZE) / SIZE)).astype(np.float32)
        self.fade = np.minimum(np.arange(1, SEGMENT + 1), np.arange(SEGMENT, 0, -1)) / np.float32(SEGMENT // 2)
        self.fade = self.fade.astype(np.float32)

    def cleaned(self, blocks: Iterable[Samples]) -> Iterator[Samples]:
        """The voice alone, in arrays of at most :data:`STRIDE` samples, together as long as what came in.

        Args:
            blocks: 16 kHz samples from -1 to 1, in arrays of any length.
        """
        tail, weights = np.zeros(SEGMENT, np.float32), np.zeros(SEGMENT, np.float32)
        for around, count in segments(blocks):
            tail += self.fade * self.voice(around)
            weights += self.fade
            yield (tail / weights)[: min(STRIDE, count)]
            if count > STRIDE:
                tail, weights = (np.concatenate([x[STRIDE:], np.zeros(STRIDE, np.float32)]) for x in (tail, weights))

    def voice(self, around: Samples) -> Samples:
        """The voice of a segment with its margins; without them."""
        wide = resampled(around, len(around) * TIMES[0] // TIMES[1])
        edge = MARGIN * TIMES[0] // TIMES[1]
        sound = np.stack([wide[edge:-edge]] * 2)
        voice = self.separated(sound).mean(axis=0)
        return resampled(np.pad(voice, edge), len(around))[MARGIN:-MARGIN]

    def separated(self, sound: Samples) -> Samples:
        """The voice of one segment, [2, 343980] to the same."""
        spectrum = self.spectrum(sound)
        given, scales = {}, []
        for name, values in zip(INPUTS, (spectrum, sound), strict=True):
            mean, deviation = values.mean(dtype=np.float64), values.std(dtype=np.float64, ddof=1)
            given[name] = ((values - mean) / (1e-5 + deviation)).astype(np.float32)[None]
            scales.append((np.float32(deviation), np.float32(mean)))
        found = self.session.run(OUTPUTS, given)
        spectrum, sound = (x[0] * deviation + mean for x, (deviation, mean) in zip(found, scales, strict=True))
        return self.heard(spectrum) + sound

    def spectrum(self, sound: Samples) -> Samples:
        """Real and imaginary parts of both channels' spectra, [4, 2048, windows]; the highest bin is left out."""
        count = -(-sound.shape[1] // HOP)
        before = SIZE // 2 - HOP // 2
        padded = np.pad(sound, ((0, 0), (before, before + count * HOP - sound.shape[1])), mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(padded, SIZE, axis=1)[:, ::HOP]
        bins = np.fft.rfft(windows * self.window, axis=2)[:, :, :-1] / np.sqrt(SIZE)
        parts = np.stack([bins.real, bins.imag], axis=1).astype(np.float32)
        return np.ascontiguousarray(parts.reshape(4, count, SIZE // 2).transpose(0, 2, 1))

    def heard(self, spectrum: Samples) -> Samples:
        """What :meth:`spectrum` was made of, [2, 343980]."""
        parts = spectrum.reshape(2, 2, SIZE // 2, -1).transpose(0, 1, 3, 2)
        bins = np.pad(parts[:, 0] + 1j * parts[:, 1], ((0, 0), (0, 0), (0, 1)))
        # Four windows lie over each sample; their squares add up to 1.5.
        frames = np.fft.irfft(bins, SIZE, axis=2).astype(np.float32) * self.window * np.float32(np.sqrt(SIZE) / 1.5)
        count = frames.shape[1]
        frames = frames.reshape(2, count, SIZE // HOP, HOP)
        out = np.zeros((2, count + SIZE // HOP - 1, HOP), np.float32)
        for k in range(SIZE // HOP):
            out[:, k : k + count] += frames[:, :, k]
        before = SIZE // 2 - HOP // 2
        return out.reshape(2, -1)[:, before : before + SEGMENT * TIMES[0] // TIMES[1]]


def segments(blocks: Iterable[Samples]) -> Iterator[tuple[Samples, int]]:
    """Each segment with :data:`MARGIN` samples before and after it, and how many samples are left from its start on.

    Outside of the sound is silence. The count is of what is known: more than :data:`STRIDE` where another segment follows.
    """
    rest, need = np.zeros(MARGIN, np.float32), SEGMENT + 2 * MARGIN
    for block in blocks:
        rest = np.concatenate([rest, block])
        while len(rest) >= need:
            yield rest[:need], len(rest) - MARGIN
            rest = rest[STRIDE:]
    while (left := len(rest) - MARGIN) > 0:
        yield np.pad(rest, (0, need - len(rest))), left
        rest = rest[STRIDE:]


def resampled(sound: Samples, count: int) -> Samples:
    """The same sound in ``count`` samples: its spectrum, longer or shorter."""
    bins = np.fft.rfft(sound)
    own = np.zeros(count // 2 + 1, np.complex128)
    kept = min(len(bins), len(own)) - 1  # the highest one may stand for two
    own[:kept] = bins[:kept]
    return (np.fft.irfft(own, count) * (count / len(sound))).astype(np.float32)
