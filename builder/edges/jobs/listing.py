"""Jobs found by name, listed, removed."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.core.config.types import Config
from builder.core.jobs.job import Job, JobInput
from builder.edges.jobs.folder import NEW, disk_error, folder, held, read, state
from builder.edges.jobs.record import sound
from builder.errors import BakeError, UsageError, did_you_mean
from builder.receiver.jobs import places
from builder.receiver.jobs.untrusted import json_below, names_below, size_below

BROKEN = "broken"
"""The state of a job that can't be read."""

FINISHED = ("done", "partial")
"""States of a job that nobody resumes without a reason."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One line of ``jobs list``."""

    id: str
    state: str
    """prepared, queued, running, failed, interrupted, part (some stages were asked for, and are done),
    partial (an optional stage failed, and the others are done), done, or broken (it can't be read)."""
    created: str
    workflow: str
    inputs: tuple[str, ...]
    folder: Path
    problem: str = ""
    """Why it is broken."""


def find(config: Config, name: str) -> Job:
    """A job by id, by the beginning of its id when only one has it, or by its folder.

    Raises:
        UsageError: no job or several jobs have that name.
        ConfigError: it is not a job of this project.
    """
    ids = _ids(config)
    if name in ids:
        return read(config, config.jobs / name)
    if (Path(name) / "job.yaml").is_file() and Path(name).resolve().parent == config.jobs.resolve():
        return read(config, Path(name).resolve())
    fitting = [i for i in ids if name and i.startswith(name)]
    if len(fitting) == 1:
        return read(config, config.jobs / fitting[0])
    if fitting:
        raise UsageError(
            f'several jobs begin with "{name}"', expected=", ".join(fitting[:5]), hint="write more of the id"
        )
    raise UsageError(f'no job "{name}"', hint=did_you_mean(name, ids) or "jobs list shows all")


def newest(config: Config, *, begun: bool = False) -> Job | None:
    """The job that was prepared last.

    Args:
        begun: only those of which some stage has results; a mistyped command leaves a job without any.
    """
    for id_ in reversed(_ids(config)):
        job_folder = config.jobs / id_
        if begun and not any(_finished(job_folder, stage) for stage in names_below(job_folder, "work")):
            continue
        with contextlib.suppress(BakeError):
            return read(config, job_folder)
    return None


def _finished(job_folder: Path, stage: str) -> bool:
    return size_below(job_folder, f"work/{stage}/manifest.json") is not None


def _ids(config: Config) -> list[str]:
    """Names of the folders that are jobs, or look like jobs, oldest first."""
    from builder.core.jobs.job_file import ID

    names = names_below(config.jobs.resolve())  # the folder of jobs may be a link of the user's own
    return [n for n in names if ID.fullmatch(n) or (n[0] != "." and os.path.lexists(config.jobs / n / "job.yaml"))]


def transcript(job_folder: Path, entry: JobInput) -> tuple[Any, Path]:
    """What the subtitles stage wrote of a recording (None where it hasn't), and the file that says it."""
    whole = f"work/subtitles/{entry.id}.transcript.json"
    if size_below(job_folder, whole) is None:  # of a job from before this file was written
        whole = f"output/{entry.output}.json"
    return json_below(job_folder, whole), job_folder / whole


def is_id(name: str) -> bool:
    """Whether a word looks like a job's id (or the beginning of one) rather than a file."""
    return re.fullmatch(r"\d{8}(-[a-z0-9-]*)?", name) is not None


def listing(config: Config) -> tuple[Summary, ...]:
    """All jobs, newest first; those that can't be read, too."""
    return tuple(_summary(config, config.jobs / id_) for id_ in reversed(_ids(config)))


def _summary(config: Config, job_folder: Path) -> Summary:
    try:
        job = read(config, job_folder)
        return Summary(
            id=job.id,
            state=state(job_folder),
            created=job.created,
            workflow=job.workflow,
            inputs=tuple(i.name for i in job.inputs),
            folder=job_folder,
        )
    except (BakeError, OSError) as error:
        why = str(error.strerror or error) if isinstance(error, OSError) else error.what
        name = os.fsencode(job_folder.name).decode("utf-8", "replace")
        return Summary(id=name, state=BROKEN, created="", workflow="", inputs=(), folder=job_folder, problem=why)


def remove(config: Config, names: Sequence[str], *, dry_run: bool) -> list[tuple[Path, int]]:
    """Delete jobs, with what a killed run of them left on an engine: all of them, or none.

    Returns:
        Their folders, and the bytes they took.

    Raises:
        UsageError: no such job, or one is running: it is not disturbed.
        MissingError: an engine that may have containers of a job doesn't answer.
    """
    from builder.edges.jobs.hosts import compose

    job_folders = [
        folder(config, job) for job in {job.id: job for job in (find(config, name) for name in names)}.values()
    ]
    with contextlib.ExitStack() as locks:
        for job_folder in job_folders:
            try:
                locks.enter_context(held(job_folder))
            except TimeoutError as error:
                raise UsageError(
                    f"job {job_folder.name} is running", hint="wait for it, or stop it: jobs cancel"
                ) from error
        sizes = [_size(job_folder) for job_folder in job_folders]
        if not dry_run:
            for job_folder in job_folders:
                compose.clean(job_folder)
            for job_folder in job_folders:
                # Swept if we are killed half way.
                gone = job_folder.with_name(f"{NEW}{os.getpid()}-{secrets.token_hex(8)}")
                try:
                    job_folder.replace(gone)
                    places.remove_tree(gone)
                except OSError as error:
                    raise disk_error(error, job_folder) from error
    return list(zip(job_folders, sizes, strict=True))


def remove_sound(config: Config, names: Sequence[str], *, dry_run: bool) -> list[tuple[Path, int]]:
    """Delete what jobs heard: it is made of the recording again when a stage has to hear it.

    Args:
        names: jobs; none: all that are done and have some.

    Returns:
        Their folders, and the bytes that the sound took.

    Raises:
        UsageError: no such job, or one of ``names`` is running: it is not disturbed.
    """
    jobs = [find(config, name) for name in names] or [
        read(config, summary.folder) for summary in listing(config) if summary.state in FINISHED
    ]
    found = []
    for job_folder in dict.fromkeys(folder(config, job) for job in jobs):
        try:
            with held(job_folder):
                sizes = sound.sizes(job_folder)
                if not dry_run:
                    sound.remove(job_folder)
        except TimeoutError as error:
            if names:
                raise UsageError(
                    f"job {job_folder.name} is running", hint="wait for it, or stop it: jobs cancel"
                ) from error
            continue
        except OSError as error:
            raise disk_error(error, job_folder) from error
        if names or sizes:
            found.append((job_folder, sum(sizes.values())))
    return found


def _size(job_folder: Path) -> int:
    """Bytes that a job takes for itself: a recording may be a hard link. What goes away meanwhile doesn't count."""
    total, waiting = 0, [job_folder]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:  # too deep a path can't be opened
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
                    continue
                status = entry.stat(follow_symlinks=False)
                total += status.st_size if stat.S_ISREG(status.st_mode) and status.st_nlink == 1 else 0
    return total
