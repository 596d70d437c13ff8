"""Stages as processes of this machine: the native environment, offline, with no credential of the caller."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from builder.core.jobs.job import JobStage
from builder.core.stage_env import stage_environment
from builder.edges.jobs.hosts import compose
from builder.edges.system import shell


class Process:
    """A started process as the runner wants it: see :class:`builder.edges.jobs.runner.Task`."""

    cause = ""
    error = None

    def __init__(self, process: shell.Process) -> None:
        self._process = process

    def poll(self) -> int | None:
        return self._process.poll()

    def terminate(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def stop(self) -> None:
        shell.stop(self._process)


class Native:
    """The native environment as the place of a job's stages."""

    def __init__(self, *, stages: Path, models: Path, place: Path, python: Path, env: Mapping[str, str]) -> None:
        """
        Args:
            stages: the folder of the stages' code.
            models: the tree of weights.
            place: the job's folder.
            env: the caller's, of which little is taken over.
        """
        self._stages, self._models, self._place, self._python, self._env = stages, models, place, python, env
        self._scratch = place / ".scratch"  # not in work/, where a container could have put a link in its place

    def open(self, stages: Sequence[str]) -> None:
        """End the containers that a killed run left."""
        compose.clean(self._place)

    def start(self, stage: JobStage, log: Path) -> Process:
        self._scratch.mkdir(exist_ok=True)
        variables = stage_environment(
            models=str(self._models),
            scratch=str(self._scratch),
            threads=int(stage.settings.get("threads", 1)),
            inherit=self._env,
        )
        variables["BAKE_PARENT"] = str(os.getpid())
        main = self._stages / stage.name / "main.py"
        words = [str(self._python), str(main), "--job", str(self._place)]
        return Process(shell.start(words, env=variables, log=log))

    def close(self) -> None:
        """Remove what libraries wrote into their home."""
        shutil.rmtree(self._scratch, ignore_errors=True)
