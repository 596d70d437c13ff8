"""A job is closed to whoever can't read its recordings, and resumed only where it is what would be made now."""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from builder.core.config.types import Config
from builder.core.jobs import job_file
from builder.core.jobs.job import Clip, Job
from builder.core.jobs.naming import CopyOptions, Place
from builder.core.jobs.request import Request
from builder.core.progress import silent
from builder.edges.jobs import delivery, sources
from builder.edges.jobs import folder as jobs
from builder.edges.jobs import prepare as preparing
from builder.edges.jobs.outcome import Outcome
from builder.edges.machine import project
from builder.edges.system import shell
from builder.errors import ConfigError
from builder.receiver.jobs import places
from tests import small_project
from tests.process.test_hostile_jobs import asked


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that everybody may enter: pytest's own are closed."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def config(place: Path) -> Config:
    before = os.umask(0o022)
    small_project.make(place / "project", {}, fill=False)
    os.umask(before)
    return project.load(place / "project", env={})


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def media(options: Sequence[str], source: Path, target: Path | None) -> shell.Done:
    """Says what a film's header says, and cuts by copying its first bytes."""
    if target is None:
        return shell.Done(code=0, out=json.dumps({"video": True, "duration": 3.0}), err="")
    target.write_bytes(source.read_bytes()[:10])
    return shell.Done(code=0, out=json.dumps({"start": 1.0, "end": 2.0, "lead": 0.5}), err="")


def recording(place: Path, mode: int, name: str = "talk.mp4") -> Path:
    path = place / name
    path.write_bytes(b"film" * 100)
    path.chmod(mode)
    return path


def prepare(config: Config, *paths: Path, request: Request | None = None, resume: bool = False) -> Job:
    made = request or asked(config)
    return preparing.prepare(config, paths, made, media=media, on_progress=silent, resume=resume)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    ("recorded", "closed"), [(0o600, True), (0o400, True), (0o640, True), (0o604, True), (0o644, False), (0o755, False)]
)
def test_a_job_is_as_open_as_its_recording(config: Config, place: Path, recorded: int, closed: bool) -> None:
    """And so are a cut of it, and copies of its results."""
    source = recording(place, recorded)
    clipped = replace(asked(config), clip=Clip(start=1.0))
    for job in (prepare(config, source), prepare(config, source, request=clipped)):
        folder = config.jobs / job.id
        assert mode(folder) & 0o007 == (0 if closed else 0o005)
        if job.inputs[0].clip:
            assert mode(folder / job.inputs[0].path) & 0o007 == (0 if closed else 0o004)
        (folder / "output/talk.srt").write_text("said")
        outcome = Outcome(
            job=job,
            folder=folder / "output",
            files=(folder / "output/talk.srt",),
            stages=(),
            notes=(),
            seconds=1.0,
        )
        wanted = CopyOptions(folder=place / job.id)
        (place / job.id).mkdir()
        copied = delivery.deliver(
            outcome, wanted, [Place(folder=place / job.id, stem="talk", recording=source)], folder
        )
        assert copied.undelivered is None
        assert mode(copied.copies[0]) & 0o007 == (0 if closed else 0o004)


def test_the_folders_above_count(config: Config, place: Path) -> None:
    """Everybody may read the file, and nobody gets to it."""
    (place / "home").mkdir(mode=0o700)
    assert mode(config.jobs / prepare(config, recording(place / "home", 0o644)).id) == 0o700
    both = [recording(place, 0o644, "a.mp4"), recording(place, 0o600, "b.mp4")]
    assert mode(config.jobs / prepare(config, *both).id) == 0o700, "one closed recording closes the job"


def test_what_comes_through_a_pipe_is_closed(config: Config, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.process.test_sources import stdin

    stdin(monkeypatch, b"film" * 100)
    found = sources.read(["-"], sources.InputOptions())
    with sources.brought(found.named, config.jobs, sources.InputOptions(), on_progress=silent) as paths:
        job = prepare(config, *paths.values())
    assert mode(config.jobs / job.id) == 0o700
    assert mode(config.jobs / job.id / job.inputs[0].path) == 0o600


def test_a_job_from_before_is_closed_when_it_is_met(config: Config, place: Path) -> None:
    """Whatever the command; and nobody but the owner may write there."""
    closed, open_ = (prepare(config, recording(place, m, f"{m:o}.mp4")) for m in (0o600, 0o644))
    for job in (closed, open_):
        (config.jobs / job.id).chmod(0o777)
        assert small_project.bake(config.root, "jobs", "show", job.id).code == 0
    assert mode(config.jobs / closed.id) == 0o700
    assert mode(config.jobs / open_.id) == 0o755


def test_a_page_elsewhere_is_as_closed(config: Config, place: Path) -> None:
    job = prepare(config, recording(place, 0o600))
    shutil.copytree(small_project.ROOT / "templates/report", config.root / "templates/report")
    (config.jobs / job.id / "work/demux").mkdir()
    (config.jobs / job.id / "work/demux/manifest.json").write_text("{}")
    done = small_project.bake(config.root, "jobs", "report", job.id, "--out", place / "page.html")
    assert done.code == 0, done.err
    assert mode(place / "page.html") == 0o600


@pytest.mark.parametrize("name", [".new-²-x", ".new-99999999999999999999-x", ".new--1-x", ".new-", ".new-0-x"])
def test_odd_names_in_the_folder_of_jobs_are_no_hindrance(config: Config, place: Path, name: str) -> None:
    """What looks like a folder that a dead process was making, and has no process's number."""
    (config.jobs / name).mkdir(parents=True)
    assert prepare(config, recording(place, 0o644)).id


def write(config: Config, job: Job) -> None:
    (config.jobs / job.id / "job.yaml").write_text(job_file.to_yaml(job))


def test_the_same_recording_resumes_its_job(config: Config, place: Path) -> None:
    source = recording(place, 0o644)
    clipped = replace(asked(config), clip=Clip(start=1.0))
    job, cut = prepare(config, source), prepare(config, source, request=clipped)
    assert prepare(config, source, resume=True) == job
    assert prepare(config, source, request=clipped, resume=True) == cut
    copy = recording(place / "project", 0o644)
    assert prepare(config, copy, resume=True) == job, "the bytes count, not where they lie"


@pytest.mark.parametrize("forged", ["settings", "bytes", "sha256", "name", "clip", "owner"])
def test_a_forged_job_is_not_resumed(config: Config, place: Path, forged: str) -> None:
    """It has the key of the request, and would do something else or has another recording."""
    source = recording(place, 0o644)
    request = replace(asked(config), clip=Clip(start=1.0)) if forged == "clip" else asked(config)
    job = prepare(config, source, request=request)
    inside = config.jobs / job.id / job.inputs[0].path
    if forged == "settings":
        asr = job.stage("asr")
        stages = tuple(replace(s, settings={**asr.settings, "beam_size": 1}) if s is asr else s for s in job.stages)
        write(config, replace(job, stages=stages))
    elif forged in ("bytes", "clip"):
        inside.unlink()
        inside.write_bytes(b"evil" * 100)
    elif forged == "owner":
        if os.geteuid() != 0:
            pytest.skip("only root gives files away")
        os.chown(config.jobs / job.id, 65534, 65534)
    else:
        change = {"sha256": {"sha256": "0" * 64}, "name": {"name": "other.mp4"}}[forged]
        write(config, replace(job, inputs=(replace(job.inputs[0], **change),)))  # type: ignore[arg-type]
    assert prepare(config, source, request=request, resume=True).id != job.id


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("part", [".", "job.yaml"])
def test_a_job_of_another_user_is_refused(config: Config, place: Path, part: str) -> None:
    job = prepare(config, recording(place, 0o644))
    folder = config.jobs / job.id
    os.chown(folder / part, 65534, 65534)
    with pytest.raises(ConfigError, match="belongs to user 65534"):
        jobs.read(config, folder)
    done = small_project.bake(config.root, "jobs", "remove", job.id)
    assert done.code == 2
    assert "belongs to user 65534" in done.err


def test_a_tree_of_any_depth_is_removed(tmp_path: Path) -> None:
    """Deeper than the stack, than the limit of open folders, than a path may be long; without rights; full of links."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").write_text("kept")
    top = tmp_path / "job"
    top.mkdir()
    here = os.open(top, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("deep", dir_fd=here)
        os.symlink(tmp_path / "kept", "link", dir_fd=here)
        deeper = os.open("deep", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    (top / "closed/inner").mkdir(parents=True)
    (top / "closed/inner/file").touch()
    os.mkfifo(top / "fifo")
    (top / "closed/inner").chmod(0)
    (top / "closed").chmod(0)
    places.remove_tree(top)
    assert not top.exists()
    assert (tmp_path / "kept/file").read_text() == "kept"
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "kept")
    with pytest.raises(NotADirectoryError):
        places.remove_tree(link)
    assert (tmp_path / "kept/file").exists()
