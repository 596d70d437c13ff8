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

from builder.core.catalog import model_digest
from builder.core.types import Model, Pin, Purpose, StageSpec, Workflow, snapshot_path
from builder.errors import ConfigError, UsageError, did_you_mean

NAME_BYTES = 200
"""Longest stem of an output file, in UTF-8 bytes: file systems allow 255 with the suffix."""


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
    stem = PurePath(name).stem or name
    stem = (
        "".join(c if c.isprintable() and c not in "/\\" else "_" for c in stem).strip(". ").lstrip("-") or "recording"
    )
    while len(stem.encode()) > NAME_BYTES:
        stem = stem[:-1]
    unique, number = stem, 2
    while unique.casefold() in taken:
        unique, number = f"{stem}-{number}", number + 1
    taken.add(unique.casefold())
    return unique


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
        "schema": 1, "id": job.id, "created": job.created, "workflow": job.workflow, "variant": job.variant,
        "preset": job.preset, "key": job.key,
        "inputs": [asdict(i) for i in job.inputs],
        "stages": [stage_data(s) for s in job.stages],
    }  # fmt: skip
    # PyYAML writes some control characters as they are, and reads them back as spaces: then everything is escaped.
    readable = all(i.name.isprintable() for i in job.inputs)
    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=readable, width=120))


def _use(languages: Sequence[str] = (), **rest: str) -> ModelUse:
    return ModelUse(languages=tuple(languages), **rest)


def from_yaml(text: str, where: str) -> Job:
    """Read job.yaml.

    Raises:
        ConfigError: it is not what prepare wrote.
    """
    try:
        data = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        return Job(
            **{k: data[k] for k in ("id", "created", "workflow", "variant", "preset", "key")},
            inputs=tuple(
                JobInput(**{**i, "clip": Clip(**i["clip"]) if i["clip"] else None}) for i in data["inputs"]
            ),
            stages=tuple(
                JobStage(
                    name=s["name"], needs=tuple(s["needs"]), settings=MappingProxyType(s["settings"]),
                    models=MappingProxyType({p: _use(**u) for p, u in s["models"].items()}),
                )
                for s in data["stages"]
            ),
        )  # fmt: skip
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"this is not a job's file: {error}", where=where, hint="prepare the recording again"
        ) from error


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
                f'job {job.id} has no stage "{name}"', where=flag, expected=", ".join(names),
                hint=did_you_mean(name, names),
            )  # fmt: skip
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
