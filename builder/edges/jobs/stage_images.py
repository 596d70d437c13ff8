"""Which images a job's stages run in, remembered from one command to the next: looking again takes seconds.

Two files in the cache folder. One has the images of all stages for a mode of containers, with a hash over everything
that images are made from; the other has those that parse media files for native jobs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from builder.core.config.types import Config
from builder.core.jobs.compose import StageImage
from builder.edges.engine import connection as engines
from builder.edges.jobs.outcome import code_digest
from builder.edges.system import files


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


@dataclass(frozen=True, kw_only=True)
class MediaImages:
    """The images of the stages that parse media files."""

    engine: str
    tags: Mapping[str, str]
    """Stage -> tag."""


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
    entry["images"] = {stage: StageImage(id=i["id"], models=tuple(i["models"])) for stage, i in entry["images"].items()}
    images = StageImages(**entry)
    ids = engines.image_ids(images.engine, list(images.tags.values()))
    return images if ids == [images.images[stage].id for stage in images.tags] else None


def _key(config: Config, models: Iterable[str], engine: str) -> str:
    """A hash over what images are made from, by the identity of the files."""
    defaults = config.defaults
    facts: list[Any] = [engine, defaults.mode.value, defaults.variant.value, defaults.registry, sorted(models)]
    paths = [config.root / name for name in ("bake.yaml", "models.yaml", "models.lock")]
    for name in ("images", "stages", "templates", "builder"):
        paths += sorted(p for p in (config.root / name).rglob("*") if p.suffix != ".pyc")
    for path in paths:
        if path.is_file():
            status = path.stat()
            facts.append([str(path), status.st_size, status.st_mtime_ns])
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def record_media(config: Config, built: Sequence[tuple[str, str, str]]) -> None:
    """Remember images for native jobs, so that a job need not ask what they are made of.

    Args:
        built: (stage, tag, image id).
    """
    stages = config.root / "stages"
    entries = {stage: {"tag": tag, "id": id_, "code": code_digest(stages, stage)} for stage, tag, id_ in built}
    files.write_json(config.paths.media_images, entries)


def recorded_media(config: Config, env: Mapping[str, str]) -> MediaImages | None:
    """The recorded images, if the engine still has all of them and they are of today's code."""
    entries = files.read_object(config.paths.media_images)
    media = [stage.name for stage in config.stages.values() if stage.media]
    if not entries or set(entries) != set(media):
        return None
    host = engines.address(env)
    if not host.startswith("unix:") or engines.why_not(host):
        return None
    stages = config.root / "stages"
    if any(entries[name].get("code") != code_digest(stages, name) for name in media):
        return None
    ids = engines.image_ids(host, [entries[name]["tag"] for name in media])
    if ids != [entries[name]["id"] for name in media]:
        return None
    return MediaImages(
        engine=host,
        tags={name: entries[name]["tag"] for name in media},
    )
