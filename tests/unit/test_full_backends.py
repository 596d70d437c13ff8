"""The pure parts of the full variant's backends: which one is used, sentences, times of words, turns."""

from __future__ import annotations

from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import loading
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import stage_module

align, aligner = stage_module("align"), stage_module("align", "full")
pipeline = stage_module("diarize", "pipeline")


def using(id_: str, *languages: str) -> dict[str, Any]:
    return {"alignment": {"id": id_, "languages": list(languages)}}


ENGLISH, FRENCH = using("wav2vec2-en", "en"), using("cmusphinx-fr", "fr")


@pytest.mark.parametrize(
    ("variant", "uses", "file", "language", "backend"),
    [
        ("slim", {}, "", "en", "slim"),
        ("slim", {}, "", "de", None),
        ("full", ENGLISH, "config.json", "en", "full"),
        ("full", ENGLISH, "config.json", "de", None),
        ("full", {}, "", "en", "slim"),
        ("slim", ENGLISH, "config.json", "en", "slim"),
        ("slim", FRENCH, "mdef", "fr", "slim"),
        ("slim", FRENCH, "mdef", "en", "slim"),
        ("slim", FRENCH, "mdef", "de", None),
        ("slim", FRENCH, "other", "fr", None),
        ("full", FRENCH, "mdef", "fr", "slim"),
    ],
)
def test_alignment_by_variant_language_and_model(
    tmp_path: Path, variant: str, uses: dict[str, Any], file: str, language: str, backend: str | None
) -> None:
    """A model of another language is never used: its times would be nonsense."""
    (tmp_path / (file or "nothing")).touch()
    job = SimpleNamespace(variant=variant, uses=uses, model=lambda purpose: tmp_path)
    assert align.backend(job, language) == backend


class Characters:
    """Gives every letter a tenth of a second, as WhisperX's align does with ``return_char_alignments``."""

    def __init__(self, known: str = "abcdefghijklmnopqrstuvwxyz") -> None:
        self.known = known

    def align(self, segments: Any, *_: Any, **__: Any) -> Any:
        text = segments[0]["text"]
        chars = [
            {"char": c, "start": k / 10, "end": (k + 1) / 10} if c in self.known else {"char": c}
            for k, c in enumerate(text)
        ]
        return {"segments": [{"chars": chars}]}


def test_words_get_the_times_of_their_letters() -> None:
    """A word without a letter that the model knows keeps its time."""
    words = [{"word": w} for w in (" ab", " 12", " c.")]
    tool = aligner.Aligner(Characters(), None, {}, "cpu")
    edges = aligner.times(tool, np.zeros(16_000, np.float32), words, 5.0)
    assert edges == {0: (5.1, pytest.approx(5.3)), 2: (pytest.approx(5.7), pytest.approx(5.8))}


def test_an_alignment_of_another_length_is_ignored() -> None:
    """WhisperX gives fewer characters when it can't align."""

    class Fewer(Characters):
        def align(self, *_: Any, **__: Any) -> Any:
            return {"segments": [{"chars": None}]}

    tool = aligner.Aligner(Fewer(), None, {}, "cpu")
    assert aligner.times(tool, np.zeros(16, np.float32), [{"word": "a"}], 0.0) == {}


@given(st.lists(st.tuples(st.floats(0, 60), st.floats(0, 70), st.sampled_from("AB")), max_size=20))
def test_turns_are_in_order_and_apart(tracks: list[tuple[float, float, str]]) -> None:
    """Whatever the pipeline says; speakers are named by first appearance."""
    turns = pipeline.described(tracks, 60.0)
    assert all(0 <= t["start"] <= t["end"] <= 60.0 for t in turns)
    assert all(a["end"] <= b["start"] for a, b in pairwise(turns))
    assert [t["speaker"] for t in turns][:1] in ([], ["S1"])


@pytest.fixture(autouse=True)
def nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test loads isn't there for the next."""
    monkeypatch.setattr(loading, "_carried", {})


@pytest.mark.parametrize(
    ("lacking", "why"),
    [
        ("folder", "model wav2vec2-en is not in the tree of weights: torch"),
        ("file", "model wav2vec2-en can't be loaded: cut short"),
        ("package", "pocketsphinx is not installed here"),
    ],
)
def test_an_aligner_that_is_not_there_is_a_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lacking: str, why: str
) -> None:
    """Whisper's own times are a result: a missing model of one language doesn't end a job of three."""

    def load(job: Any, language: str) -> Any:
        if lacking == "file":
            raise align.ModelFault("model wav2vec2-en can't be loaded: cut short")

    def model(purpose: str) -> Path:
        if lacking == "folder":
            raise align.ModelFault("model wav2vec2-en is not in the tree of weights: torch")
        return tmp_path

    monkeypatch.setattr(align.importlib, "import_module", lambda name: SimpleNamespace(load=load))
    assert align.load(SimpleNamespace(variant="full", uses=ENGLISH, settings={}, model=model), "en") == why


def test_each_language_of_a_recording_has_its_own_aligner(monkeypatch: pytest.MonkeyPatch) -> None:
    """English words are aligned, and the others keep Whisper's times: a note says which."""
    aligned: list[str] = []
    notes: list[str] = []
    segments = [
        {"language": language, "start": k, "end": k + 1, "words": [{"word": " w", "start": k, "end": k + 1}]}
        for k, language in enumerate(["en", "de", "en"])
    ]
    module = SimpleNamespace(
        load=lambda job, language: language,
        refine=lambda job, recording, aligner, part, path: aligned.extend(s["language"] for s in part["segments"]),
    )
    monkeypatch.setattr(align.importlib, "import_module", lambda name: module)
    saved: list[Any] = []
    job = SimpleNamespace(
        inputs=[SimpleNamespace(id="01")],
        load=lambda stage, recording: {"language": "en", "duration": 3.0, "segments": segments},
        note=lambda recording, message: notes.append(message),
        variant="slim",
        uses={},
        settings={},
        sounds=lambda recording: ["01.wav"],
        timed=lambda part: nullcontext(),
        save=lambda recording, result: saved.append(result),
    )
    align.work(job)
    assert aligned == ["en", "en"]
    assert notes == ["word times are Whisper's own: no acoustic alignment for 'de'"]
    assert [s["words"][0]["source"] for s in saved[0]["segments"]] == ["whisper"] * 3
