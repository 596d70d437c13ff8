"""The contract every stage keeps (docs/job-format.md): read the job, write results, events, the manifest.

Every image holds a copy beside its stage. It needs PyYAML only.
"""

from __future__ import annotations

import argparse
import importlib.machinery
import importlib.util
import json
import os
import re
import secrets
import shutil
import signal
import sys
import time
import traceback
import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import confined
import handed
import yaml
from handed import dump
from unchanged import Changed, code_digest, sha256, unchanged
from watched import cpu_seconds, die_with, hold, one_line, peak_bytes, plain, sentence, summary

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

LISTS = ".baked"
"""Folder below the models root of an image that has one list of files for each model in the image."""

INPUT = re.compile(r"input/[0-9]+\.[a-z0-9]+")
"""Where a job keeps a recording."""

CHANGED = "the recording was changed after this job was made; prepare it again"
"""Why a recording can't be used whose bytes are others than job.yaml says."""

VARIANTS = ("slim", "full")
"""Backends of a stage: without PyTorch, and with it."""

_unfinished: set[Path] = set()
"""Temporary files that are being written; a signal that ends the stage removes them."""


class InputFault(Exception):
    """The recording can't be used; exit code 2. The user reads the text."""


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


def lacking(root: Path, uses: Iterable[dict[str, Any]], *, deep: bool = False) -> list[str]:
    """What is wrong with the weights that a job's stage loads and with those in an image: a sentence for each fault.

    An image's own lists (``.baked/<id>.json``) say which files its models have. Comparing the sizes takes a millisecond
    or two. A mounted tree has no lists. The builder has checked it, and silence needs no model, so a missing model is
    reported only when a stage asks for it.

    Args:
        root: the models root.
        uses: models of the job's stage.
        deep: also read every file and compare its sha256.
    """
    faults = []
    lists = {}
    for path in sorted((root / LISTS).glob("*.json")):
        entry = json.loads(path.read_bytes())
        lists[entry["id"]] = entry["digest"]
        for file in entry["files"]:
            name = f"model {entry['id']}: {Path(file['path']).name}"
            try:
                size = (root / file["path"]).stat().st_size
            except OSError:
                faults.append(f"{name} is missing")
                continue
            if size != file["size"]:
                faults.append(f"{name} has {size} bytes, not {file['size']}")
            elif deep and sha256(root / file["path"]) != f"sha256:{file['sha256']}":
                faults.append(f"{name} has a different sha256 than its list")
    for use in uses:
        if lists and not (root / use["path"]).is_dir():
            faults.append(f"model {use['id']} is not in the tree of weights: {use['path']}")
        elif use["id"] in lists and lists[use["id"]] != use["digest"]:
            faults.append(f"this image's model {use['id']} is not the one that the job names: {lists[use['id']][:19]}…")
    return faults


def verify(root: Path) -> int:
    """``--verify``: read an image's weights and print what is wrong, or the models' names. Returns the exit code."""
    lists = sorted((root / LISTS).glob("*.json"))
    faults = lacking(root, (), deep=True)
    for line in faults or [f"{path.stem}: intact" for path in lists] or ["this image carries no weights"]:
        print(line, file=sys.stderr if faults else sys.stdout)
    return 5 if faults else 0


def stand_in(*names: str, **attributes: Any) -> None:
    """Put empty modules in the place of those that a library imports and never needs here, where they aren't installed.

    Args:
        names: modules.
        attributes: what the library imports from them. With any, an installed module is replaced too.
    """
    for name in names:
        if attributes or importlib.util.find_spec(name) is None:
            sys.modules[name] = types.ModuleType(name)
            # Some libraries find out by the specification whether another is installed.
            vars(sys.modules[name]).update(attributes, __spec__=importlib.machinery.ModuleSpec(name, None))


def open_job(root: Path, stage: str) -> StageJob:
    """Read job.yaml for one stage.

    Raises:
        InputFault: the folder has no readable job, or the job doesn't have the stage.
    """
    try:
        text = handed.read(root, "job.yaml").decode()
    except OSError as error:
        raise InputFault(f"no job in this folder: {error.strerror}") from error
    except ValueError as error:
        raise InputFault(f"job.yaml is damaged: {one_line(error)}") from error
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        spec = yaml.load(text, Loader=loader)
        if spec["schema"] != 1:
            raise InputFault(f"job.yaml has schema {spec['schema']}; these stages read schema 1")
        if spec["variant"] not in VARIANTS:
            raise InputFault(f"job.yaml names the variant {spec['variant']!r}, not {' or '.join(VARIANTS)}")
        entry = next((s for s in spec["stages"] if s["name"] == stage), None)
    except (yaml.YAMLError, KeyError, TypeError) as error:
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


def main(stage: str, work: Callable[[StageJob], None], *, media: bool = False) -> None:
    """Run one stage as a program: ``--job DIR``; exits 0, 2 (the recording), 5 (a model) or 1 (anything else).

    With ``media`` it reads recordings, and does its work in a child process with limits.
    """
    parser = argparse.ArgumentParser(prog=stage)
    parser.add_argument("--job", type=Path, help="the job's folder")
    parser.add_argument("--verify", action="store_true", help="read the image's weights and compare their sha256")
    arguments = parser.parse_args()
    models = Path(os.environ.get("BAKE_MODELS", "/models"))
    if arguments.verify and (code := verify(models)):
        sys.exit(code)
    if arguments.job is None:
        if not arguments.verify:
            parser.error("the following arguments are required: --job")
        return
    root = arguments.job.resolve()
    signal.signal(signal.SIGTERM, _terminated)
    signal.signal(signal.SIGINT, _terminated)  # Ctrl-C reaches the stages too, and a traceback would help nobody
    if parent := os.environ.get("BAKE_PARENT"):
        die_with(int(parent))
        confined.spare_others()
    code = _confined(root, stage, work, models) if media else _run(root, stage, work, models)
    sys.stdout.flush()
    sys.stderr.flush()
    # Native libraries' thread pools take up to 0.2 s to wind down; all results are on disk by now.
    os._exit(code)


def _run(root: Path, stage: str, work: Callable[[StageJob], None], models: Path) -> int:
    """Do a stage's work on a job; the exit code. Whatever goes wrong ends as one sentence, in the log and the events."""
    job: StageJob | None = None
    try:
        job = open_job(root, stage)
        if faults := lacking(models, job.uses.values()):
            raise ModelFault("; ".join(faults))
        _make_room(root, stage)
        job.event("start")
        if "BAKE_PARENT" not in os.environ:  # else the orchestrator holds the job, and the stage ends with it
            hold(root)
        job.say(f"begins: {', '.join(r.name for r in job.inputs[:10])}")
        began = time.perf_counter()
        work(job)
        job.timings["total"] = time.perf_counter() - began
        with job.writing("manifest.json") as path:
            path.write_text(dump(job.manifest()), encoding="utf-8")
        job.event("done", seconds=round(job.timings["total"], 3))
        job.say(summary(job.timings["total"], sum(job._heard.values()), job._wrote))
    except InputFault as fault:
        return _failed(job, str(fault), 2)
    except ModelFault as fault:
        return _failed(job, str(fault), 5)
    except Exception as error:  # noqa: BLE001  a stage's libraries raise anything; the job must end with a reason
        if why := confined.blame(error):
            return _failed(job, confined.named(why), 2)
        traceback.print_exc()
        return _failed(job, sentence(error), 1)
    return 0


def _confined(root: Path, stage: str, work: Callable[[StageJob], None], models: Path) -> int:
    """The same in a child process; what it left half-written when it was ended is removed."""
    ended = confined.run(lambda: _run(root, stage, work, models))
    if not ended.why:
        return ended.code
    _make_room(root, stage)
    return _failed(open_job(root, stage), ended.why, ended.code)


def _make_room(root: Path, stage: str) -> None:
    """An empty ``work/<stage>``, and no temporary file of the stage in ``output``."""
    folder = root / "work" / stage
    shutil.rmtree(folder, ignore_errors=True)  # results of an earlier run that wrote no manifest
    with suppress(OSError):
        folder.unlink()  # a link or a file in its place: a recording took over some stage
    folder.mkdir(parents=True)
    for leftover in (root / "output").glob(f".{stage}-*.tmp*"):  # of a run that was killed
        leftover.unlink()


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
