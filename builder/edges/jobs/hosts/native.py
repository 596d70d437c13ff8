"""Stages as processes of this machine: the native environment, offline, with no credential of the caller."""

from __future__ import annotations

import contextlib
import os
import shlex
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from builder.core.jobs.job import JobStage
from builder.core.stage_env import stage_environment
from builder.edges.jobs.hosts import compose
from builder.edges.jobs.record.log import StageLog
from builder.edges.machine import environment
from builder.edges.system import shell
from builder.receiver.jobs import places


class Process:
    """A started process as the runner wants it: see :class:`builder.edges.jobs.runner.Task`."""

    cause = ""
    error = None

    def __init__(
        self, words: Sequence[str], log: StageLog, on_end: Callable[[], None], *, env: Mapping[str, str] | None = None
    ) -> None:
        """
        Args:
            words: what to start.
            env: its environment; None for this process's.
            log: gets what it prints.
            on_end: called from another thread when the process has ended.
        """
        self._process = shell.start(words, env=env, piped=True)
        self._code: int | None = None
        self.command = shlex.join(words)
        threading.Thread(target=self._await, args=(log, on_end), name=f"wait {self._process.pid}", daemon=True).start()

    def poll(self) -> int | None:
        return self._code  # once its log is whole

    def terminate(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def stop(self) -> None:
        shell.stop(self._process)

    def _await(self, log: StageLog, on_end: Callable[[], None]) -> None:
        code = shell.drain(self._process, log.add)
        log.close()
        self._code = code
        on_end()


class Native:
    """The native environment as the place where a job's stages run."""

    def __init__(
        self,
        *,
        stages: Path,
        models: Path,
        folder: Path,
        python: Path,
        env: Mapping[str, str],
        apart: Mapping[str, Path] = MappingProxyType({}),
    ) -> None:
        """
        Args:
            stages: the folder of the stages' code.
            models: the tree of weights.
            folder: the job's folder.
            python: the environment's interpreter.
            env: the caller's, of which little is taken over.
            apart: interpreters of stages that have an environment of their own.
        """
        self._stages, self._models, self._folder, self._python, self._env = stages, models, folder, python, env
        self._apart = apart
        self._scratch = folder / ".scratch"  # not in work/, where a container could have put a link in its place

    def open(self, stages: Sequence[str]) -> None:
        """End the containers that a killed run left."""
        compose.clean(self._folder)

    def start(self, stage: JobStage, log: StageLog, on_end: Callable[[], None]) -> Process:
        self._scratch.mkdir(exist_ok=True)
        own = self._env.get("LD_LIBRARY_PATH")
        cuda = environment.cuda_libraries(self._python)
        libraries = ":".join([*map(str, cuda), *([own] if own else [])])
        variables = stage_environment(
            models=str(self._models),
            scratch=str(self._scratch),
            threads=int(stage.settings.get("threads", 1)),
            inherit={**self._env, "LD_LIBRARY_PATH": libraries} if libraries else self._env,
        )
        if cuda:
            variables["CUDA_CACHE_PATH"] = str(environment.cuda_cache(self._python))
        variables["BAKE_PARENT"] = str(os.getpid())
        main = self._stages / stage.name / "main.py"
        words = [str(self._apart.get(stage.name, self._python)), str(main), "--job", str(self._folder)]
        return Process(words, log, on_end, env=variables)

    def close(self) -> None:
        """Remove what libraries wrote into their home."""
        places.remove_if_there(self._scratch)
