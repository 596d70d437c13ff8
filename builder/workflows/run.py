"""The command run: one job, or a queue of them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from builder.core.config.types import Config
from builder.core.jobs import compose, edits
from builder.core.jobs import job as spec
from builder.core.jobs.job import JobStage, Selection
from builder.core.jobs.naming import CopyOptions, Place
from builder.core.jobs.request import JobOptions
from builder.core.machine import Hardware
from builder.core.progress import OnProgress, Progress
from builder.core.terms import Mode, Variant
from builder.core.text import format_time
from builder.edges.jobs import folder as jobs
from builder.edges.jobs.sources import NO_INPUT_OPTIONS, InputOptions
from builder.edges.system import files
from builder.errors import BakeError, Interrupted, UsageError
from builder.workflows import host as hosts
from builder.workflows import recordings
from builder.workflows.session import Session, fetch_missing, hardware_of, pinned

if TYPE_CHECKING:
    from builder.core.jobs.job import Job
    from builder.edges.jobs.budget import Budget
    from builder.edges.jobs.outcome import Outcome
    from builder.workflows.host import JobHost


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How jobs are run, apart from what they are."""

    build: bool = True
    """Build images that are missing; else they are an error."""
    parallel: int | None = None
    """Jobs at once; with it, each recording is a job of its own."""
    only: str | None = None
    first: str | None = None
    until: str | None = None
    rendering: bool = False
    """Write the results again after an edit: no stage before the one that reads edits runs, nor is its model needed."""
    mode: str | None = None
    """The mode that was typed: jobs that are there already run where they were to run, unless another is."""
    inputs: InputOptions = NO_INPUT_OPTIONS
    strict: float | None = None
    """Seconds of a gap in the speech from which on a job counts as done in part; None: no gap is too long."""
    network: tuple[str, ...] = ()
    """``HOST`` or ``HOST:PORT`` that may be asked to correct translations."""
    delivery: CopyOptions | None = None
    """Where copies of the results go; None: nowhere."""

    def selection(self, stages: Sequence[JobStage]) -> Selection:
        """Which of a job's stages are asked for; raises UsageError (:func:`builder.core.jobs.job.select_stages`)."""
        if self.rendering:
            return spec.rendering(stages, edits.STAGE)
        return spec.select_stages(stages, only=self.only, first=self.first, until=self.until)


@dataclass(frozen=True, kw_only=True)
class JobRan:
    """One job that was run."""

    outcome: Outcome
    preset_reason: str = ""
    """Why it was made with its preset, where that was left to ``auto``."""
    note: str
    """Where its stages ran."""
    skipped: tuple[str, ...] = ()
    """Files of folders that are no recordings, by their names."""

    @property
    def failure(self) -> BakeError | None:
        """Of an optional stage."""
        return self.outcome.failure


@dataclass(frozen=True, kw_only=True)
class QueueRan:
    """Jobs that were run in a queue."""

    results: tuple[tuple[Job, Outcome | BakeError], ...]
    """Each job with what came out of it, or why it failed."""
    preset_reason: str = ""
    """Why they were made with their preset, where that was left to ``auto``."""
    note: str
    """Where their stages ran."""
    skipped: tuple[str, ...] = ()
    """Files of folders that are no recordings, by their names."""

    @property
    def failure(self) -> BakeError | None:
        """Ctrl-C, else the first job's that failed, else the first one's that is done in part."""
        failures = [result for _, result in self.results if isinstance(result, BakeError)]
        partial = [r.failure for _, r in self.results if not isinstance(r, BakeError) and r.failure is not None]
        stopped = [failure for failure in failures if isinstance(failure, Interrupted)]
        return next(iter([*stopped, *failures, *partial]), None)


@dataclass(frozen=True, kw_only=True)
class QueueContext:
    """What the jobs of one command share."""

    config: Config
    env: Mapping[str, str]
    on_progress: OnProgress
    host: JobHost
    hardware: Hardware
    budget: Budget
    options: RunOptions
    places: Mapping[str, tuple[Place, ...]] = field(default_factory=dict)
    """Job -> where copies of its recordings' results go, a place for each."""


def run(session: Session, words: Sequence[str], asked: JobOptions, options: RunOptions) -> JobRan | QueueRan:
    """Transcribe recordings or resume jobs: set up, prepare, check, run.

    Args:
        words: recordings, or jobs by id.
        asked: what a new job is asked to do.
    """
    config, env, on_progress = session.config, session.env, session.on_progress
    queue, request = existing_jobs(config, words), None
    every = tuple(JobStage(name=s.name, needs=s.needs) for s in config.stages.values())
    planned = [job.stages for job in queue] or [every]
    for stages in planned:  # before anything is built, fetched or made
        options.selection(stages)
    places: Mapping[str, tuple[Place, ...]] = {}
    skipped: tuple[str, ...] = ()
    if queue:
        if options.delivery is not None:
            places = recordings.places_of(config, list({job.id: job for job in queue}.values()), options.delivery)
        config, moved = of_jobs(config, queue, typed=options.mode)
        if moved:
            on_progress(Progress(what="warning", note=moved, finished=True))
        models = [] if options.rendering else pinned(config, models_of(queue))
        gpu = not options.rendering and any(compose.needs_gpu(stage) for job in queue for stage in job.stages)
        if gpu:
            hosts.require_gpu(config, env, hint="the job is for a GPU: run its recording with --device cpu")
    else:
        gathered = recordings.gather(words, options.inputs, options.delivery, apart=options.parallel is not None)
        request = hosts.resolve(config, asked)
        if options.delivery is not None:
            recordings.look_first(gathered, options.delivery, request, config)
        if request.warning:
            on_progress(Progress(what="warning", note=request.warning, finished=True))
        models = list(request.models.values())
        gpu = request.on_gpu
    host = hosts.choose(
        replace(session, config=config),
        stages=request.stages(config) if request else {stage.name for job in queue for stage in job.stages},
        gpu=gpu,
        build=options.build,
    )
    if host.warning:
        on_progress(Progress(what="warning", note=host.warning, finished=True))
    fetch_missing(config, host.of_store(models), env=env, on_progress=on_progress)
    if request is not None:
        made = recordings.make(
            config,
            gathered,
            request,
            options.inputs,
            media=host.media,
            on_progress=on_progress,
            accept=lambda stages: spec.require_whole(stages, options.selection(stages)),
            informed=hosts.informant(session, asked, host.media),
        )
        queue, places, skipped = list(made.jobs), made.places, made.skipped
    hardware, _ = hardware_of(config)
    context = QueueContext(
        config=config,
        env=env,
        on_progress=on_progress,
        host=host,
        hardware=hardware,
        budget=budget_of(config, memory=host.memory or hardware.memory, gpus=len(hardware.gpus)),
        options=options,
        places=places,
    )
    reason = session.preset_reason if request is not None else ""
    if len(queue) == 1:
        outcome = run_one(context, queue[0], on_progress)
        return JobRan(outcome=outcome, note=host.note, preset_reason=reason, skipped=skipped)
    ran = run_several(context, list({job.id: job for job in queue}.values()))
    return replace(ran, preset_reason=reason, skipped=skipped)


def existing_jobs(config: Config, words: Sequence[str]) -> list[Job]:
    """The jobs that the words name; none when they are recordings. A file wins over an id.

    Raises:
        UsageError: some are jobs, some recordings.
    """
    from builder.edges.jobs import listing

    def is_job(word: str) -> bool:
        path = files.expanded(word)
        return not path.is_file() and (listing.is_id(word) or (path / "job.yaml").is_file())

    named = [word for word in words if is_job(word)]
    if named and len(named) < len(words):
        other = next(word for word in words if word not in named)
        raise UsageError(f"{named[0]} is a job, {other} is not", hint="run jobs and recordings apart")
    return [listing.find(config, word) for word in named]


def of_jobs(config: Config, queue: Sequence[Job], *, typed: str | None) -> tuple[Config, str]:
    """The configuration with the jobs' own variant and mode: they were decided when the jobs were prepared.

    Args:
        typed: the mode that the command line names.

    Returns:
        the configuration, and what a person should know when jobs run elsewhere than they were to run.

    Raises:
        UsageError: they have two.
    """
    own = {job.mode for job in queue if job.mode is not None}
    for what, values in (("variants", {job.variant for job in queue}), ("modes", set() if typed else own)):
        if len(values) > 1:
            raise UsageError(f"these jobs are of two {what}: {', '.join(sorted(values))}", hint="run them apart")
    mode = config.defaults.mode if typed or not own else Mode(own.pop())
    moved = f"made for {' and '.join(sorted(own))}, and run with --mode {typed}" if typed and own - {typed} else ""
    defaults = replace(config.defaults, variant=Variant(queue[0].variant), mode=mode)
    return replace(config, defaults=defaults), moved


def models_of(queue: Sequence[Job]) -> list[str]:
    """Ids of the models that the jobs load."""
    return sorted({use.id for job in queue for stage in job.stages for use in stage.models.values()})


def budget_of(config: Config, *, memory: int, gpus: int) -> Budget:
    """What all jobs of this state folder share: bytes of memory, and GPUs."""
    from builder.edges.jobs.budget import Budget

    return Budget(config.paths.budget, memory=memory, gpus=gpus)


def run_one(
    context: QueueContext,
    job: Job,
    on_progress: OnProgress,
    *,
    halt: threading.Event | None = None,
    held: bool = False,
) -> Outcome:
    """Check and run one job.

    Args:
        halt: set by another thread to stop the job.
        held: the caller holds the job's lock already.
    """
    from builder.edges.jobs import delivery as copies
    from builder.edges.jobs import preflight, runner

    config, host, options = context.config, context.host, context.options
    selection = options.selection(job.stages)
    needed = job
    if options.rendering:
        needed = replace(job, stages=tuple(stage for stage in job.stages if stage.name in selection.run))
    apart = {stage.name: host.apart[stage.name] for stage in needed.stages if stage.name in host.apart}
    checks = preflight.check(
        config, needed, python=host.python, apart=apart, containers=host.containers, env=context.env
    )
    checks.raise_failure()
    halt = halt or threading.Event()
    before = correction(context, job, selection, on_progress, halt)
    gpu = context.budget.quietest() if any(compose.needs_gpu(stage) for stage in job.stages) else 0
    outcome = runner.run(
        config,
        job,
        host=host.stages(job, gpu),
        on_progress=on_progress,
        parallel=2 if context.hardware.threads > 1 else 1,
        selection=selection,
        budget=context.budget,
        gpu=gpu,
        halt=halt,
        before=before,
        held=held,
    )
    outcome = replace(outcome, strict=options.strict)
    if options.delivery is None:
        return outcome
    return copies.deliver(outcome, options.delivery, context.places[job.id], jobs.folder(config, job))


def correction(
    context: QueueContext, job: Job, selection: Selection, on_progress: OnProgress, halt: threading.Event
) -> dict[str, Callable[[], None]]:
    """What this process does before the stage that writes results: a language model corrects the translation.

    Raises:
        UsageError: the settings name no server that may be asked.
        ConfigError: its key can't be read.
    """
    from builder.edges.jobs import correct

    found = correct.endpoint_of(job)
    if found is None or edits.STAGE not in selection.run:
        return {}
    if not found.allowed(context.options.network):
        if correct.needed(job):
            raise UsageError(
                f"{found.model} alone translates this job, and may not be asked",
                where=found.host,
                hint=f"--allow-network {found.host}",
            )
        on_progress(Progress(what="warning", note=correct.unasked(found), finished=True))
        return {}
    folder = jobs.folder(context.config, job)
    asker = correct.asker(context.config, found, context.env, halt)

    def ask() -> None:
        correct.correct(
            job, folder, asker, on_progress=on_progress, stopped=lambda: halt.is_set() or jobs.cancelled(folder)
        )

    return {edits.STAGE: ask}


def run_several(context: QueueContext, queue: Sequence[Job]) -> QueueRan:
    """Run jobs, some at once; one that fails doesn't stop the others.

    Raises:
        UsageError: another process runs one of them.
    """
    halt, display = threading.Event(), QueueProgress(context.on_progress, queue)

    def work(job: Job, lock: contextlib.ExitStack) -> Outcome | BakeError:
        with lock:
            result = _attempt(context, job, display.named(job), halt)
        display.ended(job)
        return result

    with contextlib.ExitStack() as locks:
        held = {job.id: locks.enter_context(_queued(context.config, job)) for job in queue}
        with ThreadPoolExecutor(max_workers=context.options.parallel or 1, thread_name_prefix="job") as pool:
            futures = [pool.submit(work, job, held[job.id]) for job in queue]
            _wait(futures, halt)
    results = tuple((job, future.result()) for job, future in zip(queue, futures, strict=True))
    return QueueRan(results=results, note=context.host.note)


@contextlib.contextmanager
def _queued(config: Config, job: Job) -> Iterator[contextlib.ExitStack]:
    """Hold a job from the moment it is queued; whoever works on it closes the lock earlier."""
    folder = jobs.folder(config, job)
    with contextlib.ExitStack() as lock:
        try:
            lock.enter_context(jobs.held(folder))
        except TimeoutError as error:
            raise UsageError(f"job {job.id} is already running", hint="wait for it, or leave it out") from error
        jobs.append_event(folder, "queue")
        yield lock


def _attempt(context: QueueContext, job: Job, on_progress: OnProgress, halt: threading.Event) -> Outcome | BakeError:
    """Run one job of a queue whose lock is held; a failure is its result."""
    if halt.is_set():
        return Interrupted(f"job {job.id} did not start")
    try:
        outcome = run_one(context, job, on_progress, halt=halt, held=True)
    except BakeError as error:
        on_progress(Progress(what="failed", note=error.what, finished=True))
        return error
    on_progress(Progress(what="job", note=f"done in {format_time(outcome.seconds)}", finished=True))
    return outcome


class QueueProgress:
    """The progress of several jobs, from one thread at a time: each with its name, and a sum of all."""

    def __init__(self, on_progress: OnProgress, queue: Sequence[Job]) -> None:
        self._on_progress, self._lock, self._began = on_progress, threading.Lock(), time.monotonic()
        self._sizes = {job.id: sum(i.duration or 0.0 for i in job.inputs) or 1.0 for job in queue}
        """Seconds of sound of each job."""
        self._shares = dict.fromkeys(self._sizes, 0.0)
        self._ended: set[str] = set()

    def named(self, job: Job) -> OnProgress:
        """For one of the jobs."""
        name = job.id[16:]  # without its time

        def named(step: Progress) -> None:
            with self._lock:
                if step.heard:
                    step = replace(step, note=f"{name} {step.note}")
                self._on_progress(replace(step, what=f"{name} {step.what}"))
                if step.unit == "%":
                    self._shares[job.id] = max(self._shares[job.id], step.done / 100)
                    self._tell()

        return named

    def ended(self, job: Job) -> None:
        """A job is done, or failed."""
        with self._lock:
            self._ended.add(job.id)
            self._shares[job.id] = 1.0
            self._tell()

    def _tell(self) -> None:
        total = sum(self._sizes.values())
        done = sum(size * self._shares[id_] for id_, size in self._sizes.items())
        seconds = time.monotonic() - self._began
        left = seconds * (total - done) / done if done >= 0.03 * total else None
        finished = len(self._ended) == len(self._sizes)
        self._on_progress(
            Progress(
                what="all",
                done=len(self._ended),
                total=len(self._sizes),
                unit="jobs",
                left=None if finished else left,
                finished=finished,
            )
        )


def _wait(futures: Sequence[Future[Any]], halt: threading.Event) -> None:
    """Wait for all; Ctrl-C asks the jobs to stop, and waits for that."""
    from builder.edges.jobs.runner import undisturbed

    left = set(futures)
    try:
        while left:
            left = wait(left, timeout=0.5, return_when=FIRST_COMPLETED).not_done
    except KeyboardInterrupt:
        halt.set()
        with undisturbed():
            wait(left)
