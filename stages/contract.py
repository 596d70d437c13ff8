"""The contract every stage keeps (docs/job-format.md): read the job, write results, events, the manifest.

Every image holds a copy beside its stage. It needs PyYAML only.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import confined
import handed
import loading
import several
from handed import InputFault, dump, one_line
from several import Outcome
from unchanged import Changed, code_digest, sha256, unchanged
from watched import cpu_seconds, die_with, held, meter, peak_bytes, plain, sentence, summary

PROGRESS_EVERY = 0.1
"""Seconds between two progress events: at most ten a second."""

REPORTS = 2000
"""Progress events in the time that a stage has taken so far: one every 2 s after an hour."""

CHATTER = ("progress", "text", "note")
"""Events of which there may be any number."""

TOLD = 4 << 20
"""Bytes of them that a stage writes."""

NOTES = 1000
"""Notes in a manifest."""

TEXT = 500
"""Characters of one event's text; a model that loops must not fill the disk."""

RATE = 16_000
"""Samples a second of the sound that stages exchange (mono, signed 16-bit little-endian)."""

INPUT = re.compile(r"input/[0-9]+\.[a-z0-9]+")
"""Where a job keeps a recording."""

CHANGED = "the recording was changed after this job was made; prepare it again"
"""Why a recording can't be used whose bytes are others than job.yaml says."""

_unfinished: set[Path] = set()
"""Temporary files that are being written; a signal that ends the stage removes them."""


class ModelFault(Exception):
    """A model is missing or broken; exit code 5. The user reads the text."""


@dataclass(frozen=True)
class Recording:
    """One entry of the job's inputs."""

    id: str
    name: str
    path: Path
    output: str
    start: float | None = None
    """Seconds into the whole recording at which the sound of a cut begins; None: it is not cut."""
    lead: float = 0.0
    """Seconds at the start of a cut film that have a picture but no sound."""
    sha256: str = ""
    """Hex, of the file's bytes when the job was made; empty: job.yaml doesn't say."""

    @property
    def offset(self) -> float:
        """Seconds from a time in this file to the same moment's time in the recording that it was cut from."""
        return (self.start or 0.0) - self.lead


@dataclass
class StageJob:
    """One stage's view of a job: its settings, its models, the inputs, and where results go."""

    root: Path
    stage: str
    variant: str
    """``slim`` or ``full``: which backend does the work."""
    settings: dict[str, Any]
    uses: dict[str, dict[str, Any]]
    inputs: tuple[Recording, ...]
    stages: tuple[str, ...]
    """Names of the job's stages, in order."""
    notes: list[str] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)
    _heard: dict[str, float] = field(default_factory=dict)
    """Seconds of each recording that were worked through, by its name."""
    _read: dict[str, str] = field(default_factory=dict)
    _wrote: dict[str, str] = field(default_factory=dict)
    _last: float = 0.0
    _began: float = field(default_factory=time.monotonic)
    _told: int = 0
    """Bytes of :data:`CHATTER`."""

    # Reading

    def work(self, stage: str, name: str) -> Path:
        """A result of another stage; its hash goes into the manifest.

        Raises:
            FileNotFoundError: that stage has not finished.
        """
        path = handed.file(self.root, f"work/{stage}/{name}")
        self._read[f"work/{stage}/{name}"] = sha256(path)
        return path

    def load(self, stage: str, recording: Recording) -> Any:
        """The JSON result of another stage for one recording."""
        self.work(stage, f"{recording.id}.json")
        return handed.load(self.root, f"work/{stage}/{recording.id}.json")

    def has(self, stage: str) -> bool:
        """Whether another stage has results: it is part of the job, and has not failed."""
        return stage in self.stages and handed.is_there(self.root, f"work/{stage}/manifest.json")

    def sounds(self, recording: Recording, *, cleaned: bool = False) -> list[Path]:
        """16 kHz mono WAV files: one, or one for each channel heard apart; ``cleaned``: what separate made of it."""
        parts = [f".c{k + 1}" for k in range(self.load("demux", recording).get("voices", 0))] or [""]
        clean = cleaned and self.has("separate") and self.load("separate", recording)["cleaned"]
        return [self.work("separate" if clean else "demux", f"{recording.id}{part}.wav") for part in parts]

    @contextmanager
    def reading(self, recording: Recording) -> Iterator[Path]:
        """The recording itself: what the block reads are the bytes that the job was made of; the manifest has their hash.

        Raises:
            InputFault: the recording is gone, or has changed; what the stage wrote is gone then.
        """
        if not handed.is_there(self.root, str(recording.path.relative_to(self.root))):
            raise InputFault(f"{recording.name}: the recording is no longer in the job's folder")
        try:
            with unchanged(recording.path, recording.sha256) as proof:
                yield recording.path
        except Changed as error:
            for written in self._wrote:
                (self.root / written).unlink(missing_ok=True)
            raise InputFault(f"{recording.name}: {CHANGED}") from error
        self._read[recording.path.relative_to(self.root).as_posix()] = proof.digest

    def beside(self, name: str) -> bytes | None:
        """A file that lies beside the recordings; None where there is none. Its hash goes into the manifest."""
        path = f"input/{name}"
        if not handed.is_there(self.root, path):
            return None
        self._read[path] = sha256(self.root / path)
        return handed.read(self.root, path)

    def model(self, purpose: str) -> Path:
        """The folder of the model for ``purpose``.

        Raises:
            ModelFault: the job names no model for it, or the folder is missing.
        """
        use = self.uses.get(purpose)
        if use is None:
            raise ModelFault(f"the job names no model for {purpose}")
        folder = Path(os.environ.get("BAKE_MODELS", "/models"), use["path"])
        if not folder.is_dir():
            raise ModelFault(f"model {use['id']} is not in the tree of weights: {use['path']}")
        return folder

    # Writing

    @contextmanager
    def writing(self, name: str, *, output: bool = False) -> Iterator[Path]:
        """A temporary path beside ``work/<stage>/<name>`` (or ``output/<name>``), renamed when the block succeeds."""
        relative = f"output/{name}" if output else f"work/{self.stage}/{name}"
        final = self.root / relative
        final.parent.mkdir(parents=True, exist_ok=True)
        # Muxers choose their format by the suffix, so it stays at the end. The output's name can be too long to add to.
        # Nobody who wrote there before can have left something in its place.
        temporary = final.parent / f".{self.stage}-{secrets.token_hex(8)}.tmp{final.suffix}"
        _unfinished.add(temporary)
        try:
            yield temporary
            if not several.inside():  # a folder for one run, which a machine that lost its power begins anew
                with temporary.open("rb+") as written:
                    os.fsync(written.fileno())
            self._wrote[relative] = sha256(temporary)
            temporary.replace(final)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        finally:
            _unfinished.discard(temporary)

    def withdraw(self, name: str) -> None:
        """Take a file of ``work/<stage>`` back that turned out not to be a result."""
        del self._wrote[f"work/{self.stage}/{name}"]
        (self.root / "work" / self.stage / name).unlink()

    def write(self, name: str, text: str, *, output: bool = False) -> None:
        """Write a whole text file: UTF-8, line ends unchanged."""
        with self.writing(name, output=output) as path, path.open("w", encoding="utf-8", newline="") as out:
            out.write(text)

    def write_bytes(self, name: str, data: bytes, *, output: bool = False) -> None:
        """Write a whole file."""
        with self.writing(name, output=output) as path:
            path.write_bytes(data)

    def save(self, recording: Recording, value: Any) -> None:
        """Write this stage's JSON result for one recording."""
        self.write(f"{recording.id}.json", dump(value))

    # Events

    def event(self, event: str, **fields: Any) -> None:
        """Append a line to events.jsonl, in one write: several stages may write at once. Of :data:`CHATTER` not without end."""
        stamped = {"t": round(time.time(), 3), "stage": self.stage, "event": event, **fields}
        line = json.dumps(stamped, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        if event in CHATTER:
            self._told += len(line)
            if self._told > TOLD:
                return
        handle = os.open(self.root / "events.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND | handed.UNLINKED, 0o644)
        try:
            os.write(handle, line)
        finally:
            os.close(handle)

    def progress(self, recording: Recording, done: float, total: float) -> None:
        """Report ``done`` of ``total`` seconds of one recording; dropped too soon after the last."""
        self._heard[recording.name] = max(self._heard.get(recording.name, 0.0), min(done, total))
        now = time.monotonic()
        if done < total and now - self._last < max(PROGRESS_EVERY, (now - self._began) / REPORTS):
            return
        self._last = now
        self.event("progress", input=recording.id, done=round(min(done, total), 2), total=round(total, 2), unit="s")

    def note(self, recording: Recording, message: str) -> None:
        """Report something that the user should know and that isn't a failure."""
        message = message[:TEXT]
        if len(self.notes) < NOTES:
            self.notes.append(f"{recording.name}: {message}")
        self.event("note", input=recording.id, message=message)
        self.say(f"{recording.name}: {message}")

    def text(self, recording: Recording, start: float, end: float, text: str) -> None:
        """Report words as they are recognised, for whoever watches; results come from files."""
        self.event("text", input=recording.id, start=round(start, 3), end=round(end, 3), text=text.strip()[:TEXT])

    def say(self, line: str) -> None:
        """A line for the stage's log; with ``docker compose up`` it is the terminal's."""
        stamp = time.strftime("%H:%M:%S", time.gmtime())
        with suppress(OSError, ValueError):  # a log that nobody reads, or a full disk, is no fault of the recording
            print(f"{stamp} {self.stage}: {plain(line)}", file=sys.stderr, flush=True)

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Add the seconds of the block to ``timings[part]``: imports, load or work. Loading is told of."""
        models = ", ".join(use["id"] for use in self.uses.values())
        if part == "load" and models:
            self.event("load", models=models)
        began = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - began
            self.timings[part] = self.timings.get(part, 0.0) + seconds
        if part == "load" and models:
            where = ", ".join(use["path"] for use in self.uses.values())
            self.say(f"model {models} loaded from {where} in {seconds:.1f} s")

    def manifest(self) -> dict[str, Any]:
        """What the stage read, its settings and models, and what it wrote (docs/job-format.md)."""
        return {
            "schema": 1,
            "stage": self.stage,
            "code": code_digest(self.stage),
            "settings": self.settings,
            "models": {purpose: use["digest"] for purpose, use in self.uses.items()},
            "inputs": self._read,
            "outputs": self._wrote,
            "notes": self.notes,
            "timings": {part: round(seconds, 3) for part, seconds in self.timings.items()},
            "peak_bytes": peak_bytes(),
            "cpu_seconds": round(cpu_seconds(), 3),
        }


def open_job(root: Path, stage: str) -> StageJob:
    """Read job.yaml for one stage.

    Raises:
        InputFault: the folder has no readable job, or the job doesn't have the stage.
    """
    return _job_of(handed.specified(root), root, stage)


def _job_of(spec: dict[str, Any], root: Path, stage: str) -> StageJob:
    try:
        entry = next((s for s in spec["stages"] if s["name"] == stage), None)
    except (KeyError, TypeError) as error:
        raise InputFault(f"job.yaml is damaged: {one_line(error)}") from error
    if entry is None:
        raise InputFault(f"stage {stage} is not part of job {spec['id']}")
    return StageJob(
        root=root,
        stage=stage,
        variant=spec["variant"],
        settings=dict(entry["settings"]),
        uses=dict(entry["models"]),
        inputs=tuple(_recording(root, i) for i in spec["inputs"]),
        stages=tuple(s["name"] for s in spec["stages"]),
    )


def _recording(root: Path, entry: dict[str, Any]) -> Recording:
    """An input as job.yaml names it.

    Raises:
        InputFault: its path, or the paths of its results, would be outside the job's folder.
    """
    path, output = entry["path"], entry["output"]
    if not INPUT.fullmatch(path) or "/" in output or "\0" in output or output in ("", ".", ".."):
        raise InputFault(f"job.yaml names a file outside the job's folder: {path!r}, {output!r}")
    clip = entry.get("clip") or {}
    return Recording(
        id=entry["id"],
        name=entry["name"],
        path=root / path,
        output=output,
        start=clip.get("start"),
        lead=clip.get("lead", 0.0),
        sha256=(clip if entry.get("clip") else entry).get("sha256") or "",
    )


def main(
    stage: str, work: Callable[[StageJob], None], *, media: bool = False, ready: Callable[[], None] | None = None
) -> None:
    """Run one stage as a program: ``--job DIR``; exits 0, 2 (the recording), 5 (a model) or 1 (anything else).

    ``--jobs LIST``: do the same for each job of a list (:mod:`several`).

    Args:
        media: it reads recordings, and does its work in a child process with limits.
        ready: imports what such a child needs; called once for several jobs.
    """
    parser = argparse.ArgumentParser(prog=stage)
    parser.add_argument("--job", type=Path, help="the job's folder")
    parser.add_argument("--jobs", type=Path, help="a file of names of jobs' folders beside it, one a line")
    parser.add_argument("--verify", action="store_true", help="read the image's weights and compare their sha256")
    arguments = parser.parse_args()
    models = Path(os.environ.get("BAKE_MODELS", "/models"))
    if arguments.verify and (code := loading.verify(models)):
        sys.exit(code)
    if (arguments.job is None) == (arguments.jobs is None):
        if arguments.job is not None or not arguments.verify:
            parser.error("one of the following arguments is required: --job, --jobs")
        return
    if parent := os.environ.get("BAKE_PARENT"):
        die_with(int(parent))
        confined.spare_others()
    how = _How(stage=stage, work=work, models=models, media=media, ready=ready)
    if arguments.jobs is not None:
        path = arguments.jobs.parent.resolve() / arguments.jobs.name
        code = several.run(path, stage, several.Doing(look=how.look, clear=how.clear, end=_terminated))
    else:
        signal.signal(signal.SIGTERM, _terminated)
        signal.signal(signal.SIGINT, _terminated)  # Ctrl-C reaches the stages too, and a traceback would help nobody
        code = how.do(arguments.job.resolve()).code
    sys.stdout.flush()
    sys.stderr.flush()
    # Native libraries' thread pools take up to 0.2 s to wind down; all results are on disk by now.
    os._exit(code)


@dataclass(frozen=True, kw_only=True)
class _How:
    """How a stage does its work on a job."""

    stage: str
    work: Callable[[StageJob], None]
    models: Path
    media: bool
    ready: Callable[[], None] | None

    def do(self, root: Path) -> Outcome:
        """Do it on the job in a folder. Whatever goes wrong ends as one sentence, in the log and the events."""
        return self._apart(root) if self.media else self._here(root)

    def look(self, root: Path) -> several.Task | Outcome | None:
        """What is to be done of one of several jobs: it is done already, or due, or waits for a stage that failed."""
        try:
            if root.is_symlink():
                raise InputFault("no job in this folder: it is a link")
            spec = handed.specified(root)
            if not handed.is_due(spec, root, self.stage):
                return None
            job = _job_of(spec, root, self.stage)
        except InputFault as fault:
            return Outcome(_failed(None, str(fault), 2), str(fault))
        if handed.has_results(root, job.manifest()):
            return Outcome(0)
        return several.Task(kind=(job.variant, job.settings, job.uses, job.stages), do=lambda: self.do(root))

    def clear(self, root: Path) -> None:
        """Remove what was half-written."""
        with suppress(OSError):
            handed.make_room(root, self.stage)

    def _here(self, root: Path) -> Outcome:
        job: StageJob | None = None
        try:
            job = open_job(root, self.stage)
            if faults := loading.lacking(self.models, job.uses.values()):
                raise ModelFault("; ".join(faults))
            handed.make_room(root, self.stage)
            job.event("start")
            # With BAKE_PARENT the orchestrator holds the job, and the stage ends with it.
            with held(root, here="BAKE_PARENT" not in os.environ):
                _finish(job, self.work)
        except InputFault as fault:
            code, message = 2, str(fault)
        except ModelFault as fault:
            code, message = 5, str(fault)
        except Exception as error:  # noqa: BLE001  a stage's libraries raise anything; the job must end with a reason
            if why := confined.blame(error):
                code, message = 2, confined.named(why)
            else:
                traceback.print_exc()
                code, message = several.MACHINE if several.inside() and several.at_fault(error) else 1, sentence(error)
        else:
            return Outcome(0)
        confined.tell(message)
        return Outcome(_failed(job, message, code), message)

    def _apart(self, root: Path) -> Outcome:
        """The same in a child process; what it left half-written when it was ended is removed."""
        if self.ready is not None and several.inside():
            self.ready()
        owed = cpu_seconds()

        def child() -> int:
            several.leave()
            meter.owe(owed)
            return self._here(root).code

        ended = confined.run(child)
        if several.inside() and ended.asked:
            _terminated(signal.SIGTERM, None)
        if not ended.why:
            return Outcome(ended.code, ended.said)
        handed.make_room(root, self.stage)
        return Outcome(_failed(open_job(root, self.stage), ended.why, ended.code), ended.why)


def _finish(job: StageJob, work: Callable[[StageJob], None]) -> None:
    """Do a stage's work and write its manifest."""
    job.say(f"begins: {', '.join(r.name for r in job.inputs[:10])}")
    began = time.perf_counter()
    work(job)
    job.timings["total"] = time.perf_counter() - began
    with job.writing("manifest.json") as path:
        path.write_text(dump(job.manifest()), encoding="utf-8")
    job.event("done", seconds=round(job.timings["total"], 3))
    job.say(summary(job.timings["total"], sum(job._heard.values()), job._wrote))


def _failed(job: StageJob | None, message: str, code: int) -> int:
    """Say why the stage failed, as an event and as the last line on standard error; returns ``code``."""
    message = " ".join(message.splitlines())  # a file's name may have line ends, and the reason is one line
    if job is not None:
        with suppress(OSError):  # on a full disk the log and the exit code still tell
            job.event("failed", message=message)
    print(plain(message), file=sys.stderr)
    return code


def _terminated(signum: int, frame: FrameType | None) -> None:
    """Remove half-written files and end: 128 + the signal's number."""
    for path in list(_unfinished):
        path.unlink(missing_ok=True)
    os._exit(128 + signum)
