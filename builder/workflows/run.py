"""The command run: one job, or a queue of them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder import ui
from builder.core.jobs import compose
from builder.core.jobs import job as spec
from builder.core.jobs.request import JobOptions
from builder.core.progress import OnProgress, Progress
from builder.core.terms import Variant
from builder.core.text import format_time, table
from builder.errors import BakeError, InputError, Interrupted, UsageError
from builder.workflows.session import (
    Result,
    Session,
    existing_jobs,
    fetch_missing,
    hardware_of,
    pinned,
)

if TYPE_CHECKING:
    from builder.core.jobs.job import Job
    from builder.edges.jobs.budget import Budget
    from builder.edges.jobs.runner import Outcome
    from builder.workflows.host import Place


@dataclass(frozen=True, kw_only=True)
class How:
    """How jobs are run, apart from what they are."""

    build: bool = True
    """Build images that are missing; else they are an error."""
    parallel: int | None = None
    """Jobs at once; with it, each recording is a job of its own."""
    only: str | None = None
    first: str | None = None
    until: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Engine:
    """What the jobs of one command share."""

    session: Session
    place: Place
    budget: Budget
    how: How


def run(session: Session, inputs: Sequence[str], options: JobOptions, how: How) -> Result:
    """Transcribe recordings or resume jobs: set up, prepare, check, run."""
    from builder.edges.jobs import prepare
    from builder.edges.jobs.budget import Budget
    from builder.workflows import host as places

    known = existing_jobs(session.config, inputs)
    if known:
        session = _of_variant(session, known)
        place = places.choose(session, build=how.build)
        models = {u.id for job in known for s in job.stages for u in s.models.values()}
        fetch_missing(
            session.config, pinned(session.config, sorted(models)), env=session.env, on_progress=session.on_progress
        )
    else:
        for name in inputs:  # before anything is installed, built or fetched
            if not Path(name).expanduser().exists():
                raise InputError(
                    "no such file, and no such job", where=name, hint="check the path; jobs list shows the jobs"
                )
        request = places.resolve(session, options)
        place = places.choose(session, build=how.build)
        fetch_missing(session.config, list(request.models.values()), env=session.env, on_progress=session.on_progress)
        groups = [inputs] if how.parallel is None else [[name] for name in inputs]
        known = [
            prepare.prepare(
                session.config,
                [Path(name) for name in group],
                request,
                media=place.media,
                on_progress=session.on_progress,
                resume=True,
            )
            for group in groups
        ]
    found, _ = hardware_of(session.config)
    budget = Budget(session.config.paths.budget, memory=place.memory or found.memory, gpus=len(found.gpus))
    engine = _Engine(session=session, place=place, budget=budget, how=how)
    if len(known) == 1:
        return _single(engine, known[0])
    return _several(engine, list({job.id: job for job in known}.values()))


def _of_variant(session: Session, known: Sequence[Job]) -> Session:
    """The session with the jobs' own variant: it was decided when they were prepared."""
    variants = {job.variant for job in known}
    if len(variants) > 1:
        raise UsageError(f"these jobs are of two variants: {', '.join(sorted(variants))}", hint="run them apart")
    defaults = replace(session.config.defaults, variant=Variant(variants.pop()))
    return replace(session, config=replace(session.config, defaults=defaults))


def _single(engine: _Engine, job: Job) -> Result:
    outcome = _work(engine, job, engine.session.on_progress, halt=None, held=False)
    engine.session.live.close()
    for note in outcome.notes:
        ui.say(f"note: {note}")
    kept = [s.name for s in outcome.stages if s.kept]
    if kept:
        ui.say(f"kept from before: {', '.join(kept)}")
    part = "" if len(outcome.stages) == len(job.stages) else f"{', '.join(s.name for s in outcome.stages)} of "
    ui.say(f"{part}job {job.id} done in {format_time(outcome.seconds)}; {engine.place.note}")
    return Result(data=_data(outcome), text="\n".join(str(p) for p in outcome.files))


def _work(engine: _Engine, job: Job, on_progress: OnProgress, *, halt: threading.Event | None, held: bool) -> Outcome:
    """Check and run one job."""
    from builder.edges.jobs import preflight, runner

    session, place, how = engine.session, engine.place, engine.how
    selection = spec.select(job, only=how.only, first=how.first, until=how.until)
    preflight.check(
        session.config, job, python=place.python, containers=place.containers, env=session.env
    ).raise_failure()
    found, _ = hardware_of(session.config)
    gpu = engine.budget.quietest() if any(compose.needs_gpu(s) for s in job.stages) else 0
    return runner.run(
        session.config,
        job,
        host=place.host(job, gpu),
        on_progress=on_progress,
        parallel=2 if found.threads > 1 else 1,
        selection=selection,
        budget=engine.budget,
        gpu=gpu,
        halt=halt,
        held=held,
    )


def _several(engine: _Engine, queue: Sequence[Job]) -> Result:
    """Run jobs, some at once; one that fails doesn't stop the others."""
    from builder.edges.jobs import folder as jobs

    config, on_progress = engine.session.config, engine.session.on_progress
    halt, mutex = threading.Event(), threading.Lock()

    def named(job: Job) -> OnProgress:
        def tell(step: Progress) -> None:
            with mutex:
                on_progress(replace(step, what=f"{job.id[9:]} {step.what}"))

        return tell

    def work(job: Job, lock: contextlib.ExitStack) -> Outcome | BakeError:
        with lock:
            if halt.is_set():
                return Interrupted(f"job {job.id} was not begun")
            try:
                outcome = _work(engine, job, named(job), halt=halt, held=True)
            except BakeError as error:
                named(job)(Progress(what="failed", note=error.what, finished=True))
                return error
            named(job)(Progress(what="job", note=f"done in {format_time(outcome.seconds)}", finished=True))
            return outcome

    with contextlib.ExitStack() as locks:
        held = {}
        for job in queue:
            place = jobs.folder(config, job)
            try:
                held[job.id] = contextlib.ExitStack()
                held[job.id].enter_context(jobs.held(place))
            except TimeoutError as error:
                raise UsageError(f"job {job.id} is already running", hint="wait for it, or leave it out") from error
            locks.push(held[job.id])
            jobs.say(place, "queue")
        with ThreadPoolExecutor(max_workers=engine.how.parallel or 1, thread_name_prefix="job") as pool:
            futures = [pool.submit(work, job, held[job.id]) for job in queue]
            _wait(futures, halt)
    engine.session.live.close()
    return _summary(queue, [f.result() for f in futures], engine)


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


def _summary(queue: Sequence[Job], results: Sequence[Outcome | BakeError], engine: _Engine) -> Result:
    """What became of each job of a queue; the first failure is the command's."""
    rows, data, failures = [], [], []
    for job, result in zip(queue, results, strict=True):
        if isinstance(result, BakeError):
            failures.append(result)
            rows.append((job.id, "stopped" if isinstance(result, Interrupted) else "failed", "", result.what))
            data.append({"job": job.id, **ui.error_data(result)})
        else:
            rows.append((job.id, "done", format_time(result.seconds), str(result.folder)))
            data.append(_data(result))
    done = len(queue) - len(failures)
    ui.say(f"{done} of {len(queue)} jobs done; {engine.place.note}")
    worst = next((f for f in failures if isinstance(f, Interrupted)), failures[0] if failures else None)
    return Result(data={"jobs": data}, text=table(("JOB", "STATE", "TIME", "OUTPUT"), rows), failure=worst)


def _data(outcome: Outcome) -> dict[str, Any]:
    return {
        "job": outcome.job.id,
        "output": str(outcome.folder),
        "files": [str(p) for p in outcome.files],
        "stages": [asdict(s) for s in outcome.stages],
        "notes": list(outcome.notes),
        "seconds": round(outcome.seconds, 3),
    }
