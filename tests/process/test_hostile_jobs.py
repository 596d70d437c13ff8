"""A job's folder may come from anywhere: what its job.yaml says is believed only where this project could have said it.

By the commands themselves. Nothing of it needs an environment, models or an engine: a job that is refused is refused first.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from builder.core.config import selection as choice
from builder.core.config.types import Config
from builder.core.jobs import job_file, request
from builder.core.jobs.job import Job, JobInput
from builder.core.jobs.request import Request
from builder.core.terms import Variant, Workflow
from builder.edges.jobs import listing
from builder.edges.machine import project
from builder.edges.system import shell
from tests import small_project

ID = "20261123-200312-talk-4f2a"

COMMANDS = (
    ("run",),
    ("preflight",),
    ("jobs", "show"),
    ("jobs", "logs"),
    ("jobs", "report"),
    ("jobs", "cancel"),
    ("jobs", "remove"),
    ("jobs", "remove", "--dry-run"),
)
"""Every command that takes a job; the first and the last but one do most."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return small_project.make(tmp_path / "project", {}, fill=False)


def asked(config: Config) -> Request:
    """What a command without options asks."""
    chosen = choice.choose(config, preset="starter", variant=Variant.SLIM, stages=list(config.stages), diarization=True)
    return Request(
        workflow=None,
        variant="slim",
        preset="starter",
        settings={},
        models={p: (m, config.pins[m.id]) for p, m in chosen.items()},
    )


def made(root: Path, id_: str = ID) -> Job:
    """A job as prepare makes it."""
    config = project.load(root, env={})
    return Job(
        id=id_,
        created="2026-11-23T20:03:12Z",
        workflow="subtitle",
        variant="slim",
        preset="starter",
        key="k",
        inputs=(JobInput(id="01", name="talk.mp4", path="input/01.mp4", sha256="0" * 64, size=4, output="talk"),),
        stages=request.plan_stages(config.stages, asked(config), workflow=Workflow.SUBTITLE),
    )


def write(root: Path, wanted: Job, folder: str = ID) -> Path:
    place = root / "jobs" / folder
    for part in ("input", "work", "output", "logs"):
        (place / part).mkdir(parents=True)
    (place / "input/01.mp4").write_bytes(b"film")
    (place / "job.yaml").write_text(job_file.to_yaml(wanted))
    return place


def bake(root: Path, *words: str) -> shell.Done:
    return small_project.bake(root, *words, env={"DOCKER_HOST": f"unix://{root}/none.sock"})


def tree(folder: Path) -> dict[str, Any]:
    """Everything there: kind, mode, bytes."""
    return {
        str(p.relative_to(folder)): (p.lstat().st_mode, p.read_bytes() if p.is_file() else None)
        for p in sorted(folder.rglob("*"))
    }


def evil_id(wanted: Job) -> Job:
    return replace(wanted, id="../victim")


def evil_output(wanted: Job) -> Job:
    return replace(wanted, inputs=(replace(wanted.inputs[0], output="../../../victim/x"),))


def evil_input(wanted: Job) -> Job:
    return replace(wanted, inputs=(replace(wanted.inputs[0], path="../../victim/kept"),))


def evil_stage(wanted: Job) -> Job:
    return replace(wanted, stages=(replace(wanted.stages[0], name="../../victim"), *wanted.stages[1:]))


def evil_model(wanted: Job) -> Job:
    asr = wanted.stage("asr")
    use = replace(asr.models["asr"], path="../../../victim")
    other = replace(asr, models={"asr": use})
    return replace(wanted, stages=tuple(other if s.name == "asr" else s for s in wanted.stages))


EVIL: tuple[Callable[[Job], Job], ...] = (evil_id, evil_output, evil_input, evil_stage, evil_model)


@pytest.mark.parametrize("evil", EVIL, ids=lambda e: e.__name__)
def test_a_job_that_lies_is_refused_by_every_command(root: Path, evil: Callable[[Job], Job]) -> None:
    """Exit 2, said where; and neither the job nor its neighbour is touched: `jobs remove` deleted ``../victim``."""
    victim = root / "victim"
    victim.mkdir()
    (victim / "kept").write_text("mine")
    (root / "jobs").mkdir()
    (root / "jobs/victim").symlink_to(victim)
    place = write(root, evil(made(root)))
    before = tree(victim), tree(place)
    for command in COMMANDS if evil is evil_id else COMMANDS[::6]:
        done = bake(root, *command[:2], ID, *command[2:])
        assert done.code == 2, (command, done.err)
        assert "this is not a job of this project: " in done.err
        assert str(place / "job.yaml") in done.err
        assert "bug" not in done.err
    assert (tree(victim), tree(place)) == before
    assert {job.state for job in listing.listing(project.load(root, env={}))} == {listing.BROKEN}


LINKS = (".", "input", "work", "output", "logs", "job.yaml", "events.jsonl", ".lock", ".scratch", "input/01.mp4")
"""What prepare never makes a link of."""


@pytest.mark.parametrize("name", LINKS)
def test_a_job_with_links_is_refused(root: Path, name: str, tmp_path: Path) -> None:
    """Its parts would be written and removed somewhere else: a lock file that is a link empties what it leads to."""
    place = write(root, made(root))
    elsewhere = tmp_path / "elsewhere"
    if (place / name).exists():
        (place / name).rename(elsewhere)
    else:
        elsewhere.write_text("mine")
    (place / name).symlink_to(elsewhere)
    before = tree(elsewhere) if elsewhere.is_dir() else elsewhere.read_bytes()
    done = bake(root, "jobs", "remove", ID)
    assert done.code == 2, done.err
    assert "is a link" in done.err
    assert (tree(elsewhere) if elsewhere.is_dir() else elsewhere.read_bytes()) == before


def test_a_job_file_is_read_without_waiting_and_with_a_bound(root: Path) -> None:
    """A FIFO has no end to wait for; a file with a hole of a gigabyte is not taken into memory."""
    fifo, vast = write(root, made(root)), write(root, made(root), f"{ID[:-4]}ffff")
    (fifo / "job.yaml").unlink()
    os.mkfifo(fifo / "job.yaml")
    os.truncate(vast / "job.yaml", 1 << 30)
    for place in (fifo, vast):
        done = bake(root, "jobs", "show", place.name)
        assert done.code == 2, done.err
    assert [job.state for job in listing.listing(project.load(root, env={}))] == [listing.BROKEN] * 2


def test_two_jobs_of_one_id(root: Path) -> None:
    """A copy of a job's folder is not the job: removing the copy doesn't remove the job."""
    first = write(root, made(root))
    copy = "20261123-200312-talk-ffff"
    second = write(root, made(root), copy)
    assert bake(root, "jobs", "remove", copy).code == 2
    assert first.exists()
    assert second.exists()
    assert bake(root, "jobs", "remove", ID).code == 0
    assert not first.exists()
    assert second.exists()


def test_all_of_several_jobs_go_or_none(root: Path) -> None:
    """A job that is refused keeps the others from being removed."""
    good = write(root, made(root))
    other = "20261123-200312-talk-ffff"
    bad = write(root, evil_output(made(root, other)), other)
    assert bake(root, "jobs", "remove", ID, other).code == 2
    assert good.exists()
    assert bad.exists()


def test_the_newest_job_is_one_of_ours(root: Path) -> None:
    """A command without a name takes the newest job that there is, not somebody's folder of a later date."""
    write(root, made(root))
    later = "20991231-235959-talk-ffff"
    write(root, evil_output(made(root, later)), later)
    found = listing.newest(project.load(root, env={}))
    assert found is not None
    assert found.id == ID


def test_the_stage_itself_takes_no_path_that_leads_out(root: Path) -> None:
    """Started by hand, in a folder that the builder has not looked at."""
    for evil in (evil_input, evil_output):
        place = write(root, evil(made(root)), evil.__name__)
        stage = small_project.ROOT / "stages/subtitles/main.py"
        done = shell.run([sys.executable, str(stage), "--job", str(place)], timeout=60)
        assert done.code == 2
        assert done.err.startswith("job.yaml names a file outside the job's folder: ")
        assert list((place / "output").iterdir()) == []


def test_the_jobs_file_is_read_as_data(root: Path) -> None:
    """Tags make no objects, aliases no gigabytes, and a mistake is no bug of ours."""
    place = write(root, made(root))
    text = (place / "job.yaml").read_text()
    for bad in (
        "!!python/object/apply:os.system ['touch x']\n",
        "a: &a [x]\nb: [*a, *a]\n",
        text.replace("size: 4", "size: many"),
        text.replace("schema: 1", "schema: 2"),
        text.replace("id: '01'", "id: 1"),
        yaml.safe_dump({"schema": 1}),
        "\0",
        "[" * 5000,
    ):
        (place / "job.yaml").write_text(bad)
        done = bake(root, "jobs", "show", ID)
        assert done.code == 2, (bad[:40], done.err)
        assert "bug" not in done.err
    assert not (root / "x").exists()
