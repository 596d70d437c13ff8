"""Where a job runs: the native environment, containers, or both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from builder.core.job import Job
from builder.core.types import Mode
from builder.edges import files, native, shell
from builder.errors import MissingError
from builder.session import Session, native_python

if TYPE_CHECKING:
    from builder.edges.jobs import Media
    from builder.edges.runner import Start


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the stages of a job run."""

    start: Callable[[Job], Start]
    media: Media
    python: Path | None
    images: Mapping[str, str] = field(default_factory=dict)
    """Stage -> id of the image it runs in."""
    note: str = ""


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
    from builder.edges import runner

    config, env = session.config, session.env
    python = native_python(session)
    host, tags, ids = _media_images(session)

    def start(job: Job) -> Start:
        own = runner.native_start(config, job, python, env)
        if not tags:
            return own
        from builder.edges import containers, jobs

        return containers.start(host, tags, jobs.folder(config, job), config.home / "models", fallback=own)

    if not tags:
        note = "media were read in the native environment (no images here)"
        return Place(start=start, media=native.media(config, python, env), python=python, note=note)
    from builder.edges import containers

    return Place(
        start=start, media=containers.media(host, tags["demux"]), python=python, images=ids,
        note="media were read in containers without network",
    )  # fmt: skip


def _containers(session: Session, *, build: bool) -> Place:
    """Every stage in a container of its own."""
    from builder.edges import containers, jobs
    from builder.edges import engine as engines
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
    if not engine.host.startswith("unix:"):
        raise MissingError("jobs need an engine on this machine: it reads the job's folder", where=engine.host)

    def never(stage: object, log: Path) -> shell.Process:
        raise MissingError(f"no image for {stage}", hint="build.py images")

    def start(job: Job) -> Start:
        return containers.start(
            engine.host, tags, jobs.folder(config, job), config.home / "models", fallback=never,
            baked={stage: here[tag].baked.values() for stage, tag in tags.items()},
        )  # fmt: skip

    return Place(
        start=start, media=containers.media(engine.host, tags["demux"]), python=None,
        images={stage: here[tag].id for stage, tag in tags.items()}, note="every stage ran in a container without network",
    )  # fmt: skip


RECORD = "media-images.json"
"""In the cache folder: the images for media files, with what they were made from."""


def record(session: Session, built: Sequence[tuple[str, str, str]]) -> None:
    """Remember images for native jobs, so that a job need not ask what they are made of.

    Args:
        built: (stage, tag, image id).
    """
    from builder.edges import runner

    stages = session.config.root / "stages"
    entries = {s: {"tag": tag, "id": id_, "code": runner.code_digest(stages, s)} for s, tag, id_ in built}
    files.write_json(session.config.home / "cache" / RECORD, entries)


def _media_images(session: Session) -> tuple[str, dict[str, str], dict[str, str]]:
    """Engine, stage -> tag and stage -> id of the recorded images, if all are still there and of this code."""
    from builder.edges import engine as engines
    from builder.edges import runner

    none: tuple[str, dict[str, str], dict[str, str]] = ("", {}, {})
    known = files.read_json(session.config.home / "cache" / RECORD)
    media = [s.name for s in session.config.stages.values() if s.media]
    if not isinstance(known, dict) or not known or set(known) != set(media) or engines.why_not(session.env):
        return none
    stages = session.config.root / "stages"
    if any(known[name].get("code") != runner.code_digest(stages, name) for name in media):
        return none
    host = engines.address(session.env)
    argv = ["docker", "--host", host, "image", "inspect", "--format", "{{.Id}}", *(known[n]["tag"] for n in media)]
    done = shell.run(argv, timeout=engines.ASK)
    if done.code != 0 or done.out.split() != [known[n]["id"] for n in media] or not host.startswith("unix:"):
        return none
    return host, {n: known[n]["tag"] for n in media}, {n: known[n]["id"] for n in media}
