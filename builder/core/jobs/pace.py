"""How much of a job is done, and how long the rest takes: from what stages took before, and from what they take now. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from builder.core.jobs.job import Job, JobStage

USUAL: Mapping[str, float] = {
    "demux": 0.02,
    "separate": 0.08,
    "music": 0.015,
    "vad": 0.02,
    "asr": 0.4,
    "diarize": 0.08,
    "align": 0.06,
    "metadata": 0.0001,
    "names": 0.002,
    "translate": 0.001,
    "subtitles": 0.002,
    "mux": 0.02,
}
"""Seconds a second of sound takes, where this machine has not measured it: good for shares, not for the time of asr."""

UNKNOWN = ("asr",)
"""Stages whose time nobody can guess for another machine and model: the time left is not told before it is measured."""

FIRST = 0.05
"""Part of a stage after which its own pace counts."""


def key(job: Job, stage: JobStage) -> str:
    """What decides a stage's pace on one machine: its code's variant, its models and its device."""
    models = ",".join(sorted(use.id for use in stage.models.values()))
    return " ".join([stage.name, job.variant, models or "-", str(stage.settings.get("device", "cpu"))])


def left(
    stages: Sequence[JobStage],
    seconds: float,
    rates: Mapping[str, float],
    *,
    done: Mapping[str, float],
    elapsed: Mapping[str, float],
    parallel: int,
) -> float | None:
    """Seconds until the last stage ends; None while that can't be told.

    Args:
        stages: those that are to run, in order.
        seconds: of sound in the job.
        rates: seconds a second of sound takes, by stage, as measured here.
        done: part of each stage that is done, from 0 to 1; stages that have not begun are missing.
        elapsed: seconds for which each running stage has run.
        parallel: how many stages run at once.
    """
    rest: dict[str, float] = {}
    for stage in stages:
        part = done.get(stage.name, 0.0)
        if part >= 1.0:
            rest[stage.name] = 0.0
        elif part >= FIRST and elapsed.get(stage.name, 0.0) > 1.0:
            rest[stage.name] = elapsed[stage.name] * (1 - part) / part
        elif stage.name in rates or stage.name not in UNKNOWN:
            expected = seconds * rates.get(stage.name, USUAL.get(stage.name, 0.05))
            rest[stage.name] = max(expected - elapsed.get(stage.name, 0.0), expected * 0.02)
        else:
            return None
    if parallel == 1:
        return sum(rest.values())
    ends: dict[str, float] = {}
    for stage in stages:
        ends[stage.name] = rest[stage.name] + max((ends.get(need, 0.0) for need in stage.needs), default=0.0)
    return max(ends.values(), default=0.0)


def share(stages: Sequence[JobStage], rates: Mapping[str, float], done: Mapping[str, float]) -> float:
    """How much of the work is done, from 0 to 1: each stage counts as long as it takes."""
    weights = {stage.name: rates.get(stage.name, USUAL.get(stage.name, 0.05)) for stage in stages}
    total = sum(weights.values())
    if not total:
        return 1.0
    return min(1.0, sum(weight * min(1.0, done.get(name, 0.0)) for name, weight in weights.items()) / total)
