"""Known voices: names of any kind, files that may be anything, and what a job is given."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from builder.core.jobs.request import Request
from builder.core.terms import Purpose
from builder.core.voices import known as voices
from builder.core.voices.known import Voice
from builder.core.weights.model import model_digest
from builder.errors import UsageError
from tests.unit.test_job import CONFIG

UNIT = (1.0, *[0.0] * 191)


def voice(name: str = "Ada Lovelace", digest: str = "sha256:1", **changes: Any) -> Voice:
    made = Voice(
        name=name,
        model="campplus",
        digest=digest,
        vector=UNIT,
        seconds=30.0,
        added="2026-11-20T08:00:00Z",
        consent="yes",
    )
    return replace(made, **changes)


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("Ada Lovelace", "Ada Lovelace"),
        ("  Ada \n Lovelace\t", "Ada Lovelace"),
        ("../../etc/passwd", "../../etc/passwd"),
        ("a=b", "a=b"),
        ("Zoe\u0308", "Zoë"),
        ("\x1b[31mred", "[31mred"),
        ("愛", "愛"),
        ("--help", "--help"),
    ],
)
def test_a_name_is_any_text_on_one_line(typed: str, name: str) -> None:
    assert voices.checked_name(typed) == name
    file = voice(name).file
    assert file.removesuffix(".json").isalnum()
    assert len(file) == 37


@pytest.mark.parametrize("typed", ["", " \n", "S1", "S12", "x" * 61])
def test_what_is_no_name_is_refused(typed: str) -> None:
    with pytest.raises(UsageError, match="can't be a name"):
        voices.checked_name(typed)


def test_one_person_has_one_file_a_model_however_the_name_is_spelled() -> None:
    assert voice("ADA").file == voice("ada").file
    assert voice("Zoë").file == voice("Zoe\u0308").file
    assert voice("ada").file != voice("ada", digest="sha256:2").file
    assert voice("a", digest="b").file != voice("ab", digest="").file


def test_a_voice_comes_back_as_it_was_written() -> None:
    one = voice("Zoë 愛", consent='by mail: "yes"')
    assert voices.from_json(json.loads(voices.to_json(one))) == one


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"name": "S1"},
        {"name": 5},
        {"vector": [1.0]},
        {"vector": [0.0] * 192},
        {"vector": [True, *[0.0] * 191]},
        {"vector": ["1", *[0.0] * 191]},
        {"vector": [1e300, *[0.0] * 191]},
        {"model": "campplus"},
        {"model": None},
        {"seconds": "long"},
        {"consent": "x" * 1000},
    ],
)
def test_a_file_that_is_no_voice_is_none(change: dict[str, Any]) -> None:
    assert voices.from_json(json.loads(voices.to_json(voice())) | change) is None
    assert voices.from_json([change]) is None
    assert voices.from_json(None) is None


def request(embedding: str = "d-vector") -> Request:
    model = CONFIG.models[embedding]
    return Request(
        workflow=None,
        variant="slim",
        preset="p",
        models={Purpose.EMBEDDING: (model, CONFIG.pins[embedding])},
        settings={"diarize": {"speakers": 2}},
    )


def test_a_job_is_given_the_voices_of_its_embedding_and_their_digest() -> None:
    """Another voice makes another request, so that no job is taken for one that knows others."""
    own = model_digest(CONFIG.pins["d-vector"])
    known = [voice("Charles", own), voice("Ada", own), voice("Mary", "sha256:other")]
    asked = voices.with_voices(request(), known)
    data = json.loads(asked.voices)
    assert [entry["name"] for entry in data["voices"]] == ["Ada", "Charles"]
    assert data["threshold"] == voices.THRESHOLD
    assert b"mail" not in asked.voices, "names and vectors only"
    assert asked.settings["diarize"]["speakers"] == 2
    assert len(asked.settings["diarize"]["voices"]) == 64
    assert "Mary" in asked.warning
    assert "Ada" not in asked.warning
    assert voices.with_voices(request(), known[::-1]) == asked
    assert voices.with_voices(request(), known[:1]).settings != asked.settings


def test_voices_of_another_embedding_are_left_out_and_said() -> None:
    asked = voices.with_voices(request(), [voice("Mary", "sha256:other")])
    assert asked == replace(request(), warning=asked.warning)
    assert asked.warning == "not compared with the voices of Mary: they are of another embedding than d-vector"
    pipeline = replace(request(), models={})
    assert "a pipeline's own" in voices.with_voices(pipeline, [voice()]).warning
    assert voices.with_voices(request(), []) == request()


def test_one_who_has_voices_of_both_models_is_known() -> None:
    own = model_digest(CONFIG.pins["d-vector"])
    assert voices.with_voices(request(), [voice("Ada", own), voice("Ada", "sha256:other")]).warning == ""
