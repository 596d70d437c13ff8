"""Job folders: prepared whole or not at all, found, listed, removed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from builder.core.config.types import Config
from builder.core.jobs import job as spec
from builder.core.jobs.job import Job, JobInput, Request
from builder.core.progress import Progress, Report
from builder.core.terms import Workflow
from builder.core.weights.catalog import model_digest
from builder.edges.system import files, shell
from builder.errors import BakeError, ConfigError, InputError, MissingError, UsageError, did_you_mean

NEW = ".new-"
"""A folder that is still being made; prepare removes those of dead processes."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One line of ``jobs list``."""

    id: str
    state: str
    """prepared, queued, running, failed, interrupted, part (some stages were asked for, and are done) or done."""
    created: str
    workflow: str
    inputs: tuple[str, ...]
    folder: Path


Media = Callable[[Sequence[str], Path, "Path | None"], shell.Done]
"""Runs stages/demux/clip.py: its options, the recording, and where a cut goes."""


def folder(config: Config, job: Job) -> Path:
    """Where a job lives."""
    return config.jobs / job.id


def prepare(
    config: Config, inputs: Sequence[Path], request: Request, *, media: Media, report: Report, resume: bool = False
) -> Job:
    """Make a job of recordings.

    Args:
        media: looks into the media files and cuts clips.
        resume: return an unfinished job of the same recordings and settings instead of making a second one.

    Raises:
        InputError: a recording is not there, empty, not media, without sound.
        MissingError: the disk is full, or the folder can't be written.
    """
    sources = [_source(path) for path in inputs]
    found = [_tool(media, ["--probe"], path) for path in sources]
    workflow = request.workflow or (Workflow.SUBTITLE if any(f["video"] for f in found) else Workflow.TRANSCRIBE)
    try:
        config.jobs.mkdir(parents=True, exist_ok=True)
        _sweep(config.jobs)
        lengths = [f.get("duration") for f in found]
        return _make(config, sources, lengths, request, workflow, media=media, report=report, resume=resume)
    except OSError as error:
        raise disk_error(error, config.jobs) from error


def _make(
    config: Config,
    sources: Sequence[Path],
    lengths: Sequence[float | None],
    request: Request,
    workflow: Workflow,
    *,
    media: Media,
    report: Report,
    resume: bool,
) -> Job:
    taken: set[str] = set()
    described = [
        JobInput(
            id=f"{number:02}",
            name=_readable(path.name),
            path=f"input/{number:02}{spec.input_suffix(path.name)}",
            sha256=_hash(path, report),
            size=path.stat().st_size,
            output=spec.output_stem(path.name, taken),
            clip=request.clip,
            duration=length,
        )
        for number, (path, length) in enumerate(zip(sources, lengths, strict=True), 1)
    ]
    note = {
        purpose.value: {"id": model.id, "digest": model_digest(pin), "revision": pin.revision}
        for purpose, (model, pin) in request.models.items()
    }
    stages = spec.plan_stages(config.stages, request, workflow=workflow, models_note=note)
    key = spec.request_key(described, stages, workflow.value)
    if resume:
        for known in listing(config):
            if known.state != "done" and (job := read(config, known.folder)).key == key:
                return job
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    job_id = spec.job_id(created, sources[0].name, secrets.token_hex(2))
    place = config.jobs / f"{NEW}{os.getpid()}-{job_id}"
    try:
        for part in ("input", "work", "output", "logs"):
            (place / part).mkdir(parents=True)
        kept = []
        for path, entry in zip(sources, described, strict=True):
            target = place / entry.path
            if entry.clip is not None:
                cut = spec.Clip(**_cut(media, path, target, entry.clip))
                end = cut.end or entry.duration
                length = None if end is None else max(0.0, end - cut.start + cut.lead)
                entry = replace(entry, clip=cut, duration=length)
            else:
                _link_or_copy(path, target, report)
            kept.append(replace(entry, size=target.stat().st_size))
        job = Job(
            id=job_id,
            created=created,
            workflow=workflow.value,
            variant=request.variant,
            preset=request.preset,
            key=key,
            inputs=tuple(kept),
            stages=stages,
        )
        files.write_atomic(place / "job.yaml", spec.to_yaml(job))
        place.replace(config.jobs / job_id)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    return job


def _readable(name: str) -> str:
    """A file's name as text; bytes that are no UTF-8 become question marks."""
    return name.encode("utf-8", "replace").decode()


def _source(path: Path) -> Path:
    """The recording behind a path, checked as far as the file system can tell."""
    try:
        real = path.expanduser().resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise InputError("no such file", where=str(path), hint="check the path") from error
    if real.is_dir():
        raise InputError("this is a folder", where=str(path), hint="name the recordings in it")
    if not real.is_file():
        raise InputError("this is no regular file", where=str(path))
    if real.stat().st_size == 0:
        raise InputError("the file is empty (zero bytes)", where=str(path))
    if not os.access(real, os.R_OK):
        raise InputError("the file can't be read", where=str(path), hint="check its permissions")
    return real


def _tool(media: Media, options: Sequence[str], path: Path, target: Path | None = None) -> Any:
    """Run stages/demux/clip.py and read its answer."""
    done = media(options, path, target)
    if done.code == 2:
        raise InputError(done.err.strip().splitlines()[-1] if done.err.strip() else "it can't be used", where=str(path))
    if done.code != 0:
        raise BakeError("the recording could not be looked into", where=str(path), detail=done.err.splitlines()[-5:])
    return json.loads(done.out)


def _cut(media: Media, path: Path, target: Path, clip: spec.Clip) -> Any:
    options = ["--start", str(clip.start)] + (["--end", str(clip.end)] if clip.end is not None else [])
    return _tool(media, options, path, target)


def _hash(path: Path, report: Report) -> str:
    """sha256 of a recording; a gigabyte a second, so a bar only for large ones."""
    import hashlib

    size, done, digest = path.stat().st_size, 0, hashlib.sha256()
    with path.open("rb") as source:
        while chunk := source.read(files.CHUNK):
            digest.update(chunk)
            done += len(chunk)
            if size > 1 << 30:
                report(
                    Progress(what=f"reading {path.name}", done=done, total=size, unit="bytes", finished=done == size)
                )
    return digest.hexdigest()


def _link_or_copy(source: Path, target: Path, report: Report) -> None:
    """A hard link takes no space and no time; a copy where the file system has none to give."""
    try:
        os.link(source, target)
        return
    except OSError:
        pass
    size = source.stat().st_size
    free = shutil.disk_usage(target.parent).free
    if free < size + (1 << 20):
        raise MissingError(
            f"the disk has {free / 1e6:.0f} MB free, the recording has {size / 1e6:.0f} MB",
            where=str(target.parent),
            hint="free some space, or set BAKE_JOBS to a folder on another disk",
        )
    done = 0
    with source.open("rb") as inside, target.open("wb") as outside:
        while chunk := inside.read(files.CHUNK):
            outside.write(chunk)
            done += len(chunk)
            if size > 256 << 20:
                report(
                    Progress(what=f"copying {source.name}", done=done, total=size, unit="bytes", finished=done == size)
                )


def _sweep(jobs: Path) -> None:
    """Remove what a killed prepare left."""
    for place in jobs.glob(f"{NEW}*"):
        pid = place.name.removeprefix(NEW).split("-", 1)[0]
        if pid.isdigit() and not _alive(int(pid)):
            shutil.rmtree(place, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def disk_error(error: OSError, place: Path) -> BakeError:
    """What went wrong with a disk, as the user meets it."""
    if error.errno in (28, 122):
        return MissingError("the disk is full", where=str(place), hint="free some space, then run again")
    if error.errno in (1, 13, 30):
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
        job = _parsed(place)
        wrong = spec.stray(job, place.name, stages=config.stages, models=config.models)
    if wrong is not None:
        raise ConfigError(
            f"this is not a job of this project: {wrong}",
            where=str(place / "job.yaml"),
            hint="prepare the recording again; remove the folder by hand if it isn't yours",
        )
    return job


def _parsed(place: Path) -> Job:
    path = place / "job.yaml"
    try:
        # Without waiting for a FIFO's writer, and no further than a job's file can be long.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as source:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise OSError("not a file")
            text = source.read(4 * spec.MAX_TEXT + 1).decode()
        return spec.from_yaml(text, str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("no job here", where=str(place), hint="jobs list shows all") from error


def _link_in(place: Path) -> str | None:
    """Which link stands where prepare makes none: the folder, its parts, the recordings."""
    try:
        parts = (place, *sorted(place.iterdir()), *sorted((place / "input").glob("*")))
    except OSError:
        return None  # there is no job to be read either
    return next((f"{part.name!r} is a link" for part in parts if part.is_symlink()), None)


def find(config: Config, name: str) -> Job:
    """A job by id, by the beginning of its id when only one has it, or by its folder.

    Raises:
        UsageError: none, or several; or it is not a job of this project.
    """
    ids = [p.parent.name for p in sorted(config.jobs.glob("*/job.yaml"))]
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


def newest(config: Config) -> Job | None:
    """The job that was prepared last."""
    for path in sorted(config.jobs.glob("*/job.yaml"), reverse=True):
        with contextlib.suppress(BakeError):
            return read(config, path.parent)
    return None


def is_id(name: str) -> bool:
    """Whether a word looks like a job's id (or the beginning of one) rather than a file."""
    return re.fullmatch(r"\d{8}(-[a-z0-9-]*)?", name) is not None


def listing(config: Config) -> tuple[Summary, ...]:
    """All jobs, newest first."""
    found = []
    for path in sorted(config.jobs.glob("*/job.yaml"), reverse=True):
        with contextlib.suppress(BakeError):
            job = read(config, path.parent)
            found.append(
                Summary(
                    id=job.id,
                    state=state(path.parent),
                    created=job.created,
                    workflow=job.workflow,
                    inputs=tuple(i.name for i in job.inputs),
                    folder=path.parent,
                )
            )
    return tuple(found)


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
        return all((place / "work" / s.name / "manifest.json").is_file() for s in _parsed(place).stages)
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


def say(place: Path, event: str, **more: Any) -> None:
    """The orchestrator's own line in events.jsonl; it has no stage."""
    line = json.dumps({"t": round(time.time(), 3), "event": event, **more}, ensure_ascii=False).encode() + b"\n"
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


def remove(config: Config, names: Sequence[str], *, dry_run: bool) -> list[tuple[Path, int]]:
    """Delete jobs, with what a killed run of them left on an engine: all of them, or none.

    Returns:
        Their folders, and the bytes they took.

    Raises:
        UsageError: no such job, or one is running: it goes on undisturbed.
        MissingError: an engine that may have containers of a job doesn't answer.
    """
    from builder.edges.jobs.hosts import compose

    places = [folder(config, job) for job in {job.id: job for job in (find(config, name) for name in names)}.values()]
    with contextlib.ExitStack() as locks:
        for place in places:
            try:
                locks.enter_context(held(place))
            except TimeoutError as error:
                raise UsageError(f"job {place.name} is running", hint="wait for it, or stop it: jobs cancel") from error
        sizes = [sum(p.lstat().st_size for p in place.rglob("*") if _own(p)) for place in places]
        if not dry_run:
            for place in places:
                compose.clean(place)
            for place in places:
                gone = place.with_name(f"{NEW}{os.getpid()}-{place.name}")  # swept if we are killed half way
                place.replace(gone)
                shutil.rmtree(gone)
    return list(zip(places, sizes, strict=True))


def _own(path: Path) -> bool:
    """Whether a path is a file that takes room of its own: a recording may be a hard link."""
    found = path.lstat()
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1
