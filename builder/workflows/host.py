"""Where a job runs: the native environment, containers, or both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.core.jobs import compose, request
from builder.core.jobs.compose import Image, Machine
from builder.core.jobs.job import Job
from builder.core.jobs.request import JobOptions, Request
from builder.core.terms import Mode
from builder.edges.jobs.preflight import Containers
from builder.edges.machine import environment as native
from builder.edges.system import files
from builder.errors import ConfigError, MissingError
from builder.workflows.session import Session, chosen_models, hardware_of, native_python

if TYPE_CHECKING:
    from builder.edges.jobs.prepare import Media
    from builder.edges.jobs.runner import Host


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the stages of a job run."""

    host: Callable[[Job, int], Host]
    """From a job and the index of the GPU that it is given."""
    media: Media
    python: Path | None
    images: Mapping[str, Image] = field(default_factory=dict)
    """Stage -> the image it runs in."""
    text: Callable[[Job, int], str] | None = None
    """The job's compose file, where all stages run in containers."""
    containers: Containers | None = None
    """Engine and images, where all stages run in containers."""
    memory: int = 0
    """Bytes that the engine has, where all stages run in containers."""
    note: str = ""


def resolve(session: Session, options: JobOptions) -> Request:
    """What a job is asked to do, by options, configuration and this machine.

    Raises:
        UsageError: see :func:`builder.core.jobs.request.resolve`.
    """
    hardware, advice = hardware_of(session.config)
    models = chosen_models(session.config, models=options.models, diarization=options.diarization)
    return request.resolve(options, config=session.config, hardware=hardware, advice=advice, models=models)


def choose(session: Session, *, build: bool = True) -> Place:
    """The place that the session's mode asks for.

    Args:
        build: build images that are missing or not up to date; else they are an error.
    """
    if session.config.defaults.mode is Mode.NATIVE:
        return _native(session)
    return _containers(session, build=build)


def _native(session: Session) -> Place:
    """Processes here; media files in containers when their images were built (``build.py build``)."""
    from builder.edges.jobs import folder as jobs
    from builder.edges.jobs.hosts import media as containers
    from builder.edges.jobs.hosts.native import Native

    config, env = session.config, session.env
    python = native_python(session.config, env=session.env, on_progress=session.on_progress)
    engine, tags, ids = _media_images(session)

    def host(job: Job, gpu: int) -> Host:
        place = jobs.folder(config, job)
        own = Native(stages=config.root / "stages", models=config.paths.models, place=place, python=python, env=env)
        return containers.Media(own, host=engine, images=tags, place=place) if tags else own

    if not tags:
        note = "media were read in the native environment (no images here)"
        return Place(host=host, media=native.media(config, python, env), python=python, note=note)
    return Place(
        host=host,
        media=containers.media(engine, tags["demux"]),
        python=python,
        images={stage: Image(id=id_) for stage, id_ in ids.items()},
        note="media were read in containers without network",
    )


def _containers(session: Session, *, build: bool) -> Place:
    """Every stage in a container of its own."""
    from builder.edges.jobs import folder as jobs
    from builder.edges.jobs.hosts import media as containers

    config = session.config
    found = _recorded(session) or _looked_up(session, build=build)
    if not found.engine.startswith("unix:"):
        raise MissingError("jobs need an engine on this machine: it reads the job's folder", where=found.engine)
    hardware, _ = hardware_of(session.config)
    machine = Machine(
        threads=min(hardware.threads, found.cpus),
        memory=min(hardware.memory, found.memory or hardware.memory),
        user=containers.user(),
        gpu_driver=config.defaults.gpu_driver,
    )
    template = config.root / "compose" / compose.TEMPLATE
    if not template.is_file():
        raise ConfigError("no template", where=str(template))
    models = str(config.paths.models.resolve())
    sizes = {id_: pin.size for id_, pin in config.pins.items()}

    def text(job: Job, gpu: int) -> str:
        given = replace(machine, gpu=gpu)
        made = compose.services(job, found.images, machine=given, specs=config.stages, sizes=sizes)
        return compose.render(template.read_text(encoding="utf-8"), job, made, machine=given, models=models)

    def host(job: Job, gpu: int) -> Host:
        from builder.edges.jobs.hosts.compose import Project

        return Project(
            host=found.engine, job=job.id, place=jobs.folder(config, job), text=text(job, gpu), env=session.env
        )

    return Place(
        host=host,
        media=containers.media(found.engine, found.images["demux"].id),
        python=None,
        images=found.images,
        text=text,
        containers=Containers(engine=found.engine, images=sorted(i.id for i in found.images.values())),
        memory=machine.memory,
        note="every stage ran in a container without network",
    )


@dataclass(frozen=True, kw_only=True)
class _Found:
    """Images of all stages on an engine, and what that engine has for containers."""

    engine: str
    images: Mapping[str, Image]
    tags: Mapping[str, str]
    cpus: int
    memory: int


def _looked_up(session: Session, *, build: bool) -> _Found:
    """Plan, ask the engine, build if need be; remembered for :func:`_recorded`."""
    from builder.edges.engine import connection as engines
    from builder.workflows import images

    config = session.config
    if build:
        engine, made, _ = images.ensure(session)
    else:
        engine = engines.connect(session.env)
        made = images.rendered(session, engine=engine)
    here = {h.tag: h for h in images.here(session, engine)}
    tags = {i.stage: i.tag for i in made.plan.images if i.stage}
    lacking = [tag for tag in tags.values() if tag not in here or not here[tag].up_to_date]
    if lacking:
        raise MissingError(
            f"not built, or not of this code: {', '.join(lacking)}",
            hint=f"build.py build --mode {config.defaults.mode.value}",
        )
    found = _Found(
        engine=engine.host,
        tags=tags,
        cpus=engine.cpus,
        memory=engine.memory,
        images={s: Image(id=here[tag].id, models=tuple(sorted(here[tag].baked.values()))) for s, tag in tags.items()},
    )
    files.write_json(config.paths.stage_images, {"key": _key(session, engine.host), **asdict(found)})
    return found


def _recorded(session: Session) -> _Found | None:
    """What the last look found, if nothing that it looked at has changed and the engine still has the images."""
    from builder.edges.engine import connection as engines

    known = files.read_json(session.config.paths.stage_images)
    if not isinstance(known, dict) or known.pop("key", None) != _key(session, engines.address(session.env)):
        return None
    known["images"] = {stage: Image(id=i["id"], models=tuple(i["models"])) for stage, i in known["images"].items()}
    found = _Found(**known)
    ids = engines.image_ids(found.engine, list(found.tags.values()))
    return found if ids == [found.images[stage].id for stage in found.tags] else None


def _key(session: Session, engine: str) -> str:
    """A hash over what images are made from, by the identity of the files."""
    config = session.config
    seen: list[Any] = [engine, config.defaults.mode.value, config.defaults.variant.value, config.defaults.registry]
    seen.append(sorted(model.id for model, _ in chosen_models(session.config).values()))
    folders = ("images", "stages", "templates", "builder")
    paths = [config.root / name for name in ("bake.yaml", "models.yaml", "models.lock")]
    paths += [p for name in folders for p in sorted((config.root / name).rglob("*")) if p.suffix != ".pyc"]
    for path in paths:
        if path.is_file():
            found = path.stat()
            seen.append([str(path), found.st_size, found.st_mtime_ns])
    return hashlib.sha256(json.dumps(seen).encode()).hexdigest()


def record(session: Session, built: Sequence[tuple[str, str, str]]) -> None:
    """Remember images for native jobs, so that a job need not ask what they are made of.

    Args:
        built: (stage, tag, image id).
    """
    from builder.edges.jobs import runner

    stages = session.config.root / "stages"
    entries = {s: {"tag": tag, "id": id_, "code": runner.code_digest(stages, s)} for s, tag, id_ in built}
    files.write_json(session.config.paths.media_images, entries)


def _media_images(session: Session) -> tuple[str, dict[str, str], dict[str, str]]:
    """Engine, stage -> tag and stage -> id of the recorded images, if all are still there and of this code."""
    from builder.edges.engine import connection as engines
    from builder.edges.jobs import runner

    none: tuple[str, dict[str, str], dict[str, str]] = ("", {}, {})
    known = files.read_json(session.config.paths.media_images)
    media = [s.name for s in session.config.stages.values() if s.media]
    if not isinstance(known, dict) or not known or set(known) != set(media) or engines.why_not(session.env):
        return none
    stages = session.config.root / "stages"
    if any(known[name].get("code") != runner.code_digest(stages, name) for name in media):
        return none
    host = engines.address(session.env)
    ids = engines.image_ids(host, [known[n]["tag"] for n in media])
    if ids != [known[n]["id"] for n in media] or not host.startswith("unix:"):
        return none
    return host, {n: known[n]["tag"] for n in media}, {n: known[n]["id"] for n in media}
