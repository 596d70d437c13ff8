"""Results copied to where a person wants them: whole or not at all, and never over what is there unless asked to."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from builder.core.jobs import naming
from builder.core.jobs.job import Job, JobInput
from builder.core.jobs.naming import CopyOptions, Place, Wanted
from builder.edges.jobs import listing
from builder.edges.jobs.outcome import Outcome
from builder.edges.system import files
from builder.errors import BakeError, MissingError, UsageError
from builder.program import command
from builder.receiver.jobs import places
from builder.receiver.jobs.untrusted import open_below

LINKLESS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
"""What file systems without hard links answer."""


def look_first(delivery: CopyOptions, wanted: Sequence[Wanted]) -> None:
    """Refuse before any work what would be refused after it.

    Raises:
        UsageError: results are there already, two would have one name, or one would replace its recording.
        MissingError: a folder can't be made, or not be written.
    """
    names = [(each.place, path) for each in wanted for path in each.paths(delivery.pattern)]
    if twice := naming.clashes(path for _, path in names):
        raise UsageError(
            f"two results would be {twice[0].name}", where="--name", hint="add {stem} or {number}, and {ext}"
        )
    for place, path in names:
        if place.recording is not None and _same(path, place.recording):
            raise UsageError(
                f"{path.name} is the recording itself", where=str(path), hint="another --name, or --output"
            )
    there = [path for _, path in names if os.path.lexists(path)]
    if there and not delivery.overwrite:
        raise UsageError(
            f"{'these are' if len(there) > 1 else 'this is'} there already: {', '.join(p.name for p in there[:8])}"
            + (f" and {len(there) - 8} more" if len(there) > 8 else ""),
            where=str(there[0].parent),
            hint="--overwrite replaces them",
        )
    for folder in dict.fromkeys(each.place.folder for each in wanted):
        _make_folder(folder)


def deliver(outcome: Outcome, delivery: CopyOptions, places: Sequence[Place], job_folder: Path) -> Outcome:
    """Copy a job's results; the outcome with the copies, and with what went wrong.

    Args:
        places: one for each recording of the job.
    """
    job, copies = outcome.job, []
    try:
        for entry, place in zip(job.inputs, places, strict=True):
            for source in outcome.files:
                kind = naming.kind(source.name, entry.output)
                if kind is None or source.parent != outcome.folder:
                    continue
                fields = _fields(place, entry.id, _language(job_folder, entry), job.preset)
                target = place.folder / naming.file_name(delivery.pattern, kind, fields)
                recording = job_folder / entry.path
                copies.append(_copy(source, target, place, recording, overwrite=delivery.overwrite))
    except (OSError, UsageError) as error:
        return replace(outcome, copies=tuple(copies), undelivered=_undelivered(error, job, outcome.folder, delivery))
    return replace(outcome, copies=tuple(copies))


def _fields(place: Place, number: str, language: str, preset: str) -> Mapping[str, str]:
    return {"stem": place.stem, "number": number, "language": language or "und", "preset": preset}


def _language(job_folder: Path, entry: JobInput) -> str:
    """The language of the text, as the job's transcript says."""
    transcript, _ = listing.transcript(job_folder, entry)
    language = transcript.get("language") if isinstance(transcript, dict) else None
    return language if isinstance(language, str) and naming.LANGUAGE.fullmatch(language) else ""


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UsageError("this is not a folder", where=str(folder), hint="--output DIR") from None
    except OSError as error:
        raise MissingError(f"the folder can't be made ({error.strerror})", where=str(folder)) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise MissingError("the folder can't be written", where=str(folder), hint="another --output")


def _same(path: Path, recording: Path) -> bool:
    with contextlib.suppress(OSError):
        return path.samefile(recording)
    return False


def _copy(source: Path, target: Path, place: Place, recording: Path, *, overwrite: bool) -> Path:
    """Copy a result under a hidden name, then give it its own. Who can't read the recording can't read the copy.

    Args:
        recording: in the job's folder, which has the modes that the caller's own has.

    Raises:
        UsageError: there is something of that name.
        OSError: it can't be read or written.
    """
    if place.recording is not None and _same(target, place.recording):
        raise UsageError("this is the recording itself", where=str(target))
    # The same hidden name each time: what a killed run left is replaced. Never followed, whoever has put it there.
    mark = hashlib.sha256(f"{source.parent.parent.name}/{target.name}".encode()).hexdigest()[:16]
    hidden = target.parent / f".whisperbake-{mark}.tmp"
    hidden.unlink(missing_ok=True)
    with open_below(source.parent.parent, f"{source.parent.name}/{source.name}") as data:
        try:
            mode = places.file_mode(0o666, places.readers([recording], group=-1, above=False))
            writing = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
            with os.fdopen(writing, "wb") as out:
                if places.readers([recording], os.fstat(writing).st_gid, above=False) == places.GROUP:
                    os.fchmod(writing, 0o640)
                while chunk := data.read(files.CHUNK):
                    out.write(chunk)
                out.flush()
                os.fsync(out.fileno())
            _name(hidden, target, overwrite=overwrite)
        finally:
            hidden.unlink(missing_ok=True)
    return target


def _name(hidden: Path, target: Path, *, overwrite: bool) -> None:
    if overwrite and not target.is_dir():
        # Another user's link in a shared folder would choose which file of the caller's is replaced.
        followed = target.is_symlink() and target.lstat().st_uid == os.geteuid()
        hidden.replace(target.resolve() if followed else target)
        return
    try:
        os.link(hidden, target)  # unlike a rename, it never replaces anything
    except FileExistsError:
        raise UsageError(f"{target.name} is there already", where=str(target), hint="--overwrite replaces it") from None
    except OSError as error:
        if error.errno not in LINKLESS:
            raise
        if os.path.lexists(target):
            raise UsageError(f"{target.name} is there already", where=str(target)) from None
        hidden.rename(target)


def _undelivered(error: OSError | UsageError, job: Job, results: Path, delivery: CopyOptions) -> BakeError:
    """Why a copy failed; the job itself is done."""
    where = error.where if isinstance(error, UsageError) else str(error.filename or delivery.folder or "")
    again = f"{command('run')} {job.id} --output DIR copies them"
    hint = f"the results are in {results}; {again}"
    if isinstance(error, UsageError):
        return UsageError(
            f"job {job.id} is done, but not copied: {error.what}", where=where, hint=f"{hint}, --overwrite over others"
        )
    why = "the disk is full" if files.disk_full(error) else str(error.strerror)
    return MissingError(f"job {job.id} is done, but not copied: {why}", where=where, hint=hint)
