"""What came out of a job's stages: manifests and results on the disk, and what a stage's end means."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.core.config.types import Config
from builder.core.jobs import edits
from builder.core.jobs import job as spec
from builder.core.jobs.job import Job, JobStage
from builder.edges.system import files
from builder.errors import BakeError, InputError, IntegrityError, MissingError, PartialError, StageError
from builder.program import command

FULL = 64 << 10
"""Bytes free at which a disk counts as full."""

MOST = 1 << 20
"""Bytes at the end of a log that are read."""

TAIL = 10
"""Lines of a log that an error shows."""

INPUT_FAULT, MODEL_FAULT = 2, 5
"""Exit codes with which a stage says that a recording, or a model, is at fault; see stages/contract.py."""

CHECK = "check the recording, or the option that this is about"

KILLED = (-9, 137)
"""Exit codes of a stage that got SIGKILL: of a process, and of a container."""

STOPPED = (137, 143)
"""Exit codes of a container that got SIGKILL or SIGTERM."""


@dataclass(frozen=True, kw_only=True)
class StageOutcome:
    """What became of one stage."""

    name: str
    kept: bool
    """Its results of an earlier run are still good."""
    seconds: float
    """Wall time; 0 when its results were kept."""
    why: str
    """Why it ran, or was kept."""
    failure: BakeError | None = None
    """Why the job went on without it."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came out of a job."""

    job: Job
    folder: Path
    """Where its results are."""
    files: tuple[Path, ...]
    stages: tuple[StageOutcome, ...]
    """Those that were asked for, in pipeline order."""
    notes: tuple[str, ...]
    seconds: float
    """Wall time of the run."""
    copies: tuple[Path, ...] = ()
    """The results where ``--output`` or ``--beside`` wants them."""
    undelivered: BakeError | None = None
    """Why they could not be copied there."""

    @property
    def failure(self) -> BakeError | None:
        """What the job went on without, when an optional stage failed; or why results could not be copied."""
        if self.undelivered is not None:
            return self.undelivered
        lost = [stage for stage in self.stages if stage.failure is not None]
        if not lost:
            return None
        first = lost[0].failure
        assert first is not None
        names = " and ".join(stage.name for stage in lost)
        return PartialError(
            f"job {self.job.id} is done without {names}: {first.what}",
            where=first.where,
            detail=first.detail,
            hint=f"the results are in {self.folder}; {command('run')} {self.job.id} tries {names} again",
        )


def manifest(job_folder: Path, stage: str) -> dict[str, Any] | None:
    """A stage's manifest.json; None when there is none, or when it is not an object."""
    return files.read_object(job_folder / "work" / stage / "manifest.json") or None


def collect(job: Job, job_folder: Path, *, stages: Sequence[StageOutcome], seconds: float) -> Outcome:
    """A job's results and notes, as the manifests of all its stages name them."""
    manifests = [manifest(job_folder, stage.name) or {} for stage in job.stages]
    results = sorted({path for m in manifests for path in m.get("outputs", {}) if path.startswith("output/")})
    return Outcome(
        job=job,
        folder=job_folder / "output",
        files=tuple(job_folder / path for path in results),
        stages=tuple(stages),
        notes=tuple(note for m in manifests for note in m.get("notes", ())),
        seconds=seconds,
    )


def unfinished(config: Config, job_folder: Path, stage: JobStage) -> str | None:
    """Why a stage has to run, or None: its manifest against the disk."""
    stage_manifest = manifest(job_folder, stage.name)
    named = [path for kind in ("inputs", "outputs") for path in (stage_manifest or {}).get(kind, {})]
    digests = {path: _digest(job_folder / path) for path in named}
    code = code_digest(config.shipped / "stages", stage.name)
    optional = [need for need in stage.needs if (known := config.stages.get(need)) and known.optional]
    late = [need for need in optional if manifest(job_folder, need) is not None]
    edited = stage.name == edits.STAGE and (job_folder / edits.FILE).is_file()
    return spec.unfinished(
        stage, stage_manifest, code=code, digests=digests, late=late, edits=edits.FILE if edited else None
    )


def _digest(path: Path) -> str | None:
    try:
        found = path.stat()
        return _digest_of(path, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    except OSError:
        return None


@functools.lru_cache(maxsize=1000)
def _digest_of(path: Path, *_identity: int) -> str:
    """``sha256:<hex>`` of a file, once for as long as nothing of it changes: a film is read by two stages."""
    return f"sha256:{files.sha256(path)}"


def code_digest(stages: Path, name: str) -> str:
    """Hex sha256 over a stage's Python files and those that all stages share, as stages/contract.py computes it."""
    digest = hashlib.sha256()
    for path in [*sorted(stages.glob("*.py")), *sorted((stages / name).glob("*.py"))]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def log_path(job_folder: Path, stage: str) -> Path:
    """The log of a stage."""
    return job_folder / "logs" / f"{stage}.log"


def failure(
    job_folder: Path, stage: str, code: int, *, since: int, cause: str = "", missing: str | None = None
) -> BakeError:
    """What a stage's end means, with the last lines that it wrote in this run.

    Args:
        code: its exit code, negative when a signal ended it.
        since: bytes of its log that are of earlier runs.
        cause: what the exit code doesn't tell, as the end of a sentence about the stage.
        missing: why its results are not good although it said that it was done.
    """
    log = log_path(job_folder, stage)
    lines = _lines(log, since)
    last = lines[-1] if lines else "it said nothing"
    again = command(f"run {job_folder.name}")
    what = f"said it was done, but {missing}" if missing else cause
    if not what and code == INPUT_FAULT:
        changed = "changed after this job was made" in last  # stages/contract.py
        hint = f"{command('run')} FILE makes a new job of it" if changed else CHECK
        return InputError(last, hint=hint)
    if not what and code == MODEL_FAULT:
        return IntegrityError(last, hint=f"models verify --deep, then {again}")
    if not what:
        what = _signal(code)
    # On a full disk not even the log can be written.
    if files.disk_full(last) or files.free_bytes(job_folder) < FULL:
        return MissingError(
            f"stage {stage}: the disk is full", where=str(job_folder), hint=f"free some space, then {again}"
        )
    hint = again
    if "memory" in cause:
        hint = f"raise memory_mb in stages/{stage}/stage.yaml, or take a smaller preset; then {again}"
    return StageError(
        f"stage {stage} {what}" if what else f"stage {stage} failed: {last}",
        where=str(log),
        detail=lines[-TAIL:],
        hint=hint,
    )


def _lines(log: Path, since: int) -> list[str]:
    """The lines of a log from a byte on that are not blank; the last of them where it is long."""
    with contextlib.suppress(OSError), log.open("rb") as source:
        source.seek(max(since, source.seek(0, os.SEEK_END) - MOST))
        return [line for line in source.read().decode("utf-8", "replace").splitlines() if line.strip()]
    return []


def _signal(code: int) -> str:
    """What an exit code says of a signal, as the end of a sentence; empty when it says nothing of one."""
    if code >= 0 and code not in STOPPED:
        return ""
    killed = " (killed: perhaps too little memory)" if code in KILLED else ""
    return f"was ended by signal {-code if code < 0 else code - 128}{killed}"
