"""How much of a job is done and how long the rest takes; the record that a run leaves."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.core.jobs import pace
from builder.core.jobs.job import Job, JobInput, JobStage, ModelUse
from builder.core.progress import Progress
from builder.edges.jobs import folder as jobs
from builder.edges.jobs.record import pipeline, speeds
from builder.edges.jobs.record.follow import FLOOD, MOST, Follower
from builder.edges.jobs.record.pipeline import PipelineLog
from builder.errors import StageError
from builder.workflows.run import QueueProgress

STAGES = (
    JobStage(name="demux", needs=()),
    JobStage(
        name="asr", needs=("demux",), models={"asr": ModelUse(id="base", path="x", revision="r", digest="sha256:0")}
    ),
    JobStage(name="diarize", needs=("demux",)),
    JobStage(name="mux", needs=("asr", "diarize")),
)
RATES = {"demux": 0.1, "asr": 1.0, "diarize": 0.5, "mux": 0.1}
JOB = Job(
    id="20260101-000000-x-0000", created="", workflow="subtitle", variant="slim", preset="p", key="k", stages=STAGES,
    inputs=tuple(
        JobInput(id=f"0{n}", name=f"{n}.wav", path=f"input/0{n}.wav", sha256="", size=1, output=f"{n}", duration=50.0)
        for n in (1, 2)
    ),
)  # fmt: skip


def left(done: dict[str, float], elapsed: dict[str, float] | None = None, **more: object) -> float | None:
    given = {"rates": RATES, "parallel": 2, **more}
    return pace.left(STAGES, 100.0, done=done, elapsed=elapsed or {}, **given)  # type: ignore[arg-type]


def test_the_time_left_is_that_of_the_longest_way() -> None:
    """demux, then asr beside diarize, then mux; one after the other where only one runs at once."""
    assert left({}) == pytest.approx(10 + 100 + 10)
    assert left({}, parallel=1) == pytest.approx(10 + 100 + 50 + 10)
    assert left({"demux": 1.0, "asr": 0.5}, {"asr": 20.0}) == pytest.approx(50 + 10)  # diarize is the longer one now
    assert left({"demux": 1.0, "asr": 0.5, "diarize": 1.0}, {"asr": 20.0}) == pytest.approx(20 + 10)
    assert left(dict.fromkeys(RATES, 1.0)) == 0


def test_nobody_guesses_what_a_model_takes_on_an_unknown_machine() -> None:
    """The first job says nothing until asr has its own pace."""
    assert left({}, rates={}) is None
    assert left({"demux": 1.0, "asr": 0.01}, {"asr": 2.0}, rates={}) is None
    assert left({"demux": 1.0, "asr": 0.1}, {"asr": 4.0}, rates={}) is not None


@given(
    st.dictionaries(st.sampled_from(list(RATES)), st.floats(0, 1)),
    st.dictionaries(st.sampled_from(list(RATES)), st.floats(0, 1e6)),
)
def test_shares_and_times_are_never_negative(done: dict[str, float], elapsed: dict[str, float]) -> None:
    for rates in (RATES, {}):
        assert 0 <= pace.share(STAGES, rates, done) <= 1
        time = left(done, elapsed, rates=rates)
        assert time is None or time >= 0


def test_speeds_are_kept_by_what_decides_them(tmp_path: Path) -> None:
    """Another model or device is another speed; a clip of two seconds says nothing; nonsense in the file is left out."""
    file = tmp_path / "cache/speeds.json"
    speeds.note(file, JOB, {"asr": 50.0, "demux": 1.0}, 100.0)
    speeds.note(file, JOB, {"asr": 100.0}, 100.0)
    speeds.note(file, JOB, {"asr": 1.0}, 2.0)
    assert speeds.known(file, JOB) == {"asr": 0.75, "demux": 0.01}
    other = replace(JOB, stages=tuple(replace(s, settings={"device": "cuda"}) for s in STAGES))
    assert speeds.known(file, other) == {}
    file.write_text(json.dumps({pace.key(JOB, s): v for s, v in zip(STAGES, ("x", -1, 1e9, None), strict=True)}))
    assert speeds.known(file, JOB) == {}


def follower(folder: Path, seen: list[Progress]) -> Follower:
    return Follower(
        JOB, folder, stages=[s.name for s in STAGES], rates=RATES, parallel=2, on_progress=seen.append,
        log=PipelineLog(folder, mode="native"),
    )  # fmt: skip


def test_what_stages_tell_is_told_on(tmp_path: Path) -> None:
    """Progress over all recordings, models that are loaded, text, notes; of stages that run alone, and no nonsense."""
    seen: list[Progress] = []
    one = follower(tmp_path, seen)
    lines: list[object] = [
        {"stage": "asr", "event": "load", "models": "base"},
        {"stage": "asr", "event": "progress", "input": "01", "done": 50, "total": 50},
        {"stage": "asr", "event": "progress", "input": "02", "done": 25, "total": 50},
        {"stage": "asr", "event": "progress", "input": "99", "done": 1e300, "total": 50},
        {"stage": "asr", "event": "text", "input": "02", "start": 61.2, "end": 63, "text": "Good morning"},
        {"stage": "asr", "event": "note", "message": "x\x1b" * 9999},
        {"stage": "diarize", "event": "note", "message": "another stage's"},
        {"stage": 7, "event": "progress"}, [], "x", None,
    ]  # fmt: skip
    (tmp_path / "events.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines) + '{"half')
    one.follow(["asr"])
    assert [p.note for p in seen if p.what == "asr" and p.note and not p.heard] == ["loading base"]
    assert [(p.done, p.total) for p in seen if p.what == "asr" and p.unit == "s"][-1] == (75, 100)
    assert [p.note for p in seen if p.heard] == ["[1:01] Good morning"]
    assert [len(p.note) for p in seen if p.what == "asr note"] == [500]
    job = next(p for p in reversed(seen) if p.what == "job")
    assert (job.unit, job.total) == ("%", 100)
    assert job.done == pytest.approx(100 * 0.75 / 1.7)
    one.follow(["asr"])
    assert seen[-1] is job


def test_events_of_a_container_are_read_with_a_bound_and_through_no_link(tmp_path: Path) -> None:
    """It may write a line without end, or put a link or a FIFO in its place: the run goes on."""
    seen: list[Progress] = []
    one = follower(tmp_path, seen)
    path = tmp_path / "events.jsonl"
    note = json.dumps({"stage": "asr", "event": "note", "message": "here"}) + "\n"
    path.write_bytes(b"x" * (3 * MOST) + b"\n" + note.encode())
    for _ in range(4):
        one.follow(["asr"])
    assert [p.note for p in seen if p.what == "asr note"] == ["here"]
    (tmp_path / "elsewhere").write_text(note)
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    other = follower(tmp_path, seen)
    other.follow(["asr"])
    assert list(jobs.events(tmp_path)) == []
    path.unlink()
    os.mkfifo(path)
    other.follow(["asr"])
    assert list(jobs.events(tmp_path)) == []
    assert len([p for p in seen if p.what == "asr note"]) == 1


def test_events_without_end_end_the_run(tmp_path: Path) -> None:
    """Nobody else bounds what a container writes there: the file is one of this machine's disk."""
    one = follower(tmp_path, [])
    (tmp_path / "events.jsonl").touch()
    os.truncate(tmp_path / "events.jsonl", FLOOD + 1)
    with pytest.raises(StageError, match="more than 64 MiB of events"):
        one.follow(["asr"])


def test_the_pipeline_log_is_bounded_and_cannot_steer_a_terminal(tmp_path: Path) -> None:
    """A recording that makes a stage note without end fills no disk, and the run's end is there all the same."""
    log = PipelineLog(tmp_path, mode="docker-cpu")
    for _ in range(2000):
        log.add("\x1b[2J" + "x" * 5000)
    log.ended("end: done")
    text = (tmp_path / pipeline.FILE).read_text()
    lines = text.splitlines()
    assert "begin: whisperbake" in lines[0]
    assert "docker-cpu" in lines[0]
    assert len(lines) <= pipeline.LINES + 1
    assert max(map(len, lines)) < pipeline.LINE + 30
    assert lines[-1].endswith(" end: done")
    assert "\x1b" not in text
    for _ in range(4):
        again = PipelineLog(tmp_path, mode="docker-cpu")
        for _ in range(pipeline.LINES):
            again.add("y" * pipeline.LINE)
    assert (tmp_path / pipeline.FILE).stat().st_size < pipeline.KEPT + 2 * pipeline.LINES * (pipeline.LINE + 30)


def test_a_pipeline_log_is_written_through_no_link(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    (tmp_path / pipeline.FILE).symlink_to("victim")
    PipelineLog(tmp_path, mode="native").add("x")
    assert (tmp_path / "victim").read_text() == "mine"


def test_several_jobs_have_a_sum() -> None:
    """How many are done, and when all will be; each job's rows have its name."""
    seen: list[Progress] = []
    jobs = [replace(JOB, id=f"20260101-000000-{name}-0000") for name in ("a", "b")]
    queue = QueueProgress(seen.append, jobs)
    queue.named(jobs[0])(Progress(what="job", done=50, total=100, unit="%", left=10))
    queue.named(jobs[1])(Progress(what="asr", note="[0:01] hello", heard=True))
    assert [p.what for p in seen] == ["a-0000 job", "all", "b-0000 asr"]
    assert (seen[1].done, seen[1].total, seen[1].unit) == (0, 2, "jobs")
    assert seen[1].left is not None
    assert seen[2].note == "b-0000 [0:01] hello"
    queue.ended(jobs[0])
    queue.ended(jobs[1])
    assert (seen[-1].done, seen[-1].finished, seen[-1].left) == (2, True, None)
