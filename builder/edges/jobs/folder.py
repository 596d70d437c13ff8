"""A job's folder: its job.yaml, its events, its state, who holds it."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from builder.core.config.types import Config
from builder.core.jobs import job_file
from builder.core.jobs.job import Job
from builder.edges.system import files
from builder.errors import BakeError, ConfigError, InputError, MissingError, UsageError

NEW = ".new-"
"""A folder that is still being made; prepare removes those of dead processes."""


def folder(config: Config, job: Job) -> Path:
    """Where a job lives."""
    return config.jobs / job.id


def disk_error(error: OSError, place: Path) -> BakeError:
    """What went wrong with a disk, as the user meets it."""
    if files.disk_full(error):
        return MissingError("the disk is full", where=str(place), hint="free some space, then run again")
    if files.unwritable(error):
        return MissingError(
            f"the folder can't be written ({error.strerror})",
            where=str(place),
            hint="set BAKE_JOBS to a folder that can",
        )
    if isinstance(error, FileNotFoundError) and error.filename and place not in Path(error.filename).parents:
        return InputError("the recording disappeared", where=str(error.filename))
    return BakeError(f"{error.strerror}: {error.filename}", where=str(place))


def read(config: Config, place: Path) -> Job:
    """The job in a folder, if this project can have made it.

    A job's folder may come from anywhere, and what is in it decides what is run, written and deleted.

    Raises:
        UsageError: there is none.
        ConfigError: its file is broken, or it says what no job of this project says; or something there is a link.
    """
    wrong = _link_in(place)
    if wrong is None:
        job = parsed(place)
        wrong = job_file.stray(job, place.name, stages=config.stages, models=config.models)
    if wrong is not None:
        raise ConfigError(
            f"this is not a job of this project: {wrong}",
            where=str(place / "job.yaml"),
            hint="prepare the recording again; remove the folder by hand if it isn't yours",
        )
    return job


def parsed(place: Path) -> Job:
    path = place / "job.yaml"
    try:
        # Without waiting for a FIFO's writer, and no further than a job's file can be long.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as source:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise OSError("not a file")
            text = source.read(4 * job_file.MAX_TEXT + 1).decode()
        return job_file.from_yaml(text, str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("no job here", where=str(place), hint="jobs list shows all") from error


def _link_in(place: Path) -> str | None:
    """Which link stands where prepare makes none: the folder, its parts, the recordings."""
    try:
        parts = (place, *sorted(place.iterdir()), *sorted((place / "input").glob("*")))
    except OSError:
        return None  # there is no job to be read either
    return next((f"{part.name!r} is a link" for part in parts if part.is_symlink()), None)


def append_event(place: Path, event: str, **facts: Any) -> None:
    """Write the orchestrator's own line into events.jsonl; it has no stage."""
    line = json.dumps({"t": round(time.time(), 3), "event": event, **facts}, ensure_ascii=False).encode() + b"\n"
    handle = os.open(place / "events.jsonl", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        size = os.fstat(handle).st_size
        if size and os.pread(handle, 1, size - 1) != b"\n":
            line = b"\n" + line  # a line of a killed writer
        os.write(handle, line)
    finally:
        os.close(handle)


CANCEL = ".cancel"
"""File in a job's folder that asks whoever runs it to stop."""


def cancelled(place: Path) -> bool:
    """Whether somebody asked for the job to be stopped."""
    return (place / CANCEL).exists()


END = 15.0
"""Seconds that a job may take to stop: its stages get 5, and are killed then."""


def ask_to_stop(place: Path) -> bool:
    """Ask whoever runs a job to stop; whether anybody does."""
    if state(place) not in ("running", "queued"):
        return False
    (place / CANCEL).touch()
    return True


def wait_for_end(place: Path) -> None:
    """Wait until nobody runs a job.

    Raises:
        BakeError: it did not stop.
    """
    try:
        with files.locked(place / ".lock", timeout=END):
            (place / CANCEL).unlink(missing_ok=True)
    except TimeoutError as error:
        raise BakeError(f"job {place.name} did not stop within {END:.0f} s", hint="jobs list") from error


def log_lines(path: Path, offset: int, *, whole: bool) -> tuple[list[str], int]:
    """The lines of a log from a place on, and the place after them; what would steer a terminal is made visible.

    Args:
        whole: leave a line without an end for the next time.
    """
    try:
        with path.open("rb") as source:
            source.seek(offset)
            data = source.read()
    except OSError:
        return [], offset
    if whole:
        data = data[: data.rfind(b"\n") + 1]
    text = data.decode("utf-8", "replace")
    shown = [
        "".join(c if c.isprintable() or c == "\t" else f"\\x{ord(c):02x}" for c in line) for line in text.splitlines()
    ]
    return shown, offset + len(data)


@contextlib.contextmanager
def held(place: Path, *, timeout: float = 0.1) -> Iterator[None]:
    """Hold a job, so that nobody else runs or removes it.

    Raises:
        TimeoutError: somebody does.
    """
    with files.locked(place / ".lock", timeout=timeout):
        (place / CANCEL).unlink(missing_ok=True)  # meant for a run that has ended
        yield


def events(place: Path) -> Iterator[Mapping[str, Any]]:
    """The lines of events.jsonl that are whole."""
    try:
        lines = (place / "events.jsonl").read_bytes().splitlines()
    except OSError:
        return
    for line in lines:
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict):
                yield event


def state(place: Path) -> str:
    """What the lock and the last words of the orchestrator say."""
    last, alone = "prepared", False
    for event in events(place):
        if event.get("stage") is None:
            last, alone = STATES.get(str(event.get("event")), last), False
        else:
            alone = True
    if alone and last != "queued":  # docker compose up, without us; or we run it and have said no more yet
        last = "done" if _all_done(place) else "interrupted"
    try:
        with held(place, timeout=0):
            return "interrupted" if last == "queued" else last
    except TimeoutError:
        return "queued" if last == "queued" else "running"


def _all_done(place: Path) -> bool:
    """Whether every stage has left its manifest."""
    with contextlib.suppress(BakeError):
        return all((place / "work" / s.name / "manifest.json").is_file() for s in parsed(place).stages)
    return False


STATES = {
    "queue": "queued",
    "begin": "interrupted",
    "end": "done",
    "part": "part",
    "fail": "failed",
    "stop": "interrupted",
}
"""The orchestrator's events, and what a job that nobody runs is after each."""
