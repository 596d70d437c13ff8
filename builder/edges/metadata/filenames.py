"""Titles in the names of files, by guessit in a native environment of its own (stages/metadata/filename.py)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from builder.core.config.types import Config
from builder.core.metadata import about, works
from builder.core.metadata.works import Named
from builder.core.progress import OnProgress, Progress
from builder.core.stage_env import stage_environment
from builder.edges.machine import environment
from builder.edges.system import shell
from builder.errors import SourceError
from builder.receiver.jobs.untrusted import parse_json

TIMEOUT = 30.0
"""Seconds for the names of one command."""


def read(config: Config, names: Sequence[str], *, env: Mapping[str, str], on_progress: OnProgress) -> tuple[Named, ...]:
    """What names say, in their order. Where guessit fails or can't be installed, they say nothing.

    Raises:
        IntegrityError, MissingError: the environment can't be made.
    """
    try:
        python = environment.ensure(config, (config.stages[about.STAGE],), env=env, on_progress=on_progress)
    except SourceError as error:  # a machine without an index: tags are still read
        on_progress(Progress(what="warning", note=f"nothing is read from names: {error.what}", finished=True))
        return (Named(),) * len(names)
    scratch = config.paths.native / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    program = config.shipped / "stages/metadata/filename.py"
    variables = stage_environment(models=str(config.paths.models), scratch=str(scratch), threads=1, inherit=env)
    done = shell.run([str(python), str(program)], env=variables, timeout=TIMEOUT, stdin=json.dumps(names).encode())
    try:
        found = parse_json(done.out.encode()) if done.code == 0 else None
    except ValueError:
        found = None
    if not isinstance(found, list) or len(found) != len(names):
        on_progress(Progress(what="warning", note="nothing is read from names: guessit failed", finished=True))
        return (Named(),) * len(names)
    return tuple(works.named(entry) for entry in found)
