"""What the commands about jobs print, as JSON and as text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from builder.core.jobs.job import Job, JobInput, JobStage, ModelUse
from builder.core.jobs.record import changes
from builder.core.jobs.record.coverage import Coverage, Gap
from builder.core.jobs.timeline import WIDTH, Span
from builder.core.terms import Mode
from builder.edges.jobs.listing import Summary
from builder.edges.jobs.outcome import Outcome, StageOutcome
from builder.edges.jobs.preflight import Check, Checks
from builder.errors import Interrupted, MissingError, StageError
from builder.views import jobs as views
from builder.views import run as run_views
from builder.views.edits import changes_data
from builder.workflows.jobs import (
    JobCancelled,
    JobChecked,
    JobListed,
    JobPrepared,
    JobShown,
    JobsListed,
    JobsRemoved,
    LogLine,
    ReportWritten,
    StageShown,
)
from builder.workflows.run import JobRan, QueueRan

USE = ModelUse(id="tiny.en", path="p", digest="d", revision="r")
JOB = Job(
    id="20261123-200312-talk-4f2a",
    created="2026-11-23T20:03:12Z",
    workflow="subtitle",
    variant="slim",
    preset="starter",
    key="k",
    inputs=(JobInput(id="01", name="a\nb.mp4", path="input/01.mp4", sha256="", size=1, output="a_b"),),
    stages=(JobStage(name="demux", needs=()), JobStage(name="asr", needs=("demux",), models={"asr": USE})),
)
FOLDER = Path("/jobs") / JOB.id


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_a_prepared_job() -> None:
    """With its compose file and mode where it has one, and the line to type."""
    native = JobPrepared(job=JOB, folder=FOLDER, mode=Mode.NATIVE, compose=None)
    data: dict[str, Any] = {
        "job": JOB.id,
        "folder": str(FOLDER),
        "workflow": "subtitle",
        "stages": ["demux", "asr"],
    }
    assert views.PREPARE.data(native) == data
    assert views.PREPARE.text(native) == f"{JOB.id}\nnext: python3 build.py run {JOB.id}"
    boxed = JobPrepared(job=JOB, folder=FOLDER, mode=Mode.DOCKER_CPU, compose=FOLDER / "compose.yaml")
    assert views.PREPARE.data(boxed) == data | {"compose": f"{FOLDER}/compose.yaml", "mode": "docker-cpu"}
    assert views.PREPARE.text(boxed) == (
        f"{JOB.id}\nnext: python3 build.py run {JOB.id} --mode docker-cpu    (or: cd {FOLDER} && docker compose up)"
    )


def test_checks_of_a_job() -> None:
    """One that failed makes the whole fail, with its error."""
    good = Check(name="disk", note="70 MB free")
    bad = Check(name="memory", note="too little", failure=MissingError("too little"))
    checked = JobChecked(job=JOB, checks=Checks(checks=(good, bad), cached=True))
    assert checked.failure is bad.failure
    assert views.PREFLIGHT.data(checked) == {
        "job": JOB.id,
        "cached": True,
        "ok": False,
        "checks": [
            {"name": "disk", "ok": True, "note": "70 MB free"},
            {"name": "memory", "ok": False, "note": "too little"},
        ],
    }
    assert rows(views.PREFLIGHT.text(checked)) == [
        ["job", JOB.id, "(cached)"],
        ["CHECK", "FOUND"],
        ["ok", "disk", "70", "MB", "free"],
        ["FAILED", "memory", "too", "little"],
    ]
    fine = JobChecked(job=JOB, checks=Checks(checks=(good,), cached=False))
    assert fine.failure is None
    assert views.PREFLIGHT.data(fine)["ok"]
    assert rows(views.PREFLIGHT.text(fine))[0] == ["job", JOB.id]


def summary(state: str) -> Summary:
    return Summary(
        id=JOB.id, state=state, created=JOB.created, workflow="subtitle", inputs=("a\nb.mp4", "c.wav"), folder=FOLDER
    )


def test_the_list_of_jobs() -> None:
    """What runs now is named with its progress; a name can't break the table."""
    running = (Span(stage="asr", start=1.0, progress=0.454), Span(stage="diarize", start=1.0))
    listed = JobsListed(jobs=(JobListed(summary=summary("running"), running=running),))
    assert views.LIST.data(listed) == [
        {
            "id": JOB.id,
            "state": "running",
            "now": "asr 45%, diarize",
            "created": JOB.created,
            "workflow": "subtitle",
            "inputs": ["a\nb.mp4", "c.wav"],
        }
    ]
    assert rows(views.LIST.text(listed)) == [
        ["JOB", "STATE", "NOW", "WORKFLOW", "RECORDINGS"],
        [JOB.id, "running", "asr", "45%,", "diarize", "subtitle", "a\\x0ab.mp4,", "c.wav"],
    ]
    assert views.LIST.text(JobsListed(jobs=())) == "no jobs here"
    assert views.LIST.data(JobsListed(jobs=())) == []


COVERAGE = Coverage(
    recording="a.mp4",
    speech=31.5,
    shown=27.0,
    edges=0.5,
    gaps=(Gap(start=61.0, end=65.0, why="no words found"),),
    unsure=2,
)
COVERED = {
    "recording": "a.mp4",
    "speech": 31.5,
    "shown": 27.0,
    "edges": 0.5,
    "gaps": [{"start": 61.0, "end": 65.0, "why": "no words found"}],
    "unsure": 2,
}


def test_one_job() -> None:
    """Times count from the first stage's start; a stage that runs has no end, one that never ran no times."""
    demux = Span(stage="demux", start=100.0, end=101.5, state="done")
    asr = Span(stage="asr", start=101.5, progress=0.5)
    stages = (
        StageShown(name="demux", done=True, timings={"total": 1.25, "work": 1.0}, models=(), span=demux),
        StageShown(name="asr", done=False, timings={}, models=("tiny.en", "x"), span=asr),
        StageShown(name="mux", done=False, timings={}, models=(), span=None),
    )
    shown = JobShown(
        job=JOB,
        state="running",
        stages=stages,
        spans=(demux, asr),
        files=("/o/a.srt",),
        notes=("talk: quiet",),
        now=103.0,
        coverage=(COVERAGE, replace(COVERAGE, recording="b.mp4", gaps=(), unsure=0)),
    )
    assert views.SHOW.data(shown) == {
        "id": JOB.id,
        "state": "running",
        "created": JOB.created,
        "workflow": "subtitle",
        "preset": "starter",
        "inputs": ["a\nb.mp4"],
        "stages": [
            {
                "name": "demux",
                "done": True,
                "timings": {"total": 1.25, "work": 1.0},
                "models": "",
                "began": 0.0,
                "state": "done",
                "progress": None,
                "ended": 1.5,
            },
            {
                "name": "asr",
                "done": False,
                "timings": {},
                "models": "tiny.en, x",
                "began": 1.5,
                "state": "running",
                "progress": 0.5,
                "ended": None,
            },
            {"name": "mux", "done": False, "timings": {}, "models": ""},
        ],
        "files": ["/o/a.srt"],
        "notes": ["talk: quiet"],
        "coverage": [COVERED, {**COVERED, "recording": "b.mp4", "gaps": [], "unsure": 0}],
        "changes": [],
    }
    lines = views.SHOW.text(shown).splitlines()
    assert lines[0] == f"{JOB.id}  running  subtitle, preset starter"
    assert [line.split()[:2] for line in lines[1:5]] == [
        ["STAGE", "STATE"],
        ["demux", "done"],
        ["asr", "running"],
        ["mux", "open"],
    ]
    assert "1.2 s" in lines[2]
    assert "█" in lines[2]
    assert "▒" in lines[3]
    assert lines[3].rstrip().endswith("tiny.en, x")
    column = lines[1].index("WHEN")
    assert all(len(line.rstrip()) <= column or line[column:].strip(" ")[:1] in "█▒t" for line in lines[2:5])
    assert lines[1].index("MODELS") - column >= WIDTH
    assert lines[5:] == [
        "note: talk: quiet",
        "a.mp4: 31.5 s of speech, 4.0 s without words, 2 words unsure",
        "  1:01.0-1:05.0 no words found",
        "b.mp4: 31.5 s of speech, all in subtitles",
        "/o/a.srt",
    ]


def test_the_longest_gaps_of_many_are_shown_in_the_order_of_time() -> None:
    gaps = tuple(Gap(start=k * 10.0, end=k * 10.0 + 1 + k % 7, why="x\x1b[2J") for k in range(30))
    shown = JobShown(job=JOB, state="done", stages=(), spans=(), files=(), notes=(), now=0.0)
    lines = views.SHOW.text(replace(shown, coverage=(replace(COVERAGE, gaps=gaps),))).splitlines()[3:]
    assert len(lines) == views.GAPS_SHOWN + 1
    assert lines[:-1] == sorted(lines[:-1], key=lambda line: float(line.split(":")[0]) * 60 + float(line[4:8]))
    assert lines[-1] == "  and 20 shorter ones: --json"
    assert not any("\x1b" in line for line in lines)


def test_what_stages_changed_is_listed_and_steers_no_terminal() -> None:
    entry = {
        "start": 61.04,
        "end": 62.0,
        "before": "a\x1b[2J\nb",
        "after": "c" * 200,
        "why": ["x", "y"],
        "backend": "nmt",
    }
    result = {"translations": {"en": {"changes": [entry, {"start": "?"}, {**entry, "why": 1}]}, "fr": {}, "de": []}}
    found = changes.of_translations(result, "a.mp4")
    assert [(c.language, c.why, c.by) for c in found] == [("en", "x, y", "nmt")]
    heard = changes.of_transcript({"corrections": [{**entry, "why": "z", "backend": ""}]}, "a.mp4")
    shown = JobShown(
        job=JOB, state="done", stages=(), spans=(), files=(), notes=(), now=0.0, changes=found + heard * 30
    )
    lines = views.SHOW.text(shown).splitlines()[2:]
    assert lines[0] == f"changed: a.mp4 1:01.0 en: “a\\x1b[2J b” → “{'c' * 79}…” (x, y, nmt)"
    assert lines[1].endswith("(z)")
    assert (len(lines), lines[-1]) == (21, "  and 11 more: --json")
    translated, said = changes_data(found + heard)
    assert set(translated) - set(said) == {"language", "by"}
    assert changes.of_translations([1], "a") == changes.of_transcript(None, "a") == changes.of_words("", "a") == ()
    assert [c.before for c in changes.of_words({"changes": [entry, {"start": 1}]}, "a")] == [entry["before"]]


def test_a_stage_that_failed_or_lost_its_results() -> None:
    """failed is said as it is; done once and gone since is open again."""
    failed = Span(stage="demux", start=1.0, end=2.0, state="failed")
    gone = Span(stage="asr", start=2.0, end=3.0, state="done")
    stages = tuple(StageShown(name=span.stage, done=False, timings={}, models=(), span=span) for span in (failed, gone))
    shown = JobShown(job=JOB, state="failed", stages=stages, spans=(failed, gone), files=(), notes=(), now=3.0)
    assert [line.split()[:2] for line in views.SHOW.text(shown).splitlines()[2:]] == [
        ["demux", "failed"],
        ["asr", "open"],
    ]


def test_a_page_a_log_line_and_what_was_stopped_or_deleted() -> None:
    """The smaller results."""
    report = ReportWritten(
        job=JOB, state="done", file=Path("/r.html"), size=7, recordings=("a",), beside=("b",), failure=None
    )
    assert views.REPORT.text(report) == "/r.html"
    assert views.REPORT.data(report) == {
        "job": JOB.id,
        "state": "done",
        "file": "/r.html",
        "bytes": 7,
        "recordings": ["a"],
        "beside": ["b"],
    }
    assert views.LOGS.data(LogLine(stage="asr", line="x", alone=True)) == {"stage": "asr", "line": "x"}
    assert views.LOGS.text(LogLine(stage="asr", line="x", alone=True)) == "x"
    assert views.LOGS.text(LogLine(stage="asr", line="x", alone=False)) == "asr       | x"
    cancelled = [
        JobCancelled(job=JOB, was_running=True, state="interrupted"),
        JobCancelled(job=JOB, was_running=False, state="done"),
    ]
    assert views.CANCEL.text(cancelled) == f"{JOB.id}: stopped\n{JOB.id}: was not running"
    assert views.CANCEL.data(cancelled) == [
        {"job": JOB.id, "was_running": True, "state": "interrupted"},
        {"job": JOB.id, "was_running": False, "state": "done"},
    ]
    removed = JobsRemoved(jobs=((JOB.id, 2_000_000),), dry_run=False)
    assert views.REMOVE.text(removed) == f"{JOB.id}: freed 2.0 MB"
    assert views.REMOVE.data(removed) == [{"job": JOB.id, "bytes": 2_000_000, "removed": True}]
    kept = JobsRemoved(jobs=((JOB.id, 1), ("x", 2)), dry_run=True)
    assert [line.split(": ")[1][:10] for line in views.REMOVE.text(kept).splitlines()] == ["would free"] * 2
    assert [entry["removed"] for entry in views.REMOVE.data(kept)] == [False, False]
    sound = JobsRemoved(jobs=((JOB.id, 2_000_000),), dry_run=False, sound=True)
    assert "makes its sound anew" in views.REMOVE.text(sound)
    assert views.REMOVE.data(sound) == [{"job": JOB.id, "bytes": 2_000_000, "removed": True, "sound": True}]
    assert views.REMOVE.text(JobsRemoved(jobs=(), dry_run=True, sound=True)) == "no sound to remove"


def outcome(*stages: StageOutcome) -> Outcome:
    return Outcome(
        job=JOB,
        folder=Path("/o"),
        files=(Path("/o/a.srt"), Path("/o/a.txt")),
        stages=stages,
        notes=("talk: quiet",),
        seconds=2.34567,
        coverage=(COVERAGE,),
    )


RAN = StageOutcome(name="demux", kept=False, seconds=1.5, why="not run yet")
KEPT = StageOutcome(name="asr", kept=True, seconds=0.0, why="done before")
DONE = {
    "job": JOB.id,
    "output": "/o",
    "files": ["/o/a.srt", "/o/a.txt"],
    "copies": [],
    "stages": [
        {"name": "demux", "kept": False, "seconds": 1.5, "why": "not run yet", "failed": None},
        {"name": "asr", "kept": True, "seconds": 0.0, "why": "done before", "failed": None},
    ],
    "notes": ["talk: quiet"],
    "coverage": [COVERED],
    "seconds": 2.346,
    "preset": JOB.preset,
}


def test_one_job_that_was_run() -> None:
    """Its files are the result; the rest is said beside it."""
    ran = JobRan(outcome=outcome(RAN, KEPT), note="media were read here")
    assert run_views.RUN.data(ran) == {**DONE, "where": "media were read here", "preset_reason": "", "skipped": []}
    assert run_views.RUN.text(ran) == "/o/a.srt\n/o/a.txt"
    assert run_views.remarks(ran) == [
        "note: talk: quiet",
        "kept from before: asr",
        f"job {JOB.id} done in 2.3 s; media were read here",
    ]
    part = JobRan(outcome=outcome(RAN), note="here", preset_reason="recommended: 4 cores")
    assert run_views.remarks(part)[1:] == [
        f"preset {JOB.preset}; recommended: 4 cores",
        f"demux of job {JOB.id} done in 2.3 s; here",
    ]


def test_a_queue_that_was_run() -> None:
    """Each job in its row, done, failed or stopped."""
    failed, stopped = StageError("stage asr failed", where="/log"), Interrupted("job x was interrupted")
    ran = QueueRan(results=((JOB, outcome(RAN, KEPT)), (JOB, failed), (JOB, stopped)), note="here")
    data: Any = run_views.RUN.data(ran)
    assert data["jobs"][0] == {**DONE, "where": "here", "preset_reason": ""}
    assert [set(job) for job in data["jobs"][1:]] == [{"job", "error"}] * 2
    assert data["jobs"][1]["error"]["what"] == "stage asr failed"
    assert data["jobs"][1]["error"]["where"] == "/log"
    assert [row[1] for row in rows(run_views.RUN.text(ran))] == ["STATE", "done", "failed", "stopped"]
    assert rows(run_views.RUN.text(ran))[1] == [JOB.id, "done", "2.3", "s", "/o"]
    assert run_views.RUN.text(ran).splitlines()[2].endswith("stage asr failed")
    assert run_views.remarks(ran) == ["1 of 3 jobs done; here"]
    left = replace(ran, preset_reason="recommended: 4 cores")
    assert run_views.remarks(left) == [f"preset {JOB.preset}; recommended: 4 cores", "1 of 3 jobs done; here"]
