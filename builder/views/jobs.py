"""Results of the commands about jobs. ``run`` has a file of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from typing_extensions import NotRequired, TypedDict

from builder.core.jobs import timeline
from builder.core.jobs.record.coverage import span
from builder.core.text import format_size, format_time, table, visible
from builder.program import command, shell_word
from builder.views import View
from builder.views.edits import ChangeJson, changes_data, changes_text

if TYPE_CHECKING:
    from builder.core.jobs.record.coverage import Coverage
    from builder.workflows.jobs import (
        JobCancelled,
        JobChecked,
        JobListed,
        JobPrepared,
        JobShown,
        JobsListed,
        JobsRemoved,
        LogLine,
        ReportWritten,
        StageShown,
    )


LONGEST_PROBLEM = 120
"""Characters of what is wrong with a job, in a row of the list."""


GAPS_SHOWN = 10
"""Gaps in the speech of one recording that a person is shown."""


class JobPreparedJson(TypedDict):
    """A job that was made."""

    job: str
    """Its id."""
    folder: str
    """Where it lives."""
    workflow: str
    """``transcribe``, ``subtitle`` or ``translate``."""
    stages: list[str]
    """Names of its stages, in pipeline order."""
    compose: NotRequired[str]
    """Its compose file, where its stages run in containers."""
    mode: NotRequired[str]
    """``docker-cpu`` or ``docker-gpu``, where its stages run in containers."""


def _prepare_data(prepared: JobPrepared) -> JobPreparedJson:
    job = prepared.job
    data: JobPreparedJson = {
        "job": job.id,
        "folder": str(prepared.folder),
        "workflow": job.workflow,
        "stages": [stage.name for stage in job.stages],
    }
    if prepared.compose is not None:
        data |= {"compose": str(prepared.compose), "mode": prepared.mode.value}
    return data


def _prepare_text(prepared: JobPrepared) -> list[str]:
    following = command(f"run {prepared.job.id}")
    if prepared.compose is not None:
        following += f" --mode {prepared.mode.value}    (or: cd {shell_word(prepared.folder)} && docker compose up)"
    return [prepared.job.id, f"next: {following}"]


PREPARE = View(command="prepare", shape=JobPreparedJson, data=_prepare_data, lines=_prepare_text)


class CheckJson(TypedDict):
    """One thing that was looked at."""

    name: str
    """What it is."""
    ok: bool
    """Whether a job can run with it."""
    note: str
    """What was found, or what is wrong."""


class JobCheckedJson(TypedDict):
    """Whether a job can run here."""

    job: str
    """Its id."""
    cached: bool
    """Whether the checks are those of an earlier look; room on disk and in memory is always looked at."""
    ok: bool
    """Whether all checks are."""
    checks: list[CheckJson]
    """What was looked at, in that order."""


def _preflight_data(checked: JobChecked) -> JobCheckedJson:
    checks = checked.checks
    return {
        "job": checked.job.id,
        "cached": checks.cached,
        "ok": checked.failure is None,
        "checks": [{"name": c.name, "ok": c.failure is None, "note": c.note} for c in checks.checks],
    }


def _preflight_text(checked: JobChecked) -> list[str]:
    checks = checked.checks
    rows = [("ok" if c.failure is None else "FAILED", c.name, c.note) for c in checks.checks]
    return [f"job {checked.job.id}{' (cached)' if checks.cached else ''}", *table(("", "CHECK", "FOUND"), rows)]


PREFLIGHT = View(command="preflight", shape=JobCheckedJson, data=_preflight_data, lines=_preflight_text)


class JobListedJson(TypedDict):
    """One job of the list."""

    id: str
    """Its id."""
    state: str
    """prepared, queued, running, failed, interrupted, part (some stages were asked for, and are done), partial (done
    without an optional stage), done, or broken: it can't be read."""
    now: str
    """The stages that run, with their progress; empty when none does."""
    created: str
    """ISO 8601, UTC."""
    workflow: str
    """``transcribe``, ``subtitle`` or ``translate``."""
    inputs: list[str]
    """Names of its recordings."""
    problem: NotRequired[str]
    """Why it is broken; absent when it isn't."""


def _now(listed: JobListed) -> str:
    """``asr 45 %, diarize``: the stages that run; of a broken job, why it is."""
    if listed.summary.problem:
        return visible(" ".join(listed.summary.problem.split()))[:LONGEST_PROBLEM]
    return ", ".join(s.stage + ("" if s.progress is None else f" {s.progress:.0%}") for s in listed.running)


def _list_data(listed: JobsListed) -> list[JobListedJson]:
    return [_listed_data(job) for job in listed.jobs]


def _listed_data(job: JobListed) -> JobListedJson:
    summary = job.summary
    data: JobListedJson = {
        "id": summary.id,
        "state": summary.state,
        "now": "" if summary.problem else _now(job),
        "created": summary.created,
        "workflow": summary.workflow,
        "inputs": list(summary.inputs),
    }
    if summary.problem:
        data["problem"] = summary.problem
    return data


def _list_text(listed: JobsListed) -> list[str]:
    return _table(listed.jobs) if listed.jobs else ["no jobs here"]


def _watch_text(listed: JobsListed) -> list[str]:
    shown = [job for job in listed.jobs if job.summary.id in listed.watched]
    others = len(listed.jobs) - len(shown)
    rest = [f"{others} other{'' if others == 1 else 's'}: jobs list"] if others else []
    return [*(_table(shown) if shown else ["no job is running"]), *rest]


def _table(jobs: Sequence[JobListed]) -> list[str]:
    rows = [
        (
            visible(job.summary.id),
            job.summary.state,
            _now(job),
            job.summary.workflow,
            ", ".join(job.summary.inputs),
        )
        for job in jobs
    ]
    return table(("JOB", "STATE", "NOW", "WORKFLOW", "RECORDINGS"), rows)


LIST = View(command="jobs list", shape=list[JobListedJson], data=_list_data, lines=_list_text)
"""``--watch --json`` prints it again, on one line, whenever it changes."""

WATCH = replace(LIST, lines=_watch_text)
"""What ``--watch`` shows to a person: the jobs that run, wait, or did since it began."""


class StageShownJson(TypedDict):
    """One stage of a job."""

    name: str
    """Its name."""
    done: bool
    """Whether its results are there."""
    timings: dict[str, float]
    """Seconds of its parts, as the stage measured them; ``total`` is all of them."""
    models: str
    """Ids of its models, separated by commas."""
    began: NotRequired[float]
    """Seconds from the first stage's start to the start of its last run; absent when it never ran."""
    state: NotRequired[str]
    """Of its last run: running, done, failed or stopped."""
    progress: NotRequired[float | None]
    """Part of the present recording that is done, 0 to 1."""
    ended: NotRequired[float | None]
    """Seconds from the first stage's start to the end of its last run; null while it runs."""


class GapJson(TypedDict):
    """Speech without a word."""

    start: float
    """Seconds, as the results have times."""
    end: float
    """Seconds."""
    why: str
    """Such as no words found, below confidence, cut by the user."""


class CoverageJson(TypedDict):
    """What became of the speech in one recording: seconds, of which the first is the sum of the others and of the gaps."""

    recording: str
    """Its name."""
    speech: float
    """Speech that was detected."""
    shown: float
    """Speech in subtitles."""
    edges: float
    """Speech beside words, in pieces that are too short for one."""
    gaps: list[GapJson]
    """In the order of time."""
    unsure: int
    """Words that lie outside speech, or that the recognition doubts."""


def coverage_data(coverage: Coverage) -> CoverageJson:
    """As JSON."""
    return {
        "recording": coverage.recording,
        "speech": coverage.speech,
        "shown": coverage.shown,
        "edges": coverage.edges,
        "gaps": [{"start": gap.start, "end": gap.end, "why": gap.why} for gap in coverage.gaps],
        "unsure": coverage.unsure,
    }


def _coverage_text(coverage: Coverage) -> list[str]:
    """The sum of a recording, and its longest gaps."""
    doubts = f", {coverage.unsure} word{'s' if coverage.unsure > 1 else ''} unsure" if coverage.unsure else ""
    if not coverage.gaps:
        return [f"{coverage.recording}: {format_time(coverage.speech)} of speech, all in subtitles{doubts}"]
    head = (
        f"{coverage.recording}: {format_time(coverage.speech)} of speech, {coverage.lost:.1f} s without words{doubts}"
    )
    longest = sorted(coverage.gaps, key=lambda gap: (-gap.seconds, gap.start))[:GAPS_SHOWN]
    lines = [f"  {span(gap)} {visible(' '.join(gap.why.split()))}" for gap in sorted(longest, key=lambda g: g.start)]
    more = len(coverage.gaps) - len(longest)
    return [head, *lines, *([f"  and {more} shorter ones: --json"] if more else [])]


class JobShownJson(TypedDict):
    """One job."""

    id: str
    """Its id."""
    state: str
    """As in the list."""
    created: str
    """ISO 8601, UTC."""
    workflow: str
    """``transcribe``, ``subtitle`` or ``translate``."""
    preset: str
    """The preset that it was made with."""
    inputs: list[str]
    """Names of its recordings."""
    stages: list[StageShownJson]
    """Its stages, in pipeline order."""
    files: list[str]
    """Its results."""
    notes: list[str]
    """What the stages have to say to a person."""
    coverage: list[CoverageJson]
    """What became of the speech, for each recording that has a transcript."""
    changes: list[ChangeJson]
    """What stages changed in texts of their own accord: terms of a glossary, and the second pass of a translation."""


def _show_data(shown: JobShown) -> JobShownJson:
    job = shown.job
    began = min((span.start for span in shown.spans), default=0.0)
    return {
        "id": job.id,
        "state": shown.state,
        "created": job.created,
        "workflow": job.workflow,
        "preset": job.preset,
        "inputs": [recording.name for recording in job.inputs],
        "stages": [_stage_data(stage, began) for stage in shown.stages],
        "files": list(shown.files),
        "notes": list(shown.notes),
        "coverage": [coverage_data(one) for one in shown.coverage],
        "changes": changes_data(shown.changes),
    }


def _stage_data(stage: StageShown, began: float) -> StageShownJson:
    data: StageShownJson = {
        "name": stage.name,
        "done": stage.done,
        "timings": dict(stage.timings),
        "models": ", ".join(stage.models),
    }
    if (span := stage.span) is not None:
        data |= {"began": round(span.start - began, 3), "state": span.state, "progress": span.progress}
        data["ended"] = None if span.end is None else round(span.end - began, 3)
    return data


def _show_text(shown: JobShown) -> list[str]:
    job = shown.job
    bars = dict(zip((s.stage for s in shown.spans), timeline.bars(shown.spans, now=shown.now), strict=True))
    rows = []
    for stage in shown.stages:
        ran = stage.span.state if stage.span and stage.span.state != "done" else "open"
        total = stage.timings.get("total")
        rows.append(
            (
                stage.name,
                "done" if stage.done else ran,
                format_time(total) if total is not None else "",
                bars.get(stage.name, "").ljust(timeline.WIDTH),
                ", ".join(stage.models),
            )
        )
    head = f"{job.id}  {shown.state}  {job.workflow}, preset {job.preset}"
    stages = table(("STAGE", "STATE", "TIME", "WHEN", "MODELS"), rows)
    covered = [line for one in shown.coverage for line in _coverage_text(one)]
    notes = [f"note: {note}" for note in shown.notes]
    return [head, *stages, *notes, *covered, *changes_text(shown.changes), *shown.files]


SHOW = View(command="jobs show", shape=JobShownJson, data=_show_data, lines=_show_text)


class ReportWrittenJson(TypedDict):
    """A job's page that was written."""

    job: str
    """Its id."""
    state: str
    """As in the list."""
    file: str
    """The page."""
    bytes: int
    """Its size."""
    recordings: list[str]
    """Names of the job's recordings."""
    beside: list[str]
    """Files that the page refers to, relative to it: they are too large to be in it."""


def _report_data(report: ReportWritten) -> ReportWrittenJson:
    return {
        "job": report.job.id,
        "state": report.state,
        "file": str(report.file),
        "bytes": report.size,
        "recordings": list(report.recordings),
        "beside": list(report.beside),
    }


REPORT = View(
    command="jobs report", shape=ReportWrittenJson, data=_report_data, lines=lambda report: [str(report.file)]
)


class LogLineJson(TypedDict):
    """One line of what a stage printed."""

    stage: str
    """The stage's name."""
    line: str
    """The line; characters that steer a terminal are written as ``\\x1b``."""


def _logs_data(line: LogLine) -> LogLineJson:
    return {"stage": line.stage, "line": line.line}


def _logs_text(line: LogLine) -> list[str]:
    return [line.line if line.alone else f"{line.stage:<9} | {line.line}"]


LOGS = View(command="jobs logs", shape=LogLineJson, data=_logs_data, lines=_logs_text)
"""Printed once for each line."""


class JobCancelledJson(TypedDict):
    """A job that was asked to stop."""

    job: str
    """Its id."""
    was_running: bool
    """Whether it was running or queued."""
    state: str
    """As in the list, afterwards."""


def _cancel_data(cancelled: Sequence[JobCancelled]) -> list[JobCancelledJson]:
    return [{"job": c.job.id, "was_running": c.was_running, "state": c.state} for c in cancelled]


def _cancel_text(cancelled: Sequence[JobCancelled]) -> list[str]:
    return [f"{c.job.id}: {'stopped' if c.was_running else 'was not running'}" for c in cancelled]


CANCEL = View(command="jobs cancel", shape=list[JobCancelledJson], data=_cancel_data, lines=_cancel_text)


class JobRemovedJson(TypedDict):
    """A job that was deleted, or would be."""

    job: str
    """Its id."""
    bytes: int
    """Bytes that it took, recordings that are links not counted."""
    removed: bool
    """False after a dry run."""
    sound: NotRequired[bool]
    """True where only the sound that it heard was deleted."""


def _remove_data(removed: JobsRemoved) -> list[JobRemovedJson]:
    only: JobRemovedJson = {"sound": True} if removed.sound else {}  # type: ignore[typeddict-item]
    return [{"job": id_, "bytes": size, "removed": not removed.dry_run, **only} for id_, size in removed.jobs]


def _remove_text(removed: JobsRemoved) -> list[str]:
    word = "would free" if removed.dry_run else "freed"
    lines = [f"{id_}: {word} {format_size(size)}" for id_, size in removed.jobs]
    if removed.sound and lines:
        lines.append("results stay; a stage that has to hear a recording again makes its sound anew")
    return lines or ["no sound to remove"]


REMOVE = View(command="jobs remove", shape=list[JobRemovedJson], data=_remove_data, lines=_remove_text)
