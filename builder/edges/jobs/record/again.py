"""A job's folder once more, with nothing done: for a second run whose results are compared with the first."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from builder.core.jobs import job_file
from builder.core.jobs.job import Job
from builder.core.progress import OnProgress, Progress
from builder.edges.system import files
from builder.errors import IntegrityError, MissingError
from builder.program import command
from builder.receiver.jobs import places
from builder.receiver.jobs.untrusted import names_below, open_below, read_below

LARGEST_BESIDE = 64 << 20
"""Bytes of a file of ``input`` that is no recording: glossaries, voices, fonts."""

MOST_BESIDE = 1000
"""Such files."""


@contextlib.contextmanager
def copied(root: Path, job: Job, job_folder: Path, on_progress: OnProgress) -> Iterator[Job]:
    """This job as ``prepare`` left it, alone in a folder of jobs, with an id of its own: containers are known by that.

    The folder is removed at the end; after a kill, by the next.

    Recordings are hard links where the file system has them: stages read them only, and compare their sha256.

    Args:
        root: the new folder of jobs; one process at a time has it.

    Raises:
        MissingError: a recording is no longer there, or the disk is full.
        IntegrityError: a recording has other bytes.
    """
    root.parent.mkdir(parents=True, exist_ok=True)
    lock = root.with_name(f"{root.name}.lock")
    with contextlib.ExitStack() as guard:
        try:
            guard.enter_context(files.locked(lock, timeout=0))
        except TimeoutError:
            on_progress(Progress(what="replay", note="waiting for another one"))
            guard.enter_context(files.locked(lock))
        _clear(root)
        root.mkdir(mode=0o700)  # whoever may read a recording isn't worked out anew: nobody else looks in
        try:
            again = replace(job, id=f"{job.id[:-4]}{secrets.token_hex(2)}")
            _copy(root / again.id, again, job_folder)
            yield again
        finally:
            places.remove_if_there(root)


def _clear(root: Path) -> None:
    """Remove what a killed run left, its containers first.

    Raises:
        MissingError: an engine that may have some doesn't answer, or a file can't be removed.
    """
    from builder.edges.jobs.hosts import compose

    for name in names_below(root):
        compose.clean(root / name)
    places.remove_if_there(root)
    if root.exists():
        raise MissingError("what an earlier run left can't be removed", where=str(root), hint="remove it by hand")


def _copy(new: Path, job: Job, job_folder: Path) -> None:
    for part in ("input", "work", "output", "logs"):
        (new / part).mkdir(parents=True)
    recordings = {entry.path: entry for entry in job.inputs}
    for path, entry in recordings.items():
        expected = (entry.clip.sha256 if entry.clip else None) or entry.sha256
        _bring(job_folder, path, new / path, expected)
    names = [name for name in names_below(job_folder, "input") if f"input/{name}" not in recordings]
    for name in names[:MOST_BESIDE]:
        data = read_below(job_folder, f"input/{name}", LARGEST_BESIDE)
        if data is not None:
            files.write_atomic(new / "input" / name, data, mode=0o600)
    files.write_atomic(new / "job.yaml", job_file.to_yaml(job))


def _bring(job_folder: Path, path: str, target: Path, sha256: str) -> None:
    """A recording into the new job."""
    source = job_folder / path
    with contextlib.suppress(OSError):
        os.link(source, target, follow_symlinks=False)
        if stat.S_ISREG(target.lstat().st_mode):
            return
        target.unlink()
    try:
        with open_below(job_folder, path) as opened:
            files.require_room({target.parent: os.fstat(opened.fileno()).st_size}, "free some space", reserve=1 << 20)
            digest = files.copy_hashed(iter(lambda: opened.read(files.CHUNK), b""), target)
    except OSError as error:
        if files.disk_full(error):
            raise
        raise MissingError(
            f"the recording is no longer there ({error.strerror})",
            where=str(source),
            hint=f"{command('run')} FILE makes a new job of it",
        ) from None
    if digest != sha256:
        raise IntegrityError("the recording has other bytes than the job was made of", where=str(source))
