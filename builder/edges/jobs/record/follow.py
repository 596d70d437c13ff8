"""What a job's stages tell while they run, read from events.jsonl and told on: progress, notes, the time left."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from builder.core.jobs import pace
from builder.core.jobs.job import Job, JobStage
from builder.core.jobs.record.events import parsed_lines
from builder.core.progress import OnProgress, Progress
from builder.core.text import format_clock
from builder.edges.jobs.record.pipeline import PipelineLog
from builder.errors import StageError
from builder.receiver.jobs.untrusted import size_below, slice_below

MOST = 1 << 20
"""Bytes of events that are read at once; a line that is longer is passed over."""

FLOOD = 64 << 20
"""Bytes of events after which a run is ended: the stages of a job write at most 4 MiB each."""

EVENTS = "events.jsonl"
"""File in the job's folder to which stages append."""

JOB = "job"
"""What the whole job is called in its progress."""


class Follower:
    """Tells of one run of a job."""

    def __init__(
        self,
        job: Job,
        folder: Path,
        *,
        stages: Sequence[str],
        rates: Mapping[str, float],
        parallel: int,
        on_progress: OnProgress,
        log: PipelineLog,
    ) -> None:
        """
        Args:
            folder: the job's.
            stages: those that were asked for.
            rates: seconds a second of sound takes, by stage, as measured on this machine.
            parallel: how many stages run at once.
            log: notes go there too.
        """
        self._job, self._folder, self._on_progress, self._log = job, folder, on_progress, log
        self._stages: list[JobStage] = [job.stage(name) for name in stages]
        self._rates, self._parallel = rates, parallel
        self._offset = self._first = size_below(folder, EVENTS) or 0
        self._heard: dict[str, dict[str, tuple[float, float]]] = {}
        """Stage -> input -> seconds that are done, and seconds that there are."""
        self._began: dict[str, float] = {}
        self._done: dict[str, float] = {}

    @property
    def sound(self) -> float:
        """Seconds of sound in the job: by the recordings' headers, else by what the stages say."""
        told = [max((by[i.id][1] for by in self._heard.values() if i.id in by), default=0.0) for i in self._job.inputs]
        return sum(i.duration or seen for i, seen in zip(self._job.inputs, told, strict=True))

    def begin(self, stage: str) -> None:
        """A stage was started."""
        self._began[stage] = time.perf_counter()
        self._on_progress(Progress(what=stage, unit="s"))

    def end(self, stage: str, note: str) -> None:
        """A stage has ended, or its earlier results are kept."""
        self._began.pop(stage, None)
        self._done[stage] = 1.0
        self._on_progress(Progress(what=stage, note=note, finished=True))
        self._tell_job()

    def close(self) -> None:
        """The run is over."""
        self._on_progress(Progress(what=JOB, done=100, total=100, unit="%", finished=True))

    def follow(self, stages: Collection[str]) -> None:
        """Tell what new lines say of stages that run or have just ended; lines of others are left out.

        Raises:
            StageError: there is no end of them.
        """
        progressed = False
        for event in self._new_events():
            name, kind = event.get("stage", ""), event["event"]
            if name not in stages:
                continue
            if kind == "progress":
                self._take(name, event)
                progressed = True
            elif kind == "load":
                self._on_progress(Progress(what=name, note=f"loading {event.get('models', '')}"))
            elif kind == "text":
                said = f"[{format_clock(event.get('start', 0.0))}] {event.get('text', '')}"
                self._on_progress(Progress(what=name, note=said, heard=True))
            elif kind == "note":
                message = event.get("message", "")
                self._log.add(f"note {name}: {message}")
                self._on_progress(Progress(what=f"{name} note", note=message, finished=True))
        if progressed:
            self._tell_job()

    def _take(self, stage: str, event: Mapping[str, Any]) -> None:
        """A stage has come further with one recording: with all of them that is so much."""
        done, total = event.get("done", 0.0), event.get("total", 0.0)
        by_input = self._heard.setdefault(stage, {})
        known = {entry.id for entry in self._job.inputs}
        if (name := event.get("input")) in known:
            by_input[name] = (done, total)
        heard = sum(d for d, _ in by_input.values())
        sound = max(self.sound, heard)
        self._done[stage] = min(0.999, heard / sound) if sound else 0.0
        self._on_progress(Progress(what=stage, done=heard, total=sound or None, unit="s"))

    def _tell_job(self) -> None:
        now = time.perf_counter()
        left = pace.left(
            self._stages,
            self.sound,
            self._rates,
            done=self._done,
            elapsed={name: now - began for name, began in self._began.items()},
            parallel=self._parallel,
        )
        done = 100 * pace.share(self._stages, self._rates, self._done)
        self._on_progress(Progress(what=JOB, done=done, total=100, unit="%", left=left))

    def _new_events(self) -> Iterator[Mapping[str, Any]]:
        """The whole lines that were appended to events.jsonl since the last look; broken ones are left out."""
        size = size_below(self._folder, EVENTS) or 0
        if size < self._offset:  # somebody truncated it
            self._offset = self._first = 0
        if size - self._first > FLOOD:
            raise StageError(
                f"the stages wrote more than {FLOOD >> 20} MiB of events",
                where=str(self._folder / EVENTS),
                hint="check the recording: a stage writes at most 4 MiB in a run",
            )
        appended = slice_below(self._folder, EVENTS, self._offset, MOST)
        whole = appended[: appended.rfind(b"\n") + 1] or (appended if len(appended) == MOST else b"")
        self._offset += len(whole)
        yield from parsed_lines(whole)
