"""What a job wrote in the place of its glossary's terms, and what a person made of it."""

from __future__ import annotations

from builder.core import glossary
from builder.core.config.types import Config
from builder.core.glossary import Term, learned
from builder.core.glossary.learned import HeardText
from builder.core.jobs.job import Job, JobInput
from builder.core.jobs.record import changes
from builder.edges.jobs import edits, outcome
from builder.edges.jobs import folder as jobs
from builder.errors import UsageError
from builder.program import command
from builder.receiver.jobs.untrusted import json_below


def terms(config: Config, job: Job) -> tuple[Term, ...]:
    """The glossary that a job was made with; none without one."""
    return glossary.from_job(json_below(jobs.folder(config, job), glossary.FILE))


def transcripts(config: Config, job: Job) -> tuple[HeardText, ...]:
    """What is known of each recording of a job.

    Raises:
        UsageError: the job has no transcript yet.
        ConfigError: its edits are damaged.
    """
    folder = jobs.folder(config, job)
    if "asr" not in outcome.said(job, folder):
        raise UsageError(f"job {job.id} has no transcript yet", where=str(folder), hint=command(f"run {job.id}"))
    edited = edits.read(folder)

    def one(entry: JobInput) -> HeardText:
        result = json_below(folder, f"work/asr/{entry.id}.json")
        turns = edited[entry.id].turns if entry.id in edited else None
        return HeardText(
            changes=changes.of_transcript(result, entry.name),
            words=learned.words_of(result) or (),
            edited=None if turns is None else " ".join(turn.text for turn in turns).split(),
        )

    return tuple(map(one, job.inputs))
