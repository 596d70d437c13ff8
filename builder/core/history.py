"""When each stage of a job ran and what it took, from its events and manifests. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from builder.core.job import Job


@dataclass(frozen=True, kw_only=True)
class StageRun:
    """A stage's last run."""

    name: str
    state: str
    """done, failed, running, interrupted or open (not run yet)."""
    start: float | None = None
    """Seconds since the first stage began. The time between two runs of the job is left out."""
    seconds: float = 0.0
    rtf: float | None = None
    """Real-time factor: seconds of work for a second of sound."""
    peak_bytes: int | None = None
    """Most memory it held, where that was measured."""
    timings: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """Seconds of its parts: imports, load, work."""
    message: str = ""
    """Why it failed."""


@dataclass
class _Seen:
    """What the events say of one stage."""

    run: int
    start: float
    last: float
    state: str = ""
    seconds: float | None = None
    peak: int | None = None
    message: str = ""


def history(
    job: Job, events: Iterable[Mapping[str, Any]], manifests: Mapping[str, Any], *, sound: float | None, running: bool
) -> tuple[StageRun, ...]:
    """The last run of each stage, in pipeline order.

    Args:
        events: the lines of events.jsonl; what doesn't fit is left out.
        manifests: stage -> its manifest.json, those that are there.
        sound: seconds of all recordings together, when known.
        running: whether the job runs now.
    """
    seen, last = _read(events)
    starts = _shifts(seen.values())
    runs = []
    for stage in job.stages:
        manifest = manifests.get(stage.name)
        found = seen.get(stage.name)
        timings = (manifest or {}).get("timings") or {}
        run = StageRun(
            name=stage.name,
            state="done" if manifest else "open",
            seconds=float(timings.get("total", 0)),
            timings={k: float(v) for k, v in timings.items() if k != "total"},
            peak_bytes=(manifest or {}).get("peak_bytes"),
        )
        if found is not None:
            here = running and found.run == last
            state = found.state or ("done" if manifest else "running" if here else "interrupted")
            seconds = found.last - found.start if found.seconds is None else found.seconds
            run = replace(
                run, state=state, start=round(found.start - starts[found.run], 3), seconds=round(max(seconds, 0), 3),
                message=found.message, peak_bytes=found.peak or run.peak_bytes,
            )  # fmt: skip
        if sound and run.seconds and run.state == "done":
            run = replace(run, rtf=run.seconds / sound)
        runs.append(run)
    return tuple(runs)


def _read(events: Iterable[Mapping[str, Any]]) -> tuple[dict[str, _Seen], int]:
    """Stage -> what is said of its last run; and the number of the job's last run."""
    seen: dict[str, _Seen] = {}
    run = 0
    for event in events:
        kind, name, at = event.get("event"), event.get("stage"), event.get("t")
        if not isinstance(at, (int, float)):
            continue
        if name is None:
            run += kind == "begin"
        elif kind == "start":
            seen[name] = _Seen(run=run, start=at, last=at)
        elif name in seen:
            found = seen[name]
            found.last = max(found.last, at)
            if isinstance(event.get("peak_bytes"), int):
                found.peak = event["peak_bytes"]
            if kind in ("done", "failed"):
                found.state = str(kind)
                found.message = str(event.get("message", ""))
                if isinstance(event.get("seconds"), (int, float)):
                    found.seconds = float(event["seconds"])
    return seen, run


def _shifts(seen: Iterable[_Seen]) -> dict[int, float]:
    """Run -> the time that counts as its zero, such that a run begins where the one before it ended."""
    runs: dict[int, tuple[float, float]] = {}
    for found in seen:
        first, last = runs.get(found.run, (found.start, found.last))
        runs[found.run] = (min(first, found.start), max(last, found.last))
    shifts, total = {}, 0.0
    for run, (first, last) in sorted(runs.items()):
        shifts[run] = first - total
        total += last - first
    return shifts
