"""The contract every stage keeps (docs/job-format.md): read the job, write results, events, the manifest.

Copied into every image beside the stages; needs PyYAML and nothing else.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.machinery
import importlib.util
import json
import os
import re
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

import yaml

PROGRESS_EVERY = 0.1
"""Seconds between two progress events: at most ten a second."""

RATE = 16_000
"""Samples a second of the sound that stages exchange (mono, signed 16 bit little-endian)."""

LISTS = ".baked"
"""Folder in an image's tree of weights with a list for each model that it carries."""

INPUT = re.compile(r"input/[0-9]+\.[a-z0-9]+")
"""Where a job keeps a recording."""

VARIANTS = ("slim", "full")
"""Backends of a stage: without PyTorch and with it."""

_unfinished: set[Path] = set()
"""Temporary files that are being written; SIGTERM takes them along."""


class InputFault(Exception):
    """The recording is at fault; exit code 2. The text is what the user reads."""


class ModelFault(Exception):
    """A model is missing or broken; exit code 5."""


@dataclass(frozen=True)
class Recording:
    """One entry of the job's inputs."""

    id: str
    name: str
    path: Path
    output: str
    lead: float = 0.0
    """Seconds at the beginning of a cut film that have a picture, but no sound yet."""


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
    _read: dict[str, str] = field(default_factory=dict)
    _wrote: dict[str, str] = field(default_factory=dict)
    _last: float = 0.0

    # Reading

    def work(self, stage: str, name: str) -> Path:
        """A result of another stage; its hash goes into the manifest.

        Raises:
            FileNotFoundError: that stage has not finished.
        """
        path = self.root / "work" / stage / name
        self._read[f"work/{stage}/{name}"] = sha256(path)
        return path

    def load(self, stage: str, recording: Recording) -> Any:
        """The JSON result of another stage for one recording."""
        return json.loads(self.work(stage, f"{recording.id}.json").read_bytes())

    def recording(self, recording: Recording) -> Path:
        """The recording itself; what it is stands in job.yaml, so it is not hashed again."""
        if not recording.path.is_file():
            raise InputFault(f"{recording.name}: the recording is no longer in the job")
        return recording.path

    def model(self, purpose: str) -> Path:
        """The folder of the model for ``purpose``."""
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
        """A temporary path beside ``work/<stage>/<name>`` (or ``output/<name>``), renamed when the block ends well."""
        relative = f"output/{name}" if output else f"work/{self.stage}/{name}"
        final = self.root / relative
        final.parent.mkdir(parents=True, exist_ok=True)
        # The suffix stays at the end: muxers choose their format by it. Short, for long output names.
        temporary = final.parent / f".{self.stage}-{os.getpid()}.tmp{final.suffix}"
        _unfinished.add(temporary)
        try:
            yield temporary
            with temporary.open("rb+") as made:
                os.fsync(made.fileno())
            self._wrote[relative] = sha256(temporary)
            temporary.replace(final)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        finally:
            _unfinished.discard(temporary)

    def write(self, name: str, text: str, *, output: bool = False) -> None:
        """A whole text file, UTF-8, line ends as given."""
        with self.writing(name, output=output) as path, path.open("w", encoding="utf-8", newline="") as out:
            out.write(text)

    def save(self, recording: Recording, value: Any) -> None:
        """This stage's JSON result for one recording."""
        self.write(f"{recording.id}.json", dump(value))

    # Telling

    def event(self, event: str, **more: Any) -> None:
        """One line in events.jsonl, in one write: several stages may write at once."""
        line = json.dumps({"t": round(time.time(), 3), "stage": self.stage, "event": event, **more}, ensure_ascii=False)
        handle = os.open(self.root / "events.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(handle, line.encode() + b"\n")
        finally:
            os.close(handle)

    def progress(self, recording: Recording, done: float, total: float) -> None:
        """``done`` of ``total`` seconds of one recording; what comes too soon after another is dropped."""
        now = time.monotonic()
        if done < total and now - self._last < PROGRESS_EVERY:
            return
        self._last = now
        self.event("progress", input=recording.id, done=round(min(done, total), 2), total=round(total, 2), unit="s")

    def note(self, recording: Recording, message: str) -> None:
        """Something the user should know that is no failure."""
        self.notes.append(f"{recording.name}: {message}")
        self.event("note", input=recording.id, message=message)

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Add the seconds of the block to ``timings[part]``: imports, load or work."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.timings[part] = self.timings.get(part, 0.0) + time.perf_counter() - began

    def manifest(self) -> dict[str, Any]:
        """What was read, with which settings and models, and what came out."""
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
        }


def lacking(root: Path, uses: Iterable[dict[str, Any]], *, deep: bool = False) -> list[str]:
    """What is wrong with the weights, a sentence each: those that a job's stage loads, and those that an image carries.

    An image's own lists (``.baked/<id>.json``) say which files its models have; their sizes are compared, in a
    millisecond or two. A tree that is mounted has no lists: the builder has checked it, and a recording of silence needs
    no model at all, so that only a stage that asks for one misses it.

    Args:
        root: the tree of weights.
        uses: models of the job's stage.
        deep: read every byte and compare its sha256.
    """
    found = []
    lists = {}
    for path in sorted((root / LISTS).glob("*.json")):
        entry = json.loads(path.read_bytes())
        lists[entry["id"]] = entry["digest"]
        for file in entry["files"]:
            name = f"model {entry['id']}: {Path(file['path']).name}"
            try:
                size = (root / file["path"]).stat().st_size
            except OSError:
                found.append(f"{name} is missing")
                continue
            if size != file["size"]:
                found.append(f"{name} has {size} bytes in place of {file['size']}")
            elif deep and sha256(root / file["path"]) != f"sha256:{file['sha256']}":
                found.append(f"{name} has another sha256 than its list")
    for use in uses:
        if lists and not (root / use["path"]).is_dir():
            found.append(f"model {use['id']} is not in the tree of weights: {use['path']}")
        elif use["id"] in lists and lists[use["id"]] != use["digest"]:
            found.append(f"model {use['id']} of this image is not the job's: {lists[use['id']][:19]}…")
    return found


def verify(root: Path) -> int:
    """``--verify``: read an image's weights; the exit code."""
    lists = sorted((root / LISTS).glob("*.json"))
    wrong = lacking(root, (), deep=True)
    for line in wrong or [f"{path.stem}: whole" for path in lists] or ["this image carries no weights"]:
        print(line, file=sys.stderr if wrong else sys.stdout)
    return 5 if wrong else 0


def stand_in(*names: str, **attributes: Any) -> None:
    """Empty modules for what a library imports on the way but never needs here; only where they are absent.

    Args:
        attributes: what is imported from them. With any, a module that is there is left out too.
    """
    for name in names:
        if attributes or importlib.util.find_spec(name) is None:
            sys.modules[name] = types.ModuleType(name)
            # Some libraries look for others by their specification.
            vars(sys.modules[name]).update(attributes, __spec__=importlib.machinery.ModuleSpec(name, None))


def peak_bytes() -> int | None:
    """Most memory that this process held (VmHWM, see proc(5)); None where there is no /proc.

    Not getrusage's ru_maxrss: after exec that begins with what the parent held.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)


def dump(value: Any) -> str:
    """Stable JSON: sorted keys, non-ASCII as it is."""
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def sha256(path: Path) -> str:
    """``sha256:<hex>`` of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while chunk := source.read(1 << 20):
            digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"


def code_digest(stage: str) -> str:
    """Hex sha256 over a stage's Python files and this one: other code makes other results."""
    here = Path(__file__).resolve().parent
    digest = hashlib.sha256()
    for path in [here / "contract.py", *sorted((here / stage).glob("*.py"))]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def open_job(root: Path, stage: str) -> StageJob:
    """Read job.yaml for one stage.

    Raises:
        InputFault: there is no such job, or the stage is not in it.
    """
    try:
        text = (root / "job.yaml").read_text(encoding="utf-8")
    except OSError as error:
        raise InputFault(f"no job in this folder: {error.strerror}") from error
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        spec = yaml.load(text, Loader=loader)
        if spec["schema"] != 1:
            raise InputFault(f"job.yaml has schema {spec['schema']}; these stages read schema 1")
        if spec["variant"] not in VARIANTS:
            raise InputFault(f"job.yaml names the variant {spec['variant']!r}; there are {' and '.join(VARIANTS)}")
        entry = next((s for s in spec["stages"] if s["name"] == stage), None)
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise InputFault(f"job.yaml is damaged: {_line(error)}") from error
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
        InputFault: it would be read, or its results written, outside of the job.
    """
    path, output = entry["path"], entry["output"]
    if not INPUT.fullmatch(path) or "/" in output or "\0" in output or output in ("", ".", ".."):
        raise InputFault(f"job.yaml names a file outside of the job: {path!r}, {output!r}")
    lead = (entry.get("clip") or {}).get("lead", 0.0)
    return Recording(id=entry["id"], name=entry["name"], path=root / path, output=output, lead=lead)


def main(stage: str, work: Callable[[StageJob], None]) -> None:
    """Run one stage as a program: ``--job DIR``; exits 0, 1, 2 (recording at fault) or 5 (model)."""
    parser = argparse.ArgumentParser(prog=stage)
    parser.add_argument("--job", type=Path, help="the job's folder")
    parser.add_argument("--verify", action="store_true", help="read the weights of the image and compare their sha256")
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
    signal.signal(signal.SIGINT, _terminated)  # Ctrl-C reaches the stages as well; a traceback tells nobody anything
    if parent := os.environ.get("BAKE_PARENT"):
        _die_with(int(parent))
    job: StageJob | None = None
    try:
        job = open_job(root, stage)
        if wrong := lacking(models, job.uses.values()):
            raise ModelFault("; ".join(wrong))
        folder = root / "work" / stage
        shutil.rmtree(folder, ignore_errors=True)  # results without a manifest are nobody's
        with suppress(OSError):
            folder.unlink()  # a link, or a file: some stage's, which a recording took over
        folder.mkdir(parents=True)
        for left in (root / "output").glob(f".{stage}-*.tmp*"):  # of a run that was killed
            left.unlink()
        job.event("start")
        began = time.perf_counter()
        work(job)
        job.timings["total"] = time.perf_counter() - began
        with job.writing("manifest.json") as path:
            path.write_text(dump(job.manifest()), encoding="utf-8")
        job.event("done", seconds=round(job.timings["total"], 3))
        code = 0
    except InputFault as fault:
        code = _failed(job, str(fault), 2)
    except ModelFault as fault:
        code = _failed(job, str(fault), 5)
    except Exception as error:
        traceback.print_exc()
        code = _failed(job, _sentence(error), 1)
    sys.stdout.flush()
    sys.stderr.flush()
    # Native libraries' thread pools take up to 0.2 s to wind down; all results are on disk by now.
    os._exit(code)


def _die_with(parent: int) -> None:
    """End when the orchestrator ends, also by kill -9: two runs of one stage must never write at once (Linux)."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, see prctl(2)
        if os.getppid() != parent:
            os._exit(128 + signal.SIGKILL)


def _failed(job: StageJob | None, message: str, code: int) -> int:
    message = " ".join(message.splitlines())  # a file's name may have line ends; the last line is the reason
    if job is not None:
        with suppress(OSError):  # a full disk: the log and the exit code still say it
            job.event("failed", message=message)
    print(message, file=sys.stderr)
    return code


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        name = Path(os.fsdecode(error.filename)).name if isinstance(error.filename, (str, bytes)) else ""
        return f"{error.strerror}: {name}" if name else error.strerror
    if isinstance(error, MemoryError):
        return "not enough memory"
    return f"{type(error).__name__}: {_line(error)}"


def _line(error: Exception) -> str:
    """An error's text on one line."""
    return " ".join(str(error).split())


def _terminated(signum: int, frame: FrameType | None) -> None:
    for path in list(_unfinished):
        path.unlink(missing_ok=True)
    os._exit(128 + signum)
