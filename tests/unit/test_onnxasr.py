"""Models of onnx-asr: what they are by their files, and words out of their tokens."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.conftest import stage_module

onnxasr = stage_module("asr", "onnxasr")
hearing = stage_module("asr", "hearing")


@pytest.mark.parametrize(
    ("config", "files", "kind"),
    [
        ('{"model_type": "nemo-conformer-tdt"}', (), "nemo-conformer-tdt"),
        ('{"model_type": "gigaam"}', ("v3_e2e_rnnt_encoder.int8.onnx",), "gigaam-v3-e2e-rnnt"),
        ('{"model_type": "gigaam"}', ("v3_e2e_ctc.int8.onnx",), "gigaam-v3-e2e-ctc"),
        ('{"model_type": "gigaam"}', (), None),
        ('{"model_type": "whisper"}', ("model.bin",), None),
        ('{"alignment_heads": []}', ("model.bin",), None),
        ("[]", (), None),
        ("no JSON", (), None),
        (None, ("model.bin",), None),
    ],
)
def test_what_a_folder_holds(tmp_path: Path, config: str | None, files: tuple[str, ...], kind: str | None) -> None:
    """By config.json, and for GigaAM by the files beside it; anything else is another backend's."""
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    for name in files:
        (tmp_path / name).touch()
    assert onnxasr.kind(tmp_path) == kind


def test_words_of_tokens() -> None:
    """A space begins one, alone or before letters; it lasts until the next token, within bounds."""
    words = onnxasr.spoken([" he", "llo", " ", "y", "ou"], [-0.1, -0.3, 0.0, 0.1, 0.1], [0.0, 0.2, 0.4, 0.5, 3.0], 3.1)
    assert [(w["word"], w["start"], w["end"]) for w in words] == [(" hello", 0.0, 0.4), (" you", 0.5, 3.1)]
    assert [round(w["probability"], 3) for w in words] == [0.819, 1.0]
    late = onnxasr.spoken([" a", " b", "c", " "], [0.0] * 4, [1.0, 2.0, 2.0, 9.0], 2.02)
    assert [(w["word"], w["start"], w["end"]) for w in late] == [(" a", 1.0, 1.32), (" bc", 2.0, 2.02)]
    assert onnxasr.spoken([], [], [], 1.0) == []


def test_guessed_times_cover_the_window() -> None:
    """By the letters of each word, with its space."""
    words = onnxasr.spoken([" a", "bc", " d"], [-1.0] * 3, None, 6.0)
    assert [(w["word"], w["start"], w["end"]) for w in words] == [(" abc", 0.0, 4.0), (" d", 4.0, 6.0)]
    assert onnxasr.spoken([" "], [0.0], None, 6.0) == []


def test_terms_of_a_glossary_are_no_part_of_what_the_model_is_told_and_are_corrected() -> None:
    asked: list[str] = []

    def recognize(sound: Any, **_: Any) -> Any:
        return SimpleNamespace(
            tokens=[" Lov", "elase", "'s", " tea"], logprobs=[-1.0] * 4, timestamps=[0, 0.3, 0.5, 0.8]
        )

    told = SimpleNamespace(
        settings={"correct_below": 0.8, "beam_size": 5}, inputs=["in"], note=lambda *_: asked.append("note")
    )
    model = onnxasr.Model(
        recogniser=SimpleNamespace(recognize=recognize),
        kind="nemo-conformer-tdt",
        supported_languages=("en",),
        model=SimpleNamespace(is_multilingual=False),
    )
    terms = (hearing.Term(text="Ada Lovelace", translate={}),)
    ear = hearing.Ear(job=told, backend=onnxasr, model=model, terms=terms)
    states = onnxasr.encode(model, [np.zeros(32000, np.float32)])
    [heard] = ear.nearer(states, ["en"], ear.hear(states, ["en"]))
    right = stage_module("asr").Corrector(told, terms)
    words = right([word | {"language": "en"} for word in heard.words], {})
    assert "".join(word["word"] for word in words) == " Lovelace's tea"
    assert [change["before"] for change in right.data()["corrections"]] == ["Lovelase's"]
    assert asked == []
