"""A job's folder: its job.yaml, its events, its state, who holds it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from builder.core.config.types import Config
from builder.core.jobs.job import Job
from builder.core.jobs.record.events import parsed_lines
from builder.core.text import visible
from builder.edges.system import files, permissions
from builder.errors import BakeError, ConfigError, InputError, MissingError, UsageError
from builder.receiver.jobs import places
from builder.receiver.jobs.untrusted import append_below, open_below, read_below, size_below, slice_below

MARK = ".containers"
"""File in a job's folder while it may have containers that our run made: the address of their engine."""

NEW = ".new-"
"""A folder that is still being made; prepare removes those of dead processes."""


def folder(config: Config, job: Job) -> Path:
    """Where a job lives."""
    return config.jobs / job.id


def result_mode(job: Job, job_folder: Path) -> int:
    """The mode of a file with what a job's recordings say, for a place of the caller's choice."""
    recordings = [job_folder / entry.path for entry in job.inputs]
    return places.file_mode(0o644, places.readers(recordings, group=-1, above=False))


def disk_error(error: OSError, job_folder: Path) -> BakeError:
    """What went wrong with a disk, as the user meets it."""
    if files.disk_full(error):
        return MissingError("the disk is full", where=str(job_folder), hint="free some space, then run again")
    if files.unwritable(error):
        return MissingError(
            f"the folder can't be written ({error.strerror})",
            where=str(job_folder),
            hint="set BAKE_JOBS to a folder that can",
        )
    if error.filename and Path(os.fsdecode(error.filename)) in (job_folder, *job_folder.parents):
        return MissingError(
            f"the folder can't be used ({error.strerror})",
            where=str(job_folder),
            hint="set BAKE_JOBS to another folder",
        )
    if isinstance(error, FileNotFoundError) and error.filename and job_folder not in Path(error.filename).parents:
        return InputError("the recording disappeared", where=str(error.filename))
    return BakeError(f"{error.strerror}: {error.filename}", where=str(job_folder))


def read(config: Config, job_folder: Path) -> Job:
    """The job in a folder, if this project can have made it.

    A job's folder may come from anywhere, and what is in it decides what is run, written and deleted. One that whoever
    can't read its recordings could look into is closed to them.

    Raises:
        UsageError: the folder has no job.
        ConfigError: its file is broken, says what prepare never writes, somebody else owns it, or a part of the folder is
            not what prepare makes.
    """
    from builder.core.jobs import job_file

    wrong = _odd_part(job_folder)
    if wrong is None:
        job = parsed(job_folder)
        wrong = job_file.stray(job, job_folder.name, stages=config.stages, models=config.models, pins=config.pins)
        if wrong is None:
            with contextlib.suppress(OSError):  # a disk without modes, or one that can't be written
                permissions.close(job_folder, [job_folder / entry.path for entry in job.inputs])
    if wrong is not None:
        raise ConfigError(
            f"this is not a job of this project: {wrong}",
            where=str(job_folder / "job.yaml"),
            hint="prepare the recording again; remove the folder by hand if it isn't yours",
        )
    return job


def parsed(job_folder: Path) -> Job:
    """The job in a folder, as its file says.

    Raises:
        UsageError: the folder has no job.
        ConfigError: its file is broken.
    """
    from builder.core.jobs import job_file

    data = read_below(job_folder, "job.yaml", 4 * job_file.MAX_TEXT)
    try:
        if data is None:
            raise UsageError("no job here", where=str(job_folder), hint="jobs list shows all")
        return job_file.from_yaml(data.decode(), str(job_folder / "job.yaml"))
    except UnicodeDecodeError as error:
        raise ConfigError("job.yaml is not text in UTF-8", where=str(job_folder / "job.yaml")) from error


FOLDERS = ("input", "work", "output", "logs", "edits", ".scratch")
"""Parts of a job's folder that are folders."""


def _odd_part(job_folder: Path) -> str | None:
    """Why a folder can't be one of the caller's jobs, as far as the kinds of its files tell; None when it can.

    Containers write below ``work`` and ``output``: what is there counts for nothing here.
    """
    try:
        if not stat.S_ISDIR(job_folder.lstat().st_mode):
            return f"{job_folder.name!r} is {_kind(job_folder.lstat())}"
        for part in (job_folder, job_folder / "job.yaml"):
            if permissions.foreign(part):
                return f"{part.name!r} belongs to user {part.lstat().st_uid}"
        for part in sorted(job_folder.iterdir()):
            if odd := _odd(part, folder=part.name in FOLDERS):
                return odd
        for name in ("input", "logs", "edits"):
            inside = sorted((job_folder / name).iterdir()) if (job_folder / name).is_dir() else ()
            for part in inside:
                if odd := _odd(part, folder=False, linked=name == "input"):
                    return odd
    except OSError:
        return None  # reading the job fails too, and says so
    return None


def _odd(part: Path, *, folder: bool, linked: bool = False) -> str | None:
    """Why a part of a job can't be what prepare or a run made.

    Args:
        folder: it is to be a folder, else a file.
        linked: it may have another name: a recording is a hard link to the caller's own file.
    """
    status = part.lstat()
    if not (stat.S_ISDIR if folder else stat.S_ISREG)(status.st_mode):
        return f"{part.name!r} is {_kind(status)}"
    if not folder and not linked and status.st_nlink > 1:
        return f"{part.name!r} is a hard link: it has another name somewhere"
    return None


def _kind(status: os.stat_result) -> str:
    for kind, name in ((stat.S_ISLNK, "a link"), (stat.S_ISDIR, "a folder"), (stat.S_ISREG, "a file")):
        if kind(status.st_mode):
            return name
    return "neither a file nor a folder"


EVENTS = "events.jsonl"
"""File in a job's folder to which the orchestrator and stages append."""

LONGEST_FACT = 2000
"""Characters of a text in an event."""

FIRST_EVENTS, LAST_EVENTS = 4 << 20, 12 << 20
"""Bytes of events that are read, of their beginning and of their end; a stage writes at most 4 MiB in a run."""


def append_event(job_folder: Path, event: str, **facts: Any) -> None:
    """Write the orchestrator's own line into events.jsonl; it has no stage."""
    facts = {name: fact[:LONGEST_FACT] if isinstance(fact, str) else fact for name, fact in facts.items()}
    text = json.dumps({"t": round(time.time(), 3), "event": event, **facts}, ensure_ascii=False)
    line = text.encode("utf-8", "replace") + b"\n"
    handle = append_below(job_folder, EVENTS)
    try:
        size = os.fstat(handle).st_size
        if size and os.pread(handle, 1, size - 1) != b"\n":
            line = b"\n" + line  # a line of a killed writer
        os.write(handle, line)
    finally:
        os.close(handle)


CANCEL = ".cancel"
"""File in a job's folder that asks whoever runs it to stop."""


def cancelled(job_folder: Path) -> bool:
    """Whether the job was asked to stop."""
    return (job_folder / CANCEL).exists()


END = 15.0
"""Seconds that a job may take to stop: its stages get 5, and are killed then."""


def ask_to_stop(job_folder: Path) -> bool:
    """Ask whoever runs a job to stop; whether it was running or queued."""
    if state(job_folder) not in ("running", "queued"):
        return False
    (job_folder / CANCEL).touch()
    return True


def wait_for_end(job_folder: Path) -> None:
    """Wait until nobody runs a job.

    Raises:
        BakeError: it did not stop within :data:`END` seconds.
    """
    try:
        with files.locked(job_folder / ".lock", timeout=END):
            (job_folder / CANCEL).unlink(missing_ok=True)
    except TimeoutError as error:
        raise BakeError(f"job {job_folder.name} did not stop within {END:.0f} s", hint="jobs list") from error


LOG_AT_ONCE = 1 << 20
"""Bytes of a log that are read at once; a longer line comes in pieces."""


LOG_SHOWN = 1 << 20
"""Bytes of the end of a log that are shown: ten thousand lines."""


def log_begin(job_folder: Path, stage: str) -> int:
    """The byte of a stage's log from which it is shown."""
    return max(0, (size_below(job_folder, f"logs/{stage}.log") or 0) - LOG_SHOWN)


def log_lines(job_folder: Path, stage: str, offset: int, *, whole: bool) -> tuple[list[str], int]:
    """The next lines of a stage's log from a byte on, and the byte after them; what would steer a terminal is made visible.

    Args:
        whole: leave a line without an end for the next time.

    Returns:
        No lines, and the same byte, after the last of them.
    """
    data = slice_below(job_folder, f"logs/{stage}.log", offset, LOG_AT_ONCE)
    if whole or len(data) == LOG_AT_ONCE:
        end = data.rfind(b"\n") + 1
        data = data[:end] if end or len(data) < LOG_AT_ONCE else data
    text = data.decode("utf-8", "replace")
    return [visible(line) for line in text.splitlines()], offset + len(data)


@contextlib.contextmanager
def held(job_folder: Path, *, timeout: float = 0.1) -> Iterator[None]:
    """Hold a job, so that nobody else runs or removes it.

    Args:
        timeout: seconds to wait for it.

    Raises:
        TimeoutError: another process holds it, or its stages run without us: ``docker compose up`` in its folder.
    """
    with files.locked(job_folder / ".lock", timeout=timeout):
        # With the mark, what runs is what a killed run of ours left: whoever holds the job ends it first.
        if not (job_folder / MARK).exists() and _stages_run(job_folder):
            raise TimeoutError(str(job_folder))
        (job_folder / CANCEL).unlink(missing_ok=True)  # meant for a run that has ended
        yield


def _stages_run(job_folder: Path) -> bool:
    """Whether a stage works on the job now: each holds its events for as long as it lives (stages/contract.py)."""
    try:
        with open_below(job_folder, EVENTS) as source:
            fcntl.flock(source, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no such file, or a file system without locks
        return False
    return False


def events(job_folder: Path) -> Iterator[Mapping[str, Any]]:
    """What the lines of events.jsonl say; containers write there, too. Of a long file the middle is left out."""
    rest = max(FIRST_EVENTS, (size_below(job_folder, EVENTS) or 0) - LAST_EVENTS)
    first, last = slice_below(job_folder, EVENTS, 0, FIRST_EVENTS), slice_below(job_folder, EVENTS, rest, LAST_EVENTS)
    return parsed_lines(first + (b"" if rest == FIRST_EVENTS else b"\n") + last)


def state(job_folder: Path) -> str:
    """What the lock and the last words of the orchestrator say."""
    last, alone = "prepared", False
    for event in events(job_folder):
        if event.get("stage") is None:
            last, alone = STATES.get(str(event.get("event")), last), False
            if event.get("without"):
                last = "partial"
        else:
            alone = True
    if alone and last != "queued":  # docker compose up, without us; or we run it and have said no more yet
        last = _without_us(job_folder)
    try:
        with held(job_folder, timeout=0):
            return "interrupted" if last == "queued" else last
    except TimeoutError:
        return "queued" if last == "queued" else "running"


def failed_before(job_folder: Path) -> set[str]:
    """Names of the stages that failed at some time, by the orchestrator's words or their own."""
    failed: set[str] = set()
    for event in events(job_folder):
        if event.get("event") == "failed":
            failed.add(str(event.get("stage")))
        elif event.get("stage") is None and isinstance(names := event.get("without"), list):
            failed.update(map(str, names))
    return failed


def _without_us(job_folder: Path) -> str:
    """The state of a job that nobody watched, by the manifests that its stages left."""
    with contextlib.suppress(BakeError):
        stages = parsed(job_folder).stages
        open_ = [s for s in stages if size_below(job_folder, f"work/{s.name}/manifest.json") is None]
        if all(stage.optional for stage in open_):
            return "partial" if open_ else "done"
    return "interrupted"


STATES = {
    "queue": "queued",
    "begin": "interrupted",
    "end": "done",
    "part": "part",
    "fail": "failed",
    "stop": "interrupted",
}
"""The orchestrator's events, and what a job that nobody runs is after each."""
