"""How long stages took on this machine, kept from job to job for the time that is told to be left."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from builder.core.jobs import pace
from builder.core.jobs.job import Job
from builder.edges.system import files

SHORTEST = 5.0
"""Seconds of sound below which a stage's start is most of what it takes."""

MOST = 500
"""Entries that are kept."""


def known(path: Path, job: Job) -> dict[str, float]:
    """Seconds a second of sound takes, by stage of the job, as far as this machine has measured it."""
    kept = files.read_object(path)
    rates = {stage.name: kept.get(pace.key(job, stage)) for stage in job.stages}
    return {name: float(r) for name, r in rates.items() if isinstance(r, (int, float)) and 0 < r < 1e4}


def note(path: Path, job: Job, took: Mapping[str, float], sound: float) -> None:
    """Remember what stages took: half of what was known, half of today's.

    Args:
        took: seconds of each stage that ran.
        sound: seconds of sound in the job.
    """
    if sound < SHORTEST or not took:
        return
    kept = files.read_object(path)
    for name, seconds in took.items():
        entry, rate = pace.key(job, job.stage(name)), seconds / sound
        before = kept.pop(entry, rate)
        kept[entry] = round((float(before) + rate) / 2 if isinstance(before, (int, float)) else rate, 5)
    with contextlib.suppress(OSError):  # a convenience, and no job fails for it
        files.write_json(path, dict(list(kept.items())[-MOST:]))
