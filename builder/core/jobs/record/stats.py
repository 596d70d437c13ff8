"""What a machine's jobs tell together: how fast stages are, how long they load, how often and why they fail. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from builder.core.jobs.timeline import StageRun

QUANTILES = (0.5, 0.9, 0.99)
"""Those that are told of."""

LONGEST_REASON = 200
"""Characters of why a stage failed; the rest tells no two failures apart."""


@dataclass(frozen=True, kw_only=True)
class JobRuns:
    """What one job tells."""

    state: str
    """As ``jobs list`` says it."""
    sound: float
    """Seconds of its recordings, as far as known."""
    stages: tuple[StageRun, ...]
    """The last run of each stage."""

    @property
    def seconds(self) -> float:
        """From its first stage's beginning to the last one's end, idle time left out."""
        return max((run.start + run.seconds for run in self.stages if run.start is not None), default=0.0)


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How a number is distributed."""

    count: int
    total: float
    quantiles: Mapping[float, float]
    """Of :data:`QUANTILES`, each a value that was seen (the nearest rank)."""


@dataclass(frozen=True, kw_only=True)
class StageStats:
    """One stage over all jobs; last runs alone count."""

    name: str
    done: int
    """Runs that ended well."""
    failed: int
    seconds: Spread | None
    """Of runs that ended well."""
    rtf: Spread | None
    """Seconds of work for a second of sound."""
    load: Spread | None
    """Seconds until the model was there."""
    peak_bytes: int | None
    """The most memory that a run held."""


@dataclass(frozen=True, kw_only=True)
class JobStats:
    """All jobs."""

    states: Mapping[str, int]
    """State -> jobs."""
    sound: float
    """Seconds of recordings in jobs that are done, or done in part."""
    rtf: Spread | None
    """Seconds for a second of sound, of whole jobs."""
    stages: tuple[StageStats, ...]
    reasons: tuple[tuple[str, str, int], ...]
    """Stage, why it failed, how often; the most frequent first."""


def spread(values: Iterable[float]) -> Spread | None:
    """How values are distributed; None where there are none."""
    ordered = sorted(values)
    if not ordered:
        return None
    ranks = {q: ordered[max(0, math.ceil(q * len(ordered)) - 1)] for q in QUANTILES}
    return Spread(count=len(ordered), total=math.fsum(ordered), quantiles=ranks)


def stats(jobs: Iterable[JobRuns], order: Sequence[str]) -> JobStats:
    """What jobs tell together.

    Args:
        order: names of stages, as they are to be listed; those that never ran are left out.
    """
    states: Counter[str] = Counter()
    reasons: Counter[tuple[str, str]] = Counter()
    runs: dict[str, list[StageRun]] = {name: [] for name in order}
    sound, whole = 0.0, []
    for job in jobs:
        states[job.state] += 1
        if job.state in ("done", "partial") and job.sound:
            sound += job.sound
            if job.seconds:
                whole.append(job.seconds / job.sound)
        for run in job.stages:
            runs.setdefault(run.name, []).append(run)
            if run.state == "failed":
                reasons[run.name, " ".join(run.message.split())[:LONGEST_REASON]] += 1
    ran = ((name, found) for name, found in runs.items() if any(run.state in ("done", "failed") for run in found))
    return JobStats(
        states=dict(sorted(states.items())),
        sound=sound,
        rtf=spread(whole),
        stages=tuple(_stage(name, found) for name, found in ran),
        reasons=tuple((stage, why, count) for (stage, why), count in reasons.most_common()),
    )


def _stage(name: str, runs: Sequence[StageRun]) -> StageStats:
    done = [run for run in runs if run.state == "done"]
    return StageStats(
        name=name,
        done=len(done),
        failed=sum(run.state == "failed" for run in runs),
        seconds=spread(run.seconds for run in done),
        rtf=spread(run.rtf for run in done if run.rtf is not None),
        load=spread(run.timings["load"] for run in done if "load" in run.timings),
        peak_bytes=max((run.peak_bytes for run in done if run.peak_bytes is not None), default=None),
    )


def prometheus(found: JobStats) -> str:
    """The same in Prometheus' text format, for the textfile collector of its node exporter.

    They are gauges, not counters: a job that is removed counts no more.
    """
    lines: list[str] = []

    def metric(name: str, what: str, kind: str, samples: Iterable[tuple[str, float]]) -> None:
        rows = [f"whisperbake_{name}{labels} {value:.10g}" for labels, value in samples]
        if rows:
            lines.extend((f"# HELP whisperbake_{name} {what}", f"# TYPE whisperbake_{name} {kind}", *rows))

    def summary(name: str, what: str, spreads: Iterable[tuple[str, Spread | None]]) -> None:
        full = f"whisperbake_{name}"
        rows = []
        for label, one in spreads:
            if one is None:
                continue
            for quantile, value in one.quantiles.items():
                which = f'quantile="{quantile}"'
                rows.append(f"{full}{_labels(label, which)} {value:.10g}")
            rows += [f"{full}_sum{_labels(label)} {one.total:.10g}", f"{full}_count{_labels(label)} {one.count}"]
        if rows:
            lines.extend((f"# HELP {full} {what}", f"# TYPE {full} summary", *rows))

    stages = [(f'stage="{stage.name}"', stage) for stage in found.stages]
    metric("jobs", "Jobs, by state.", "gauge", ((f'{{state="{s}"}}', n) for s, n in found.states.items()))
    metric("sound_seconds", "Seconds of recordings in finished jobs.", "gauge", [("", found.sound)])
    summary("job_realtime_factor", "Seconds for a second of sound, of whole jobs.", [("", found.rtf)])
    metric("stage_done", "Stages that ended well.", "gauge", ((f"{{{label}}}", s.done) for label, s in stages))
    metric("stage_failed", "Stages that failed.", "gauge", ((f"{{{label}}}", s.failed) for label, s in stages))
    summary("stage_seconds", "Seconds of a stage.", ((label, s.seconds) for label, s in stages))
    summary("stage_realtime_factor", "Seconds for a second of sound.", ((label, s.rtf) for label, s in stages))
    summary("stage_load_seconds", "Seconds until a model was loaded.", ((label, s.load) for label, s in stages))
    peaks = ((f"{{{label}}}", s.peak_bytes) for label, s in stages if s.peak_bytes is not None)
    metric("stage_peak_bytes", "The most memory that a stage held.", "gauge", peaks)
    return "\n".join(lines) + "\n"


def _labels(*labels: str) -> str:
    said = ",".join(label for label in labels if label)
    return f"{{{said}}}" if said else ""
