"""job.yaml: written for a job, and read with the doubt that a folder from anywhere deserves. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

import yaml
from pydantic import Field

from builder.core.config.settings import checked
from builder.core.config.types import StageSpec
from builder.core.jobs.job import Clip, Job, JobInput, JobStage, ModelUse, stage_data
from builder.core.terms import JOB_SCHEMA, Mode, Purpose, Variant, Workflow
from builder.core.weights import catalog
from builder.core.weights.model import REVISION, SHA256, Model, Pin, model_digest, snapshot_path, unsafe
from builder.core.yaml_document import Document, Strict
from builder.receiver.jobs.naming import NAME_BYTES, plain_stem

MAX_TEXT = 5_000_000
"""Characters of job.yaml: a recording takes 300 or so, and a job may have thousands."""


def to_yaml(job: Job) -> str:
    """job.yaml."""
    data = {
        "schema": JOB_SCHEMA,
        "id": job.id,
        "created": job.created,
        "workflow": job.workflow,
        "mode": job.mode,
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
    sha256: str | None = None


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
    optional: bool = False


class JobShape(Strict):
    """job.yaml."""

    version: int = Field(alias="schema", ge=1, le=1)
    id: str
    created: str
    workflow: str
    mode: str | None = None
    variant: str
    preset: str
    key: str
    inputs: list[InputShape]
    stages: list[EntryShape]


def from_yaml(text: str, where: str) -> Job:
    """Read job.yaml. What it says can't be trusted until :func:`stray` has looked at it.

    Raises:
        ConfigError: it doesn't have the form that prepare gives it.
    """
    shape = Document(where, text, longest=MAX_TEXT).read(JobShape)
    return Job(
        id=shape.id,
        created=shape.created,
        workflow=shape.workflow,
        mode=shape.mode,
        variant=shape.variant,
        preset=shape.preset,
        key=shape.key,
        inputs=tuple(JobInput(**{**dict(i), "clip": Clip(**dict(i.clip)) if i.clip else None}) for i in shape.inputs),
        stages=tuple(
            JobStage(
                name=s.name,
                needs=tuple(s.needs),
                settings=MappingProxyType(s.settings),
                optional=s.optional,
                models=MappingProxyType(
                    {p: ModelUse(**{**dict(u), "languages": tuple(u.languages)}) for p, u in s.models.items()}
                ),
            )
            for s in shape.stages
        ),
    )


ID = re.compile(r"[0-9]{8}-[0-9]{6}-[a-z0-9-]{1,24}-[0-9a-f]{4}")
"""What :func:`job_id` makes."""


LONGEST = 1e9
"""Seconds; no recording is as long, and times beyond are no dates."""

CREATED = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


def stray(
    job: Job,
    folder: str,
    *,
    stages: Mapping[str, StageSpec],
    models: Mapping[str, Model],
    pins: Mapping[str, Pin] = MappingProxyType({}),
) -> str | None:
    """Why a job can't be one that this project prepared in ``folder``; None when it can.

    Its id, the names of its stages and every path decide what is run, written and deleted, and a job's folder may come
    from anywhere. A model that has left the catalogue does not count: the job can still be shown, and preflight names it.

    Args:
        folder: name of the folder that its job.yaml is in.
        stages: the project's, in pipeline order.
        models: the project's catalogue.
        pins: the project's models.lock.
    """
    if job.id != folder or not ID.fullmatch(job.id):
        return f"its id is {job.id!r}, its folder {folder!r}"
    for value, kind in ((job.workflow, Workflow), (job.variant, Variant), (job.mode or Mode.NATIVE.value, Mode)):
        if value not in [member.value for member in kind]:
            return f"{value!r} is not a {kind.__name__.lower()}"
    if not CREATED.fullmatch(job.created):
        return f"it was created at {job.created!r}"
    if not catalog.ID.fullmatch(job.preset):
        return f"{job.preset!r} is not a preset"
    return _stray_input(job.inputs) or _stray_stage(job.stages, stages, models, pins)


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
        if plain_stem(entry.output) != entry.output or len(entry.output.encode()) > NAME_BYTES + 8:
            return f"its results would be called {entry.output!r}"
        if entry.output.casefold() in taken:
            return f"two of its results would be called {entry.output!r}"
        taken.add(entry.output.casefold())
        if wrong := _stray_recording(entry):
            return wrong
    return None


def _stray_recording(entry: JobInput) -> str | None:
    """Why prepare can't have described a recording like this."""
    if set("/\0") & set(entry.name):
        return f"a recording is called {entry.name[:60]!r}"
    clip = entry.clip or Clip(start=0.0)
    for digest in (entry.sha256, clip.sha256 or entry.sha256):
        if not SHA256.fullmatch(digest):
            return f"recording {entry.id} has the sha256 {digest[:80]!r}"
    if entry.size >= 1 << 63 or max(entry.duration or 0.0, clip.start, clip.end or 0.0, clip.lead) > LONGEST:
        return f"recording {entry.id} has an impossible size or length"
    return None


def _stray_stage(
    job_stages: Sequence[JobStage],
    stages: Mapping[str, StageSpec],
    models: Mapping[str, Model],
    pins: Mapping[str, Pin],
) -> str | None:
    """Why stages can't have been planned by :func:`plan_stages`."""
    names = [stage.name for stage in job_stages]
    if strange := [name for name in names if name not in stages]:
        return f"this project has no stage {strange[0]!r}"
    if not names or names != [name for name in stages if name in names]:
        return "its stages are not in this project's order"
    for stage in job_stages:
        spec = stages[stage.name]
        if stage.needs != tuple(need for need in spec.needs if need in names):
            return f"its stage {stage.name} needs {list(stage.needs)}"
        if stage.optional and not spec.optional:
            return f"its stage {stage.name} may fail"
        if wrong := _stray_setting(stage, spec):
            return wrong
        if unknown := set(stage.models) - {purpose.value for purpose in spec.uses}:
            return f"its stage {stage.name} has a model for {min(unknown)!r}"
        for purpose, use in stage.models.items():
            if not _in_its_place(use, models):
                return f"it looks for model {use.id!r} in {use.path!r}"
            if not _as_known(purpose, use, models, pins):
                return f"its model {use.id!r} is not this project's"
    return None


def _stray_setting(stage: JobStage, spec: StageSpec) -> str | None:
    """Why a stage's settings can't be what stage.yaml allows."""
    for name, value in stage.settings.items():
        if name == DESCRIBED and stage.name == RESULTS:
            if not _describes(value):
                return f"its stage {stage.name} describes its models in another way"
            continue
        if name not in spec.settings:
            return f"its stage {stage.name} has no setting {name!r}"
        try:
            checked(spec.settings[name], value)
        except ValueError as error:
            return f"its stage {stage.name} asks for {name}: {error}"
    return None


RESULTS, DESCRIBED = "subtitles", "models"
"""The stage whose results say which models were used, and its setting for that."""


def _describes(value: Any) -> bool:
    """Whether a value is what :func:`plan_stages` says of models: purpose -> what identifies a model."""
    known, fields = {purpose.value for purpose in Purpose}, {"id", "digest", "revision"}
    return (
        isinstance(value, dict)
        and set(value) <= known
        and all(
            isinstance(model, dict)
            and set(model) == fields
            and all(isinstance(text, str) and len(text) <= 200 and text.isprintable() for text in model.values())
            for model in value.values()
        )
    )


def _in_its_place(use: ModelUse, models: Mapping[str, Model]) -> bool:
    """Whether a model's folder is where this project keeps it, in whichever revision."""
    if not REVISION.fullmatch(use.revision) or unsafe(use.path):
        return False
    model = models.get(use.id)
    return model is None or use.path == snapshot_path(model, Pin(revision=use.revision, files=()))


def _as_known(purpose: str, use: ModelUse, models: Mapping[str, Model], pins: Mapping[str, Pin]) -> bool:
    """Whether a model does what the catalogue says, and has the bytes that models.lock pins, where it has that revision."""
    model, pin = models.get(use.id), pins.get(use.id)
    if not catalog.ID.fullmatch(use.id) or not use.digest.isprintable():
        return False
    if model is not None and (model.purpose.value != purpose or tuple(model.languages) != use.languages):
        return False
    return pin is None or pin.revision != use.revision or model_digest(pin) == use.digest
