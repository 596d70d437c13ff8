"""Stages in containers give what stages on the machine give, with no right they don't need."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.engine.conftest import ROOT, Engine

STAGES = ("demux", "vad", "asr", "align", "diarize", "subtitles", "mux")
EXAMPLE = ROOT / "examples/dialogue.mp4"


def results(job: Path) -> dict[str, bytes | Any]:
    """Every result of a job, without what differs by its nature: times."""
    found: dict[str, Any] = {}
    for path in sorted([*job.glob("work/*/*"), *job.glob("output/*")]):
        if path.name == "manifest.json":
            manifest = json.loads(path.read_text())
            found[f"{path.parent.name}/outputs"] = manifest["outputs"]
        else:
            found[f"{path.parent.name}/{path.name}"] = path.read_bytes()
    return found


@pytest.fixture(scope="session")
def native(state: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's job, run on this machine."""
    jobs = tmp_path_factory.mktemp("native-jobs")
    home = Engine("unix:///nowhere.sock", "", "wb-test", state)
    done = home.bake("run", EXAMPLE, "--threads", "2", "--batch-size", "0", "--json", env={"BAKE_JOBS": str(jobs)})
    assert done.code == 0, done.err
    assert "media were read in the native environment" in done.err
    return jobs / done.data["job"]


def test_each_stage_runs_without_network_rights_or_a_writable_root(
    engine: Engine, built: Any, native: Path, tmp_path: Path
) -> None:
    """``docker run … IMAGE --job /job`` by hand, as any user of group 0; the same bytes as natively."""
    job = tmp_path / "job"
    job.mkdir(mode=0o775)
    job.chmod(0o775)
    shutil.copytree(native / "input", job / "input")
    shutil.copy(native / "job.yaml", job)
    for stage in STAGES:
        done = engine.docker(
            "run", "--rm", "--network", "none", "--read-only", "--user", "12345:0", "--cap-drop", "ALL",
            "--volume", f"{job}:/job", "--volume", f"{(engine.home / 'models').resolve()}:/models:ro",
            f"{engine.prefix}/{stage}:slim-cpu", "--job", "/job",
        )  # fmt: skip
        assert done.code == 0, f"{stage}: {done.err}"
    assert results(job) == results(native)
    assert (job / "output/dialogue.srt").stat().st_uid == 12345


def test_run_in_docker_cpu_gives_the_same(engine: Engine, built: Any, native: Path) -> None:
    done = engine.bake(
        "run", EXAMPLE, "--mode", "docker-cpu", "--no-build", "--threads", "2", "--batch-size", "0", "--json"
    )
    assert done.code == 0, done.err
    assert "every stage ran in a container without network" in done.err
    assert results(engine.home / "jobs" / done.data["job"]) == results(native)


def test_native_jobs_read_media_in_containers_where_there_are_some(engine: Engine, built: Any, native: Path) -> None:
    """The result says which; it is the same."""
    assert engine.bake("build", "--mode", "native").code == 0
    done = engine.bake("run", EXAMPLE, "--threads", "2", "--batch-size", "0", "--language", "en", "--json")
    assert done.code == 0, done.err
    assert "media were read in containers without network" in done.err
    mine = results(engine.home / "jobs" / done.data["job"])
    assert mine["demux/01.wav"] == results(native)["demux/01.wav"]
    assert engine.docker("ps", "--all", "--quiet").out == "", "no container is left"


def test_a_recording_that_is_none_is_refused_in_the_container(engine: Engine, built: Any, tmp_path: Path) -> None:
    bad = tmp_path / "a, b 'ü'.mp4"
    bad.write_bytes(b"not media" * 100)
    done = engine.bake("run", bad, "--mode", "docker-cpu", "--no-build", "--json")
    assert done.code == 2
    assert "not a media file" in done.err


def test_no_build_names_what_is_missing(engine: Engine, built: Any) -> None:
    done = engine.bake("run", EXAMPLE, "--mode", "docker-cpu", "--no-build", env={"BAKE_REGISTRY": "wb-none"})
    assert done.code == 3
    assert "wb-none/asr:slim-cpu" in done.err
    assert "build.py build --mode docker-cpu" in done.err


def test_a_cut_is_made_in_the_container_too(engine: Engine, built: Any) -> None:
    done = engine.bake("run", EXAMPLE, "--mode", "docker-cpu", "--no-build", "--start", "5", "--end", "12", "--json")
    assert done.code == 0, done.err
    assert sys.getsizeof(done.data["files"])
    shown = engine.bake("jobs", "show", done.data["job"], "--json").data
    assert shown["state"] == "done"
