"""A job: what to do with which recordings, which of its stages to run, and which results are still good. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from builder.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from builder.core.jobs.record.manifest import Manifest


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A part of a recording, in seconds."""

    start: float
    end: float | None = None
    lead: float = 0.0
    """Seconds of picture without sound before ``start`` in the file that was cut: a picture begins at a key frame."""
    sha256: str | None = None
    """Hex, of the file that was cut; None before it is."""


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
    optional: bool = False
    """When it fails, the job goes on without its results."""


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
    mode: str | None = None
    """Where it was to run when it was made; None in jobs of a bundle, and in those from before this was noted."""

    def stage(self, name: str) -> JobStage:
        """The stage of that name."""
        return next(s for s in self.stages if s.name == name)


def stage_data(stage: JobStage) -> dict[str, Any]:
    """A stage as it stands in job.yaml."""
    return {
        "name": stage.name,
        "needs": list(stage.needs),
        "settings": dict(stage.settings),
        "models": {purpose: asdict(use) for purpose, use in stage.models.items()},
        "optional": stage.optional,
    }


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which stages of a job run: names in pipeline order, and those of them that run whatever is there already."""

    run: tuple[str, ...]
    again: frozenset[str] = frozenset()
    trusting: bool = False
    """Results that are there are good enough to read, whatever code and settings made them."""


def select(job: Job, *, only: str | None = None, first: str | None = None, until: str | None = None) -> Selection:
    """The stages of a job that a command asks for; see :func:`select_stages`."""
    return select_stages(job.stages, only=only, first=first, until=until)


def select_stages(
    stages: Sequence[JobStage], *, only: str | None = None, first: str | None = None, until: str | None = None
) -> Selection:
    """The stages that a command asks for.

    Args:
        stages: a job's, in order.
        only: this one, again; what it needs must be there.
        first: run this stage and all that follow from it again, after those before it that are unfinished.
        until: this one and what it needs, nothing after it.

    Raises:
        UsageError: no such stage, or words that contradict each other.
    """
    names = [s.name for s in stages]
    for flag, name in (("--only", only), ("--from", first), ("--until", until)):
        if name is not None and name not in names:
            raise UsageError(
                f'this job has no stage "{name}"',
                where=flag,
                expected=", ".join(names),
                hint=did_you_mean(name, names),
            )
    if only is not None:
        if first is not None or until is not None:
            raise UsageError("--only says it all", hint="leave out --from and --until")
        return Selection(run=(only,), again=frozenset({only}))
    run = _needed(stages, until) if until is not None else set(names)
    after: set[str] = set()
    for stage in stages:
        if first is not None and (stage.name == first or after & set(stage.needs)):
            after.add(stage.name)
    if first is not None and first not in run:
        raise UsageError(f"{until} doesn't need {first}", where="--from", hint=f"--until {first}, or a later stage")
    return Selection(run=tuple(n for n in names if n in run), again=frozenset(after & run))


def rendering(stages: Sequence[JobStage], stage: str) -> Selection:
    """The stages that write the results again after an edit: ``stage``, which reads edits, and what follows from it."""
    after = {stage}
    for each in stages:
        if after & set(each.needs):
            after.add(each.name)
    return Selection(run=tuple(s.name for s in stages if s.name in after), trusting=True)


def require_whole(stages: Sequence[JobStage], selection: Selection) -> None:
    """Refuse a selection that can't begin with a recording of which nothing is done yet.

    Raises:
        UsageError: a stage needs one that is left out.
    """
    for stage in stages:
        missing = [need for need in stage.needs if stage.name in selection.run and need not in selection.run]
        if missing:
            raise UsageError(
                f"stage {missing[0]} comes first: nothing of this recording is done yet",
                where="--only",
                hint=f"--until {stage.name}",
            )


def _needed(stages: Sequence[JobStage], name: str) -> set[str]:
    """A stage and all that it needs."""
    needs = next(stage.needs for stage in stages if stage.name == name)
    return {name}.union(*(_needed(stages, need) for need in needs))


def unfinished(
    stage: JobStage,
    manifest: Manifest | None,
    *,
    code: str,
    digests: Mapping[str, str | None],
    late: Sequence[str] = (),
    edits: Sequence[str] = (),
) -> str | None:
    """Why a stage has to run (again), or None when its results are still good.

    Args:
        manifest: its manifest, or None.
        code: digest of the stage's code as it is now.
        digests: ``sha256:…`` by path of every input and output that the manifest names; None where there is no file.
        late: optional stages that it needs and that have results by now; it may have run without them.
        edits: paths of files that change the text, that it reads and that are there; it may have run without them.
    """
    if manifest is None:
        return "not run yet"
    if manifest.code != code:
        return "its code changed"
    if manifest.settings != json.loads(json.dumps(dict(stage.settings))):
        return "its settings changed"
    if manifest.models != {purpose: use.digest for purpose, use in stage.models.items()}:
        return "its models changed"
    for path, digest in (*manifest.inputs.items(), *manifest.outputs.items()):
        if digests.get(path) is None:
            return f"{path} is gone"
        if digests[path] != digest:
            return f"{path} changed"
    for need in late:
        if not any(path.startswith(f"work/{need}/") for path in manifest.inputs):
            return f"it ran without the results of {need}"
    for path in edits:
        if path not in manifest.inputs:
            return "the transcript was edited" if path.endswith("edits.json") else f"it ran without {path}"
    return None
