"""Run a job's stages in their order, resume what is unfinished, and tell what happens."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from builder.core import job as spec
from builder.core.environment import stage_environment
from builder.core.job import Job, JobStage
from builder.core.progress import Progress, Report
from builder.core.types import Config
from builder.edges import files, jobs, shell
from builder.errors import InputError, IntegrityError, Interrupted, MissingError, StageError, UsageError

POLL = 0.02
"""Seconds between two looks at the running stages."""

FULL = 64 << 10
"""Bytes free at which a disk counts as full."""

TAIL = 10
"""Lines of a log that an error shows."""


@dataclass(frozen=True, kw_only=True)
class StageOutcome:
    """What became of one stage; seconds of wall time, 0 when its results were kept."""

    name: str
    kept: bool
    seconds: float
    why: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came out of a job."""

    job: Job
    folder: Path
    files: tuple[Path, ...]
    stages: tuple[StageOutcome, ...]
    notes: tuple[str, ...]
    seconds: float


Start = Callable[[JobStage, Path], shell.Process]
"""Starts the process of a stage; its output goes to the log."""


@dataclass
class _Run:
    """The state of one run."""

    config: Config
    job: Job
    place: Path
    start: Start
    report: Report
    parallel: int
    done: dict[str, StageOutcome] = field(default_factory=dict)
    running: dict[str, tuple[shell.Process, float, str, int]] = field(default_factory=dict)
    offset: int = 0


def native_start(config: Config, job: Job, python: Path, env: Mapping[str, str]) -> Start:
    """Stages as processes of the native environment: offline, with no credential of the caller."""
    place = jobs.folder(config, job)
    scratch = place / "work" / ".scratch"

    def start(stage: JobStage, log: Path) -> shell.Process:
        scratch.mkdir(parents=True, exist_ok=True)
        variables = stage_environment(
            models=str(config.home / "models"),
            scratch=str(scratch),
            threads=int(stage.settings.get("threads", 1)),
            inherit=env,
        )
        variables["BAKE_PARENT"] = str(os.getpid())
        main = config.root / "stages" / stage.name / "main.py"
        return shell.start([str(python), str(main), "--job", str(place)], env=variables, log=log)

    return start


def run(config: Config, job: Job, *, start: Start, report: Report, parallel: int = 2) -> Outcome:
    """Run what is unfinished of a job.

    Args:
        start: how a stage is started.
        parallel: stages at once at the most, where data flows allow it.

    Raises:
        UsageError: somebody else runs this job.
        InputError: a recording is at fault.
        IntegrityError: a model is missing or broken.
        StageError: a stage failed otherwise; with its log and last lines.
        Interrupted: Ctrl-C or SIGTERM; what is done stays done.
    """
    place = jobs.folder(config, job)
    try:
        with jobs.held(place):
            state = _Run(config=config, job=job, place=place, start=start, report=report, parallel=parallel)
            return _run(state)
    except TimeoutError as error:
        raise UsageError(
            f"job {job.id} is already running", where=str(place), hint="wait for it; jobs list shows its state"
        ) from error


def _run(state: _Run) -> Outcome:
    began = time.perf_counter()
    log = state.place / "events.jsonl"
    state.offset = log.stat().st_size if log.exists() else 0
    _say(state, "begin")
    try:
        while len(state.done) < len(state.job.stages):
            _begin_ready(state)
            _follow(state)
            if not _reap(state):
                time.sleep(POLL)
        _follow(state)
    except KeyboardInterrupt:
        _stop_all(state)
        _say(state, "stop")
        raise Interrupted(
            f"job {state.job.id} was interrupted", hint=f"build.py run {state.job.id} goes on where it stopped"
        ) from None
    except BaseException as error:
        _stop_all(state)
        with contextlib.suppress(OSError):
            _say(state, "fail", message=str(error))
        raise
    finally:
        shutil.rmtree(state.place / "work" / ".scratch", ignore_errors=True)
    _say(state, "end")
    manifests = [_manifest(state, stage.name) or {} for stage in state.job.stages]
    output = state.place / "output"
    made = sorted({p for m in manifests for p in m.get("outputs", {}) if p.startswith("output/")})
    return Outcome(
        job=state.job,
        folder=output,
        files=tuple(state.place / p for p in made),
        stages=tuple(state.done[s.name] for s in state.job.stages),
        notes=tuple(note for m in manifests for note in m.get("notes", ())),
        seconds=time.perf_counter() - began,
    )


def _begin_ready(state: _Run) -> None:
    """Start the stages whose needs are done, in pipeline order; keep those whose results are still good."""
    for stage in state.job.stages:
        name = stage.name
        if name in state.done or name in state.running or not all(n in state.done for n in stage.needs):
            continue
        if len(state.running) >= state.parallel:
            return
        why = unfinished(state.config, state.place, stage)
        if why is None:
            state.done[name] = StageOutcome(name=name, kept=True, seconds=0.0, why="done before")
            state.report(Progress(what=name, note="done before, kept", finished=True))
            continue
        log = state.place / "logs" / f"{name}.log"
        log.parent.mkdir(exist_ok=True)
        length = log.stat().st_size if log.exists() else 0
        state.report(Progress(what=name, unit="s"))
        state.running[name] = (state.start(stage, log), time.perf_counter(), why, length)


def _reap(state: _Run) -> bool:
    """Take note of the stages that ended; whether any did."""
    ended = [(n, r) for n, r in state.running.items() if r[0].poll() is not None]
    for name, (process, began, why, length) in ended:
        del state.running[name]
        _follow(state)
        if process.returncode != 0:
            _fail(state, name, process.returncode, length)
        left = unfinished(state.config, state.place, state.job.stage(name))
        if left is not None:
            _fail(state, name, 0, length, f"stage {name} said it was done, but {left}")
        seconds = time.perf_counter() - began
        state.done[name] = StageOutcome(name=name, kept=False, seconds=seconds, why=why)
        state.report(Progress(what=name, note=f"done in {seconds:.1f} s", finished=True))
    return bool(ended)


def _fail(state: _Run, name: str, code: int, length: int, what: str | None = None) -> NoReturn:
    """Raise what a stage's exit code means, with the last lines it wrote in this run."""
    log = state.place / "logs" / f"{name}.log"
    lines: list[str] = []
    with contextlib.suppress(OSError), log.open("rb") as source:
        source.seek(length)
        lines = [line for line in source.read().decode("utf-8", "replace").splitlines() if line.strip()]
    last = lines[-1] if lines else "it said nothing"
    again = f"build.py run {state.job.id}"
    if what is None and code == 2:
        raise InputError(last, hint="check the recording")
    if what is None and code == 5:
        raise IntegrityError(last, hint=f"models verify --deep, then {again}")
    if what is None and code == 125:  # docker's own
        raise MissingError(f"the container of stage {name} could not be started", where=str(log), detail=lines[-TAIL:])
    if what is None and (code < 0 or code == 137):
        killed = " (killed: perhaps too little memory)" if code in (-9, 137) else ""
        what = f"stage {name} was ended by signal {-code if code < 0 else 9}{killed}"
    # On a full disk not even the log can be written.
    if "No space left on device" in last or shutil.disk_usage(state.place).free < FULL:
        raise MissingError(
            f"stage {name}: the disk is full", where=str(state.place), hint=f"free some space, then {again}"
        )
    raise StageError(what or f"stage {name} failed: {last}", where=str(log), detail=lines[-TAIL:], hint=again)


def _stop_all(state: _Run) -> None:
    """End the running stages: ask all, then wait, then kill; 5 s at the most."""
    for process, *_ in state.running.values():
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
    for process, *_ in state.running.values():
        shell.stop(process)
    state.running.clear()


def _follow(state: _Run) -> None:
    """Turn new lines of events.jsonl into reports. A line that is cut short or broken is left out."""
    for event in _new_events(state):
        name, kind = event.get("stage"), event.get("event")
        if not isinstance(name, str) or name not in state.running:
            continue
        if kind == "progress":
            state.report(
                Progress(
                    what=name, done=float(event.get("done", 0)), total=float(event.get("total", 0)) or None, unit="s"
                )
            )
        elif kind == "note":
            state.report(Progress(what=f"{name} note", note=str(event.get("message")), finished=True))


def _new_events(state: _Run) -> Iterator[Mapping[str, Any]]:
    try:
        with (state.place / "events.jsonl").open("rb") as source:
            size = source.seek(0, os.SEEK_END)
            if size < state.offset:  # somebody truncated it
                state.offset = 0
            source.seek(state.offset)
            data = source.read()
    except OSError:
        return
    whole = data[: data.rfind(b"\n") + 1]
    state.offset += len(whole)
    for line in whole.splitlines():
        with contextlib.suppress(ValueError, TypeError):
            event = json.loads(line)
            if isinstance(event, dict):
                yield event


def _say(state: _Run, event: str, **more: Any) -> None:
    """The orchestrator's own line in events.jsonl; it has no stage."""
    line = json.dumps({"t": round(time.time(), 3), "event": event, **more}, ensure_ascii=False).encode() + b"\n"
    log = state.place / "events.jsonl"
    handle = os.open(log, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        size = os.fstat(handle).st_size
        if size and os.pread(handle, 1, size - 1) != b"\n":
            line = b"\n" + line  # a line of a killed writer
        os.write(handle, line)
    finally:
        os.close(handle)


def _manifest(state: _Run, name: str) -> Any:
    return files.read_json(state.place / "work" / name / "manifest.json")


def unfinished(config: Config, place: Path, stage: JobStage) -> str | None:
    """Why a stage has to run, or None: its manifest against the disk."""
    manifest = files.read_json(place / "work" / stage.name / "manifest.json")
    named = [p for kind in ("inputs", "outputs") for p in (manifest or {}).get(kind, {})]
    digests = {p: _digest(place / p) for p in named}
    return spec.unfinished(stage, manifest, code=code_digest(config.root / "stages", stage.name), digests=digests)


def _digest(path: Path) -> str | None:
    try:
        return f"sha256:{files.sha256(path)}"
    except OSError:
        return None


def code_digest(stages: Path, name: str) -> str:
    """Hex sha256 over a stage's Python files and the contract, as stages/contract.py computes it."""
    digest = hashlib.sha256()
    for path in [stages / "contract.py", *sorted((stages / name).glob("*.py"))]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
