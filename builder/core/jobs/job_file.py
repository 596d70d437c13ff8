"""job.yaml: written for a job, and read with the doubt that a folder from anywhere deserves. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

import yaml
from pydantic import Field

from builder.core.config.types import StageSpec
from builder.core.jobs.job import Clip, Job, JobInput, JobStage, ModelUse, stage_data
from builder.core.terms import Mode, Variant, Workflow
from builder.core.weights.model import REVISION, Model, Pin, snapshot_path, unsafe
from builder.core.yaml_document import Document, Strict
from builder.receiver.jobs.naming import NAME_BYTES, plain_stem

MAX_TEXT = 20_000_000
"""Characters of job.yaml: a recording takes 300 or so, and a job may have thousands."""


def to_yaml(job: Job) -> str:
    """job.yaml."""
    data = {
        "schema": 1,
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


def stray(job: Job, folder: str, *, stages: Mapping[str, StageSpec], models: Mapping[str, Model]) -> str | None:
    """Why a job can't be one that this project prepared in ``folder``; None when it can.

    Its id, the names of its stages and every path decide what is run, written and deleted, and a job's folder may come
    from anywhere. A model that has left the catalogue does not count: the job can still be shown, and preflight names it.

    Args:
        folder: name of the folder that its job.yaml is in.
        stages: the project's, in pipeline order.
        models: the project's catalogue.
    """
    if job.id != folder or not ID.fullmatch(job.id):
        return f"its id is {job.id!r}, its folder {folder!r}"
    for value, kind in ((job.workflow, Workflow), (job.variant, Variant), (job.mode or Mode.NATIVE.value, Mode)):
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
        if plain_stem(entry.output) != entry.output or len(entry.output.encode()) > NAME_BYTES + 8:
            return f"its results would be called {entry.output!r}"
        if entry.output.casefold() in taken:
            return f"two of its results would be called {entry.output!r}"
        taken.add(entry.output.casefold())
    return None


def _stray_stage(
    job_stages: Sequence[JobStage], stages: Mapping[str, StageSpec], models: Mapping[str, Model]
) -> str | None:
    """Why stages can't have been planned by :func:`plan_stages`."""
    names = [stage.name for stage in job_stages]
    if strange := [name for name in names if name not in stages]:
        return f"this project has no stage {strange[0]!r}"
    if not names or names != [name for name in stages if name in names]:
        return "its stages are not in this project's order"
    for stage in job_stages:
        if stage.needs != tuple(need for need in stages[stage.name].needs if need in names):
            return f"its stage {stage.name} needs {list(stage.needs)}"
        if stage.optional and not stages[stage.name].optional:
            return f"its stage {stage.name} may fail"
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
