"""Run a job's stages in their order, resume what is unfinished, and tell what happens."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from builder.core.config.types import Config
from builder.core.jobs import compose
from builder.core.jobs import job as spec
from builder.core.jobs.job import Job, JobStage, Selection
from builder.core.progress import OnProgress, Progress
from builder.core.text import format_time
from builder.edges.jobs import folder as jobs
from builder.edges.jobs import outcome as outcomes
from builder.edges.jobs.budget import Budget
from builder.edges.jobs.outcome import Outcome, StageOutcome, unfinished
from builder.edges.jobs.record import sound, speeds
from builder.edges.jobs.record.follow import Follower
from builder.edges.jobs.record.log import StageLog
from builder.edges.jobs.record.pipeline import PipelineLog
from builder.edges.system import shell
from builder.errors import BakeError, Interrupted, UsageError
from builder.program import command
from builder.receiver.jobs.untrusted import names_below, size_below

EVERY = 0.05
"""Seconds between two looks at what nobody tells the runner: progress, ``jobs cancel``, room on the machine."""


class Task(Protocol):
    """A stage that was started."""

    @property
    def cause(self) -> str:
        """What its exit code doesn't tell, as the end of a sentence about the stage; mostly empty."""

    @property
    def command(self) -> str:
        """What was started, in one line: a program with its arguments, or a container."""

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

    def start(self, stage: JobStage, log: StageLog, on_end: Callable[[], None]) -> Task:
        """Start a stage; what it prints is appended to the log.

        Args:
            on_end: called from any thread once the stage has ended, when its task's ``poll`` knows the exit code.
        """

    def close(self) -> None:
        """Leave nothing running or lying about."""


@dataclass
class _Started:
    """A stage that runs: since when (``perf_counter``), why, and how many bytes its log had before."""

    task: Task
    began: float
    why: str
    length: int


@dataclass
class _Run:
    """The state of one run."""

    config: Config
    job: Job
    folder: Path
    host: Host
    on_progress: OnProgress
    parallel: int
    selection: Selection
    budget: Budget | None
    gpu: int
    halt: threading.Event
    before: dict[str, Callable[[], None]]
    """What is done before a stage; once, so that each is taken out."""
    ended: threading.Event = field(default_factory=threading.Event)
    """Set when a stage has ended that was not yet taken note of."""
    done: dict[str, StageOutcome] = field(default_factory=dict)
    running: dict[str, _Started] = field(default_factory=dict)
    waiting: set[str] = field(default_factory=set)
    """Stages that hold a place in the budget's queue, or what it granted."""
    log: PipelineLog = field(init=False)
    follower: Follower = field(init=False)

    def begin(self) -> None:
        """Begin to keep a record: the job is held, and nothing speaks against the run."""
        self.log = PipelineLog(self.folder, mode=self.job.mode or self.config.defaults.mode.value)
        self.follower = Follower(
            self.job,
            self.folder,
            stages=self.selection.run,
            rates=speeds.known(self.config.paths.speeds, self.job),
            parallel=self.parallel,
            on_progress=self.on_progress,
            log=self.log,
        )


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
    before: Mapping[str, Callable[[], None]] | None = None,
    held: bool = False,
) -> Outcome:
    """Run the unfinished stages of a job.

    Args:
        parallel: the most stages that run at once; each also waits for the stages that it needs.
        selection: the stages to run; all of them by default.
        budget: what all jobs of this machine share; a stage waits until it fits.
        gpu: index of the GPU that the job was given.
        halt: set by another thread to stop the job.
        before: stage -> what this process does once its needs are done, before it is looked at. It may write files that the
            stage reads.
        held: the caller holds the job's lock already.

    Raises:
        UsageError: another process runs this job, or a stage lacks the results of one that was left out.
        InputError: a recording is at fault.
        IntegrityError: a model is missing or broken.
        MissingError: the disk is full, or the place where stages run failed.
        StageError: a stage failed otherwise; with its log and last lines.
        Interrupted: Ctrl-C, SIGTERM, ``jobs cancel``; what is done stays done.
    """
    folder = jobs.folder(config, job)
    state = _Run(
        config=config,
        job=job,
        folder=folder,
        host=host,
        on_progress=on_progress,
        parallel=parallel,
        selection=selection or spec.select(job),
        budget=budget,
        gpu=gpu,
        halt=halt or threading.Event(),
        before=dict(before or {}),
    )
    try:
        with contextlib.nullcontext() if held else jobs.held(folder):
            return _run(state)
    except TimeoutError as error:
        raise UsageError(
            f"job {job.id} is already running", where=str(folder), hint="wait for it; jobs list shows its state"
        ) from error
    except OSError as error:
        raise jobs.disk_error(error, folder) from error


def _run(state: _Run) -> Outcome:
    began = time.perf_counter()
    _require_needs(state)
    state.begin()
    jobs.append_event(state.folder, "begin", stages=list(state.selection.run))
    try:
        state.host.open(_likely(state))
        _work(state)
    except KeyboardInterrupt:
        _stop_all(state)
        jobs.append_event(state.folder, "stop")
        state.log.ended("stop: asked to")
        word = "cancelled" if jobs.cancelled(state.folder) else "interrupted"
        raise Interrupted(
            f"job {state.job.id} was {word}", hint=f"{command('run')} {state.job.id} resumes where it stopped"
        ) from None
    except BaseException as error:
        _stop_all(state)
        state.log.failed(error)
        with contextlib.suppress(OSError):
            jobs.append_event(state.folder, "fail", message=str(error))
        raise
    finally:
        state.host.close()
        for name in state.waiting:
            _give_back(state, name)
        _drop_empty_logs(state.folder)
        state.follower.close()
    whole = set(state.selection.run) == {s.name for s in state.job.stages}
    stages = [state.done[name] for name in state.selection.run]
    lost = {"without": names} if (names := [stage.name for stage in stages if stage.failure is not None]) else {}
    jobs.append_event(state.folder, "end" if whole else "part", **lost)
    seconds = time.perf_counter() - began
    without = f", without {', '.join(names)}" if names else ""
    state.log.ended(f"end: {'done' if whole else 'a part is done'} in {format_time(seconds)}{without}")
    took = {stage.name: stage.seconds for stage in stages if not stage.kept and stage.failure is None}
    speeds.note(state.config.paths.speeds, state.job, took, state.follower.sound)
    return outcomes.collect(state.job, state.folder, stages=stages, seconds=seconds)


def _work(state: _Run) -> None:
    """Start stages as they become ready, until all that were asked for are done.

    Raises:
        KeyboardInterrupt: the job is to stop.
    """
    while len(state.done) < len(state.selection.run):
        if state.halt.is_set() or jobs.cancelled(state.folder):
            raise KeyboardInterrupt
        _begin_ready(state)
        state.follower.follow(state.running)
        if state.running or state.waiting:
            state.ended.wait(EVERY)
        state.ended.clear()
        _reap(state)


def _require_needs(state: _Run) -> None:
    """Refuse a selection that leaves out what it reads, unless that is there, or optional and failed before.

    Raises:
        UsageError: a stage that was left out is unfinished.
    """
    run = state.selection.run
    for need in dict.fromkeys(n for name in run for n in state.job.stage(name).needs if n not in run):
        why = unfinished(state.config, state.job, state.folder, state.job.stage(need))
        if sound.READERS.get(need, frozenset()) & set(run) and outcomes.soundless(state.folder, need):
            why = sound.GONE
        there = outcomes.manifest(state.folder, need) is not None
        if there and state.selection.trusting:
            continue
        without = state.job.stage(need).optional and not there and need in jobs.failed_before(state.folder)
        if why is not None and not without:
            raise UsageError(
                f"stage {need} comes first: {why}",
                where=f"job {state.job.id}",
                hint=command(f"run {state.job.id} --until {need}"),
            )


def _likely(state: _Run) -> list[str]:
    """The stages that will run as far as can be told now: unfinished ones, and what reads from them."""
    likely: list[str] = []
    for name in state.selection.run:
        stage = state.job.stage(name)
        forced = name in state.selection.again or any(n in likely for n in stage.needs)
        if forced or unfinished(state.config, state.job, state.folder, stage) is not None:
            likely.append(name)
    for name in sound.READERS:
        if _lacks_sound(state, name, likely):
            likely.insert(0, name)
    return likely


def _lacks_sound(state: _Run, name: str, likely: Sequence[str]) -> bool:
    """Whether the sound that a stage made was removed, and a stage that will run has to hear it."""
    made_again = name in likely or name not in state.selection.run
    return not made_again and bool(sound.READERS[name] & set(likely)) and bool(outcomes.soundless(state.folder, name))


def _begin_ready(state: _Run) -> None:
    """Start the stages whose needs are done, in pipeline order; keep those whose results are still good."""
    for name in state.selection.run:
        stage = state.job.stage(name)
        open_needs = [n for n in stage.needs if n in state.selection.run and n not in state.done]
        if name in state.done or name in state.running or open_needs:
            continue
        if len(state.running) >= state.parallel:
            return
        if (first := state.before.pop(name, None)) is not None:
            first()
        again = name in state.selection.again
        why = "asked for" if again else unfinished(state.config, state.job, state.folder, stage)
        if why is None and name in sound.READERS and name in _likely(state):
            why = sound.GONE
        if why is None:
            state.done[name] = StageOutcome(name=name, kept=True, seconds=0.0, why="done before")
            state.log.add(f"kept {name}: its results are still good")
            state.follower.end(name, "done before, kept")
        elif _granted(state, stage):
            _begin(state, stage, why)


def _begin(state: _Run, stage: JobStage, why: str) -> None:
    """Start one stage."""
    (state.folder / "logs").mkdir(exist_ok=True)
    name = outcomes.log_name(stage.name)
    length = size_below(state.folder, name) or 0
    state.follower.begin(stage.name)
    with shell.unbroken():
        task = state.host.start(stage, StageLog(state.folder, name), state.ended.set)
        state.running[stage.name] = _Started(task=task, began=time.perf_counter(), why=why, length=length)
    state.log.add(f"start {stage.name} ({why}): {task.command}")


def _granted(state: _Run, stage: JobStage) -> bool:
    """Whether the machine has room for a stage now."""
    if state.budget is None:
        return True
    stage_spec = state.config.stages.get(stage.name)
    sizes = {id_: pin.size for id_, pin in state.config.pins.items()}
    granted = state.budget.take(
        f"{state.job.id}/{stage.name}",
        memory=compose.memory(state.job, stage, spec=stage_spec, sizes=sizes, machine=state.budget.machine),
        gpu=state.gpu if compose.needs_gpu(stage) else None,
    )
    if not granted and stage.name not in state.waiting:
        state.on_progress(Progress(what=stage.name, note="waits until other jobs leave room"))
    state.waiting.add(stage.name)
    return granted


def _give_back(state: _Run, name: str) -> None:
    if state.budget is not None:
        state.budget.give(f"{state.job.id}/{name}")


def _reap(state: _Run) -> None:
    """Take note of the stages that ended.

    Raises:
        BakeError: a stage failed that the job can't do without.
    """
    ended = [(n, r, code) for n, r in state.running.items() if (code := r.task.poll()) is not None]
    for name, started, code in ended:
        del state.running[name]
        state.waiting.discard(name)
        _give_back(state, name)
        state.follower.follow({*state.running, name})
        failure = _failure(state, name, started, code)
        seconds = time.perf_counter() - started.began
        why = f": {failure.what}" if failure is not None else ""
        state.log.add(f"end {name}: exit code {code} after {format_time(seconds)}{why}")
        if failure is not None and not state.job.stage(name).optional:
            raise failure
        state.done[name] = StageOutcome(name=name, kept=False, seconds=seconds, why=started.why, failure=failure)
        lost = "" if failure is None else f"failed, the job goes on without it: {failure.what}"
        state.follower.end(name, lost or f"done in {format_time(seconds)}")


def _failure(state: _Run, name: str, started: _Started, code: int) -> BakeError | None:
    """Why a stage that has ended has no good results."""
    if started.task.error is not None:
        return started.task.error
    if code != 0:
        return outcomes.failure(state.folder, name, code, since=started.length, cause=started.task.cause)
    missing = unfinished(state.config, state.job, state.folder, state.job.stage(name))
    if missing is not None:
        return outcomes.failure(state.folder, name, 0, since=started.length, missing=missing)
    return None


def _drop_empty_logs(folder: Path) -> None:
    """Stages that were ended before they said anything leave no file."""
    with contextlib.suppress(OSError):
        for name in names_below(folder, "logs"):
            if name.endswith(".log") and size_below(folder, f"logs/{name}") == 0:
                (folder / "logs" / name).unlink()


def _stop_all(state: _Run) -> None:
    """End the running stages: ask all, wait, then kill those that remain; takes at most about 5 s."""
    with undisturbed():
        for started in state.running.values():
            started.task.terminate()
        for name, started in state.running.items():
            started.task.stop()
            _give_back(state, name)
        state.running.clear()


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore Ctrl-C in the block: cleaning up takes a limited time and must not be cut short."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
