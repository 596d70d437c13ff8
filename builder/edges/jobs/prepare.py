"""A job made from recordings: whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from builder.core import glossary
from builder.core.config.types import Config
from builder.core.jobs import job as spec
from builder.core.jobs import job_file
from builder.core.jobs.job import Job, JobInput, JobStage
from builder.core.jobs.request import Request, plan_stages, request_key
from builder.core.metadata import about
from builder.core.progress import OnProgress, Progress
from builder.core.terms import Workflow
from builder.core.voices import cast
from builder.core.voices import known as voices
from builder.edges.jobs.folder import NEW, disk_error, read
from builder.edges.jobs.listing import BROKEN, listing
from builder.edges.machine import fonts
from builder.edges.system import files, shell
from builder.errors import BakeError, InputError
from builder.receiver.jobs import naming, places
from builder.receiver.jobs.untrusted import parse_json

Media = Callable[[Sequence[str], Path, "Path | None"], shell.Done]
"""Runs stages/demux/clip.py: its options, the recording, and where a cut goes."""


KILLED = (-9, 137)
"""Exit codes of a look that was ended from outside: its time was up, or the kernel took it for its memory."""


def prepare(
    config: Config,
    inputs: Sequence[Path],
    request: Request,
    *,
    media: Media,
    on_progress: OnProgress,
    resume: bool = False,
    done_too: bool = False,
    accept: Callable[[Sequence[JobStage]], None] = lambda _: None,
) -> Job:
    """Make a job of recordings.

    Args:
        media: probes the recordings and cuts clips.
        resume: return an unfinished job of the same recordings and settings instead of making a second one.
        done_too: with ``resume``: also one that is done.
        accept: raises what speaks against a new job of these stages, before anything of it is written.

    Raises:
        InputError: a recording is missing, empty, not media, or has no sound.
        MissingError: the disk is full, or the folder can't be written.
    """
    sources = [_source(path) for path in inputs]
    probes = [_probe(media, path) for path in sources]
    film = Workflow.TRANSLATE if request.languages else Workflow.SUBTITLE
    workflow = request.workflow or (film if any(video for video, _ in probes) else Workflow.TRANSCRIBE)
    try:
        config.jobs.mkdir(parents=True, exist_ok=True)
        _sweep(config.jobs)
        lengths = [length for _, length in probes]
        return _make(
            config,
            sources,
            lengths,
            request,
            workflow,
            media=media,
            on_progress=on_progress,
            resume=resume,
            done_too=done_too,
            accept=accept,
        )
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
    on_progress: OnProgress,
    resume: bool,
    done_too: bool,
    accept: Callable[[Sequence[JobStage]], None],
) -> Job:
    taken: set[str] = set()
    before = [_identity(path) for path in sources]
    described = [
        JobInput(
            id=f"{number:02}",
            name=_readable(path.name),
            path=f"input/{number:02}{naming.input_suffix(path.name)}",
            sha256=_hash(path, on_progress),
            size=path.stat().st_size,
            output=naming.output_stem(path.name, taken),
            clip=request.clip,
            duration=length,
        )
        for number, (path, length) in enumerate(zip(sources, lengths, strict=True), 1)
    ]
    stages = plan_stages(config.stages, request, workflow=workflow)
    key = request_key(described, stages, workflow.value)
    passed = (BROKEN,) if done_too else ("done", BROKEN)
    if resume and (known := _known(config, key, described, sources, media=media, passed=passed)):
        return known
    accept(stages)
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    job_id = naming.job_id(created, sources[0].name, secrets.token_hex(2))
    new_folder = config.jobs / f"{NEW}{os.getpid()}-{job_id}"
    try:
        new_folder.mkdir(mode=0o700)  # nobody looks in before it is known who may
        for part in ("input", "work", "output", "logs"):
            (new_folder / part).mkdir()
        usual = stat.S_IMODE((new_folder / "work").stat().st_mode)
        bits = places.readers(sources, new_folder.stat().st_gid)
        kept = []
        for path, known_as, entry in zip(sources, before, described, strict=True):
            target = new_folder / entry.path
            if entry.clip is not None:
                cut = _cut(media, path, target, entry.clip)
                if _identity(path) != known_as and files.sha256(path) != entry.sha256:
                    raise _changing(path)
                end = cut.end or entry.duration
                length = None if end is None else max(0.0, end - cut.start + cut.lead)
                entry = replace(entry, clip=cut, duration=length)
                target.chmod(places.file_mode(0o644, bits))
            else:
                _link_or_copy(path, target, entry.sha256, bits, on_progress)
            kept.append(replace(entry, size=target.stat().st_size))
        put_beside(new_folder, stages, request)
        job = Job(
            id=job_id,
            created=created,
            workflow=workflow.value,
            mode=config.defaults.mode.value,
            variant=request.variant,
            preset=request.preset,
            key=key,
            inputs=tuple(kept),
            stages=stages,
        )
        files.write_atomic(new_folder / "job.yaml", job_file.to_yaml(job))
        with contextlib.suppress(PermissionError):  # a FAT stick has no modes
            new_folder.chmod(places.folder_mode(usual, bits))
        new_folder.replace(config.jobs / job_id)
    except BaseException:
        places.remove_if_there(new_folder)
        raise
    return job


def put_beside(new_folder: Path, stages: Sequence[JobStage], request: Request) -> None:
    """What stages read besides recordings: fonts, the voices of people, terms, what is known of them.

    Args:
        new_folder: a job's folder; it all goes into its ``input``, which is there.
    """
    if any(stage.settings.get("burn") for stage in stages):
        fonts.put(new_folder / "input")
    if any(stage.settings.get(voices.SETTING) for stage in stages):
        files.write_atomic(new_folder / voices.FILE, request.voices, mode=0o600)
    if request.cast:
        files.write_atomic(new_folder / cast.FILE, request.cast)
    if request.about:
        files.write_atomic(new_folder / about.FILE, request.about)
    if any(stage.settings.get(glossary.SETTING) for stage in stages):
        files.write_atomic(new_folder / glossary.FILE, request.glossary)


def _known(
    config: Config,
    key: str,
    described: Sequence[JobInput],
    sources: Sequence[Path],
    *,
    media: Media,
    passed: Sequence[str],
) -> Job | None:
    """An earlier job of these recordings and settings.

    Its key is what a file says. So it is made again of what would be done, and the recordings are compared.

    Args:
        passed: states of jobs that don't count.
    """
    for listed in listing(config):
        if listed.state in passed:
            continue
        try:
            job = read(config, listed.folder)
        except (BakeError, OSError):  # a broken row of the list, or removed meanwhile
            continue
        asked = [replace(entry, clip=one.clip) for entry, one in zip(job.inputs, described, strict=False)]
        if job.key != key or request_key(asked, job.stages, job.workflow) != key or len(asked) != len(described):
            continue
        if all(
            _same_recording(listed.folder, entry, source, one, media=media)
            for entry, source, one in zip(job.inputs, sources, described, strict=True)
        ):
            return job
    return None


def _same_recording(job_folder: Path, entry: JobInput, source: Path, wanted: JobInput, *, media: Media) -> bool:
    """Whether a job has what would be put there now: the recording itself, or the same cut of it."""
    inside = job_folder / entry.path
    with contextlib.suppress(OSError):
        if wanted.clip is None:
            return inside.samefile(source) or files.sha256(inside) == wanted.sha256
        with tempfile.TemporaryDirectory(prefix=f"{NEW}{os.getpid()}-", dir=job_folder.parent) as folder:
            again = Path(folder) / inside.name
            cut = _cut(media, source, again, wanted.clip)
            return cut == entry.clip and files.sha256(again) == files.sha256(inside)
    return False


def _readable(name: str) -> str:
    """A file's name as text; bytes that are not UTF-8 become question marks."""
    return name.encode("utf-8", "replace").decode()


def _source(path: Path) -> Path:
    """The recording behind a path, checked as far as the file system can tell."""
    try:
        real = files.expanded(path).resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise InputError("no such file", where=str(path), hint="check the path") from error
    if real.is_dir():
        raise InputError("this is a folder", where=str(path), hint="name the recordings in it")
    if not real.is_file():
        raise InputError("this is not a regular file", where=str(path))
    if real.stat().st_size == 0:
        raise InputError("the file is empty (zero bytes)", where=str(path))
    if not os.access(real, os.R_OK):
        raise InputError("the file can't be read", where=str(path), hint="check its permissions")
    return real


def look(media: Media, path: Path) -> dict[str, Any]:
    """What stages/demux/clip.py says of a recording, which may say anything.

    Raises:
        InputError: it is missing, not media, or has no sound.
    """
    return _tool(media, ["--probe"], _source(path))


TOO_MUCH = "it takes more time or memory to read than a recording may"
"""What is said of a recording whose look was ended from outside; another time it may be read."""


def length(media: Media, path: Path) -> float | None:
    """Seconds of a recording by its header; None: it doesn't say.

    Raises:
        InputError: it is not media, or has no sound.
        BakeError: the look itself failed.
    """
    return _probe(media, path)[1]


def _probe(media: Media, path: Path) -> tuple[bool, float | None]:
    """Whether a recording has moving pictures, and its seconds if its header tells."""
    answer = _tool(media, ["--probe"], path)
    return bool(answer.get("video")), _seconds(answer.get("duration"))


def _seconds(value: object) -> float | None:
    """A time of :func:`_tool`; a recording may have taken it over, and its answer is anything."""
    known = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= job_file.LONGEST
    return float(value) if known else None  # type: ignore[arg-type]


def _tool(media: Media, options: Sequence[str], path: Path, target: Path | None = None) -> dict[str, Any]:
    """Run stages/demux/clip.py and read its answer, as far as it is an object."""
    done = media(options, path, target)
    if done.code == 2:
        raise InputError(done.err.strip().splitlines()[-1] if done.err.strip() else "it can't be used", where=str(path))
    if done.code in KILLED:
        raise InputError(TOO_MUCH, where=str(path))
    if done.code != 0:
        raise BakeError("the recording could not be read", where=str(path), detail=done.err.splitlines()[-5:])
    with contextlib.suppress(ValueError):
        answer = parse_json(done.out.encode())
        if isinstance(answer, dict):
            return answer
    raise InputError("nothing is known of the recording", where=str(path), hint="check the recording")


def _cut(media: Media, path: Path, target: Path, clip: spec.Clip) -> spec.Clip:
    """Cut a recording; where the cut begins and ends."""
    options = ["--start", str(clip.start)] + (["--end", str(clip.end)] if clip.end is not None else [])
    answer = _tool(media, options, path, target)
    start, lead = _seconds(answer.get("start")), _seconds(answer.get("lead", 0.0))
    if start is None or lead is None or not target.is_file() or target.is_symlink():
        raise InputError("no cut came out of the recording", where=str(path), hint="check the recording")
    return spec.Clip(start=start, end=_seconds(answer.get("end")), lead=lead, sha256=files.sha256(target))


def _hash(path: Path, on_progress: OnProgress) -> str:
    """sha256 of a recording; a gigabyte a second, so a bar only for large ones."""
    return files.sha256(path, _counted(f"reading {path.name}", path.stat().st_size, 1 << 30, on_progress))


def _identity(path: Path) -> tuple[int, ...]:
    """What is different when a file's bytes may be."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _changing(path: Path) -> InputError:
    return InputError("the recording changes while it is read", where=str(path), hint="wait until it is whole")


def _link_or_copy(source: Path, target: Path, sha256: str, bits: int, on_progress: OnProgress) -> None:
    """A hard link takes no space and no time; a copy where the file system has none to give.

    Args:
        sha256: of the recording; stages compare what they read with it, and a copy is compared here.
        bits: who may read a copy (:func:`builder.receiver.jobs.places.readers`).
    """
    try:
        os.link(source, target)
        return
    except OSError:
        pass
    size = source.stat().st_size
    files.require_room({target.parent: size}, "set BAKE_JOBS to a folder on another disk", reserve=1 << 20)
    tell = _counted(f"copying {source.name}", size, 256 << 20, on_progress)
    if files.copy_hashed(files.chunks(source), target, tell) != sha256:
        raise _changing(source)
    with contextlib.suppress(PermissionError):  # a FAT stick has no modes
        target.chmod(places.file_mode(0o644, bits))


def _counted(what: str, size: int, large: int, on_progress: OnProgress) -> Callable[[int], None]:
    """Progress of a file's bytes, for files of more than ``large``."""

    def tell(done: int) -> None:
        if size > large:
            on_progress(Progress(what=what, done=done, total=size, unit="bytes", finished=done == size))

    return tell


def _sweep(jobs: Path) -> None:
    """Remove what a killed prepare left."""
    for new_folder in jobs.glob(f"{NEW}*"):
        pid = re.match(r"([0-9]{1,9})-", new_folder.name.removeprefix(NEW))
        if pid and not places.alive(int(pid[1])):
            places.remove_if_there(new_folder)
