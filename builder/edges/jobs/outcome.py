"""What came out of a job's stages: manifests and results on the disk, and what a stage's end means."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.core import correction
from builder.core.config.types import Config
from builder.core.images import versions
from builder.core.jobs import edits
from builder.core.jobs import job as spec
from builder.core.jobs.job import Job, JobInput, JobStage
from builder.core.jobs.record import changes as changed
from builder.core.jobs.record import coverage as coverages
from builder.core.jobs.record import manifest as manifests
from builder.core.jobs.record.changes import Change
from builder.core.jobs.record.coverage import Coverage, gaps_longer, span
from builder.core.jobs.record.manifest import Manifest
from builder.core.terms import Mode
from builder.edges.jobs import listing
from builder.edges.jobs.record import sound
from builder.edges.system import files
from builder.errors import BakeError, InputError, IntegrityError, MissingError, PartialError, StageError
from builder.program import command
from builder.receiver.jobs.untrusted import json_below, sha256_below, size_below, slice_below, status_below

FULL = 64 << 10
"""Bytes free at which a disk counts as full."""

MOST = 1 << 20
"""Bytes at the end of a log that are read."""

LARGEST_MANIFEST = 16 << 20
"""Bytes; a recording takes 2000 or so."""

SOUND, TIMES = 4 << 30, 16
"""What a stage makes of one recording is at most a WAV file's largest size, and so many times the recording's own."""

DRAWN = 16_000_000
"""Bytes a second of a film that subtitles are drawn into."""

LONGEST_LINE = 1000
"""Characters of a line of a log that an error shows."""

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
    coverage: tuple[Coverage, ...] = ()
    """What became of the speech, for each recording whose transcript says it."""
    strict: float | None = None
    """Seconds of a gap in the speech from which on the job has failed in part; None: no gap is too long."""

    @property
    def failure(self) -> BakeError | None:
        """What the job went on without, when an optional stage failed; why results could not be copied; gaps that are too
        long."""
        if self.undelivered is not None:
            return self.undelivered
        lost = [stage for stage in self.stages if stage.failure is not None]
        if not lost:
            return self._gaps()
        first = lost[0].failure
        assert first is not None
        names = " and ".join(stage.name for stage in lost)
        return PartialError(
            f"job {self.job.id} is done without {names}: {first.what}",
            where=first.where,
            detail=first.detail,
            hint=f"the results are in {self.folder}; {command('run')} {self.job.id} tries {names} again",
        )

    def _gaps(self) -> PartialError | None:
        gaps = [] if self.strict is None else gaps_longer(self.coverage, self.strict)
        if not gaps:
            return None
        many = "a gap" if len(gaps) == 1 else f"{len(gaps)} gaps"
        return PartialError(
            f"job {self.job.id} is done with {many} of more than {self.strict:g} s in the speech",
            where=gaps[0][0],
            detail=[f"{name} {span(gap)}: {gap.why}" for name, gap in gaps[:TAIL]],
            hint=f"{command('jobs show')} {self.job.id} names them all, {command('jobs edit')} {self.job.id} fills them",
        )


def manifest(job_folder: Path, stage: str) -> Manifest | None:
    """A stage's manifest.json; None when there is none, or no stage of ours wrote it."""
    return manifests.parsed(json_below(job_folder, f"work/{stage}/manifest.json", LARGEST_MANIFEST), stage)


def said(job: Job, job_folder: Path) -> dict[str, Manifest]:
    """Stage -> its manifest, in pipeline order: those that are there."""
    return {stage.name: made for stage in job.stages if (made := manifest(job_folder, stage.name)) is not None}


def results_of(said_by: Mapping[str, Manifest], job_folder: Path) -> list[str]:
    """The job's results, as paths in its folder: what manifests name and is there."""
    named = {path for made in said_by.values() for path in made.results}
    return sorted(path for path in named if size_below(job_folder, path) is not None)


def collect(job: Job, job_folder: Path, *, stages: Sequence[StageOutcome], seconds: float) -> Outcome:
    """A job's results and notes, as the manifests of all its stages name them."""
    said_by = said(job, job_folder)
    return Outcome(
        job=job,
        folder=job_folder / "output",
        files=tuple(job_folder / path for path in results_of(said_by, job_folder)),
        stages=tuple(stages),
        notes=tuple(note for made in said_by.values() for note in made.notes),
        seconds=seconds,
        coverage=coverage(job, job_folder, said_by),
    )


def coverage(job: Job, job_folder: Path, said_by: Mapping[str, Manifest]) -> tuple[Coverage, ...]:
    """What became of the speech in each recording whose transcript is there and says it."""
    if edits.STAGE not in said_by:
        return ()
    found = (coverages.parsed(listing.transcript(job_folder, entry)[0], entry.name) for entry in job.inputs)
    return tuple(one for one in found if one is not None)


CHANGING = {
    "asr": changed.of_transcript,
    "names": changed.of_words,
    "translate": changed.of_translations,
    "subtitles": changed.of_words,
}
"""Stages that change texts of their own accord, and who reads what they list."""


def changes(job: Job, job_folder: Path, said_by: Mapping[str, Manifest]) -> tuple[Change, ...]:
    """What stages changed in texts of their own accord, for each recording in the order of time."""
    return tuple(change for entry in job.inputs for change in changes_in(entry, job_folder, said_by))


def changes_in(entry: JobInput, job_folder: Path, said_by: Mapping[str, Manifest]) -> tuple[Change, ...]:
    """The same of one recording; times are those of its sound."""
    found: list[Change] = []
    for stage, parsed in CHANGING.items():
        if stage in said_by:
            found += parsed(json_below(job_folder, f"work/{stage}/{entry.id}.json"), entry.name)
    found += changed.of_corrections(json_below(job_folder, correction.FILE), entry.id, entry.name)
    return tuple(sorted(found, key=lambda change: (change.start, change.language)))


def unfinished(config: Config, job: Job, job_folder: Path, stage: JobStage) -> str | None:
    """Why a stage has to run, or None: its manifest against the disk.

    Sound that was removed counts as there; :func:`soundless` says whether it was.
    """
    made = manifest(job_folder, stage.name)
    code = _wanted_code(config, stage.name, made)
    optional = [need for need in stage.needs if (known := config.stages.get(need)) and known.optional]
    late = [need for need in optional if manifest(job_folder, need) is not None]
    beside = (edits.FILE, correction.FILE) if stage.name == edits.STAGE else ()
    return spec.unfinished(
        stage,
        made,
        code=code,
        digests=_digests(job_folder, made, most_bytes(job)) | soundless(job_folder) if made is not None else {},
        late=late,
        edits=[path for path in beside if size_below(job_folder, path) is not None],
    )


def _wanted_code(config: Config, stage: str, made: Manifest | None) -> str:
    """The digest of the code that a stage's results are to be of: today's, or that of the images that are held."""
    today, defaults = code_digest(config.shipped / "stages", stage), config.defaults
    holds = versions.parsed(files.read_object(config.paths.versions)).holds
    codes = {(h.mode, h.variant): h.codes[stage] for h in holds if stage in h.codes}
    if own := codes.pop((defaults.mode.value, defaults.variant.value), None):
        return own
    others = [code for (mode, variant), code in codes.items() if variant == defaults.variant.value]
    in_containers = defaults.mode is not Mode.NATIVE  # modes share images: one of another's may be held
    return made.code if in_containers and made is not None and made.code in others else today


def soundless(job_folder: Path, *stages: str) -> dict[str, str]:
    """The sound of a job that was removed to free its room: path -> digest.

    Args:
        stages: that made it; all of them without any.
    """
    made = [sound.removed(job_folder, manifest(job_folder, stage)) for stage in stages or sound.READERS]
    return {path: digest for removed in made for path, digest in removed.items()}


def most_bytes(job: Job) -> int:
    """Bytes of all that one stage may read and write: what is larger was not made from these recordings."""
    drawn = any(stage.settings.get("burn") is True for stage in job.stages)
    return sum(SOUND + TIMES * i.size + (int(DRAWN * (i.duration or 0)) if drawn else 0) for i in job.inputs)


def _digests(job_folder: Path, made: Manifest, most: int) -> dict[str, str | None]:
    """``sha256:…`` of the files that a manifest names; None where one isn't there, and after ``most`` bytes in all."""
    digests: dict[str, str | None] = {}
    for path in (*made.inputs, *made.outputs):
        if path in digests:
            continue
        digests[path], found = None, status_below(job_folder, path)
        if found is not None and found.st_size <= most:
            most -= found.st_size
            identity = found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
            digests[path] = _digest_of(job_folder, path, *identity)
    return digests


@functools.lru_cache(maxsize=1000)
def _digest_of(job_folder: Path, path: str, inode: int, size: int, *_times: int) -> str | None:
    """``sha256:<hex>`` of a file, once for as long as nothing of it changes: a film is read by two stages."""
    digest = sha256_below(job_folder, path, size)
    return None if digest is None else f"sha256:{digest}"


def code_digest(stages: Path, name: str) -> str:
    """Hex sha256 over a stage's Python files and those that all stages share, as stages/contract.py computes it."""
    digest = hashlib.sha256()
    for path in [*sorted(stages.glob("*.py")), *sorted((stages / name).glob("*.py"))]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def log_name(stage: str) -> str:
    """The log of a stage, as a path in its job's folder."""
    return f"logs/{stage}.log"


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
    log = job_folder / log_name(stage)
    lines = _lines(job_folder, stage, since)
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


def _lines(job_folder: Path, stage: str, since: int) -> list[str]:
    """The lines of a stage's log from a byte on that are not blank; the last of them where it is long."""
    log = log_name(stage)
    text = slice_below(job_folder, log, max(since, (size_below(job_folder, log) or 0) - MOST), MOST)
    return [line[:LONGEST_LINE] for line in text.decode("utf-8", "replace").splitlines() if line.strip()]


def _signal(code: int) -> str:
    """What an exit code says of a signal, as the end of a sentence; empty when it says nothing of one."""
    if code >= 0 and code not in STOPPED:
        return ""
    killed = " (killed: perhaps too little memory)" if code in KILLED else ""
    return f"was ended by signal {-code if code < 0 else code - 128}{killed}"
