"""Which images a job's stages run in, remembered from one command to the next: looking again takes seconds.

A file in the cache folder has the images of all stages for a mode of containers, with a hash over everything that images
are made from. The images that parse media files for native jobs are found by a label.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from builder.core.config.types import Config
from builder.core.images import currency
from builder.core.images.render import code_label
from builder.core.jobs.compose import StageImage, needs_gpu
from builder.core.jobs.job import Job
from builder.core.terms import Mode
from builder.edges.engine import connection as engines
from builder.edges.images.installed import baked
from builder.edges.jobs.outcome import code_digest
from builder.edges.machine.project import PACKAGE
from builder.edges.system import files
from builder.program import command


@dataclass(frozen=True, kw_only=True)
class StageImages:
    """Images of all stages on an engine, and what that engine has for containers."""

    engine: str
    """Its address."""
    images: Mapping[str, StageImage]
    """Stage -> image."""
    tags: Mapping[str, str]
    """Stage -> tag of its image."""
    cpus: int
    """Logical processors."""
    memory: int
    """Bytes."""
    weights: StageImage | None = None
    """What containers mount weights from."""
    weights_tag: str = ""
    """Its tag."""


@dataclass(frozen=True, kw_only=True)
class MediaImages:
    """The images of the stages that parse media files."""

    engine: str
    ids: Mapping[str, str]
    """Stage -> image id."""


def record(config: Config, models: Iterable[str], images: StageImages) -> None:
    """Remember images that are up to date.

    Args:
        models: ids of the models that the configuration chooses.
    """
    entry = {"key": _key(config, models, images.engine), **asdict(images)}
    files.write_json(config.paths.stage_images, entry)


def recorded(config: Config, models: Iterable[str], env: Mapping[str, str]) -> StageImages | None:
    """What was recorded, if nothing that it depends on has changed and the engine still has the images."""
    entry = files.read_object(config.paths.stage_images)
    if not entry or entry.pop("key", None) != _key(config, models, engines.address(env)):
        return None
    entry["images"] = {stage: _image(i) for stage, i in entry["images"].items()}
    entry["weights"] = _image(entry["weights"]) if entry.get("weights") else None
    images = StageImages(**entry)
    tags, ids = list(images.tags.values()), [images.images[stage].id for stage in images.tags]
    if images.weights is not None:
        tags, ids = [*tags, images.weights_tag], [*ids, images.weights.id]
    return images if engines.image_ids(images.engine, tags) == ids else None


def _image(entry: Mapping[str, Any]) -> StageImage:
    return StageImage(id=entry["id"], models=tuple(entry["models"]))


def _key(config: Config, models: Iterable[str], engine: str) -> str:
    """A hash over what images are made from, by the identity of the files."""
    defaults = config.defaults
    facts: list[Any] = [engine, defaults.mode.value, defaults.variant.value, defaults.registry, sorted(models)]
    facts += [sorted(defaults.extras), defaults.weights, defaults.preset]
    paths = [config.root / name for name in ("bake.yaml", "models.yaml", "models.lock")]
    paths.append(config.paths.versions)
    for folder in (*(config.shipped / name for name in ("images", "stages", "templates")), PACKAGE):
        paths += sorted(p for p in folder.rglob("*") if p.suffix != ".pyc")
    for path in paths:
        if path.is_file():
            status = path.stat()
            facts.append([str(path), status.st_size, status.st_mtime_ns])
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def media_images(config: Config, env: Mapping[str, str]) -> MediaImages | str | None:
    """The images of today's code that an engine here has for all stages that parse media files, whoever put them there.

    Returns:
        the images; why an engine that is here can't be used for it; None where there is no engine.
    """
    host = engines.address(env)
    if not host.startswith("unix:") or engines.why_not(host):
        return None
    found = {}
    for stage in (name for name, spec in config.stages.items() if spec.media):
        images = engines.labelled(host, _code(config, stage))
        if images is None:
            return f"the engine at {host} doesn't answer"
        if not images:
            return f"the engine has no image of stage {stage} as its code is today"
        found[stage] = next(iter(images))
    return MediaImages(engine=host, ids=found)


def _code(config: Config, stage: str) -> str:
    """The label of images with a stage's code as it is today."""
    return f"{currency.CODE}={code_label(stage, code_digest(config.shipped / 'stages', stage))}"


def of_native_job(config: Config, host: str, job: Job) -> StageImages | None:
    """Images of today's code that could run a native job's stages, whoever put them on an engine.

    Args:
        host: the engine, a unix socket.

    Returns:
        None when a stage has none, or the engine doesn't answer.
    """
    found = {}
    for stage in job.stages:
        labels = [_code(config, stage.name), f"{currency.VARIANT}={job.variant}"]
        if needs_gpu(stage):
            labels.append(f"{currency.MODE}={Mode.DOCKER_GPU.value}")
        images = engines.labelled(host, *labels)
        if not images:
            return None
        id_, carried = next(iter(images.items()))
        found[stage.name] = StageImage(id=id_, models=tuple(sorted(baked(carried).values())))
    capacity = engines.capacity(host)
    if capacity is None:
        return None
    return StageImages(engine=host, images=found, tags={}, cpus=capacity[0], memory=capacity[1])


def note_isolated(config: Config) -> None:
    """Remember that recordings were read in containers here: losing that is worth a word."""
    with suppress(OSError):
        config.paths.isolated.parent.mkdir(parents=True, exist_ok=True)
        config.paths.isolated.touch()


def unisolated(config: Config, why: str | None) -> str:
    """What a person should know before recordings, which are untrusted, are read outside of containers.

    Nothing where no engine is and none has been: it is no loss, and the job's end says it too.

    Args:
        why: why an engine that is here can't be used for it; None where there is none.
    """
    if why is None and not config.paths.isolated.exists():
        return ""
    return (
        f"recordings are read without the protection of containers: {why or 'no engine answers any more'}. "
        f"{command('build')} makes the images"
    )
