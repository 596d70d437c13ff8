"""The native environment: when it is used as it is, what is swept, what a failure of pip means.

Making one for real is in tests/e2e/test_native.py.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from builder.core.config.types import Config, StageSpec
from builder.core.jobs.job import JobStage
from builder.core.progress import silent
from builder.edges.jobs.hosts.native import Native
from builder.edges.jobs.record.log import StageLog
from builder.edges.machine import environment as native
from builder.errors import BakeError, IntegrityError, MissingError, SourceError
from builder.workflows.session import pythons_apart
from tests import small_project

STAGES = (
    StageSpec(name="one", summary="", requirements={"slim": "stages/one/requirements-slim.txt"}),
    StageSpec(name="two", summary="", requirements={"slim": "stages/two/requirements-slim.txt"}),
)


def pin(name: str) -> str:
    return f"{name}==1 \\\n    --hash=sha256:{'0' * 64}\n"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    for stage in STAGES:
        lock = tmp_path / stage.requirements["slim"]
        lock.parent.mkdir(parents=True)
        lock.write_text(pin(stage.name))
    return small_project.of_stages(STAGES, root=tmp_path, home=tmp_path / ".bake")


def made(place: Path, *, unused: float = 0.0, stages: Sequence[str] = ("one", "two")) -> Path:
    """An environment of stages as ``ensure`` leaves it, last used ``unused`` seconds ago."""
    (place / "bin").mkdir(parents=True)
    (place / "bin/python").write_text("")
    (place / native.STAMP).write_text("".join(f"requirements-slim.txt of {name}\n" for name in stages))
    os.utime(place / native.STAMP, (time.time() - unused,) * 2)
    return place


def test_an_environment_counts_only_with_its_stamp_and_its_python(config: Config) -> None:
    """A set-up that was killed, or a Python that was uninstalled, is never run in."""
    assert native.ready(config, STAGES) is None
    place = made(native._place(config, STAGES))
    assert native.ready(config, STAGES) == place / "bin/python"
    (place / native.STAMP).unlink()
    assert native.ready(config, STAGES) is None
    (place / native.STAMP).write_text("")
    (place / "bin/python").unlink()
    assert native.ready(config, STAGES) is None


def test_jobs_on_a_gpu_have_an_environment_with_cuda_s_libraries(config: Config, tmp_path: Path) -> None:
    """They are locked apart: without them CTranslate2 finds the GPU and dies. Other jobs' environment stays as it is."""
    gpu = tmp_path / "stages/one/requirements-slim-gpu.txt"
    gpu.write_text(pin("nvidia-one"))
    locks = {**STAGES[0].requirements, "slim-gpu": "stages/one/requirements-slim-gpu.txt"}
    stages = (replace(STAGES[0], requirements=locks), STAGES[1])
    plain = made(native._place(config, stages))
    assert plain == native._place(config, STAGES)
    assert gpu not in native._locks(config, stages, cuda=False)
    assert gpu in native._locks(config, stages, cuda=True)
    assert native.ready(config, stages, cuda=True) is None
    assert native.ready(config, stages) == plain / "bin/python"
    assert native.ready(config, STAGES, cuda=True) == plain / "bin/python", "a variant without such a lock"


def test_every_engine_is_in_the_one_environment(config: Config) -> None:
    """A model of another engine needs no second one: its library is small, and what it stands on is there."""
    lock = "stages/one/requirements-slim-onnx-asr.txt"
    stages = (replace(STAGES[0], requirements={**STAGES[0].requirements, "slim-onnx-asr": lock}), STAGES[1])
    assert native._locks(config, stages, cuda=False) == [
        config.shipped / name for name in sorted([lock, *(s.requirements["slim"] for s in STAGES)])
    ]


def test_cuda_s_libraries_that_can_t_be_had_leave_the_processor(config: Config, tmp_path: Path) -> None:
    """An index without them, as a bundle's folder of wheels: the way out is named."""
    (tmp_path / "stages/one/requirements-slim-gpu.txt").write_text(pin("nvidia-one"))
    locks = {"slim": STAGES[0].requirements["slim"], "slim-gpu": "stages/one/requirements-slim-gpu.txt"}
    for lock in ("one", "two"):
        (tmp_path / f"stages/{lock}/requirements-slim.txt").write_text("")
    stages = (replace(STAGES[0], requirements=locks), STAGES[1])
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PIP_")}
    env = {**kept, "PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    with pytest.raises(SourceError) as caught:
        native.ensure(config, stages, cuda=True, env=env, on_progress=lambda _: None)
    assert str(caught.value.hint).startswith("--device cpu needs no CUDA; or ")


def test_stages_find_cuda_s_libraries(config: Config, tmp_path: Path) -> None:
    """CTranslate2 asks the loader for them by name; the caller's own folders stay behind them.

    What the driver compiles outlives the job.
    """
    environment = made(tmp_path / "env")
    (environment / "bin/python").unlink()
    (environment / "bin/python").symlink_to(sys.executable)
    library = environment / "lib/python3.11/site-packages/nvidia/cublas/lib"
    library.mkdir(parents=True)
    main = tmp_path / "stages/one/main.py"
    main.write_text("import os\nprint(os.environ['LD_LIBRARY_PATH'], os.environ['CUDA_CACHE_PATH'])\n")
    job = tmp_path / "job"
    job.mkdir()
    host = Native(
        stages=tmp_path / "stages",
        models=tmp_path,
        folder=job,
        python=environment / "bin/python",
        env={"LD_LIBRARY_PATH": "/mine"},
    )
    ended = threading.Event()
    host.start(JobStage(name="one", needs=()), StageLog(tmp_path, "log"), ended.set)
    assert ended.wait(60)
    assert (tmp_path / "log").read_text() == f"{library}:/mine {environment / 'cuda-cache'}\n"


def test_a_stage_runs_in_its_own_environment(config: Config, tmp_path: Path) -> None:
    python = made(tmp_path / "apart") / "bin/python"
    python.unlink()
    python.symlink_to(sys.executable)
    (tmp_path / "stages/two/main.py").write_text("import sys\nprint(sys.executable)\n")
    (tmp_path / "job").mkdir()
    host = Native(
        stages=tmp_path / "stages",
        models=tmp_path,
        folder=tmp_path / "job",
        python=Path(sys.executable),
        env={},
        apart={"two": python},
    )
    ended = threading.Event()
    host.start(JobStage(name="two", needs=()), StageLog(tmp_path, "log"), ended.set)
    assert ended.wait(60)
    assert (tmp_path / "log").read_text() == f"{python}\n"


def test_other_locks_are_another_environment(config: Config) -> None:
    before = native._place(config, STAGES)
    assert native._place(config, STAGES[::-1]) == before
    assert native._place(config, STAGES[:1]) != before
    (config.root / "stages/two/requirements-slim.txt").write_text(pin("two").replace("==1", "==2"))
    assert native._place(config, STAGES) != before


def test_a_variant_without_locks_says_which_stage_lacks_one(config: Config) -> None:
    lacking = (*STAGES, StageSpec(name="three", summary=""))
    with pytest.raises(MissingError, match="three") as caught:
        native.ready(config, lacking)
    assert caught.value.hint


def test_only_what_nobody_uses_is_swept(config: Config) -> None:
    """A job that still runs on the environment of yesterday's locks keeps it; a killed set-up leaves nothing."""
    home = config.paths.native
    mine = made(home / "slim-aaaa", unused=native.UNUSED * 2)
    recent = made(home / "slim-bbbb", unused=native.UNUSED / 2)
    old = made(home / "slim-cccc", unused=native.UNUSED * 2)
    full = made(home / "full-dddd", unused=native.UNUSED * 2)
    apart = made(home / "slim-ffff", unused=native.UNUSED * 2, stages=("names",))
    cut = home / "slim-eeee.123.part"
    (cut / "lib").mkdir(parents=True)
    theirs = home / "code"  # BAKE_HOME may name a folder that has one called native
    theirs.mkdir()
    native._sweep(mine, native._locks(config, STAGES[1:], cuda=False))
    assert mine.exists()
    assert recent.exists()
    assert full.exists()
    assert apart.exists(), "a command that few need is no reason to make the others' environment anew, nor the reverse"
    assert theirs.exists()
    assert not old.exists()
    assert not cut.exists()


def test_a_stage_apart_has_its_environment_where_a_job_has_it(config: Config) -> None:
    """The others' has none of its packages, and doesn't change with them."""
    apart = replace(STAGES[1], apart=True)
    config = small_project.of_stages((STAGES[0], apart), root=config.root, home=config.home)
    assert config.together == STAGES[:1]
    python = made(native._place(config, (apart,))) / "bin/python"
    for names, found in ((["one", "two"], {"two": python}), (["one"], {})):
        assert pythons_apart(config, names, env={}, on_progress=silent) == found


def test_being_used_is_noted(config: Config) -> None:
    place = made(native._place(config, STAGES), unused=native.UNUSED * 2)
    native.ready(config, STAGES)
    assert time.time() - (place / native.STAMP).stat().st_mtime < 60


@pytest.mark.parametrize(
    ("printed", "kind", "said"),
    [
        ("ERROR: Could not install: [Errno 28] No space left on device", MissingError, "disk is full"),
        ("ERROR: [Errno 30] Read-only file system: '/x'", MissingError, "can't be written"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE", IntegrityError, "locked"),
        ("WARNING: Retrying: SSLError(CERTIFICATE_VERIFY_FAILED)", SourceError, "certificate"),
        ("WARNING: Retrying\nERROR: No matching distribution found for a==1", SourceError, "can't be reached"),
        ("ERROR: No matching distribution found for a==1", SourceError, "found no wheel"),
        ("something new", SourceError, "could not be installed"),
    ],
)
def test_what_pip_prints_becomes_an_error_with_a_way_out(printed: str, kind: type[BakeError], said: str) -> None:
    error = native.failure(printed, Path("/state/native"))
    assert type(error) is kind
    assert said in error.what
    assert error.hint
    assert error.detail == tuple(printed.splitlines())


def test_what_would_fill_the_disk_is_refused_before_pip_begins(config: Config) -> None:
    """By sizes as they were measured: of CUDA's libraries only where torch brings them."""
    sizes = config.root / "images/sizes.json"
    sizes.parent.mkdir()
    sizes.write_text(json.dumps({"one==1": 10**15, "two==1": 1}))
    with pytest.raises(MissingError, match=r"the disk has \d+ MB free; this needs 17\d{8} MB"):
        native.ensure(config, STAGES, env={}, on_progress=silent)
    assert list(config.paths.native.glob("slim-*")) == []


def test_a_state_folder_that_cannot_be_made_is_no_traceback(config: Config) -> None:
    config.home.write_text("a file where the folder should be")
    with pytest.raises(MissingError) as caught:
        native.ensure(config, STAGES, env={}, on_progress=lambda _: None)
    assert caught.value.hint == "use --home DIR"
