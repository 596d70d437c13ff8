"""The result of ``jobs stats``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from typing_extensions import TypedDict

from builder.core.jobs.record.stats import QUANTILES, Spread, prometheus
from builder.core.text import format_size, format_time, table
from builder.views import View

if TYPE_CHECKING:
    from builder.core.jobs.record.stats import JobStats


class SpreadJson(TypedDict):
    """How a number is distributed."""

    count: int
    """How many there are."""
    total: float
    """Their sum."""
    median: float
    """The middle one."""
    p90: float
    """What nine of ten don't exceed."""
    p99: float
    """What 99 of 100 don't exceed."""


class StageStatsJson(TypedDict):
    """One stage over all jobs."""

    name: str
    """Its name."""
    done: int
    """Jobs in which it ended well."""
    failed: int
    """Jobs in which it failed."""
    seconds: SpreadJson | None
    """Seconds of its runs that ended well; null where there are none, as below."""
    rtf: SpreadJson | None
    """Seconds for a second of sound."""
    load: SpreadJson | None
    """Seconds until its model was loaded."""
    peak_bytes: int | None
    """The most memory that a run held."""


class ReasonJson(TypedDict):
    """Why a stage failed."""

    stage: str
    """Its name."""
    why: str
    """What it said."""
    count: int
    """In how many jobs."""


class JobStatsJson(TypedDict):
    """All jobs together."""

    states: dict[str, int]
    """Jobs, by the state that jobs list shows."""
    sound: float
    """Seconds of recordings in jobs that are done, or done in part."""
    rtf: SpreadJson | None
    """Seconds for a second of sound, of whole jobs."""
    stages: list[StageStatsJson]
    """In pipeline order; those that never ran are left out."""
    failures: list[ReasonJson]
    """The most frequent first."""


def _spread_data(found: Spread | None) -> SpreadJson | None:
    if found is None:
        return None
    median, p90, p99 = (round(found.quantiles[q], 4) for q in QUANTILES)
    return {"count": found.count, "total": round(found.total, 3), "median": median, "p90": p90, "p99": p99}


def _stats_data(found: JobStats) -> JobStatsJson:
    return {
        "states": dict(found.states),
        "sound": round(found.sound, 3),
        "rtf": _spread_data(found.rtf),
        "stages": [
            {
                "name": stage.name,
                "done": stage.done,
                "failed": stage.failed,
                "seconds": _spread_data(stage.seconds),
                "rtf": _spread_data(stage.rtf),
                "load": _spread_data(stage.load),
                "peak_bytes": stage.peak_bytes,
            }
            for stage in found.stages
        ],
        "failures": [{"stage": stage, "why": why, "count": count} for stage, why, count in found.reasons],
    }


REASONS_SHOWN = 10
"""Reasons of failures that a person is shown."""


def _stats_text(found: JobStats) -> list[str]:
    count = sum(found.states.values())
    if not count:
        return ["no jobs here"]
    states = ", ".join(f"{number} {state}" for state, number in found.states.items())
    lines = [f"{count} jobs: {states}", f"{format_time(found.sound)} of sound in those that are done"]
    if found.rtf is not None:
        median, p90, _ = found.rtf.quantiles.values()
        lines[-1] += f"; a second of it takes {median:.2f} s, of one in ten more than {p90:.2f} s"
    rows = [
        (
            stage.name,
            stage.done,
            stage.failed or "",
            *(_quantile(stage.rtf, q, "{:.3f}") for q in (0.5, 0.9)),
            *(_quantile(stage.load, q, "{:.1f} s") for q in (0.5, 0.9)),
            "" if stage.peak_bytes is None else format_size(stage.peak_bytes),
        )
        for stage in found.stages
    ]
    heads = ("STAGE", "DONE", "FAILED", "REAL TIME", "9 OF 10", "LOADING", "9 OF 10", "MEMORY")
    lines += ["", *table(heads, rows)] if rows else []
    shown = [f"{count} × {stage}: {why or 'it said nothing'}" for stage, why, count in found.reasons[:REASONS_SHOWN]]
    return [*lines, *(["", *shown] if shown else [])]


def _quantile(found: Spread | None, which: float, form: str) -> str:
    return "" if found is None else form.format(found.quantiles[which])


STATS = View(command="jobs stats", shape=JobStatsJson, data=_stats_data, lines=_stats_text)

PROMETHEUS = replace(STATS, lines=lambda found: prometheus(found).splitlines())
"""What ``--prometheus`` prints."""
