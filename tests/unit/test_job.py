"""A job's plan, names and times; and when results are still good."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from builder.core import yaml_document as yamldoc
from builder.core.config import selection as choice
from builder.core.jobs import job, job_file
from builder.core.jobs.job import Clip, Job, JobInput, JobStage, ModelUse
from builder.core.jobs.record.manifest import Manifest
from builder.core.jobs.request import Request, parse_time, plan_stages, request_key
from builder.core.terms import Variant, Workflow
from builder.edges.machine import project
from builder.errors import ConfigError, UsageError
from builder.receiver.jobs import naming

CONFIG = project.load(Path(__file__).resolve().parents[2], env={})


def request(diarization: bool = True, **settings: dict[str, object]) -> Request:
    chosen = choice.choose(
        CONFIG, preset="starter", variant=Variant.SLIM, stages=list(CONFIG.stages), diarization=diarization
    )
    return Request(
        workflow=None,
        variant="slim",
        preset="starter",
        settings=settings,
        diarization=diarization,
        models={p: (m, CONFIG.pins[m.id]) for p, m in chosen.items()},
    )


def plan(asked: Request, workflow: Workflow = Workflow.SUBTITLE) -> dict[str, JobStage]:
    return {s.name: s for s in plan_stages(CONFIG.stages, asked, workflow=workflow)}


def test_a_workflow_has_its_stages_and_no_other() -> None:
    """transcribe ends without mux; without diarization nobody waits for it."""
    assert list(plan(request())) == ["demux", "vad", "asr", "diarize", "align", "subtitles", "mux"]
    assert "mux" not in plan(request(), Workflow.TRANSCRIBE)
    without = plan(request(diarization=False))
    assert "diarize" not in without
    assert without["subtitles"].needs == ("demux", "align"), "demux has the clock of its times"


def test_a_stage_gets_its_own_models_and_settings() -> None:
    """Flags change a default and nothing else."""
    stages = plan(request(asr={"language": "en"}))
    assert stages["asr"].settings["language"] == "en"
    assert stages["asr"].settings["beam_size"] == 5
    assert {p: u.id for p, u in stages["asr"].models.items()} == {"asr": "base"}
    assert not stages["mux"].models
    assert stages["asr"].models["asr"].path.startswith("hub/models--Systran--faster-whisper-base/snapshots/")


def entry(name: str = "a.mp4", clip: Clip | None = None) -> JobInput:
    return JobInput(id="01", name=name, path="input/01.mp4", sha256="0" * 64, size=1, output="a", clip=clip)


def test_the_key_follows_what_decides_the_result() -> None:
    """Same request, same key; another setting, clip or recording is another job."""
    stages = plan_stages(CONFIG.stages, request(), workflow=Workflow.SUBTITLE)
    other = plan_stages(CONFIG.stages, request(asr={"language": "de"}), workflow=Workflow.SUBTITLE)
    keys = {
        request_key([entry()], stages, "subtitle"),
        request_key([entry()], other, "subtitle"),
        request_key([entry(clip=Clip(start=1.0))], stages, "subtitle"),
        request_key([entry("b.mp4")], stages, "subtitle"),
    }
    assert len(keys) == 4
    assert request_key([entry()], stages, "subtitle") in keys


NAMES = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="/\0"), min_size=1, max_size=120)


@given(st.lists(NAMES, min_size=1, max_size=6))
def test_output_names_are_safe_and_unique_whatever_the_recordings_are_called(names: list[str]) -> None:
    """Also where the file system folds case; never hidden, never an option, never over its limit."""
    taken: set[str] = set()
    stems = [naming.output_stem(name, taken) for name in names]
    assert len({s.casefold() for s in stems}) == len(names)
    for stem in stems:
        assert stem
        assert not stem.startswith(("-", "."))
        assert not set(stem) & set("/\\\0\n\r")
        assert len(stem.encode()) <= naming.NAME_BYTES + 4


@given(NAMES)
def test_a_job_reads_back_as_it_was_written(name: str) -> None:
    """Names with quotes, colons, line breaks, any script."""
    made = Job(
        id="x",
        created="2026-01-01T00:00:00Z",
        workflow="subtitle",
        variant="slim",
        preset="p",
        key="k",
        inputs=(entry(name, Clip(start=0.5, end=None)),),
        stages=(
            JobStage(
                name="asr",
                needs=("vad",),
                settings={"language": None, "x": 1.5},
                models={"asr": ModelUse(id="base", path="p", digest="d", revision="r")},
            ),
        ),
    )
    assert job_file.from_yaml(job_file.to_yaml(made), "job.yaml") == made


def prepared(*names: str, diarization: bool = True) -> Job:
    """A job as prepare makes it."""
    taken: set[str] = set()
    inputs = tuple(
        replace(
            entry(name),
            id=f"{k:02}",
            path=f"input/{k:02}{naming.input_suffix(name)}",
            output=naming.output_stem(name, taken),
        )
        for k, name in enumerate(names, 1)
    )
    created = "2026-11-23T20:03:12Z"
    stages = plan_stages(CONFIG.stages, request(diarization), workflow=Workflow.SUBTITLE)
    return Job(
        id=naming.job_id(created, names[0], "4f2a"),
        created=created,
        workflow="subtitle",
        variant="slim",
        preset="starter",
        key="k",
        inputs=inputs,
        stages=stages,
    )


def stray(made: Job, folder: str | None = None) -> str | None:
    return job_file.stray(
        made, made.id if folder is None else folder, stages=CONFIG.stages, models=CONFIG.models, pins=CONFIG.pins
    )


@given(st.lists(NAMES, min_size=1, max_size=4), st.booleans())
@example(["-.a.mp4", ". .mp4", "x" * 199 + " y.mp4", "a.mp4", "A.mp4"], True)
def test_what_was_prepared_is_believed(names: list[str], diarization: bool) -> None:
    """Whatever the recordings are called, and after it was written and read."""
    made = prepared(*names, diarization=diarization)
    assert stray(made) is None
    assert stray(job_file.from_yaml(job_file.to_yaml(made), "job.yaml")) is None


def with_input(**changed: object) -> Job:
    made = prepared("a.mp4", "b.mp4")
    return replace(made, inputs=(made.inputs[0], replace(made.inputs[1], **changed)))  # type: ignore[arg-type]


def test_a_job_may_have_thousands_of_recordings() -> None:
    """Its file is longer than one that a person writes may be."""
    text = job_file.to_yaml(with_input(name="x" * yamldoc.MAX_TEXT))
    assert stray(job_file.from_yaml(text, "job.yaml")) is None


def with_stage(which: str, **changed: object) -> Job:
    made = prepared("a.mp4")
    stages = (replace(s, **changed) if s.name == which else s for s in made.stages)  # type: ignore[arg-type]
    return replace(made, stages=tuple(stages))


BASE = prepared("a.mp4").stage("asr").models["asr"]

STRAYS = {
    "an id of another folder": (replace(prepared("a.mp4"), id="20261123-200312-b-4f2a"), "its id is"),
    "an id that leads out": (replace(prepared("a.mp4"), id="../victim"), "its id is"),
    "an id that is a path": (replace(prepared("a.mp4"), id="/etc"), "its id is"),
    "a workflow": (replace(prepared("a.mp4"), workflow="x"), "not a workflow"),
    "a variant": (replace(prepared("a.mp4"), variant="../x"), "not a variant"),
    "no recordings": (replace(prepared("a.mp4"), inputs=()), "not numbered"),
    "a number twice": (with_input(id="01", path="input/01.mp4"), "not numbered"),
    "a number that is a path": (with_input(id="../02", path="input/../02.mp4"), "keeps a recording"),
    "a recording elsewhere": (with_input(path="/etc/shadow"), "'/etc/shadow'"),
    "a recording above": (with_input(path="input/../../x.mp4"), "keeps a recording"),
    "a result": (with_input(path="output/02.mp4"), "keeps a recording"),
    "a line end": (with_input(path="input/02.mp4\n"), "keeps a recording"),
    "results elsewhere": (with_input(output="../../x"), "would be called"),
    "results at the root": (with_input(output="/tmp/x"), "would be called"),
    "hidden results": (with_input(output=".x"), "would be called"),
    "results without a name": (with_input(output=""), "would be called"),
    "results of two names": (with_input(output="A"), "two of its results"),
    "results of a long name": (with_input(output="x" * 250), "would be called"),
    "a stage of no project": (with_stage("mux", name="../../evil"), "no stage"),
    "a stage twice": (with_stage("mux", name="demux"), "order"),
    "no stages": (replace(prepared("a.mp4"), stages=()), "order"),
    "another order": (replace(prepared("a.mp4"), stages=prepared("a.mp4").stages[::-1]), "order"),
    "other needs": (with_stage("asr", needs=("mux",)), "needs"),
    "threads that are none": (with_stage("asr", settings={"threads": "2; x"}), "threads"),
    "no threads": (with_stage("asr", settings={"threads": 0}), "threads"),
    "true threads": (with_stage("asr", settings={"threads": True}), "threads"),
    "a model elsewhere": (
        with_stage("asr", models={"asr": replace(BASE, path="/tmp/model")}),
        "looks for model 'base'",
    ),
    "a model above": (with_stage("asr", models={"asr": replace(BASE, path=f"{BASE.path}/../../x")}), "looks for"),
    "an unknown model elsewhere": (
        with_stage("asr", models={"asr": replace(BASE, id="gone", path="../x")}),
        "looks for",
    ),
    "a revision that leads out": (
        with_stage(
            "asr", models={"asr": replace(BASE, revision="../x", path=BASE.path.replace(BASE.revision, "../x"))}
        ),
        "looks for",
    ),
    "a purpose": (with_stage("asr", models={"vad": BASE}), "has a model for"),
    "a model for something else": (with_stage("vad", models={"vad": BASE}), "is not this project's"),
    "other bytes of a model": (
        with_stage("asr", models={"asr": replace(BASE, digest=f"sha256:{'0' * 64}")}),
        "is not this project's",
    ),
    "other languages of a model": (
        with_stage("asr", models={"asr": replace(BASE, languages=("xx",))}),
        "is not this project's",
    ),
    "a setting that isn't there": (with_stage("asr", settings={"run": "sh"}), "has no setting 'run'"),
    "a setting's value": (with_stage("asr", settings={"beam_size": "5; x"}), "asks for beam_size"),
    "a setting's choice": (with_stage("asr", settings={"task": "explain"}), "asks for task"),
    "a setting's bounds": (with_stage("asr", settings={"beam_size": 10**9}), "asks for beam_size"),
    "a text without end": (with_stage("asr", settings={"hotwords": "x" * 10_000}), "asks for hotwords"),
    "other words on models": (with_stage("subtitles", settings={"models": {"asr": {"id": "x"}}}), "describes"),
    "a sha256": (with_input(sha256="../x"), "sha256"),
    "a recording that is a path": (with_input(name="../x.mp4"), "is called"),
    "a recording of a million years": (with_input(duration=3e13), "impossible"),
    "a cut in a million years": (with_input(clip=Clip(start=3e13)), "impossible"),
    "a day": (replace(prepared("a.mp4"), created="yesterday"), "created"),
    "a preset": (replace(prepared("a.mp4"), preset="../x"), "not a preset"),
}


@pytest.mark.parametrize("name", STRAYS)
def test_what_no_prepare_wrote_is_not_believed(name: str) -> None:
    """A job's folder may come from anywhere: each field that decides what is run, read, written or deleted."""
    made, why = STRAYS[name]
    found = stray(made, "20261123-200312-a-4f2a")
    assert found is not None
    assert why in found
    assert "\n" not in found


def test_a_model_that_left_the_catalogue_leaves_the_job_readable() -> None:
    """Its results can be looked at; preflight refuses to run it."""
    assert stray(with_stage("asr", models={"asr": replace(BASE, id="gone", path="hub/gone")})) is None


@pytest.mark.parametrize(
    "change",
    [
        {"size": "1"},
        {"size": -1},
        {"duration": float("nan")},
        {"name": 1},
        {"clip": {"start": "0"}},
        {"more": 1},
        {"clip": {"start": 0.0, "lead": -1.0}},
        {"path": ["input"]},
    ],
    ids=str,
)
def test_a_job_file_of_another_form_is_refused(change: dict[str, object]) -> None:
    """With the line, and never as a bug of ours."""
    data = yaml.safe_load(job_file.to_yaml(prepared("a.mp4")))
    data["inputs"][0] |= change
    with pytest.raises(ConfigError) as caught:
        job_file.from_yaml(yaml.safe_dump(data), "jobs/x/job.yaml")
    assert str(caught.value.where).startswith("jobs/x/job.yaml:")


def test_a_broken_job_file_is_named() -> None:
    """Exit code 2, not a traceback."""
    for text in ("", "[]", "a: [", "id: 1\n"):
        with pytest.raises(ConfigError):
            job_file.from_yaml(text, "jobs/x/job.yaml")


@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_times_read_as_they_are_written(hours: int, minutes: int, seconds: int, millis: int) -> None:
    """h:m:s.mmm and the same in seconds are one time."""
    text = f"{hours}:{minutes:02}:{seconds:02}.{millis:03}"
    total = hours * 3600 + minutes * 60 + seconds + millis / 1000
    assert parse_time(text, "--start") == pytest.approx(total)
    assert parse_time(f"{total:.3f}", "--start") == pytest.approx(total)


@pytest.mark.parametrize("text", ["", "a", "1:60", "1:99:00", "-3", "1:2:3:4", "1,5", "١"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """With the flag it stands behind."""
    with pytest.raises(UsageError) as caught:
        parse_time(text, "--end")
    assert caught.value.where == "--end"


def test_ids_sort_by_time_and_hold_no_odd_characters() -> None:
    """A folder name that every shell takes."""
    assert naming.job_id("2026-11-23T20:03:12Z", "Größe & 'x'\n.mp4", "4f2a") == "20261123-200312-groe-x-4f2a"
    assert naming.job_id("2026-11-23T20:03:12Z", "日本.mp4", "4f2a") == "20261123-200312-job-4f2a"


STAGE = JobStage(
    name="s", needs=(), settings={"a": 1}, models={"asr": ModelUse(id="i", path="p", digest="d", revision="r")}
)
GOOD = Manifest(code="c", settings={"a": 1}, models={"asr": "d"}, inputs={"i": "1"}, outputs={"o": "2"})


@pytest.mark.parametrize(
    ("change", "digests", "why"),
    [
        ({}, {"i": "1", "o": "2"}, None),
        ({}, {"i": "1", "o": None}, "o is gone"),
        ({}, {"i": "9", "o": "2"}, "i changed"),
        ({"code": "x"}, {"i": "1", "o": "2"}, "its code changed"),
        ({"settings": {"a": 2}}, {"i": "1", "o": "2"}, "its settings changed"),
        ({"models": {}}, {"i": "1", "o": "2"}, "its models changed"),
    ],
)
def test_results_are_kept_only_when_everything_matches(
    change: dict[str, Any], digests: dict[str, str | None], why: str | None
) -> None:
    """What made them, and their bytes."""
    assert job.unfinished(STAGE, replace(GOOD, **change), code="c", digests=digests) == why
    assert job.unfinished(STAGE, None, code="c", digests={}) == "not run yet"


def test_files_that_change_the_text_make_a_stage_run_again() -> None:
    """Those that were not there when it ran."""
    inputs = dict.fromkeys(["input/edits.json", "input/corrected.json"], "3")
    digests = {**GOOD.inputs, **GOOD.outputs, **inputs}

    def why(*read: str) -> str | None:
        mine = replace(GOOD, inputs={**GOOD.inputs, **{path: inputs[path] for path in read}})
        return job.unfinished(STAGE, mine, code="c", digests=digests, edits=list(inputs))

    assert why() == "the transcript was edited"
    assert why("input/edits.json") == "it ran without input/corrected.json"
    assert why(*inputs) is None


def test_a_new_recording_begins_at_the_beginning() -> None:
    """One stage alone needs what comes before it; a new job has nothing of it."""
    stages = (JobStage(name="demux", needs=()), JobStage(name="asr", needs=("demux",)))
    job.require_whole(stages, job.select_stages(stages, only="demux"))
    job.require_whole(stages, job.select_stages(stages, until="asr"))
    job.require_whole(stages, job.select_stages(stages, first="asr"))
    with pytest.raises(UsageError, match="stage demux comes first") as found:
        job.require_whole(stages, job.select_stages(stages, only="asr"))
    assert found.value.hint == "--until asr"
