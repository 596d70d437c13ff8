"""Which sound tells a recording's language: speech only, and more of it while the model is unsure."""

from __future__ import annotations

import wave
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import stage_module

asr, windows = stage_module("asr"), stage_module("asr", "windows")
REGIONS = st.lists(st.tuples(st.floats(0.01, 90), st.floats(0.05, 50)), max_size=12)


@given(REGIONS)
def test_half_a_minute_of_speech_at_a_time(steps: list[tuple[float, float]]) -> None:
    """In order, from speech only, at most four times 30 s, and all speech when there is less."""
    speech, at = [], 0.0
    for length, gap in steps:
        speech.append([at + gap, at + gap + length])
        at += gap + length
    groups = list(windows.samples(speech))
    assert len(groups) <= windows.LISTEN
    spans = [span for group in groups for span in group]
    edges = [edge for span in spans for edge in span]
    assert edges == sorted(edges)
    assert all(any(s - 1e-6 <= a and b <= e + 1e-6 for s, e in speech) for a, b in spans)
    assert all(sum(b - a for a, b in group) <= windows.HEARD + 1e-6 for group in groups)
    assert sum(b - a for a, b in spans) == pytest.approx(
        min(sum(e - s for s, e in speech), windows.LISTEN * windows.HEARD), abs=0.01
    )


class Model:
    """Answers as faster-whisper's ``detect_language`` does."""

    def __init__(self, *answers: dict[str, float]) -> None:
        self.model = SimpleNamespace(is_multilingual=True)
        self.answers = list(answers)
        self.heard: list[float] = []

    def detect_language(self, audio: Any) -> tuple[str, float, list[tuple[str, float]]]:
        self.heard.append(len(audio) / 16_000)
        answer = self.answers.pop(0)
        return "", 0.0, sorted(answer.items(), key=lambda pair: -pair[1])


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    pytest.importorskip("numpy")
    path = tmp_path / "01.wav"
    with wave.open(str(path), "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(16_000)
        wav.writeframes(b"\0\0" * 16_000 * 120)
    return path


def test_a_sure_answer_is_taken_at_once(sound: Path) -> None:
    """One pass of the encoder, over speech: the model doesn't hear the silence before it."""
    model = Model({"fr": 0.9, "en": 0.1})
    assert asr.spoken_language(model, sound, [[50.0, 60.0], [70.0, 75.0]]) == ("fr", 0.9)
    assert model.heard == [15.0]


def test_a_doubt_is_settled_by_more_speech(sound: Path) -> None:
    """A greeting in another language doesn't decide."""
    model = Model({"en": 0.45, "de": 0.4}, {"en": 0.1, "de": 0.9})
    language, chance = asr.spoken_language(model, sound, [[10.0, 70.0]])
    assert (language, round(chance, 3)) == ("de", 0.65)
    assert model.heard == [30.0, 30.0]


def test_an_english_model_is_not_asked(sound: Path) -> None:
    """It has no languages to choose from."""
    model = Model()
    model.model.is_multilingual = False
    assert asr.spoken_language(model, sound, [[0.0, 5.0]]) == ("en", 1.0)
