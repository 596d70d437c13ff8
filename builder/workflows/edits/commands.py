"""The commands that change a finished transcript: jobs name, edit, undo."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from builder.core.jobs import edits as spec
from builder.core.jobs import names as naming
from builder.edges.jobs import edits as kept
from builder.edges.jobs import folder as jobs
from builder.errors import UsageError
from builder.program import command
from builder.workflows.edits.rendering import TranscriptChanged, found, held, rendered, state
from builder.workflows.session import Session


def name(session: Session, job_name: str, words: Sequence[str], *, file: Path | None) -> TranscriptChanged:
    """Give speakers names, in every file of the job.

    Args:
        words: such as ``S1=Ada``.
        file: names that the job's page saved.

    Raises:
        UsageError: the job has no transcript yet or is running, or a name, a speaker or the file is wrong.
    """
    job, folder = found(session, job_name)
    transcripts = kept.transcripts(job, folder)
    names = naming.names_of(words, job, transcripts)
    if file is not None:
        names = {**naming.names_in(kept.names_file(file), job, transcripts, str(file)), **names}
    if not names:
        raise UsageError("no name is given", expected='S1="Ada Lovelace", or --from FILE', hint=f"jobs report {job.id}")
    with held(job, folder):
        before = kept.read(folder)
        after = naming.with_names(before, names)
        if after != before:
            kept.write(folder, after)
    return rendered(session, job, folder)


def edit(session: Session, job_name: str, *, file: Path | None) -> TranscriptChanged:
    """Change the text in an editor, or take it from a file.

    Raises:
        UsageError: the job has no transcript yet or is running; there is no editor; the text can't be read as one of this
            job. What was edited stays in its temporary file.
    """
    job, folder = found(session, job_name)
    transcripts = kept.transcripts(job, folder)
    shown = spec.to_text(job, transcripts)
    path = file or kept.in_editor(job, shown, session.env)
    try:
        turns = spec.from_text(kept.read_text(path), transcripts, str(path))
    except UsageError as error:
        if file is None:
            error.hint = f"nothing is changed; mend it, then: {command(f'jobs edit {job.id} --from', path)}"
        raise
    with held(job, folder):
        if turns:
            before = kept.read(folder)
            kept.write(folder, spec.with_turns(before, turns))
    if file is None:
        path.unlink(missing_ok=True)
    return rendered(session, job, folder) if turns else state(job, folder)


def undo(session: Session, job_name: str) -> TranscriptChanged:
    """Go back to what the job said before the last name or edit.

    Raises:
        UsageError: it was never changed, or the job is running.
    """
    job, folder = found(session, job_name)
    with held(job, folder):
        if not kept.undo(folder):
            raise UsageError(f"job {job.id} was not changed by hand", hint="jobs edit changes it")
    return rendered(session, job, folder)


def save_text(session: Session, job_name: str, *, file: Path) -> TranscriptChanged:
    """Write the text that :func:`edit` shows to a file, for its ``file``.

    Raises:
        UsageError: the job has no transcript yet, or there is no such folder.
        MissingError: the file can't be written.
    """
    job, folder = found(session, job_name)
    kept.save(file, spec.to_text(job, kept.transcripts(job, folder)), mode=jobs.result_mode(job, folder))
    return state(job, folder, text=file)
