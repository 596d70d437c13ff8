"""The commands about jobs: prepare, preflight, list, show, report, logs, cancel, remove. ``run`` has a file of its own."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from builder.core.config.types import Config
from builder.core.jobs import timeline
from builder.core.jobs.compose import needs_gpu
from builder.core.jobs.job import Job
from builder.core.jobs.record import stats
from builder.core.jobs.record.stats import JobRuns, JobStats
from builder.core.jobs.timeline import Span, StageRun
from builder.core.progress import OnProgress, Progress
from builder.core.terms import Mode
from builder.edges.jobs import folder as jobs
from builder.edges.jobs import listing
from builder.edges.machine import environment as native
from builder.edges.system import files
from builder.errors import BakeError, MissingError, UsageError, did_you_mean
from builder.program import command

if TYPE_CHECKING:
    from builder.core.jobs.record.changes import Change
    from builder.core.jobs.record.coverage import Coverage
    from builder.core.jobs.request import JobOptions
    from builder.edges.jobs.preflight import Checks
    from builder.workflows.session import Session


@dataclass(frozen=True, kw_only=True)
class JobPrepared:
    """A job that was made."""

    job: Job
    folder: Path
    mode: Mode
    compose: Path | None
    """Its compose file, where an engine has images of all stages."""


def prepare(session: Session, inputs: Sequence[Path], options: JobOptions, *, build: bool = True) -> JobPrepared:
    """Make a job without running it; with its compose file, where an engine has images of all stages."""
    from builder.edges.jobs import prepare as making
    from builder.workflows import host as hosts

    config = session.config
    request = hosts.resolve(config, options)
    if request.warning:
        session.on_progress(Progress(what="warning", note=request.warning, finished=True))
    host = hosts.choose(session, stages=request.stages(config), gpu=request.on_gpu, build=build)
    request = hosts.informant(session, options, host.media)(request, inputs)
    job = making.prepare(config, inputs, request, media=host.media, on_progress=session.on_progress)
    folder = jobs.folder(config, job)
    made = host.compose_file(job, 0)
    written = None
    if made is not None:
        from builder.edges.jobs.hosts import compose

        written = compose.write(folder, made)
    return JobPrepared(job=job, folder=folder, mode=config.defaults.mode, compose=written)


@dataclass(frozen=True, kw_only=True)
class JobChecked:
    """Whether a job can run here."""

    job: Job
    checks: Checks

    @property
    def failure(self) -> BakeError | None:
        """The first check's that failed."""
        return next((check.failure for check in self.checks.checks if check.failure), None)


def preflight(session: Session, name: str | None, *, refresh: bool) -> JobChecked:
    """Check that a job can run here.

    Args:
        name: the job's id; None for the newest job.
        refresh: look, whatever the cache says.
    """
    from builder.edges.jobs import preflight as checking

    config = session.config
    job = _named_or_newest(config, name, what="check", hint=command("prepare RECORDING"))
    python, containers, lacking = None, None, None
    apart: dict[str, Path | None] = {}
    if config.defaults.mode is Mode.NATIVE:
        cuda = any(needs_gpu(stage) for stage in job.stages)
        python = native.ready(config, config.together, cuda=cuda)
        names = {stage.name for stage in job.stages}
        apart = {n: native.ready(config, (s,)) for n, s in config.stages.items() if s.apart and n in names}
    else:
        from builder.workflows import host as hosts

        try:
            containers = hosts.choose(session, stages=[s.name for s in job.stages], build=False).containers
        except MissingError as missing:
            lacking = checking.Check(name="images", note=missing.what, failure=missing)
    checks = checking.check(
        config,
        job,
        python=python,
        apart=apart,
        containers=containers,
        env=session.env,
        refresh=refresh,
        lacking=lacking,
    )
    return JobChecked(job=job, checks=checks)


def _named_or_newest(config: Config, name: str | None, *, what: str, hint: str, begun: bool = False) -> Job:
    """A job by name, or the one that was prepared last.

    Args:
        begun: of those that have been run.
        what: what is to be done with it, for the error.
        hint: how there comes to be one.
    """
    if name is not None:
        return listing.find(config, name)
    newest = listing.newest(config, begun=begun)
    if newest is None:
        raise UsageError(f"there is no job to {what}", hint=hint)
    return newest


@dataclass(frozen=True, kw_only=True)
class JobListed:
    """One line of ``jobs list``."""

    summary: listing.Summary
    running: tuple[Span, ...]
    """The stages that run."""


@dataclass(frozen=True, kw_only=True)
class JobsListed:
    """The jobs, newest first."""

    jobs: tuple[JobListed, ...]
    watched: frozenset[str] = frozenset()
    """Ids of those that run or wait, or did since somebody began to watch."""


def list_jobs(config: Config) -> JobsListed:
    """The jobs, newest first, with what each is doing."""
    listed = []
    for summary in listing.listing(config):
        running: tuple[Span, ...] = ()
        if summary.state == "running":
            spans = timeline.spans(jobs.events(summary.folder), config.stages)
            running = tuple(span for span in spans.values() if span.state == "running")
        listed.append(JobListed(summary=summary, running=running))
    return JobsListed(jobs=tuple(listed))


def watch(config: Config, *, every: float = 0.5) -> Iterator[JobsListed]:
    """The listing whenever it changes, until the reader stops.

    Args:
        every: seconds between two looks.
    """
    last, watched = None, frozenset[str]()
    while True:
        listed = list_jobs(config)
        watched |= {job.summary.id for job in listed.jobs if job.summary.state in ("running", "queued")}
        listed = replace(listed, watched=watched)
        if listed != last:
            last = listed
            yield listed
        time.sleep(every)


def job_stats(session: Session) -> JobStats:
    """What all jobs tell together; those that can't be read count as broken."""
    config = session.config
    return stats.stats(_all_runs(config, session.on_progress), list(config.stages))


def _all_runs(config: Config, on_progress: OnProgress) -> Iterator[JobRuns]:
    listed = listing.listing(config)
    for number, summary in enumerate(listed, 1):
        on_progress(Progress(what="jobs", done=number, total=len(listed)))
        runs: tuple[StageRun, ...] = ()
        sound = 0.0
        if summary.state != listing.BROKEN:
            with contextlib.suppress(BakeError, OSError):  # it is removed meanwhile
                runs, sound = _runs(jobs.parsed(summary.folder), summary)
        yield JobRuns(state=summary.state, sound=sound, stages=runs)


def _runs(job: Job, summary: listing.Summary) -> tuple[tuple[StageRun, ...], float]:
    from builder.edges.jobs import outcome
    from builder.edges.jobs.record import facts

    sound = sum(facts.read(summary.folder, entry).duration for entry in job.inputs)
    now = time.time() if summary.state == "running" else None
    manifests = outcome.said(job, summary.folder)
    return timeline.history(job, list(jobs.events(summary.folder)), manifests, sound=sound or None, now=now), sound


@dataclass(frozen=True, kw_only=True)
class StageShown:
    """One stage of a job."""

    name: str
    done: bool
    """Its manifest is there."""
    timings: Mapping[str, float]
    """Seconds of its parts, as its manifest says; ``total`` is all of them."""
    models: tuple[str, ...]
    span: Span | None
    """Its last run; None when it never ran."""


@dataclass(frozen=True, kw_only=True)
class JobShown:
    """One job."""

    job: Job
    state: str
    stages: tuple[StageShown, ...]
    spans: tuple[Span, ...]
    """The last run of each stage, in the order of their starts."""
    files: tuple[str, ...]
    notes: tuple[str, ...]
    now: float
    """Seconds since the epoch."""
    coverage: tuple[Coverage, ...] = ()
    """What became of the speech, for each recording that has a transcript."""
    changes: tuple[Change, ...] = ()
    """What stages changed in texts of their own accord, in the order of recordings and times."""


def show(config: Config, name: str) -> JobShown:
    """One job: its stages, when they worked, times and files."""
    from builder.edges.jobs import outcome

    job = listing.find(config, name)
    folder = jobs.folder(config, job)
    spans = timeline.spans(jobs.events(folder), [stage.name for stage in job.stages])
    said = outcome.said(job, folder)
    stages = tuple(
        StageShown(
            name=stage.name,
            done=stage.name in said,
            timings=said[stage.name].timings if stage.name in said else {},
            models=tuple(use.id for use in stage.models.values()),
            span=spans.get(stage.name),
        )
        for stage in job.stages
    )
    return JobShown(
        job=job,
        state=jobs.state(folder),
        stages=stages,
        spans=tuple(spans.values()),
        files=tuple(str(folder / path) for path in outcome.results_of(said, folder)),
        notes=tuple(note for made in said.values() for note in made.notes),
        coverage=outcome.coverage(job, folder, said),
        changes=outcome.changes(job, folder, said),
        now=time.time(),
    )


@dataclass(frozen=True, kw_only=True)
class ReportWritten:
    """A job's page that was written."""

    job: Job
    state: str
    file: Path
    size: int
    """Bytes."""
    recordings: tuple[str, ...]
    beside: tuple[str, ...]
    """What the page refers to because it is too large to be in it."""
    failure: BakeError | None
    """Why the page could not be opened."""


def report(session: Session, name: str | None, *, out: Path | None, megabytes: int, open_it: bool) -> ReportWritten:
    """Write a job as one page to look at, and open it when asked to.

    Args:
        name: the job's id; None for the newest job.
        out: file or folder; None for report.html in the job's folder.
        megabytes: size of the recordings that go into the page.
    """
    from builder.core.jobs.page import render
    from builder.edges.jobs import page as pages

    config = session.config
    job = _named_or_newest(config, name, what="report", hint=command("run RECORDING"), begun=True)
    file = jobs.folder(config, job) / "report.html" if out is None else files.expanded(out)
    if file.is_dir():
        file = file / f"{job.id}.html"
    page = pages.gather(config, job, out=file, limit=megabytes * 1_000_000)
    text = render(page, pages.templates(config.shipped)).encode()
    mode = jobs.result_mode(job, jobs.folder(config, job))
    files.write_output(file, text, instead="--out FILE; --embed 0 leaves the recordings out", mode=mode)
    attached = [f for recording in page.recordings for f in (recording.media, *recording.files) if f is not None]
    return ReportWritten(
        job=job,
        state=page.state,
        file=file,
        size=len(text),
        recordings=tuple(recording.name for recording in page.recordings),
        beside=tuple(f.href for f in attached if f.data is None),
        failure=pages.open_page(file.resolve(), session.env) if open_it else None,
    )


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """One line of what a stage printed."""

    stage: str
    line: str
    alone: bool
    """One stage's log was asked for, so that its name need not be said."""


def logs(config: Config, name: str, stage: str | None, *, follow: bool) -> Iterator[LogLine]:
    """What the stages printed; with ``follow`` as it comes, while the job is running.

    Raises:
        UsageError: no such job or stage.
    """
    job = listing.find(config, name)
    names = [s.name for s in job.stages]
    if stage is not None and stage not in names:
        raise UsageError(
            f'job {job.id} has no stage "{stage}"', expected=", ".join(names), hint=did_you_mean(stage, names)
        )
    folder = jobs.folder(config, job)
    offsets = {each: jobs.log_begin(folder, each) for each in ([stage] if stage else names)}
    while True:
        running = follow and jobs.state(folder) in ("running", "queued")
        for each in offsets:
            before = -1
            while offsets[each] != before:
                before = offsets[each]
                lines, offsets[each] = jobs.log_lines(folder, each, before, whole=running)
                yield from (LogLine(stage=each, line=line, alone=stage is not None) for line in lines)
        if not running:
            return
        time.sleep(0.1)


@dataclass(frozen=True, kw_only=True)
class JobCancelled:
    """A job that was asked to stop."""

    job: Job
    was_running: bool
    state: str


def cancel(config: Config, names: Sequence[str]) -> tuple[JobCancelled, ...]:
    """Stop running jobs; what is done stays done."""
    from builder.edges.jobs.hosts import compose

    chosen = list({job.id: job for job in (listing.find(config, name) for name in names)}.values())
    asked = {job.id for job in chosen if jobs.ask_to_stop(jobs.folder(config, job))}
    cancelled = []
    for job in chosen:
        folder = jobs.folder(config, job)
        if job.id in asked:
            jobs.wait_for_end(folder)
        with contextlib.suppress(TimeoutError), jobs.held(folder):  # else another process has started it again
            compose.clean(folder)  # of a run that was killed
        cancelled.append(JobCancelled(job=job, was_running=job.id in asked, state=jobs.state(folder)))
    return tuple(cancelled)


@dataclass(frozen=True, kw_only=True)
class JobsRemoved:
    """Jobs that were deleted, or would be."""

    jobs: tuple[tuple[str, int], ...]
    """Id, and the bytes that it took."""
    dry_run: bool
    sound: bool = False
    """Only what they heard was deleted."""


def remove(config: Config, names: Sequence[str], *, dry_run: bool, sound: bool = False) -> JobsRemoved:
    """Delete jobs: all of them, or none.

    Args:
        sound: delete no more than what they heard; with no names of all that are done.

    Raises:
        UsageError: no such job, it is running, or none is named.
    """
    if not names and not sound:
        raise UsageError(
            "no job is named",
            expected="jobs to delete",
            hint=f"{command('jobs list')} shows them; --sound without a job frees the sound of all that are done",
        )
    take = listing.remove_sound if sound else listing.remove
    removed = take(config, names, dry_run=dry_run)
    return JobsRemoved(jobs=tuple((folder.name, size) for folder, size in removed), dry_run=dry_run, sound=sound)
