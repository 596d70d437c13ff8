"""Run a job's stages in their order, resume what is unfinished, and tell what happens."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, Protocol

from builder.core.config.types import Config
from builder.core.jobs import compose
from builder.core.jobs import job as spec
from builder.core.jobs.job import Job, JobStage, Selection
from builder.core.progress import OnProgress, Progress
from builder.edges.jobs import folder as jobs
from builder.edges.jobs.budget import Budget
from builder.edges.system import files
from builder.errors import BakeError, InputError, IntegrityError, Interrupted, MissingError, StageError, UsageError

POLL = 0.02
"""Seconds between two looks at the running stages."""

FULL = 64 << 10
"""Bytes free at which a disk counts as full."""

TAIL = 10
"""Lines of a log that an error shows."""


@dataclass(frozen=True, kw_only=True)
class StageOutcome:
    """What became of one stage; seconds of wall time, 0 when its results were kept."""

    name: str
    kept: bool
    seconds: float
    why: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came out of a job."""

    job: Job
    folder: Path
    files: tuple[Path, ...]
    stages: tuple[StageOutcome, ...]
    notes: tuple[str, ...]
    seconds: float


class Task(Protocol):
    """A stage that was started."""

    @property
    def cause(self) -> str:
        """What its exit code doesn't tell, as the end of a sentence about the stage; mostly empty."""

    @property
    def error(self) -> BakeError | None:
        """Why it could not be started, or not be waited for."""

    def poll(self) -> int | None:
        """Its exit code, negative when a signal ended it; None while it runs. Returns at once."""

    def terminate(self) -> None:
        """Ask it to end; returns at once."""

    def stop(self) -> None:
        """Wait for its end after :meth:`terminate`, and end it by force when that takes more than 5 s."""


class Host(Protocol):
    """Where the stages of one job run."""

    def open(self, stages: Sequence[str]) -> None:
        """Get ready for what will probably run, and remove what a killed run left."""

    def start(self, stage: JobStage, log: Path) -> Task:
        """Start a stage; what it prints is appended to the log."""

    def close(self) -> None:
        """Leave nothing running or lying about."""


@dataclass
class _Started:
    """A stage that runs: since when (``perf_counter``), why, and how long its log was before."""

    task: Task
    began: float
    why: str
    length: int


@dataclass
class _Run:
    """The state of one run."""

    config: Config
    job: Job
    place: Path
    host: Host
    on_progress: OnProgress
    parallel: int
    selection: Selection
    budget: Budget | None
    gpu: int
    halt: threading.Event
    done: dict[str, StageOutcome] = field(default_factory=dict)
    running: dict[str, _Started] = field(default_factory=dict)
    waiting: set[str] = field(default_factory=set)
    offset: int = 0


def run(
    config: Config,
    job: Job,
    *,
    host: Host,
    on_progress: OnProgress,
    parallel: int = 2,
    selection: Selection | None = None,
    budget: Budget | None = None,
    gpu: int = 0,
    halt: threading.Event | None = None,
    held: bool = False,
) -> Outcome:
    """Run what is unfinished of a job.

    Args:
        parallel: stages at once at the most, where data flows allow it.
        selection: the stages to run; all of them by default.
        budget: what all jobs of this machine share; a stage waits until it fits.
        gpu: index of the GPU that the job was given.
        halt: set by another thread to stop the job.
        held: the caller holds the job's lock already.

    Raises:
        UsageError: somebody else runs this job, or a stage lacks what a left out one makes.
        InputError: a recording is at fault.
        IntegrityError: a model is missing or broken.
        MissingError: the disk is full, or the place where stages run failed.
        StageError: a stage failed otherwise; with its log and last lines.
        Interrupted: Ctrl-C, SIGTERM, ``jobs cancel``; what is done stays done.
    """
    place = jobs.folder(config, job)
    state = _Run(
        config=config,
        job=job,
        place=place,
        host=host,
        on_progress=on_progress,
        parallel=parallel,
        selection=selection or spec.select(job),
        budget=budget,
        gpu=gpu,
        halt=halt or threading.Event(),
    )
    try:
        with contextlib.nullcontext() if held else jobs.held(place):
            return _run(state)
    except TimeoutError as error:
        raise UsageError(
            f"job {job.id} is already running", where=str(place), hint="wait for it; jobs list shows its state"
        ) from error
    except OSError as error:
        raise jobs.disk_error(error, place) from error


def _run(state: _Run) -> Outcome:
    began = time.perf_counter()
    log = state.place / "events.jsonl"
    state.offset = log.stat().st_size if log.exists() else 0
    _require_needs(state)
    jobs.say(state.place, "begin", stages=list(state.selection.run))
    try:
        state.host.open(_likely(state))
        while len(state.done) < len(state.selection.run):
            if state.halt.is_set() or jobs.cancelled(state.place):
                raise KeyboardInterrupt
            _begin_ready(state)
            _follow(state)
            if not _reap(state):
                time.sleep(POLL)
        _follow(state)
    except KeyboardInterrupt:
        _stop_all(state)
        jobs.say(state.place, "stop")
        word = "cancelled" if jobs.cancelled(state.place) else "interrupted"
        raise Interrupted(
            f"job {state.job.id} was {word}", hint=f"build.py run {state.job.id} goes on where it stopped"
        ) from None
    except BaseException as error:
        _stop_all(state)
        with contextlib.suppress(OSError):
            jobs.say(state.place, "fail", message=str(error))
        raise
    finally:
        state.host.close()
        for name in state.waiting:
            _give_back(state, name)
    jobs.say(state.place, "end" if set(state.selection.run) == {s.name for s in state.job.stages} else "part")
    manifests = [_manifest(state, stage.name) or {} for stage in state.job.stages]
    output = state.place / "output"
    made = sorted({p for m in manifests for p in m.get("outputs", {}) if p.startswith("output/")})
    return Outcome(
        job=state.job,
        folder=output,
        files=tuple(state.place / p for p in made),
        stages=tuple(state.done[name] for name in state.selection.run),
        notes=tuple(note for m in manifests for note in m.get("notes", ())),
        seconds=time.perf_counter() - began,
    )


def _require_needs(state: _Run) -> None:
    """What a chosen stage reads from one that was left out must be there."""
    run = state.selection.run
    for need in dict.fromkeys(n for name in run for n in state.job.stage(name).needs if n not in run):
        why = unfinished(state.config, state.place, state.job.stage(need))
        if why is not None:
            raise UsageError(
                f"stage {need} comes first: {why}",
                where=f"job {state.job.id}",
                hint=f"build.py run {state.job.id} --until {need}",
            )


def _likely(state: _Run) -> list[str]:
    """The stages that will run as far as can be told now: unfinished ones, and what reads from them."""
    found: list[str] = []
    for name in state.selection.run:
        stage = state.job.stage(name)
        forced = name in state.selection.again or any(n in found for n in stage.needs)
        if forced or unfinished(state.config, state.place, stage) is not None:
            found.append(name)
    return found


def _begin_ready(state: _Run) -> None:
    """Start the stages whose needs are done, in pipeline order; keep those whose results are still good."""
    for name in state.selection.run:
        stage = state.job.stage(name)
        open_needs = [n for n in stage.needs if n in state.selection.run and n not in state.done]
        if name in state.done or name in state.running or open_needs:
            continue
        if len(state.running) >= state.parallel:
            return
        why = "asked for" if name in state.selection.again else unfinished(state.config, state.place, stage)
        if why is None:
            state.done[name] = StageOutcome(name=name, kept=True, seconds=0.0, why="done before")
            state.on_progress(Progress(what=name, note="done before, kept", finished=True))
            continue
        if not _granted(state, stage):
            continue
        log = state.place / "logs" / f"{name}.log"
        log.parent.mkdir(exist_ok=True)
        length = log.stat().st_size if log.exists() else 0
        state.on_progress(Progress(what=name, unit="s"))
        task = state.host.start(stage, log)
        state.running[name] = _Started(task=task, began=time.perf_counter(), why=why, length=length)


def _granted(state: _Run, stage: JobStage) -> bool:
    """Whether the machine has room for a stage now."""
    if state.budget is None:
        return True
    spec_ = state.config.stages.get(stage.name)
    sizes = {id_: pin.size for id_, pin in state.config.pins.items()}
    granted = state.budget.take(
        f"{state.job.id}/{stage.name}",
        memory=compose.memory(state.job, stage, spec=spec_, sizes=sizes, machine=state.budget.machine),
        gpu=state.gpu if compose.needs_gpu(stage) else None,
    )
    if not granted and stage.name not in state.waiting:
        state.on_progress(Progress(what=stage.name, note="waits until other jobs leave room"))
    state.waiting.add(stage.name)
    return granted


def _give_back(state: _Run, name: str) -> None:
    if state.budget is not None:
        state.budget.give(f"{state.job.id}/{name}")


def _reap(state: _Run) -> bool:
    """Take note of the stages that ended; whether any did."""
    ended = [(n, r, code) for n, r in state.running.items() if (code := r.task.poll()) is not None]
    for name, started, code in ended:
        del state.running[name]
        state.waiting.discard(name)
        _give_back(state, name)
        _follow(state, name)
        if started.task.error is not None:
            raise started.task.error
        if code != 0:
            _fail(state, name, code, started)
        left = unfinished(state.config, state.place, state.job.stage(name))
        if left is not None:
            _fail(state, name, 0, started, f"said it was done, but {left}")
        seconds = time.perf_counter() - started.began
        state.done[name] = StageOutcome(name=name, kept=False, seconds=seconds, why=started.why)
        state.on_progress(Progress(what=name, note=f"done in {seconds:.1f} s", finished=True))
    return bool(ended)


def _fail(state: _Run, name: str, code: int, started: _Started, what: str | None = None) -> NoReturn:
    """Raise what a stage's end means, with the last lines it wrote in this run."""
    log = state.place / "logs" / f"{name}.log"
    lines: list[str] = []
    with contextlib.suppress(OSError), log.open("rb") as source:
        source.seek(started.length)
        lines = [line for line in source.read().decode("utf-8", "replace").splitlines() if line.strip()]
    last = lines[-1] if lines else "it said nothing"
    again = f"build.py run {state.job.id}"
    what = what or started.task.cause or None
    if what is None and code == 2:
        raise InputError(last, hint="check the recording")
    if what is None and code == 5:
        raise IntegrityError(last, hint=f"models verify --deep, then {again}")
    if what is None and (code < 0 or code in (137, 143)):
        killed = " (killed: perhaps too little memory)" if code in (-9, 137) else ""
        what = f"was ended by signal {-code if code < 0 else code - 128}{killed}"
    # On a full disk not even the log can be written.
    if files.disk_full(last) or files.free_bytes(state.place) < FULL:
        raise MissingError(
            f"stage {name}: the disk is full", where=str(state.place), hint=f"free some space, then {again}"
        )
    hint = again
    if "memory" in started.task.cause:
        hint = f"raise memory_mb in stages/{name}/stage.yaml, or take a smaller preset; then {again}"
    raise StageError(
        f"stage {name} {what}" if what else f"stage {name} failed: {last}",
        where=str(log),
        detail=lines[-TAIL:],
        hint=hint,
    )


def _stop_all(state: _Run) -> None:
    """End the running stages: ask all, then wait, then kill; about 5 s at the most."""
    with undisturbed():
        for started in state.running.values():
            started.task.terminate()
        for name, started in state.running.items():
            started.task.stop()
            _give_back(state, name)
        state.running.clear()


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """A second Ctrl-C doesn't stop the cleaning up, which has an end of its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _follow(state: _Run, *ended: str) -> None:
    """Turn new lines of events.jsonl into reports. A line that is cut short or broken is left out."""
    for event in _new_events(state):
        name, kind = event.get("stage"), event.get("event")
        if not isinstance(name, str) or (name not in state.running and name not in ended):
            continue
        if kind == "progress":
            state.on_progress(
                Progress(
                    what=name, done=float(event.get("done", 0)), total=float(event.get("total", 0)) or None, unit="s"
                )
            )
        elif kind == "note":
            state.on_progress(Progress(what=f"{name} note", note=str(event.get("message")), finished=True))


def _new_events(state: _Run) -> Iterator[Mapping[str, Any]]:
    try:
        with (state.place / "events.jsonl").open("rb") as source:
            size = source.seek(0, os.SEEK_END)
            if size < state.offset:  # somebody truncated it
                state.offset = 0
            source.seek(state.offset)
            data = source.read()
    except OSError:
        return
    whole = data[: data.rfind(b"\n") + 1]
    state.offset += len(whole)
    for line in whole.splitlines():
        with contextlib.suppress(ValueError, TypeError):
            event = json.loads(line)
            if isinstance(event, dict):
                yield event


def _manifest(state: _Run, name: str) -> Any:
    return files.read_json(state.place / "work" / name / "manifest.json")


def unfinished(config: Config, place: Path, stage: JobStage) -> str | None:
    """Why a stage has to run, or None: its manifest against the disk."""
    manifest = files.read_json(place / "work" / stage.name / "manifest.json")
    named = [p for kind in ("inputs", "outputs") for p in (manifest or {}).get(kind, {})]
    digests = {p: _digest(place / p) for p in named}
    return spec.unfinished(stage, manifest, code=code_digest(config.root / "stages", stage.name), digests=digests)


def _digest(path: Path) -> str | None:
    try:
        return f"sha256:{files.sha256(path)}"
    except OSError:
        return None


def code_digest(stages: Path, name: str) -> str:
    """Hex sha256 over a stage's Python files and the contract, as stages/contract.py computes it."""
    digest = hashlib.sha256()
    for path in [stages / "contract.py", *sorted((stages / name).glob("*.py"))]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
