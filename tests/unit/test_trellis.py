"""The aligner's trellis against every path there is, and a recording whose letters are known."""

from __future__ import annotations

import itertools
import wave
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import stage_module

trellis, ctc = stage_module("align", "trellis"), stage_module("align", "ctc")

RATE, HOP = 16_000, 320


def collapsed(path: tuple[int, ...]) -> list[int]:
    """What a path says: repetitions once, without blanks."""
    return [label for label, _ in itertools.groupby(path) if label != 0]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.lists(st.integers(1, 3), min_size=3, max_size=5))
def test_the_best_of_all_paths_is_found(seed: int, frames: int, targets: list[int]) -> None:
    """Against all of them; the ends may be left out."""
    scores = np.random.default_rng(seed).standard_normal((frames, 4))
    wanted = [targets, targets[1:], targets[:-1], targets[1:-1]]
    fitting = {
        path: sum(scores[t, label] for t, label in enumerate(path))
        for path in itertools.product(range(4), repeat=frames)
        if collapsed(path) in wanted
    }
    spans = trellis.aligned(scores, targets, 0)
    if not fitting:
        assert spans is None
        return
    best = max(fitting, key=lambda path: fitting[path])
    assert spans is not None
    found = [0] * frames
    for (first, end), label in zip(spans, targets, strict=True):
        found[first:end] = [label] * (end - first)
    assert tuple(found) == best
    assert all(end > first for first, end in spans[1:-1])


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        (" Été!", "ete"),
        ("straße", "strasse"),
        ("l’œuf", "l'oeuf"),
        ("Łódź", "lodz"),
        ("42", ""),
        ("ねこ", ""),
        ("a-b", "ab"),
    ],
)
def test_letters_that_the_alphabet_lacks(word: str, wanted: str) -> None:
    """Marks are dropped; figures and other scripts can't be written."""
    alphabet = {letter: k for k, letter in enumerate("abcdefghijklmnopqrstuvwxyz'")}
    assert trellis.letters(word, alphabet) == [alphabet[c] for c in wanted]
    assert trellis.letters("É", {"é": 5, "E": 1}) == [5]
    assert trellis.letters("e", {"E": 1}) == [1]


@given(st.lists(st.tuples(st.floats(0, 4), st.floats(0.01, 14)), max_size=20))
def test_windows_are_short_and_have_each_word_once(steps: list[tuple[float, float]]) -> None:
    """Memory is bounded; only a word that is longer than a window stays out."""
    words, at = [], 0.0
    for gap, length in steps:
        words.append({"start": at + gap, "end": at + gap + length})
        at += gap + length
    found = list(ctc.parts(words))
    inside = [k for first, end in found for k in range(first, end)]
    assert inside == [k for k, w in enumerate(words) if w["end"] - w["start"] <= ctc.LONGEST]
    assert all(words[end - 1]["end"] - words[first]["start"] <= ctc.LONGEST for first, end in found)


class Loud:
    """Hears the letter whose number is how loud a frame is; silence is the blank."""

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="input_values")]

    def run(self, _: None, given: dict[str, Any]) -> list[Any]:
        (sound,) = given["input_values"]
        frames = sound[: len(sound) // HOP * HOP].reshape(-1, HOP).std(axis=1)
        steps = np.round(frames / (frames.max() or 1) * 4).astype(int)
        return [np.where(np.arange(5) == steps[:, None], 8.0, 0.0)[None].astype(np.float32)]


def sounding(path: Path, frames: list[int]) -> Path:
    """Frames of noise, each as loud as its number says."""
    noise = np.random.default_rng(1).standard_normal(HOP * len(frames)) * 1000
    with wave.open(str(path), "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(RATE)
        wav.writeframes((noise * np.repeat(frames, HOP)).astype("<i2").tobytes())
    return path


def test_words_begin_and_end_with_their_letters(tmp_path: Path) -> None:
    """Whatever is said around them, and a figure between them, which keeps the recogniser's time."""
    frames = [0] * 10 + [4, 4, 1] + [0] * 7 + [1, 1, 0, 2, 2] + [0] * 5 + [3] * 6 + [0] * 4 + [2, 2, 0, 3] + [0] * 16
    aligner = ctc.described(Loud(), {"<blank>": 0, "a": 1, "b": 2, "c": 3, "d": 4})
    words = [
        {"word": " ab", "start": 0.46, "end": 0.55, "source": "whisper"},
        {"word": " 42", "start": 0.6, "end": 0.7, "source": "whisper"},
        {"word": " bc.", "start": 0.75, "end": 0.95, "source": "whisper"},
    ]
    result = {"duration": 1.2, "segments": [{"words": words, "start": 0.46, "end": 0.95}]}
    job = SimpleNamespace(progress=lambda *_: None)
    ctc.refine(job, None, aligner, result, sounding(tmp_path / "a.wav", frames))
    assert [w["source"] for w in words] == ["acoustic", "whisper", "acoustic"]
    assert (words[0]["start"], words[0]["end"]) == (0.4, 0.5)
    assert (words[2]["start"], words[2]["end"]) == (0.8, 0.88)
    assert result["segments"][0]["start"] == words[0]["start"]


@pytest.mark.parametrize("frames", [[], [1], [0] * 3])
def test_sound_that_is_too_short_for_its_words(tmp_path: Path, frames: list[int]) -> None:
    """They keep the recogniser's times."""
    aligner = ctc.described(Loud(), {"[PAD]": 0, "A": 1, "B": 2, "C": 3, "|": 4})
    words = [{"word": " abcabcabc", "start": 0.0, "end": 0.04, "source": "whisper"}]
    result = {"duration": 0.05, "segments": [{"words": words, "start": 0.0, "end": 0.04}]}
    job = SimpleNamespace(progress=lambda *_: None)
    ctc.refine(job, None, aligner, result, sounding(tmp_path / "a.wav", frames))
    assert words == [{"word": " abcabcabc", "start": 0.0, "end": 0.04, "source": "whisper"}]
