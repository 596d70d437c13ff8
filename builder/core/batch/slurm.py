"""A batch as a job array of Slurm: a script for sbatch. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from builder.core.batch import rendering
from builder.core.batch.rendering import RenderedBatch
from builder.core.quoting import environment
from builder.errors import UsageError
from builder.program import shell_word

FILE = "batch.sbatch"

LOGS = "logs"
"""Folder beside the script that Slurm writes what tasks print into; without it Slurm runs none."""

RETRIES = 5
"""How often a task queues itself again after a machine's fault."""

MOST_TASKS = 1000
"""Indexes of an array where nobody has changed Slurm's MaxArraySize: more shards are submitted in several arrays."""

PARTITION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,-]*")


@dataclass(frozen=True, kw_only=True)
class SlurmOptions:
    """What is to be told of the cluster."""

    folder: str
    """Absolute path of the batch's folder, as nodes see it."""
    here: str
    """Absolute path of the folder of the script."""
    python: str
    """What runs the node program: Python 3.9 or later."""
    queue: str = ""
    """Partition; empty: the default one."""


def require_partition(text: str, *, where: str) -> str:
    """A partition's name, or several with commas.

    Raises:
        UsageError: it has another form.
    """
    if not PARTITION.fullmatch(text):
        raise UsageError(f'"{text}" is not a partition', where=where, expected="letters, digits, . _ - and commas")
    return text


def render(batch: RenderedBatch, options: SlurmOptions, templates: Mapping[str, str]) -> dict[str, str]:
    """The script, by its name."""
    made = environment(templates, word=shell_word).get_template("batch/slurm/batch.sbatch.j2")
    script = made.render(
        batch=batch,
        name=f"whisperbake-{batch.name}",
        last=min(len(batch.shards), MOST_TASKS) - 1,
        memory=rendering.mebibytes(batch.memory),
        disk=rendering.mebibytes(batch.disk),
        minutes=batch.minutes,
        folder=options.folder,
        here=options.here,
        python=options.python,
        queue=options.queue,
        retries=RETRIES,
        node=rendering.NODE,
    )
    return {FILE: script}


def submissions(batch: RenderedBatch) -> list[str]:
    """What to type in the script's folder, a line for each array."""
    lines = [f"sbatch {FILE}"]
    for begin in range(MOST_TASKS, len(batch.shards), MOST_TASKS):
        last = min(len(batch.shards) - begin, MOST_TASKS) - 1
        lines.append(f"sbatch --export=BATCH_FIRST={batch.first + begin} --array=0-{last}%{batch.parallelism} {FILE}")
    return lines
