"""End-to-end tests run the command as a user does, with the project's own environment and models in .bake."""

from __future__ import annotations

import os
import subprocess
import sys
import wave
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.shared import ROOT, Ran, example_job, native_python

Bake = Callable[..., Ran]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here runs real recordings."""
    for item in items:
        if "e2e" in Path(item.fspath).parts:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def ready() -> None:
    """Environment and the small models, set up once by the command itself."""
    native_python()


@pytest.fixture(scope="session")
def transcribed(ready: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the example's finished job, with settings that give the same bytes again: read it only."""
    return example_job(tmp_path_factory)


@pytest.fixture(scope="session")
def python() -> Path:
    """A Python that has the stages' requirements: WHISPERBAKE_STAGE_PYTHON, else that of the native environment."""
    if named := os.environ.get("WHISPERBAKE_STAGE_PYTHON"):
        return Path(named)
    return native_python()


@pytest.fixture
def bake(ready: None, tmp_path: Path) -> Bake:
    """Run ``build.py`` with jobs in a folder of the test's own."""

    def run(
        *arguments: str | Path, env: Mapping[str, str] | None = None, prefix: tuple[str, ...] = (), cwd: Path = tmp_path
    ) -> Ran:
        done = subprocess.run(
            [*prefix, sys.executable, str(ROOT / "build.py"), *map(str, arguments)],
            env={**os.environ, "BAKE_JOBS": str(tmp_path / "jobs"), **(env or {})},
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


def write_wav(path: Path, seconds: float) -> Path:
    """Digital silence, 16 kHz mono."""
    with wave.open(str(path), "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(16_000)
        wav.writeframes(b"\0\0" * round(16_000 * seconds))
    return path
