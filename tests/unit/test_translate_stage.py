"""The stage translate: what a backend is asked for, and what it isn't."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.contract import Recording, StageJob
from tests.conftest import stage_module

stage = stage_module("translate", "main")


class Backend:
    """Pure; it has nothing to say of "hm"."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    def translate(self, lines: Sequence[str], *, source: str, target: str) -> list[str]:
        self.asked.append((source, target, *lines))
        return ["" if text == "hm" else text.upper() for text in lines]


def into(
    folder: Path, backend: Backend, *said: tuple[str, str], name: str = "apertium"
) -> tuple[dict[str, Any], list[str]]:
    """What is made of texts and their languages in English, and the notes."""
    recording = Recording(id="01", name="talk.wav", path=folder / "input/01.wav", output="talk")
    job = StageJob(
        root=folder,
        stage="translate",
        variant="slim",
        settings={"to": "en", "backends": "en=apertium"},
        uses={},
        inputs=(recording,),
        stages=("asr", "translate"),
    )
    lines = [stage.Line(start=k, end=k + 1, text=text, language=of) for k, (of, text) in enumerate(said)]
    task = stage.Task(job, recording, lines, "es", 9.0, {"apertium": backend})
    return task.into("en", name, 1), job.notes


def test_only_what_is_in_another_language_is_translated(tmp_path: Path) -> None:
    backend = Backend()
    made, _ = into(tmp_path, backend, ("es", "uno"), ("es", "hm"), ("en", "two"), ("de", "drei"))
    assert [line["text"] for line in made["lines"]] == ["UNO", "two", "DREI"]
    assert backend.asked == [("es", "en", "uno", "hm"), ("de", "en", "drei")]


def test_what_is_spoken_is_not_translated(tmp_path: Path) -> None:
    backend = Backend()
    made, notes = into(tmp_path, backend, ("en", "one"), ("en", "two"))
    assert (made["backend"], [line["text"] for line in made["lines"]]) == (stage.SELF, ["one", "two"])
    assert backend.asked == []
    assert "en is what is spoken" in notes[0]


def test_what_a_language_model_translates_later_stays_as_it_was_said(tmp_path: Path) -> None:
    """No second pass and no account of terms: neither has a translation to look at."""
    backend = Backend()
    made, notes = into(tmp_path, backend, ("es", "uno"), ("es", "dos"), name=stage.ALONE)
    assert (made["backend"], [line["text"] for line in made["lines"]]) == ("llm", ["uno", "dos"])
    assert (backend.asked, notes, set(made)) == ([], [], {"backend", "lines", "changes"})
    assert stage.wanted({"to": "hi", "backends": "hi=llm"}) == {"hi": "llm"}
