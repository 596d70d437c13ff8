"""Which windows tell a recording's language, and each window's own where that is asked for."""

from __future__ import annotations

import wave
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import stage_module

asr, tongues = stage_module("asr"), stage_module("asr", "tongues")


class Backend:
    """Answers for each window as the encoder's output would."""

    def __init__(self, *answers: dict[str, float]) -> None:
        self.answers = list(answers)
        self.encoded: list[float] = []

    def encode(self, model: Any, sounds: list[Any]) -> Any:
        self.encoded += [len(sound) / 16_000 for sound in sounds]
        return SimpleNamespace(lengths=[len(sound) / 16_000 for sound in sounds])

    def languages(self, model: Any, encoded: Any) -> list[dict[str, float]]:
        return [self.answers.pop(0) for _ in encoded.lengths]

    def part(self, model: Any, encoded: Any, which: list[int]) -> Any:
        return SimpleNamespace(lengths=[encoded.lengths[k] for k in which])

    def hear(self, job: Any, model: Any, encoded: Any, language: str) -> list[Any]:
        words = [{"word": f" {language}", "start": 0.0, "end": 1.0, "probability": 0.9}]
        return [SimpleNamespace(words=words, likelihood=-0.1, silence=0.0) for _ in encoded.lengths]


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


def stream(
    path: Path, backend: Backend, speech: list[list[float]], *, batch: int = 2, each: bool = False, many: bool = True
) -> Any:
    """The sound's windows, as main makes them."""
    ear = asr.Ear(
        job=SimpleNamespace(settings={"batch_size": batch}),
        backend=backend,
        model=SimpleNamespace(model=SimpleNamespace(is_multilingual=many), supported_languages=["en"]),
    )
    return asr.Stream(ear, asr.Sound(path=path, speech=speech, doubts=[]), 120.0, each=each)


def test_the_first_windows_tell_the_language_and_are_encoded_once(sound: Path) -> None:
    """The encoder costs half of the time: what the language was told from is heard from the same output."""
    backend = Backend({"fr": 0.9, "en": 0.1}, {"fr": 0.8, "en": 0.2})
    heard = stream(sound, backend, [[10.0, 20.0], [40.0, 60.0], [80.0, 90.0]])
    assert heard.language() == ("fr", pytest.approx(0.833, abs=0.01))
    assert len(backend.encoded) == 2
    found = list(heard.heard("fr"))
    assert [one.words[0]["word"] for one in found] == [" fr"] * 3
    assert backend.encoded == pytest.approx([10.4, 20.4, 10.4])


def test_a_doubt_is_settled_by_more_speech(sound: Path) -> None:
    """A greeting in another language doesn't decide: windows count by their length."""
    backend = Backend({"en": 0.45, "de": 0.4}, {"en": 0.1, "de": 0.9})
    heard = stream(sound, backend, [[10.0, 20.0], [40.0, 60.0]], batch=1)
    assert heard.language()[0] == "de"
    assert len(backend.encoded) == 2


def test_an_english_model_is_not_asked(sound: Path) -> None:
    """It has no languages to choose from."""
    heard = stream(sound, Backend(), [[0.0, 5.0]], many=False)
    assert heard.language() == ("en", 1.0)
    assert [one.language for one in stream(sound, Backend(), [[0.0, 5.0]], many=False, each=True).heard(None)] == ["en"]


def test_each_window_s_own_language(sound: Path) -> None:
    """Mixed recordings: one after the other in its own, and a doubtful window in one that the recording has."""
    backend = Backend({"de": 0.95}, {"en": 0.9}, {"nl": 0.5, "de": 0.45})
    heard = stream(sound, backend, [[0.0, 9.0], [20.0, 29.0], [40.0, 42.0]], batch=3, each=True)
    assert [one.language for one in heard.heard(None)] == ["de", "en", "de"]


def test_a_recording_has_the_language_of_most_of_its_time() -> None:
    """And its share is the probability."""
    segments = [{"language": "de", "start": 0.0, "end": 3.0}, {"language": "en", "start": 3.0, "end": 4.0}]
    assert asr.most_spoken(segments) == ("de", 0.75)
    assert asr.most_spoken([]) == (None, 0.0)
