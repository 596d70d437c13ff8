"""What ``run`` decides before and after the stages: which words are jobs, what they need, what a queue comes to."""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from builder import ui
from builder.core.config.types import Config
from builder.core.jobs import job_file
from builder.core.jobs.job import Job, JobInput, JobStage, ModelUse
from builder.core.jobs.request import JobOptions
from builder.core.terms import Mode, Variant
from builder.edges.jobs.outcome import Outcome
from builder.edges.machine import project
from builder.edges.machine.hardware import look
from builder.errors import ConfigError, Interrupted, MissingError, StageError, UsageError
from builder.workflows.run import QueueRan, RunOptions, existing_jobs, models_of, of_jobs, run
from builder.workflows.session import Session

CONFIG = project.load(Path(__file__).resolve().parents[2], env={})

ID = "20261123-200312-talk-4f2a"


def job_of(id_: str = ID, variant: str = "slim", **models: str) -> Job:
    """A job of one stage, by purpose the ids of its models."""
    uses = {purpose: ModelUse(id=id_, path="p", digest="d", revision="r") for purpose, id_ in models.items()}
    return Job(
        id=id_,
        created="2026-11-23T20:03:12Z",
        workflow="transcribe",
        variant=variant,
        preset="starter",
        key="k",
        inputs=(JobInput(id="01", name="talk.wav", path="input/01.wav", sha256="0" * 64, size=1, output="talk"),),
        stages=(JobStage(name="demux", needs=(), models=uses),),
    )


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """The project with a folder of jobs that has one."""
    config = replace(CONFIG, jobs=tmp_path / "jobs")
    folder = config.jobs / ID
    folder.mkdir(parents=True)
    (folder / "job.yaml").write_text(job_file.to_yaml(job_of()))
    return config


def test_a_job_is_named_by_id_by_its_beginning_or_by_its_folder(config: Config) -> None:
    """Each is the same job; a recording is none."""
    for word in (ID, "20261123", str(config.jobs / ID)):
        assert [job.id for job in existing_jobs(config, [word])] == [ID]
    assert existing_jobs(config, ["talk.wav"]) == []
    assert existing_jobs(config, []) == []


def test_a_file_wins_over_an_id(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording may be called like the beginning of an id."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "20261123").write_text("sound")
    assert existing_jobs(config, ["20261123"]) == []


def test_a_job_for_a_gpu_needs_one(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was prepared on another machine, or the card is gone: said before an image is built or a stage dies."""
    gpu = JobStage(name="asr", needs=(), settings={"device": "cuda"})
    (config.jobs / ID / "job.yaml").write_text(job_file.to_yaml(replace(job_of(), stages=(gpu,))))
    found = dataclasses.asdict(replace(look(), gpus=()))
    (tmp_path / "state/cache").mkdir(parents=True)
    (tmp_path / "state/cache/hardware.json").write_text(json.dumps({"at": time.time(), "hardware": found}))
    session = Session(
        config=replace(config, home=tmp_path / "state"),
        env={},
        on_progress=lambda _: None,
        live=ui.Live(quiet=True),
    )
    for mode in (None, "docker-gpu"):
        with pytest.raises(MissingError, match="this machine has no NVIDIA GPU") as caught:
            run(session, [ID], JobOptions(), RunOptions(mode=mode))
        assert caught.value.hint == "the job is for a GPU: run its recording with --device cpu"


def test_jobs_and_recordings_are_not_mixed(config: Config) -> None:
    """The error names one of each, whichever comes first."""
    for words in ([ID, "talk.wav"], ["talk.wav", ID]):
        with pytest.raises(UsageError) as caught:
            existing_jobs(config, words)
        assert caught.value.what == f"{ID} is a job, talk.wav is not"


def test_a_job_that_is_not_there_is_an_error(config: Config) -> None:
    """Not a recording of that name."""
    with pytest.raises(UsageError, match='no job "20250101"'):
        existing_jobs(config, ["20250101"])


def test_a_job_of_another_project_is_not_run(config: Config) -> None:
    """Its folder may come from anywhere."""
    (config.jobs / ID / "job.yaml").write_text(job_file.to_yaml(replace(job_of(), id="../victim")))
    with pytest.raises(ConfigError):
        existing_jobs(config, [ID])


def test_jobs_decide_their_variant() -> None:
    """Whatever the configuration says today; two variants don't run together."""
    full = replace(CONFIG, defaults=replace(CONFIG.defaults, variant=Variant.FULL))
    assert of_jobs(full, [job_of(), job_of()], typed=None)[0].defaults.variant is Variant.SLIM
    assert of_jobs(CONFIG, [job_of(variant="full")], typed=None)[0].defaults.variant is Variant.FULL
    with pytest.raises(UsageError, match="two variants: full, slim"):
        of_jobs(CONFIG, [job_of(), job_of(variant="full")], typed=None)


def test_a_job_runs_again_where_it_was_to_run() -> None:
    """Resuming a job of containers without --mode doesn't run it natively; another mode that is typed is said."""
    native = replace(CONFIG, defaults=replace(CONFIG.defaults, mode=Mode.NATIVE))
    cpu, old = replace(job_of(), mode="docker-cpu"), job_of()
    config, moved = of_jobs(native, [cpu, old], typed=None)
    assert (config.defaults.mode, moved) == (Mode.DOCKER_CPU, "")
    config, moved = of_jobs(native, [cpu], typed="native")
    assert (config.defaults.mode, moved) == (Mode.NATIVE, "made for docker-cpu, and run with --mode native")
    assert of_jobs(native, [old], typed=None) == (native, "")
    with pytest.raises(UsageError, match="two modes: docker-cpu, native"):
        of_jobs(native, [cpu, replace(job_of(), mode="native")], typed=None)


def test_the_models_of_a_queue_are_those_of_all_its_jobs() -> None:
    """Each once."""
    assert models_of([job_of(asr="tiny.en", vad="silero-vad"), job_of(asr="tiny.en")]) == ["silero-vad", "tiny.en"]
    assert models_of([job_of()]) == []


def test_a_queue_fails_with_its_first_failure_but_ctrl_c_comes_first() -> None:
    """Exit code 130 says that the user stopped it, whatever else went wrong."""
    done = Outcome(job=job_of(), folder=Path("/o"), files=(), stages=(), notes=(), seconds=1.0)
    one, two, stopped = StageError("one"), StageError("two"), Interrupted("stopped")
    results = [(job_of(), result) for result in (done, one, two)]
    assert QueueRan(results=tuple(results), note="").failure is one
    assert QueueRan(results=((job_of(), done),), note="").failure is None
    assert QueueRan(results=(*results, (job_of(), stopped)), note="").failure is stopped
