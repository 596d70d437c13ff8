"""Speech by pyannote's segmentation: what overlapping windows say becomes one probability for each window of the stage."""

from __future__ import annotations

import wave
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.conftest import stage_module

segments = stage_module("vad", "segments")
vad = stage_module("vad")


class Session:
    """A model that hears somebody where the sound isn't silent, frame by frame."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="sound")]

    def run(self, _: None, given: dict[str, Any]) -> list[Any]:
        sound = given["sound"]
        self.shapes.append(sound.shape)
        middles = np.arange(segments.FRAMES) * segments.STEP + segments.FIRST
        nobody = np.where(np.abs(sound[0, 0, middles]) > 0, 0.1, 0.9)
        out = np.full((1, segments.FRAMES, 7), -9.0, dtype=np.float32)
        out[0, :, 0] = np.log(nobody)
        return [out]


def written(path: Path, seconds: float, speech: list[tuple[float, float]]) -> Path:
    sound = np.zeros(round(seconds * 16000), dtype="<i2")
    for start, end in speech:
        sound[round(start * 16000) : round(end * 16000)] = 1000
    with wave.open(str(path), "wb") as wav:
        wav.setparams((1, 2, 16000, 0, "NONE", ""))
        wav.writeframes(sound.tobytes())
    return path


@pytest.mark.parametrize(
    ("seconds", "speech", "windows"),
    [
        (3.0, [(1.0, 2.0)], 1),
        (10.0, [(0.0, 9.0)], 1),
        (10.1, [(8.0, 10.0)], 2),
        (27.3, [(1.0, 3.0), (9.5, 12.0), (26.0, 27.3)], 5),
        (0.01, [], 1),
        (0.0, [], 1),
    ],
)
def test_speech_is_found_wherever_it_is(
    tmp_path: Path, seconds: float, speech: list[tuple[float, float]], windows: int
) -> None:
    """In the first and the last window, across windows, and in sounds shorter than one."""
    session, told = Session(), []
    settings = {"threshold": 0.5, "min_speech_ms": 100, "min_silence_ms": 250, "pad_ms": 0}
    job = SimpleNamespace(settings=settings, progress=lambda _, done, whole: told.append((done, whole)))
    found = vad.detect(job, None, session, written(tmp_path / "a.wav", seconds, speech))
    assert session.shapes == [(1, 1, 160000)] * windows
    assert len(found.speech) == len(speech)
    for (start, end), (a, b) in zip(found.speech, speech, strict=True):
        assert abs(start - a) < 0.05
        assert abs(end - b) < 0.05
    assert found.duration == pytest.approx(seconds, abs=1e-3)
    assert told[-1] == (found.duration, found.duration)


def test_where_windows_overlap_their_mean_counts(tmp_path: Path) -> None:
    """One that is sure and one that isn't make a half."""

    class Doubting(Session):
        def run(self, _: None, given: dict[str, Any]) -> list[Any]:
            super().run(None, given)
            out = np.zeros((1, segments.FRAMES, 7), dtype=np.float32)
            out[0, :, 0] = np.log(1.0 if len(self.shapes) == 1 else 0.2)
            return [out]

    chances, _ = segments.chances(written(tmp_path / "a.wav", 15.0, []), Doubting(), 512, lambda *_: None)
    assert len(chances) == -(-15 * 16000 // 512)
    assert [round(float(chances[round(t * 31.25)]), 2) for t in (2.0, 7.0, 14.0)] == [0.0, 0.4, 0.8]
