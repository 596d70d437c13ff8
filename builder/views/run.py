"""Results of ``run``: one job, or a queue of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typing_extensions import NotRequired, TypedDict

from builder import ui
from builder.core.text import format_time, table
from builder.errors import BakeError, Interrupted
from builder.views import View
from builder.views.jobs import CoverageJson, coverage_data
from builder.workflows.run import JobRan, QueueRan

if TYPE_CHECKING:
    from builder.core.jobs.job import Job
    from builder.edges.jobs.outcome import Outcome


class StageRanJson(TypedDict):
    """One stage of a job that was run."""

    name: str
    """Its name."""
    kept: bool
    """Whether its results of an earlier run were still good."""
    seconds: float
    """Wall time; 0 when its results were kept."""
    why: str
    """Why it ran, or was kept."""
    failed: str | None
    """Why the job went on without it."""


class JobRanJson(TypedDict):
    """One job that was run."""

    job: str
    """Its id."""
    output: str
    """The folder of its results."""
    files: list[str]
    """The results."""
    copies: list[str]
    """The results where ``--output`` or ``--beside`` wants them."""
    stages: list[StageRanJson]
    """The stages that were asked for, in pipeline order."""
    notes: list[str]
    """What the stages have to say to a person."""
    coverage: list[CoverageJson]
    """What became of the speech, for each recording that has a transcript."""
    seconds: float
    """Wall time."""
    where: str
    """Where its stages ran, and its recordings were read."""
    preset: str
    """The preset that it was made with."""
    preset_reason: str
    """Why it is this one, where that was left to ``auto``; else empty."""
    skipped: NotRequired[list[str]]
    """Files of a folder that are no recordings; of a command with one job."""


class JobFailedJson(TypedDict):
    """One job of a queue that failed or was stopped."""

    job: str
    """Its id."""
    error: dict[str, Any]
    """As a command's own error."""


class QueueRanJson(TypedDict):
    """Several jobs that were run."""

    jobs: list[JobRanJson | JobFailedJson]
    """In the order of the queue."""
    skipped: list[str]
    """Files of a folder that are no recordings."""


def _outcome_data(outcome: Outcome, ran: JobRan | QueueRan) -> JobRanJson:
    return {
        "job": outcome.job.id,
        "output": str(outcome.folder),
        "files": [str(path) for path in outcome.files],
        "copies": [str(path) for path in outcome.copies],
        "stages": [
            {
                "name": s.name,
                "kept": s.kept,
                "seconds": s.seconds,
                "why": s.why,
                "failed": None if s.failure is None else s.failure.what,
            }
            for s in outcome.stages
        ],
        "notes": list(outcome.notes),
        "coverage": [coverage_data(one) for one in outcome.coverage],
        "seconds": round(outcome.seconds, 3),
        "where": ran.note,
        "preset": outcome.job.preset,
        "preset_reason": ran.preset_reason,
    }


def _run_data(ran: JobRan | QueueRan) -> JobRanJson | QueueRanJson:
    if isinstance(ran, JobRan):
        return {**_outcome_data(ran.outcome, ran), "skipped": list(ran.skipped)}
    jobs: list[JobRanJson | JobFailedJson] = []
    for job, result in ran.results:
        if isinstance(result, BakeError):
            jobs.append({"job": job.id, "error": ui.error_data(result)["error"]})
        else:
            jobs.append(_outcome_data(result, ran))
    return {"jobs": jobs, "skipped": list(ran.skipped)}


def _run_text(ran: JobRan | QueueRan) -> list[str]:
    if isinstance(ran, JobRan):
        return [str(path) for path in ran.outcome.copies or ran.outcome.files]
    rows = []
    for job, result in ran.results:
        if isinstance(result, BakeError):
            rows.append((job.id, "stopped" if isinstance(result, Interrupted) else "failed", "", result.what))
        else:
            state = "done" if result.failure is None else "partial"
            folder = result.copies[0].parent if result.copies else result.folder
            rows.append((job.id, state, format_time(result.seconds), str(folder)))
    return table(("JOB", "STATE", "TIME", "OUTPUT"), rows)


def remarks(ran: JobRan | QueueRan) -> list[str]:
    """What a person is told beside the results: notes, what was kept, how long it took, where it ran."""
    if isinstance(ran, QueueRan):
        done = sum(not isinstance(result, BakeError) for _, result in ran.results)
        of_preset = _of_preset(ran.results[0][0], ran.preset_reason) if ran.results else []
        return [*of_preset, f"{done} of {len(ran.results)} jobs done; {ran.note}"]
    outcome = ran.outcome
    lines = [f"note: {note}" for note in outcome.notes] + _of_preset(outcome.job, ran.preset_reason)
    if kept := [stage.name for stage in outcome.stages if stage.kept]:
        lines.append(f"kept from before: {', '.join(kept)}")
    whole = len(outcome.stages) == len(outcome.job.stages)
    part = "" if whole else f"{', '.join(stage.name for stage in outcome.stages)} of "
    return [*lines, f"{part}job {outcome.job.id} done in {format_time(outcome.seconds)}; {ran.note}"]


def _of_preset(job: Job, reason: str) -> list[str]:
    return [f"preset {job.preset}; {reason}"] if reason else []


RUN = View(command="run", shape=JobRanJson | QueueRanJson, data=_run_data, lines=_run_text)
