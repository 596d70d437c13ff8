"""What a job's stages tell while they run, read from events.jsonl and told on: progress, notes, the time left."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from builder.core.jobs import pace
from builder.core.jobs.job import Job, JobStage
from builder.core.progress import OnProgress, Progress
from builder.core.text import format_clock
from builder.edges.jobs.record.pipeline import PipelineLog
from builder.edges.system import files

MOST = 1 << 20
"""Bytes of events that are read at once; a line that is longer is passed over."""

NOTE = 500
"""Characters of a note that are shown."""

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
        self._job, self._events, self._on_progress, self._log = job, folder / "events.jsonl", on_progress, log
        self._stages: list[JobStage] = [job.stage(name) for name in stages]
        self._rates, self._parallel = rates, parallel
        self._offset = self._events.stat().st_size if self._events.exists() else 0
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
        """Tell what new lines say of stages that run or have just ended; lines of others are left out."""
        progressed = False
        for event in self._new_events():
            name, kind = event.get("stage"), event.get("event")
            if not isinstance(name, str) or name not in stages:
                continue
            if kind == "progress":
                self._take(name, event)
                progressed = True
            elif kind == "load":
                self._on_progress(Progress(what=name, note=f"loading {str(event.get('models'))[:NOTE]}"))
            elif kind == "text":
                said = f"[{format_clock(_number(event.get('start')))}] {str(event.get('text'))[:NOTE]}"
                self._on_progress(Progress(what=name, note=said, heard=True))
            elif kind == "note":
                message = str(event.get("message"))[:NOTE]
                self._log.add(f"note {name}: {message}")
                self._on_progress(Progress(what=f"{name} note", note=message, finished=True))
        if progressed:
            self._tell_job()

    def _take(self, stage: str, event: Mapping[str, Any]) -> None:
        """A stage has come further with one recording: with all of them that is so much."""
        done, total = _number(event.get("done")), _number(event.get("total"))
        by_input = self._heard.setdefault(stage, {})
        known = {entry.id for entry in self._job.inputs}
        if (name := str(event.get("input"))) in known:
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
        try:
            with files.open_regular(self._events) as source:
                size = source.seek(0, os.SEEK_END)
                if size < self._offset:  # somebody truncated it
                    self._offset = 0
                source.seek(self._offset)
                appended = source.read(MOST)
        except OSError:
            return
        whole = appended[: appended.rfind(b"\n") + 1] or (appended if len(appended) == MOST else b"")
        self._offset += len(whole)
        for line in whole.splitlines():
            with contextlib.suppress(ValueError, TypeError, RecursionError):
                event = json.loads(line)
                if isinstance(event, dict):
                    yield event


def _number(value: object) -> float:
    """A number of an event; 0 for whatever else a stage wrote there."""
    return float(value) if isinstance(value, (int, float)) and abs(value) < 1e9 else 0.0
