"""A small job, as its page shows it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from builder.core.jobs import page as report
from builder.core.jobs.job import Clip, Job, JobInput, JobStage, ModelUse
from builder.core.jobs.page import File, Page, Recording
from builder.core.jobs.record.changes import Change
from builder.core.jobs.record.manifest import Manifest
from builder.core.jobs.timeline import history
from tests.golden.project import ROOT, read

STUBS = {"report.css": "body { color: black }\n", "report.js": '"use strict";\n'}
"""Golden files show what a job decides, not the whole style and script."""


def templates(*, stubs: bool = True) -> dict[str, str]:
    folder = ROOT / "templates/report"
    return {name: (folder / name).read_text() for name in report.TEMPLATES} | (STUBS if stubs else {})


def word(text: str, start: float, probability: float = 0.9) -> dict[str, Any]:
    return {"word": text, "start": start, "end": start + 0.4, "probability": probability, "source": "whisper"}


def document(*segments: tuple[str | None, list[dict[str, Any]]], language: str = "en") -> dict[str, Any]:
    """What the subtitles stage writes, as far as the page reads it."""
    return {
        "language": language,
        "language_probability": 0.98,
        "duration": 9.5,
        "speakers": {"count": 2, "guess": True},
        "segments": [{"speaker": speaker, "words": words} for speaker, words in segments],
    }


SAID = document(
    ("S1", [word(" Good", 0.5), word(" morning,", 1.0), word(" everyone.", 1.5, 0.6)]),
    ("S2", [word(" Thank", 3.0), word(" you", 3.4, 0.31), word(" & <welcome>.", 3.8)]),
    ("S2", [word(" Später.", 8.0)]),
)


def job(name: str = "talk & more.mp4") -> Job:
    return Job(
        id="20261123-200312-talk-4f2a",
        created="2026-11-23T20:03:12Z",
        workflow="subtitle",
        variant="slim",
        preset="starter",
        key="3f0c" * 16,
        inputs=(
            JobInput(
                id="01",
                name=name,
                path="input/01.mp4",
                sha256="ab" * 32,
                size=123456,
                output="talk",
                clip=Clip(start=1.5, end=11.0),
            ),
        ),
        stages=(
            JobStage(name="demux", needs=(), settings={"stream": 0}),
            JobStage(
                name="asr",
                needs=("demux",),
                settings={"language": None, "initial_prompt": "</script>"},
                models={"asr": ModelUse(id="base", path="p", digest="sha256:" + "cd" * 32, revision="ebe41f7")},
            ),
            JobStage(name="mux", needs=("asr",)),
        ),
    )


EVENTS: list[dict[str, Any]] = [
    {"t": 100.0, "event": "begin"},
    {"t": 100.1, "stage": "demux", "event": "start"},
    {"t": 100.3, "stage": "demux", "event": "done", "seconds": 0.2},
    {"t": 100.4, "stage": "asr", "event": "start"},
    {"t": 101.4, "stage": "asr", "event": "failed", "message": "not enough memory"},
    {"t": 101.5, "event": "fail", "message": "stage asr failed: not enough memory"},
    {"t": 500.0, "event": "begin"},
    {"t": 500.2, "stage": "asr", "event": "start"},
    {"t": 500.9, "stage": "asr", "event": "progress", "done": 4.0, "total": 9.5},
    {"t": 502.2, "stage": "asr", "event": "done", "seconds": 2.0},
]
EMPTY = Manifest(code="c", settings={}, models={}, inputs={}, outputs={})
MANIFESTS = {
    "demux": replace(EMPTY, timings={"total": 0.2, "imports": 0.05}),
    "asr": replace(EMPTY, peak_bytes=350_000_000, timings={"total": 2.0, "imports": 0.2, "load": 0.4, "work": 1.4}),
}


CHANGES = (
    Change(
        recording="talk & more.mp4",
        language="",
        start=1.5,
        end=1.9,
        before="every one",
        after="everyone",
        why="sounds like the term",
        by="",
    ),
    Change(
        recording="talk & more.mp4",
        language="es",
        start=3.0,
        end=4.2,
        before="Gracias gracias & <gracias>",
        after="Gracias & <bienvenidos>.",
        why="repeats itself",
        by="apertium",
    ),
)


def page(name: str = "talk & more.mp4", said: dict[str, Any] = SAID) -> Page:
    made = job(name)
    data = b"1\n00:00:00,500 --> 00:00:01,900\nGood morning\n"
    film = File(name="talk.mp4", type="video/mp4", size=7_000_000, href="output/talk.mp4")
    return Page(
        job=made,
        state="interrupted",
        models=read({}).models,
        version="1.2.3",
        stages=history(made, EVENTS, MANIFESTS, sound=9.5, now=None),
        recordings=(
            Recording(
                id="01",
                name=name,
                size=123456,
                sha256="ab" * 32,
                clip=made.inputs[0].clip,
                video=True,
                transcript=report.transcript(said, "talk.json"),
                notes=("the first track was taken",),
                changes=CHANGES,
                unshown=3,
                media=File(name=name, type="video/mp4", size=4, href="input/01.mp4", data=b"film"),
                files=(
                    File(
                        name="talk.srt", type="application/x-subrip", size=len(data), href="output/talk.srt", data=data
                    ),
                    film,
                ),
            ),
        ),
    )


def rendered() -> str:
    return report.render(page(), templates())
