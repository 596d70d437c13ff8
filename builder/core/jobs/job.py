"""A job: what to do with which recordings. Pure: read, written and compared as text and values."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import PurePath
from types import MappingProxyType
from typing import Any

import yaml
from pydantic import Field

from builder.core.config.types import StageSpec
from builder.core.terms import Purpose, Variant, Workflow
from builder.core.weights.catalog import REVISION, model_digest, unsafe
from builder.core.weights.model import Model, Pin, snapshot_path
from builder.core.yaml_document import Document, Strict
from builder.errors import UsageError, did_you_mean

NAME_BYTES = 200
"""Longest stem of an output file, in UTF-8 bytes: file systems allow 255 with the suffix."""


MAX_TEXT = 20_000_000
"""Characters of job.yaml: a recording takes 300 or so, and a job may have thousands."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A part of a recording, in seconds."""

    start: float
    end: float | None = None
    lead: float = 0.0
    """Seconds of picture without sound before ``start`` in the file that was cut: a picture begins at a key frame."""


@dataclass(frozen=True, kw_only=True)
class JobInput:
    """One recording of a job; see docs/job-format.md."""

    id: str
    name: str
    path: str
    sha256: str
    size: int
    output: str
    clip: Clip | None = None
    duration: float | None = None
    """Seconds, as its header says; None when it doesn't."""


@dataclass(frozen=True, kw_only=True)
class ModelUse:
    """A model as a stage needs to know it: its folder below the models root, and the digest over its files."""

    id: str
    path: str
    digest: str
    revision: str
    languages: tuple[str, ...] = ()
    """Languages it is for; empty for all."""


@dataclass(frozen=True, kw_only=True)
class JobStage:
    """One stage of a job."""

    name: str
    needs: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    models: Mapping[str, ModelUse] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, kw_only=True)
class Job:
    """job.yaml."""

    id: str
    created: str
    workflow: str
    variant: str
    preset: str
    key: str
    inputs: tuple[JobInput, ...]
    stages: tuple[JobStage, ...]

    def stage(self, name: str) -> JobStage:
        """The stage of that name."""
        return next(s for s in self.stages if s.name == name)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a job is asked to do, apart from its recordings."""

    workflow: Workflow | None
    variant: str
    preset: str
    models: Mapping[Purpose, tuple[Model, Pin]]
    settings: Mapping[str, Mapping[str, Any]]
    """Stage -> settings that differ from the stage's defaults."""
    clip: Clip | None = None
    diarization: bool = True


def parse_time(text: str | None, flag: str) -> float | None:
    """Seconds from ``90``, ``1:30``, ``0:01:30.5``.

    Raises:
        UsageError: neither.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(?:(?:([0-9]+):)?([0-9]+):)?([0-9]+(?:\.[0-9]+)?)", text.strip())
    if (
        match is None
        or (match[2] is not None and float(match[3]) >= 60)
        or (match[1] is not None and int(match[2]) >= 60)
    ):
        raise UsageError(
            f'"{text}" is no time', where=flag, expected="seconds or [hours:]minutes:seconds, such as 1:30"
        )
    return int(match[1] or 0) * 3600 + int(match[2] or 0) * 60 + float(match[3])


def plan_stages(
    specs: Mapping[str, StageSpec], request: Request, *, workflow: Workflow, models_note: Mapping[str, Any]
) -> tuple[JobStage, ...]:
    """The stages of a job with their settings and models, in pipeline order.

    Args:
        models_note: what the result says of the models that made it.
    """
    left_out = set() if request.diarization else {"diarize"}
    if workflow is Workflow.TRANSCRIBE:
        left_out.add("mux")
    names = [name for name in specs if name not in left_out]
    stages = []
    for name in names:
        spec = specs[name]
        settings = {**spec.settings, **request.settings.get(name, {})}
        if name == "subtitles":
            settings["models"] = dict(models_note)
        uses = {
            purpose.value: ModelUse(
                id=model.id,
                path=snapshot_path(model, pin),
                digest=model_digest(pin),
                revision=pin.revision,
                languages=tuple(model.languages),
            )
            for purpose, (model, pin) in request.models.items()
            if purpose in spec.uses
        }
        stages.append(
            JobStage(
                name=name,
                needs=tuple(n for n in spec.needs if n in names),
                settings=MappingProxyType(settings),
                models=MappingProxyType(uses),
            )
        )
    return tuple(stages)


def request_key(inputs: Sequence[JobInput], stages: Sequence[JobStage], workflow: str) -> str:
    """sha256 over what decides the results: the same request has the same key, whenever and wherever it is made."""
    asked = {
        "inputs": [(i.name, i.sha256, {"start": i.clip.start, "end": i.clip.end} if i.clip else None) for i in inputs],
        "stages": [stage_data(s) for s in stages],
        "workflow": workflow,
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def job_id(created: str, first: str, salt: str) -> str:
    """``20261123-200312-dialogue-4f2a``.

    Args:
        created: ISO 8601, UTC.
        first: name of the first recording.
        salt: four hex digits.
    """
    plain = unicodedata.normalize("NFKD", PurePath(first).stem).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:24].strip("-") or "job"
    return f"{re.sub('[-:]', '', created[:10])}-{created[11:19].replace(':', '')}-{slug}-{salt}"


def output_stem(name: str, taken: set[str]) -> str:
    """A safe file stem from a recording's name, not in ``taken`` (case-folded), which it joins."""
    stem = _plain(PurePath(name).stem or name)
    while len(stem.encode()) > NAME_BYTES:
        stem = stem[:-1]
    stem = stem.rstrip(". ")
    unique, number = stem, 2
    while unique.casefold() in taken:
        unique, number = f"{stem}-{number}", number + 1
    taken.add(unique.casefold())
    return unique


def _plain(stem: str) -> str:
    """A file's stem without what could lead to another folder, hide the file, or be taken for an option."""
    kept = "".join(c if c.isprintable() and c not in "/\\" else "_" for c in stem)
    return kept.rstrip(". ").lstrip("-. ") or "recording"


def input_suffix(name: str) -> str:
    """The recording's own suffix when it is harmless, else ``.bin``."""
    suffix = PurePath(name).suffix.lower()
    return suffix if re.fullmatch(r"\.[a-z0-9]{1,8}", suffix) else ".bin"


def stage_data(stage: JobStage) -> dict[str, Any]:
    """A stage as it stands in job.yaml."""
    return {
        "name": stage.name,
        "needs": list(stage.needs),
        "settings": dict(stage.settings),
        "models": {purpose: asdict(use) for purpose, use in stage.models.items()},
    }


def to_yaml(job: Job) -> str:
    """job.yaml."""
    data = {
        "schema": 1,
        "id": job.id,
        "created": job.created,
        "workflow": job.workflow,
        "variant": job.variant,
        "preset": job.preset,
        "key": job.key,
        "inputs": [asdict(i) for i in job.inputs],
        "stages": [stage_data(s) for s in job.stages],
    }
    # PyYAML writes some control characters as they are, and reads them back as spaces: then everything is escaped.
    readable = all(i.name.isprintable() for i in job.inputs)
    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=readable, width=120))


class ClipShape(Strict):
    """``clip`` of an input."""

    start: float = Field(ge=0, allow_inf_nan=False)
    end: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    lead: float = Field(default=0.0, ge=0, allow_inf_nan=False)


class InputShape(Strict):
    """One of ``inputs``."""

    id: str
    name: str
    path: str
    sha256: str
    size: int = Field(ge=0)
    output: str
    clip: ClipShape | None = None
    duration: float | None = Field(default=None, ge=0, allow_inf_nan=False)


class UseShape(Strict):
    """One of a stage's ``models``."""

    id: str
    path: str
    digest: str
    revision: str
    languages: list[str] = []


class EntryShape(Strict):
    """One of ``stages``."""

    name: str
    needs: list[str]
    settings: dict[str, Any]
    models: dict[str, UseShape]


class JobShape(Strict):
    """job.yaml."""

    version: int = Field(alias="schema", ge=1, le=1)
    id: str
    created: str
    workflow: str
    variant: str
    preset: str
    key: str
    inputs: list[InputShape]
    stages: list[EntryShape]


def from_yaml(text: str, where: str) -> Job:
    """Read job.yaml. What it says is not yet to be trusted: see :func:`stray`.

    Raises:
        ConfigError: it hasn't the form that prepare gives it.
    """
    shape = Document(where, text, longest=MAX_TEXT).read(JobShape)
    return Job(
        id=shape.id,
        created=shape.created,
        workflow=shape.workflow,
        variant=shape.variant,
        preset=shape.preset,
        key=shape.key,
        inputs=tuple(JobInput(**{**dict(i), "clip": Clip(**dict(i.clip)) if i.clip else None}) for i in shape.inputs),
        stages=tuple(
            JobStage(
                name=s.name,
                needs=tuple(s.needs),
                settings=MappingProxyType(s.settings),
                models=MappingProxyType(
                    {p: ModelUse(**{**dict(u), "languages": tuple(u.languages)}) for p, u in s.models.items()}
                ),
            )
            for s in shape.stages
        ),
    )


ID = re.compile(r"[0-9]{8}-[0-9]{6}-[a-z0-9-]{1,24}-[0-9a-f]{4}")
"""What :func:`job_id` makes."""


def stray(job: Job, folder: str, *, stages: Mapping[str, StageSpec], models: Mapping[str, Model]) -> str | None:
    """Why a job can't be one that this project prepared in ``folder``; None when it can.

    Its id, the names of its stages and every path decide what is run, written and deleted, and a job's folder may come
    from anywhere. A model that has left the catalogue is no reason: the job can be looked at, and preflight says it.

    Args:
        folder: name of the folder that its job.yaml is in.
        stages: the project's, in pipeline order.
        models: the project's catalogue.
    """
    if job.id != folder or not ID.fullmatch(job.id):
        return f"its id is {job.id!r}, its folder {folder!r}"
    for value, kind in ((job.workflow, Workflow), (job.variant, Variant)):
        if value not in [member.value for member in kind]:
            return f"{value!r} is not a {kind.__name__.lower()}"
    return _stray_input(job.inputs) or _stray_stage(job.stages, stages, models)


def _stray_input(inputs: Sequence[JobInput]) -> str | None:
    """Why recordings can't have been numbered and named by prepare."""
    taken: set[str] = set()
    if len({entry.id for entry in inputs}) != len(inputs) or not inputs:
        return "its recordings are not numbered"
    for entry in inputs:
        if not re.fullmatch(r"[0-9]{2,6}", entry.id) or not re.fullmatch(
            rf"input/{entry.id}\.[a-z0-9]{{1,8}}", entry.path
        ):
            return f"it keeps a recording in {entry.path!r}"
        if _plain(entry.output) != entry.output or len(entry.output.encode()) > NAME_BYTES + 8:
            return f"its results would be called {entry.output!r}"
        if entry.output.casefold() in taken:
            return f"two of its results would be called {entry.output!r}"
        taken.add(entry.output.casefold())
    return None


def _stray_stage(found: Sequence[JobStage], stages: Mapping[str, StageSpec], models: Mapping[str, Model]) -> str | None:
    """Why stages can't have been planned by :func:`plan_stages`."""
    names = [stage.name for stage in found]
    if strange := [name for name in names if name not in stages]:
        return f"this project has no stage {strange[0]!r}"
    if not names or names != [name for name in stages if name in names]:
        return "its stages are not in this project's order"
    for stage in found:
        if stage.needs != tuple(need for need in stages[stage.name].needs if need in names):
            return f"its stage {stage.name} needs {list(stage.needs)}"
        threads = stage.settings.get("threads", 1)
        if type(threads) is not int or not 1 <= threads <= 4096:
            return f"its stage {stage.name} asks for {threads!r} threads"
        if unknown := set(stage.models) - {purpose.value for purpose in stages[stage.name].uses}:
            return f"its stage {stage.name} has a model for {min(unknown)!r}"
        if wrong := next((use for use in stage.models.values() if not _in_its_place(use, models)), None):
            return f"it looks for model {wrong.id!r} in {wrong.path!r}"
    return None


def _in_its_place(use: ModelUse, models: Mapping[str, Model]) -> bool:
    """Whether a model's folder is where this project keeps it, in whichever revision."""
    if not REVISION.fullmatch(use.revision) or unsafe(use.path):
        return False
    model = models.get(use.id)
    return model is None or use.path == snapshot_path(model, Pin(revision=use.revision, files=()))


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which stages of a job run: names in pipeline order, and those of them that run whatever is there already."""

    run: tuple[str, ...]
    again: frozenset[str] = frozenset()


def select(job: Job, *, only: str | None = None, first: str | None = None, until: str | None = None) -> Selection:
    """The stages that a command asks for.

    Args:
        only: this one, again; what it needs must be there.
        first: this one and all that follows from it, again; what comes before as far as it is unfinished.
        until: this one and what it needs, nothing after it.

    Raises:
        UsageError: no such stage, or words that contradict each other.
    """
    names = [s.name for s in job.stages]
    for flag, name in (("--only", only), ("--from", first), ("--until", until)):
        if name is not None and name not in names:
            raise UsageError(
                f'job {job.id} has no stage "{name}"',
                where=flag,
                expected=", ".join(names),
                hint=did_you_mean(name, names),
            )
    if only is not None:
        if first is not None or until is not None:
            raise UsageError("--only says it all", hint="leave out --from and --until")
        return Selection(run=(only,), again=frozenset({only}))
    run = _needed(job, until) if until is not None else set(names)
    after: set[str] = set()
    for stage in job.stages:
        if first is not None and (stage.name == first or after & set(stage.needs)):
            after.add(stage.name)
    if first is not None and first not in run:
        raise UsageError(f"{until} doesn't need {first}", where="--from", hint=f"--until {first}, or a later stage")
    return Selection(run=tuple(n for n in names if n in run), again=frozenset(after & run))


def _needed(job: Job, name: str) -> set[str]:
    """A stage and all that it needs."""
    return {name}.union(*(_needed(job, need) for need in job.stage(name).needs))


def unfinished(stage: JobStage, manifest: Any, *, code: str, digests: Mapping[str, str | None]) -> str | None:
    """Why a stage has to run (again), or None when its results are still good.

    Args:
        manifest: its manifest.json, or None.
        code: digest of the stage's code as it is now.
        digests: ``sha256:…`` by path of every input and output that the manifest names; None where there is no file.
    """
    if not isinstance(manifest, dict) or manifest.get("schema") != 1:
        return "not run yet"
    if manifest.get("code") != code:
        return "its code changed"
    if manifest.get("settings") != json.loads(json.dumps(dict(stage.settings))):
        return "its settings changed"
    if manifest.get("models") != {purpose: use.digest for purpose, use in stage.models.items()}:
        return "its models changed"
    for kind in ("inputs", "outputs"):
        for path, digest in manifest.get(kind, {}).items():
            if digests.get(path) is None:
                return f"{path} is gone"
            if digests[path] != digest:
                return f"{path} changed"
    return None
