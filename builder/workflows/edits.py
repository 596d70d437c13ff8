"""The commands that change a finished transcript: jobs name, edit, undo. Its files are written again where its stages run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from builder.core.jobs import edits as spec
from builder.core.jobs import names as naming
from builder.core.jobs.edits import RecordingEdits
from builder.core.jobs.job import Job
from builder.core.jobs.request import JobOptions
from builder.edges.jobs import edits as kept
from builder.edges.jobs import folder as jobs
from builder.edges.jobs import listing
from builder.errors import BakeError, UsageError
from builder.workflows.run import JobRan, RunOptions, run
from builder.workflows.session import Session


@dataclass(frozen=True, kw_only=True)
class TranscriptChanged:
    """A job whose transcript was changed by hand."""

    job: Job
    names: Mapping[str, Mapping[str, str]]
    """Recording -> speaker -> name, as they are now."""
    edited: tuple[str, ...]
    """The recordings whose text is one that a person edited."""
    ran: JobRan | None = None
    """Its files, written again; None when nothing was changed."""
    text: Path | None = None
    """The file that has its text now, to be edited."""

    @property
    def failure(self) -> BakeError | None:
        """Of a stage that could not write its part again."""
        return self.ran.failure if self.ran else None


def name(session: Session, job_name: str, words: Sequence[str], *, file: Path | None) -> TranscriptChanged:
    """Give speakers names, in every file of the job.

    Args:
        words: such as ``S1=Ada``.
        file: names that the job's page saved.

    Raises:
        UsageError: the job has no transcript yet or is running, or a name, a speaker or the file is wrong.
    """
    job, folder = _found(session, job_name)
    transcripts = kept.transcripts(job, folder)
    names = naming.names_of(words, job, transcripts)
    if file is not None:
        names = {**naming.names_in(kept.names_file(file), job, transcripts, str(file)), **names}
    if not names:
        raise UsageError("no name is given", expected='S1="Ada Lovelace", or --from FILE', hint=f"jobs report {job.id}")
    with _held(job, folder):
        before = kept.read(folder)
        after = naming.with_names(before, names)
        if after != before:
            kept.write(folder, after)
    return _rendered(session, job, folder)


def edit(session: Session, job_name: str, *, file: Path | None) -> TranscriptChanged:
    """Change the text in an editor, or take it from a file.

    Raises:
        UsageError: the job has no transcript yet or is running; there is no editor; the text can't be read as one of this
            job. What was edited stays in its temporary file.
    """
    job, folder = _found(session, job_name)
    transcripts = kept.transcripts(job, folder)
    shown = spec.to_text(job, transcripts)
    path = file or kept.in_editor(job, shown, session.env)
    try:
        turns = spec.from_text(kept.read_text(path), transcripts, str(path))
    except UsageError as error:
        if file is None:
            error.hint = f"nothing is changed; mend it, then: jobs edit {job.id} --from {path}"
        raise
    with _held(job, folder):
        if turns:
            before = kept.read(folder)
            kept.write(folder, spec.with_turns(before, turns))
    if file is None:
        path.unlink(missing_ok=True)
    return _rendered(session, job, folder) if turns else _state(job, folder)


def undo(session: Session, job_name: str) -> TranscriptChanged:
    """Go back to what the job said before the last name or edit.

    Raises:
        UsageError: it was never changed, or the job is running.
    """
    job, folder = _found(session, job_name)
    with _held(job, folder):
        if not kept.undo(folder):
            raise UsageError(f"job {job.id} was not changed by hand", hint="jobs edit changes it")
    return _rendered(session, job, folder)


def save_text(session: Session, job_name: str, *, file: Path) -> TranscriptChanged:
    """Write the text that :func:`edit` shows to a file, for its ``file``.

    Raises:
        UsageError: the job has no transcript yet, or the file can't be written.
    """
    job, folder = _found(session, job_name)
    kept.save(file, spec.to_text(job, kept.transcripts(job, folder)))
    return _state(job, folder, text=file)


def _found(session: Session, job_name: str) -> tuple[Job, Path]:
    job = listing.find(session.config, job_name)
    return job, jobs.folder(session.config, job)


@contextmanager
def _held(job: Job, folder: Path) -> Iterator[None]:
    """The job's lock.

    Raises:
        UsageError: somebody else has it.
    """
    try:
        with jobs.held(folder):
            yield
    except TimeoutError as error:
        raise UsageError(f"job {job.id} is running", hint="wait for it, or stop it: jobs cancel") from error
    except OSError as error:
        raise jobs.disk_error(error, folder) from error


def _rendered(session: Session, job: Job, folder: Path) -> TranscriptChanged:
    """The job's files, written again from the subtitles stage on."""
    ran = run(session, [job.id], JobOptions(), RunOptions(rendering=True))
    assert isinstance(ran, JobRan)
    return _state(job, folder, ran=ran)


def _state(job: Job, folder: Path, *, ran: JobRan | None = None, text: Path | None = None) -> TranscriptChanged:
    edits: Mapping[str, RecordingEdits] = kept.read(folder)
    return TranscriptChanged(
        job=job,
        names={id_: dict(one.names) for id_, one in edits.items() if one.names},
        edited=tuple(id_ for id_, one in edits.items() if one.turns is not None),
        ran=ran,
        text=text,
    )
