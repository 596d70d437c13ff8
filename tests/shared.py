"""What a run of the tests makes once, for all of its workers and files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples/dialogue.mp4"

SAME = ("--threads", "2", "--batch-size", "0")
"""Settings that decide bytes: with them a job gives the same on every machine and in containers."""


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that ``make`` fills, once a run: a second worker waits and gets the same. Tests only read it."""
    run = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        run = run.parent
    folder, ready = run / f"once-{name}", run / f"once-{name}.ready"
    with FileLock(run / f"once-{name}.lock"):
        if not ready.exists():
            shutil.rmtree(folder, ignore_errors=True)  # a maker that failed left it
            folder.mkdir()
            make(folder)
            ready.touch()
    return folder


def state_folder(folder: Path) -> Path:
    """A new state folder on the project's models, native environment and root file systems, which nobody makes twice."""
    (folder / "cache").mkdir(parents=True)
    for name in ("models", "native", "cache/base"):
        shared = ROOT / ".bake" / name
        shared.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(shared)
    return folder


def example_job(factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished job, made once a run: the example with tiny.en and :data:`SAME`, without an engine."""

    def make(jobs: Path) -> None:
        words = ["run", str(EXAMPLE), "--preset", "tiny-en", *SAME]
        mine = {k: v for k, v in os.environ.items() if not k.startswith(("BAKE_", "HF_"))}
        done = subprocess.run(
            [sys.executable, str(ROOT / "build.py"), *words],
            env=mine | {"BAKE_JOBS": str(jobs), "DOCKER_HOST": "unix:///nowhere.sock"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "media were read in the native environment" in done.stderr

    return next(once(factory, "example-job", make).glob("*/job.yaml")).parent
