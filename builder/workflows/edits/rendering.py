"""A job whose transcript was changed by hand: its files are written again where its stages run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

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


def found(session: Session, job_name: str) -> tuple[Job, Path]:
    """The job that a word names, and its folder."""
    job = listing.find(session.config, job_name)
    return job, jobs.folder(session.config, job)


@contextmanager
def held(job: Job, folder: Path) -> Iterator[None]:
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


def rendered(session: Session, job: Job, folder: Path) -> TranscriptChanged:
    """The job's files, written again from the subtitles stage on."""
    ran = run(session, [job.id], JobOptions(), RunOptions(rendering=True))
    assert isinstance(ran, JobRan)
    return state(job, folder, ran=ran)


def state(job: Job, folder: Path, *, ran: JobRan | None = None, text: Path | None = None) -> TranscriptChanged:
    """What the job has of a person now."""
    edits: Mapping[str, RecordingEdits] = kept.read(folder)
    return TranscriptChanged(
        job=job,
        names={id_: dict(one.names) for id_, one in edits.items() if one.names},
        edited=tuple(id_ for id_, one in edits.items() if one.turns is not None),
        ran=ran,
        text=text,
    )
