"""Stages in containers give what stages on the machine give, with no right they don't need."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from builder.core.jobs import compose
from builder.core.jobs.sandbox import ContainerLimits
from tests.engine.conftest import OTHER_STORE, Engine, copy_project, results
from tests.shared import EXAMPLE

STAGES = ("demux", "vad", "asr", "align", "diarize", "subtitles", "mux")


@OTHER_STORE
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
            "run",
            "--rm",
            "--network",
            "none",
            "--read-only",
            "--user",
            "12345:0",
            "--cap-drop",
            "ALL",
            "--volume",
            f"{job}:/job",
            "--volume",
            f"{(engine.home / 'models').resolve()}:/models:ro",
            f"{engine.prefix}/{stage}:slim-cpu",
            "--job",
            "/job",
        )
        assert done.code == 0, f"{stage}: {done.err}"
    assert results(job) == results(native)
    assert (job / "output/dialogue.srt").stat().st_uid == 12345


@OTHER_STORE
def test_native_jobs_read_media_in_containers_where_there_are_some(engine: Engine, built: Any, native: Path) -> None:
    """The result says which; it is the same."""
    assert engine.bake("build", "--mode", "native").code == 0
    done = engine.bake("run", EXAMPLE, "--threads", "2", "--batch-size", "0", "--language", "en", "--json")
    assert done.code == 0, done.err
    assert "media were read in containers without network" in done.said
    mine = results(engine.home / "jobs" / done.data["job"])
    assert mine["demux/01.wav"] == results(native)["demux/01.wav"]
    assert engine.docker("ps", "--all", "--quiet").out == "", "no container is left"


@OTHER_STORE
def test_a_recording_that_is_none_is_refused_in_the_container(engine: Engine, built: Any, tmp_path: Path) -> None:
    bad = tmp_path / "a, b 'ü'.mp4"
    bad.write_bytes(b"not media" * 100)
    done = engine.bake("run", bad, "--mode", "docker-cpu", "--no-build", "--json")
    assert done.code == 2
    assert "not a media file" in done.said


@OTHER_STORE
def test_no_build_names_what_is_missing(engine: Engine, built: Any) -> None:
    done = engine.bake("run", EXAMPLE, "--mode", "docker-cpu", "--no-build", env={"BAKE_REGISTRY": "wb-none"})
    assert done.code == 3
    assert "wb-none/asr:slim-cpu" in done.said
    assert "build.py build --mode docker-cpu" in done.said


@OTHER_STORE
def test_a_cut_is_made_in_the_container_too(engine: Engine, built: Any) -> None:
    done = engine.bake("run", EXAMPLE, "--mode", "docker-cpu", "--no-build", "--start", "5", "--end", "12", "--json")
    assert done.code == 0, done.err
    assert done.data["files"]
    shown = engine.bake("jobs", "show", done.data["job"], "--json").data
    assert shown["state"] == "done"


PROXY = "http://user:canary@proxy:3128"


@OTHER_STORE
def test_no_container_of_a_job_gets_the_docker_clients_proxies(
    engine: Engine, built: Any, native: Path, tmp_path: Path
) -> None:
    """Of config.json, with their passwords: not by compose, by hand too, and not by ``docker run``."""
    names = ("httpProxy", "httpsProxy", "ftpProxy", "allProxy", "noProxy")
    (tmp_path / "config.json").write_text(json.dumps({"proxies": {"default": dict.fromkeys(names, PROXY)}}))
    env = engine.env | {"DOCKER_CONFIG": str(tmp_path)}
    plain = ["docker", "--host", engine.host, "run", "--rm", "--entrypoint", "python3", f"{engine.prefix}/vad:slim-cpu"]
    told = ["-c", "import os; print(sorted(k for k, v in os.environ.items() if 'canary' in v))"]
    seen = subprocess.run([*plain, *told], env=env, capture_output=True, text=True, check=True).stdout
    assert "HTTPS_PROXY" in seen, "the client does put them into containers that say nothing of them"

    ran = engine.job(EXAMPLE, "--until", "demux", env={"DOCKER_CONFIG": str(tmp_path)})
    assert ran.code == 0, ran.err
    folder = engine.home / "jobs" / ran.data["job"]
    by_hand = ["docker", "--host", engine.host, "compose", "--project-directory", str(folder)]
    subprocess.run([*by_hand, "create"], env=env, capture_output=True, check=True)
    try:
        containers = engine.client.containers.list(all=True, filters={"label": f"{compose.JOB}={folder.name}"})
        assert {c.labels[compose.STAGE] for c in containers} == set(STAGES)
        assert not [c.name for c in containers if "canary" in json.dumps(c.attrs)]
    finally:
        subprocess.run([*by_hand, "down"], env=env, capture_output=True, check=True)

    words = compose.run_command(
        engine.host,
        f"{engine.prefix}/vad:slim-cpu",
        told,
        name="whisperbake-test-proxies",
        mounts=[],
        limits=ContainerLimits(memory=200_000_000, cpus=1),
        user="65532:0",
        variables={},
        entrypoint="python3",
    )
    assert subprocess.run(words, env=env, capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.heavy
@OTHER_STORE
def test_stages_that_few_need_give_in_containers_what_they_give_on_the_machine(engine: Engine, tmp_path: Path) -> None:
    """Noise out, music, the film's name, names, Apertium: their images are built because a job asks for them."""
    project = copy_project(tmp_path)
    with (project / "bake.yaml").open("a") as file:
        file.write("\ntranslation:\n  apertium: [eng-spa]\n")
    words = (
        "run",
        EXAMPLE,
        "-s",
        "en",
        "-t",
        "es",
        "--names",
        "--metadata",
        "cached",
        "--lyrics",
        "mark",
        "--separate",
        "on",
        "--threads",
        "2",
        "--end",
        "12",
        "--json",
    )
    outputs = []
    for mode in ("native", "docker-cpu"):
        done = engine.bake(*words, "--mode", mode, root=project)
        assert done.code == 0, done.err
        outputs.append({p.name: p.read_bytes() for p in Path(done.data["output"]).iterdir()})
    assert {"dialogue.es.srt", "dialogue.en.srt", "dialogue.names.tsv"} <= outputs[0].keys()
    assert outputs[0] == outputs[1]
