"""Sound as the benchmark makes and reads it: mono, 16 kHz, float32 samples between -1 and 1."""

from __future__ import annotations

import hashlib
import json
import subprocess
import wave
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from harness import WORK, native_python
from numpy.typing import NDArray

RATE = 16_000
"""Samples a second."""

Samples = NDArray[np.float32]

DECODE = """
import json, sys, wave
import av
for source, target in json.load(sys.stdin):
    resampler = av.AudioResampler(format="s16", layout="mono", rate=16000)
    with av.open(source) as container, wave.open(target + ".part", "wb") as wav:
        wav.setnchannels(1); wav.setsampwidth(2); wav.setframerate(16000)
        for frame in [*container.decode(audio=0), None]:
            for part in resampler.resample(frame):
                wav.writeframes(part.to_ndarray().tobytes())
    import os
    os.replace(target + ".part", target)
"""


@cache
def python() -> Path:
    """The stages' python: it has PyAV."""
    return native_python()


def decoded(paths: Sequence[Path]) -> list[Path]:
    """WAV files of recordings of any format, made once in bench/.work/decoded."""
    place = WORK / "decoded"
    place.mkdir(parents=True, exist_ok=True)
    targets = [place / f"{path.stem}-{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}.wav" for path in paths]
    missing = [(str(a), str(b)) for a, b in zip(paths, targets, strict=True) if not b.exists()]
    if missing:
        subprocess.run([python(), "-c", DECODE], input=json.dumps(missing), text=True, check=True)
    return targets


def read(path: Path) -> Samples:
    """A WAV file's samples (16 bit, mono, 16 kHz)."""
    with wave.open(str(path)) as wav:
        return np.frombuffer(wav.readframes(wav.getnframes()), "<i2").astype(np.float32) / np.float32(32768)


def load(path: Path) -> Samples:
    """Samples of a recording of any format."""
    return read(decoded([path])[0])


def write(path: Path, samples: Samples) -> Path:
    """A WAV file, 16 bit; what is too loud is made quieter as a whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    loudest = float(np.abs(samples).max(initial=0.0))
    scaled = samples * (0.99 / loudest if loudest > 0.99 else 1.0)
    with wave.open(str(path), "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(RATE)
        wav.writeframes((scaled * 32767).astype("<i2").tobytes())
    return path


def silence(seconds: float) -> Samples:
    """Nothing at all."""
    return np.zeros(round(seconds * RATE), np.float32)


def power(samples: Samples) -> float:
    """Mean square of what is not silence."""
    loud = np.abs(samples) > 1e-4
    return float(np.mean(samples[loud].astype(np.float64) ** 2)) if loud.any() else 0.0


def levelled(samples: Samples, decibels: float = -23.0) -> Samples:
    """The same sound at a level (dB below full scale, of what is not silence)."""
    now = power(samples)
    return samples if not now else samples * np.float32(np.sqrt(10 ** (decibels / 10) / now))


def under(speech: Samples, other: Samples, decibels: float) -> Samples:
    """Speech with another sound under it for its whole length, so many dB below the speech."""
    long = np.resize(other, len(speech))
    gain = np.sqrt(power(speech) / max(power(long), 1e-12) / 10 ** (decibels / 10))
    return (speech + gain * long).astype(np.float32)


def coloured(kind: str, count: int, chance: np.random.Generator) -> Samples:
    """Noise: ``white``, ``pink`` (-3 dB an octave) or ``brown`` (-6 dB an octave)."""
    spectrum = np.fft.rfft(chance.standard_normal(count))
    slope = {"white": 0.0, "pink": 0.5, "brown": 1.0}[kind]
    spectrum[1:] /= np.arange(1, len(spectrum)) ** slope
    spectrum[0] = 0
    noise = np.fft.irfft(spectrum, count)
    return (noise / np.abs(noise).max() / 2).astype(np.float32)


def telephone(samples: Samples) -> Samples:
    """As an analogue line carries it: 300–3400 Hz, 8 bits of µ-law (ITU-T G.711's curve)."""
    spectrum = np.fft.rfft(samples)
    hertz = np.fft.rfftfreq(len(samples), 1 / RATE)
    spectrum[(hertz < 300) | (hertz > 3400)] = 0
    narrow = np.clip(np.fft.irfft(spectrum, len(samples)), -1, 1)
    curved = np.sign(narrow) * np.log1p(255 * np.abs(narrow)) / np.log(256)
    stepped = np.round(curved * 127) / 127
    return (np.sign(stepped) * np.expm1(np.abs(stepped) * np.log(256)) / 255).astype(np.float32)


def speech(samples: Samples, *, pause: float = 0.3, below: float = 30.0) -> list[tuple[float, float]]:
    """Where a clean recording of one voice is loud: seconds, to 10 ms.

    Args:
        pause: shorter quiet is part of the speech, seconds.
        below: dB below the loudest tenth that is still speech.
    """
    step = RATE // 100
    count = len(samples) // step
    if not count:
        return []
    frames = 10 * np.log10(np.mean(samples[: count * step].reshape(count, step) ** 2, axis=1) + 1e-10)
    loud = frames > np.percentile(frames, 90) - below
    edges = np.flatnonzero(np.diff(np.concatenate([[0], loud.astype(np.int8), [0]])))
    spans: list[tuple[float, float]] = []
    for a, b in zip(edges[::2] / 100, edges[1::2] / 100, strict=True):
        if spans and a - spans[-1][1] < pause:
            spans[-1] = (spans[-1][0], float(b))
        else:
            spans.append((float(a), float(b)))
    return [(a, b) for a, b in spans if b - a >= 0.05]
