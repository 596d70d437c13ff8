"""When each stage of a job worked, read from its events. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from builder.core.jobs.job import Job
from builder.core.jobs.record.manifest import Manifest

WIDTH = 40
"""Characters of a timeline."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """One stage's last run; times in seconds since the epoch."""

    stage: str
    start: float
    end: float | None = None
    """None while it runs."""
    state: str = "running"
    """running, done, failed or stopped."""
    progress: float | None = None
    """Part of the present recording that is done, 0 to 1."""
    message: str = ""
    """Why it failed."""


def spans(events: Iterable[Mapping[str, Any]], stages: Container[str]) -> dict[str, Span]:
    """The last run of each stage, by name, in the order of their starts. Nonsense is left out.

    Args:
        events: as :func:`builder.core.jobs.record.events.parsed_lines` reads them.
        stages: those that there are.
    """
    last_runs: dict[str, Span] = {}
    for event in events:
        name, kind, at = event.get("stage"), event.get("event"), event.get("t")
        if at is None or not (name is None or name in stages):
            continue
        if name is None:
            if kind in ("fail", "stop", "begin", "end", "part"):
                state = "failed" if kind == "fail" else "stopped"
                last_runs = {n: _ended(s, at, state) if s.end is None else s for n, s in last_runs.items()}
            continue
        if kind == "start":
            last_runs.pop(name, None)
            last_runs[name] = Span(stage=str(name), start=at)
        elif name in last_runs and last_runs[name].end is None:
            if kind == "progress":
                if total := event.get("total"):
                    last_runs[name] = replace(last_runs[name], progress=min(1.0, event.get("done", 0.0) / total))
            elif kind in ("done", "failed"):
                last_runs[name] = _ended(last_runs[name], at, str(kind), str(event.get("message", "")))
    return last_runs


def _ended(span: Span, at: float, state: str, message: str = "") -> Span:
    """A run that ended, never before it began: a clock may go back."""
    return replace(span, end=max(at, span.start), state=state, message=message)


def bars(last_runs: Sequence[Span], *, now: float, width: int = WIDTH) -> list[str]:
    """One line a span, all on one scale: where it stands in time, and for how long.

    Stages of an earlier run (an hour before the others, say) would leave no room for these: a gap of more than
    the work itself is drawn as one column.
    """
    if not last_runs:
        return []
    cuts = sorted({s.start for s in last_runs} | {s.end or now for s in last_runs})
    busy = sum(b - a for a, b in itertools.pairwise(cuts) if _any(last_runs, a, b, now)) or 1e-9
    scale = {cuts[0]: 0.0}
    for a, b in itertools.pairwise(cuts):
        idle = not _any(last_runs, a, b, now)
        scale[b] = scale[a] + (min(b - a, busy / width) if idle else b - a)
    total = scale[cuts[-1]] or 1e-9
    lines = []
    for span in last_runs:
        first = int(scale[span.start] / total * (width - 1))
        last = max(first, int(scale[span.end or now] / total * (width - 1)))
        mark = {"done": "█", "running": "▒"}.get(span.state, "░")
        lines.append(" " * first + mark * (last - first + 1))
    return lines


def _any(last_runs: Sequence[Span], a: float, b: float, now: float) -> bool:
    return any(s.start <= a and (s.end or now) >= b for s in last_runs)


IDLE = 5.0
"""Seconds without any stage at work that are left out: a job that was resumed the next morning."""


@dataclass(frozen=True, kw_only=True)
class StageRun:
    """A stage's last run."""

    name: str
    state: str
    """done, failed, running, stopped or open (not run yet)."""
    start: float | None = None
    """Seconds since the first stage began, idle time left out."""
    seconds: float = 0.0
    rtf: float | None = None
    """Real-time factor: seconds of work for a second of sound."""
    peak_bytes: int | None = None
    """Most memory it held, where its manifest says so."""
    timings: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """Seconds of its parts: imports, load, work."""
    message: str = ""
    """Why it failed."""


def history(
    job: Job,
    events: Sequence[Mapping[str, Any]],
    manifests: Mapping[str, Manifest],
    *,
    sound: float | None,
    now: float | None,
) -> tuple[StageRun, ...]:
    """The last run of each stage, in pipeline order.

    Args:
        events: the lines of events.jsonl; what doesn't fit is left out.
        manifests: stage -> its manifest, those that are there.
        sound: seconds of all recordings together, when known.
        now: seconds since the epoch while the job runs, else None.
    """
    # What a dead orchestrator left open ended with the last word that was said.
    last = max((e["t"] for e in events if "t" in e), default=0.0)
    last_runs = {
        name: span
        if span.end is not None
        else replace(span, end=max(now or last, span.start), state="stopped" if now is None else span.state)
        for name, span in spans(events, {stage.name for stage in job.stages}).items()
    }
    starts = _starts(list(last_runs.values()))
    runs = []
    for stage in job.stages:
        run = StageRun(name=stage.name, state="open")
        if (manifest := manifests.get(stage.name)) is not None:
            run = StageRun(
                name=stage.name,
                state="done",
                seconds=manifest.timings.get("total", 0.0),
                timings={part: seconds for part, seconds in manifest.timings.items() if part != "total"},
                peak_bytes=manifest.peak_bytes,
            )
        if (span := last_runs.get(stage.name)) is not None and span.end is not None:
            state = "done" if manifest and span.state == "stopped" else span.state
            run = replace(
                run,
                state=state,
                start=starts[span.stage],
                seconds=round(span.end - span.start, 3),
                message=span.message,
            )
        if sound and run.seconds and run.state == "done":
            run = replace(run, rtf=run.seconds / sound)
        runs.append(run)
    return tuple(runs)


def _starts(last_runs: Sequence[Span]) -> dict[str, float]:
    """Stage -> its start, in seconds since the first one without idle time."""
    cuts = sorted({s.start for s in last_runs} | {s.end or s.start for s in last_runs})
    clock = {cuts[0]: 0.0} if cuts else {}
    for a, b in itertools.pairwise(cuts):
        idle = b - a > IDLE and not any(s.start <= a and (s.end or s.start) >= b for s in last_runs)
        clock[b] = clock[a] + (0.0 if idle else b - a)
    return {s.stage: round(clock[s.start], 3) for s in last_runs}
