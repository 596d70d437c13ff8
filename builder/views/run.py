"""Results of ``run``: one job, or a queue of them; and of ``compare``, which runs several presets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typing_extensions import NotRequired, TypedDict

from builder import ui
from builder.core.compare.page import percent
from builder.core.text import format_size, format_time, table
from builder.errors import BakeError, Interrupted
from builder.views import View
from builder.views.jobs import CoverageJson, coverage_data
from builder.workflows.run import JobRan, QueueRan

if TYPE_CHECKING:
    from builder.core.compare.figures import Attempt, PresetFigures, RecordingCompared
    from builder.core.compare.speakers import SpeakerErrors
    from builder.core.compare.words import WordErrors
    from builder.core.jobs.job import Job
    from builder.edges.jobs.outcome import Outcome
    from builder.workflows.compare.commands import PresetsCompared


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


class WordErrorsJson(TypedDict):
    """Words against a reference."""

    rate: float | None
    """Word error rate: the three kinds of errors by the true words; null without a true word."""
    substituted: int
    """Words in place of others."""
    inserted: int
    """Words that nobody says."""
    deleted: int
    """Words that are left out."""
    total: int
    """True words."""


class SpeakerErrorsJson(TypedDict):
    """Speakers against a reference, 0.25 s around each true start and end left out."""

    rate: float | None
    """Diarization error rate: the three kinds of errors by the time that is spoken; null where nobody speaks."""
    missed: float
    """Seconds without the speaker who speaks."""
    invented: float
    """Seconds with a speaker where nobody speaks."""
    confused: float
    """Seconds with another speaker."""
    total: float
    """Seconds that are spoken; of two who speak at once, each."""


class PresetFiguresJson(TypedDict):
    """One preset over all recordings."""

    preset: str
    """Its name."""
    models: list[str]
    """Ids of its models."""
    model_bytes: int
    """Their files together."""
    heard: int
    """Recordings that it has heard: the figures are theirs."""
    sound: float
    """Seconds of them."""
    seconds: float
    """Wall time of its stages."""
    cpu_seconds: float | None
    """Processor time of its stages, in all threads; null where a stage didn't say."""
    peak_bytes: int | None
    """Most memory that a stage held."""
    words: WordErrorsJson | None
    """Against the references; null without any."""
    speakers: SpeakerErrorsJson | None
    """Against the references; null without any."""
    agreement: float | None
    """Share of the words that it has in common with the other presets, 0 to 1; null for the only one."""


class AttemptJson(TypedDict):
    """One recording with one preset."""

    preset: str
    """Its name."""
    job: str
    """The job's id."""
    failure: str | None
    """Why it is not done."""
    language: str | None
    """Of the text; null where the job is not done."""
    seconds: float | None
    """Wall time of its stages."""
    cpu_seconds: float | None
    """Processor time of its stages."""
    peak_bytes: int | None
    """Most memory that a stage held."""
    words: WordErrorsJson | None
    """Against the reference; null without one."""
    speakers: SpeakerErrorsJson | None
    """Against the reference; null without one."""


class RecordingComparedJson(TypedDict):
    """One recording with every preset."""

    name: str
    """The file's name."""
    words_file: str | None
    """Name of the reference for the words."""
    speakers_file: str | None
    """Name of the reference for the speakers."""
    presets: list[AttemptJson]
    """In the order of the presets."""


class AgreementJson(TypedDict):
    """How far two presets agree."""

    presets: list[str]
    """Their names."""
    agreement: float | None
    """Share of the words that they have in common, 0 to 1; null where neither heard a word."""


class PresetsComparedJson(TypedDict):
    """Recordings, each with several presets."""

    presets: list[PresetFiguresJson]
    """In the order in which they were named."""
    pairs: list[AgreementJson]
    """Every two of them."""
    recordings: list[RecordingComparedJson]
    """In the order in which they were named."""
    page: str | None
    """The page that was written."""
    skipped: list[str]
    """Files of a folder that are no recordings."""


def _words_data(errors: WordErrors | None) -> WordErrorsJson | None:
    if errors is None:
        return None
    return {
        "rate": _rounded(errors.rate),
        "substituted": errors.substituted,
        "inserted": errors.inserted,
        "deleted": errors.deleted,
        "total": errors.total,
    }


def _speakers_data(errors: SpeakerErrors | None) -> SpeakerErrorsJson | None:
    if errors is None:
        return None
    return {
        "rate": _rounded(errors.rate),
        "missed": round(errors.missed, 3),
        "invented": round(errors.invented, 3),
        "confused": round(errors.confused, 3),
        "total": round(errors.total, 3),
    }


def _rounded(rate: float | None) -> float | None:
    return None if rate is None else round(rate, 5)


def _attempt_data(attempt: Attempt) -> AttemptJson:
    heard = attempt.heard
    return {
        "preset": attempt.preset,
        "job": attempt.job,
        "failure": attempt.failure or None,
        "language": heard.language if heard else None,
        "seconds": heard.cost.seconds if heard else None,
        "cpu_seconds": heard.cost.cpu_seconds if heard else None,
        "peak_bytes": heard.cost.peak_bytes if heard else None,
        "words": _words_data(attempt.words),
        "speakers": _speakers_data(attempt.speakers),
    }


def _preset_data(one: PresetFigures) -> PresetFiguresJson:
    return {
        "preset": one.preset,
        "models": list(one.models),
        "model_bytes": one.model_bytes,
        "heard": one.heard,
        "sound": one.sound,
        "seconds": one.seconds,
        "cpu_seconds": one.cpu_seconds,
        "peak_bytes": one.peak_bytes,
        "words": _words_data(one.words),
        "speakers": _speakers_data(one.speakers),
        "agreement": _rounded(one.agreement.rate) if one.agreement else None,
    }


def _compare_data(result: PresetsCompared) -> PresetsComparedJson:
    return {
        "presets": [_preset_data(one) for one in result.presets],
        "pairs": [{"presets": list(pair), "agreement": _rounded(agreed.rate)} for pair, agreed in result.pairs.items()],
        "recordings": [
            {
                "name": recording.name,
                "words_file": recording.reference.words_file,
                "speakers_file": recording.reference.turns_file,
                "presets": [_attempt_data(attempt) for attempt in recording.attempts],
            }
            for recording in result.recordings
        ],
        "page": None if result.page is None else str(result.page),
        "skipped": list(result.skipped),
    }


NONE = "-"
"""What nobody knows, in a table."""

COMPARED = ("TIME", "CPU", "MEMORY", "MODELS", "WER", "DER", "AGREES")


def _compare_text(result: PresetsCompared) -> list[str]:
    lines = table(("PRESET", *COMPARED), [_preset_row(one) for one in result.presets])
    if len(result.recordings) > 1:
        rows = [_attempt_row(r, a) for r in result.recordings for a in r.attempts]
        lines += ["", *table(("RECORDING", "PRESET", "TIME", "CPU", "WER", "DER"), rows)]
    if len(result.pairs) > 1:
        rows = [(*pair, percent(agreed.rate)) for pair, agreed in result.pairs.items()]
        lines += ["", *table(("PRESET", "AND", "AGREE"), rows)]
    lines += ["", *(_against(recording) for recording in result.recordings)]
    lines += [
        f"{recording.name} with {attempt.preset}: {attempt.failure}"
        for recording in result.recordings
        for attempt in recording.attempts
        if attempt.failure
    ]
    return [*lines, *([str(result.page)] if result.page is not None else [])]


def _preset_row(one: PresetFigures) -> tuple[str, ...]:
    return (
        one.preset,
        format_time(one.seconds) if one.heard else NONE,
        NONE if one.cpu_seconds is None else format_time(one.cpu_seconds),
        NONE if one.peak_bytes is None else format_size(one.peak_bytes),
        format_size(one.model_bytes),
        percent(one.words.rate) if one.words else NONE,
        percent(one.speakers.rate) if one.speakers else NONE,
        percent(one.agreement.rate) if one.agreement else NONE,
    )


def _attempt_row(recording: RecordingCompared, attempt: Attempt) -> tuple[str, ...]:
    heard = attempt.heard
    return (
        recording.name,
        attempt.preset,
        format_time(heard.cost.seconds) if heard else NONE,
        format_time(heard.cost.cpu_seconds) if heard and heard.cost.cpu_seconds is not None else NONE,
        percent(attempt.words.rate) if attempt.words else NONE,
        percent(attempt.speakers.rate) if attempt.speakers else NONE,
    )


def _against(recording: RecordingCompared) -> str:
    """What a recording's figures are against."""
    truth = recording.reference
    known = [
        f"{what} against {name}"
        for what, name in (("words", truth.words_file), ("speakers", truth.turns_file))
        if name is not None
    ]
    return f"{recording.name}: {', '.join(known) if known else 'no reference beside it (docs/compare.md)'}"


COMPARE = View(command="compare", shape=PresetsComparedJson, data=_compare_data, lines=_compare_text)
