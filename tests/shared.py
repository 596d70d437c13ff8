"""What tests of commands share, and what a run makes once for all of its workers and files."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples/dialogue.mp4"

SAME = ("--threads", "2", "--batch-size", "0")
"""Settings that decide bytes: with them a job gives the same on every machine and in containers."""


MADE: list[Path] = []
"""Folders that this worker made for all (:func:`once`)."""


@dataclass(frozen=True)
class Ran:
    """What a command printed and returned."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)

    @property
    def said(self) -> str:
        """What it told: standard error and, with ``--json``, the error on standard output."""
        with contextlib.suppress(ValueError):
            found = json.loads(self.out)
            if isinstance(found, dict) and (error := found.get("error")):
                return "\n".join(
                    [self.err, *(str(error[key]) for key in ("where", "what", "expected", "hint")), *error["detail"]]
                )
        return self.err


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
            MADE.append(folder)
            ready.touch()
    return folder


@functools.cache
def native_python() -> Path:
    """The stages' python, with PyAV, as the product names it; what is lacking is set up: it and the small models.

    .bake/native also has the environments of other locks, of other branches and of yesterday.
    """
    words = [sys.executable, str(ROOT / "build.py"), "bootstrap", "--preset", "tiny-en", "--cache-models", "--json"]
    mine = {k: v for k, v in os.environ.items() if not k.startswith(("BAKE_", "HF_"))}
    done = subprocess.run(words, env=mine, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Path(json.loads(done.stdout)["environment"]) / "bin/python"


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
