"""Versions of images on an engine and in the layout (:mod:`builder.core.images.versions`): named, kept, gone back to."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from builder import __version__
from builder.core.config.types import Config
from builder.core.images import currency, versions
from builder.core.images.versions import BuildNote, Hold, ImageVersion, VersionImage, Versions
from builder.core.progress import OnProgress, Progress
from builder.core.terms import JOB_SCHEMA, Mode
from builder.core.weights.model import Model
from builder.edges.engine import kept
from builder.edges.engine.connection import Engine
from builder.edges.images import load
from builder.edges.images.build import drop_replaced
from builder.edges.images.installed import TaggedImage, id_of, labels_of
from builder.edges.images.layout import Layout
from builder.edges.system import files, shell
from builder.errors import BakeError, MissingError
from builder.program import command

MADE_FROM = ("bake.yaml", "models.yaml", "models.lock", "images", "stages", "templates", "builder")
"""Of a project's files, those that images are made from."""


def read(path: Path) -> Versions:
    """What is known of versions here."""
    return versions.parsed(files.read_object(path))


def held(config: Config, engine: Engine, *, whole: bool = True) -> dict[str, str]:
    """Tags that are held on an engine, with the name of their version. One that somebody moved by hand is not.

    Args:
        whole: raise for a rollback that was interrupted; else its tags count, as far as they were moved.

    Raises:
        MissingError: a rollback was interrupted, and its tags are of two versions.
    """
    tags: dict[str, str] = {}
    for hold in read(config.paths.versions).holds:
        if whole:
            require_whole(hold)
        tags |= {tag: hold.name for tag, id_ in hold.ids.items() if id_of(engine, tag) == id_}
    return tags


def require_whole(hold: Hold) -> None:
    """Raises MissingError for a rollback that was interrupted."""
    if hold.moving:
        raise MissingError(
            f"a rollback to {hold.name} was interrupted: the tags of {hold.mode} {hold.variant} are of two versions",
            hint=command(f"rollback {versions.options(hold.mode, hold.variant)} --to {hold.name}"),
        )


def require_fit(
    config: Config, images: Iterable[TaggedImage], tags: Mapping[str, str], models: Iterable[Model]
) -> None:
    """Refuse held images that can't do what is asked of them; weights that they lack are mounted.

    Args:
        images: those of the engine.
        tags: the held ones, with the name of their version.
        models: what stages are to load.

    Raises:
        MissingError: an image reads jobs of another format, or has no engine for a model.
    """
    for image in images:
        if image.tag not in tags:
            continue
        name, why = image.labels.get("org.opencontainers.image.title", ""), ""
        spec = config.images.get(name)
        uses = config.stages[spec.stage].uses if spec and spec.stage else ()
        engines = {config.models[i].engine for i in _ids(image) if i in config.models}
        if (schema := image.labels.get(currency.SCHEMA, "1")) != str(JOB_SCHEMA):
            why = f"it reads jobs of schema {schema[:20]!r}, and jobs are written in schema {JOB_SCHEMA} now"
        elif lacking := [m.id for m in models if m.purpose in uses and m.engine and m.engine not in engines]:
            why = f"it has nothing that {lacking[0]} runs on"
        if why:
            raise MissingError(
                f"{image.tag} is held at {tags[image.tag]}: {why}",
                hint=f"{command('build')} brings images to today's code, which ends the hold",
            )


def _ids(image: TaggedImage) -> list[str]:
    return image.labels.get(currency.MODELS, "").split(",")


def commit_of(root: Path) -> str:
    """``g`` and twelve digits of a project's commit; empty without git, or where files that images are made from differ."""
    if not (root / ".git").exists() or shutil.which("git") is None:
        return ""
    there = [name for name in MADE_FROM if (root / name).exists()]
    changed = shell.run(["git", "-C", str(root), "status", "--porcelain", "--", *there], timeout=30)
    if changed.code != 0 or changed.out.strip():
        return ""
    head = shell.run(["git", "-C", str(root), "rev-parse", "--verify", "HEAD"], timeout=30)
    return f"g{head.out.strip()[:12]}" if head.code == 0 else ""


def note(config: Config, engine: Engine, mode: Mode, planned: Iterable[str], *, ends_hold: bool) -> tuple[Hold, ...]:
    """Name what a build left of a mode's images, and drop the names of versions that are too old.

    A second note of the same images changes nothing, so one that was killed is made up for by the next build.

    Args:
        planned: tags of the images that were built, or were up to date.
        ends_hold: see :class:`builder.core.images.versions.BuildNote`.

    Returns:
        The holds that this ended.
    """
    layout = Layout(config.paths.layout, config.paths.models)
    with files.locked(layout.lock):
        state = read(config.paths.versions)
        newest = state.of(mode.value, config.defaults.variant.value)[-1:]
        tags = dict.fromkeys([*(image.tag for v in newest for image in v.images), *planned])
        build = BuildNote(
            mode=mode.value,
            variant=config.defaults.variant.value,
            version=versions.in_tag(__version__),
            commit=commit_of(config.root),
            at=_now(),
            images=tuple(sorted(_images(engine, layout, tags), key=lambda image: image.tag)),
            ends_hold=ends_hold,
        )
        after = versions.noted(state, build)
        there, wanted = _tags(engine), versions.names(after.known)
        _name(engine, layout, {tag: image for tag, image in wanted.items() if there.get(tag) != image.id})
        drop_replaced(engine, config.jobs, {tag: there[tag] for tag in wanted if tag in there})  # another checkout's
        if after != state:
            _write(config, after)
        if after.leaving:
            left = _drop(config, engine, after.leaving)
            layout.forget(set(layout.images()) - (set(after.leaving) - set(left)))
            _write(config, replace(after, leaving=left))
    return tuple(hold for hold in state.holds if hold not in after.holds)


def _images(engine: Engine, layout: Layout, tags: Iterable[str]) -> list[VersionImage]:
    """Those of some tags that an engine has."""
    found, recorded = [], layout.images()
    for tag in tags:
        if (id_ := id_of(engine, tag)) is None:
            continue
        manifest = str(recorded.get(tag, {}).get("manifest", ""))
        if not manifest or not _is_same(engine, layout, manifest, id_):
            manifest = ""  # another program put it there
        found.append(VersionImage(tag=tag, id=id_, manifest=manifest))
    return found


def _is_same(engine: Engine, layout: Layout, manifest: str, id_: str) -> bool:
    try:
        return load.identity(engine, layout.stored("", manifest)) == id_
    except BakeError:
        return False


def _tags(engine: Engine) -> dict[str, str]:
    """Tag -> id, of all images: another checkout may have given a name to an image of its own."""
    return {tag: image["Id"] for image in engine.client.api.images() for tag in image["RepoTags"] or ()}


def _name(engine: Engine, layout: Layout, names: Mapping[str, VersionImage]) -> None:
    """Give images further names, in the engine and in the layout."""
    from docker.errors import NotFound

    recorded = layout.images()
    for tag, image in names.items():
        with suppress(NotFound):  # an earlier version's that is gone from the engine, and may be in the layout
            _tag(engine, image.id, tag)
        if image.manifest:  # what is recorded of its code goes with it
            entry = recorded.get(image.tag, {})
            same = entry if entry.get("manifest") == image.manifest else {"manifest": image.manifest}
            layout.record(tag, same)


def _tag(engine: Engine, id_: str, reference: str) -> None:
    repository, _, tag = reference.rpartition(":")
    engine.client.api.tag(id_, repository, tag, force=True)


def _drop(config: Config, engine: Engine, leaving: Mapping[str, str]) -> dict[str, str]:
    """Remove names that no version has any more, and with its last one an image; those that an engine can't remove yet."""
    from docker.errors import APIError, ImageNotFound

    local = engine.host.startswith("unix:")  # jobs run on no other
    mine = {tag: id_ for tag, id_ in leaving.items() if id_of(engine, tag) == id_}
    if local:
        kept.keep_named(engine.host, config.jobs, {id_: tag.rpartition(":")[0] for tag, id_ in mine.items()})
    left = {}
    for tag, id_ in mine.items():
        try:
            engine.client.images.remove(tag)
        except ImageNotFound:
            continue
        except APIError:  # a container still uses it
            left[tag] = id_
    if local:
        kept.release(engine.host, config.jobs)
    return left


@dataclass(frozen=True, kw_only=True)
class Move:
    """A tag that a rollback moves."""

    tag: str
    before: str | None
    """Id of the image that it names now; None where the engine has none."""
    after: str


def moves(engine: Engine, version: ImageVersion) -> tuple[Move, ...]:
    """The tags of a version's images: what they name, and what they would name. Changes nothing."""
    return tuple(Move(tag=image.tag, before=id_of(engine, image.tag), after=image.id) for image in version.images)


def roll_back(config: Config, engine: Engine, version: ImageVersion, on_progress: OnProgress) -> tuple[Move, ...]:
    """Move all tags of a mode to a version, and hold them there; the newest version isn't held.

    What the engine lacks comes from the layout first. A failure moves the tags back; after a kill a mark says that they are
    of two versions, until the same command has finished.

    Raises:
        MissingError: an image is neither in the engine nor whole in the layout; no tag was moved.
    """
    layout = Layout(config.paths.layout, config.paths.models)
    with files.locked(layout.lock):
        version = _brought(engine, layout, version, on_progress)
        state = read(config.paths.versions)
        newest = state.of(version.mode, version.variant)[-1].name == version.name
        hold = Hold(
            mode=version.mode,
            variant=version.variant,
            name=version.name,
            at=_now(),
            moving=True,
            ids=version.ids,
            codes=_codes(engine, version),
        )
        others = tuple(h for h in state.holds if (h.mode, h.variant) != (version.mode, version.variant))
        moved = moves(engine, version)
        was = state.hold(version.mode, version.variant)
        _write(config, replace(state, holds=(*others, hold)))
        try:
            for move in moved:
                _tag(engine, move.after, move.tag)
        except BaseException:
            _undo(engine, moved)  # where this fails too, the mark stays
            if was is None or not was.moving:
                _write(config, state)
            raise
        _record(layout, version)
        _write(config, replace(state, holds=others if newest else (*others, replace(hold, moving=False))))
    return moved


def _codes(engine: Engine, version: ImageVersion) -> dict[str, str]:
    """Stage -> the digest of its code, as the labels of a version's images say."""
    labels = [labels_of(engine, image.id).get(currency.CODE, "") for image in version.images]
    return {stage: digest for stage, _, digest in (label.partition(":") for label in labels) if digest}


def _undo(engine: Engine, moved: Sequence[Move]) -> None:
    for move in moved:
        if move.before:
            _tag(engine, move.before, move.tag)


def _record(layout: Layout, version: ImageVersion) -> None:
    """The layout's records of the moving tags: pushes, bundles and the next build go by them."""
    recorded = layout.images()
    for image in version.images:
        if image.manifest:
            layout.record(image.tag, recorded.get(f"{image.tag}-{version.name}", {"manifest": image.manifest}))


def _brought(engine: Engine, layout: Layout, version: ImageVersion, on_progress: OnProgress) -> ImageVersion:
    """A version whose images are all in the engine, those that weren't from the layout; with the ids that they have there."""
    contents, images = load.inspect(engine, layout), []
    for image in version.images:
        if image.id in contents.ids:
            images.append(image)
            continue
        try:
            stored = replace(layout.stored("", image.manifest), ref=f"{image.tag}-{version.name}")
        except BakeError:
            raise MissingError(
                f"{image.tag}-{version.name} is neither in the engine nor in the layout",
                where=engine.host,
                hint=f"{command('images')} shows what is here; an older version: --to",
            ) from None

        def on_bytes(done: int, total: int, what: str = stored.ref) -> None:
            on_progress(Progress(what=what, done=done, total=total, unit="bytes", finished=done >= total))

        loaded = load.load(engine, layout, stored, contents=contents, built=(), on_bytes=on_bytes)
        images.append(replace(image, id=loaded.id))
    return replace(version, images=tuple(images))


def release(config: Config, mode: str, variant: str) -> Hold | None:
    """No longer hold a mode's images: the next build or job brings them to today's code. What was held, if anything was."""
    with files.locked(Layout(config.paths.layout, config.paths.models).lock):
        state = read(config.paths.versions)
        hold = state.hold(mode, variant)
        if hold is not None:
            require_whole(hold)
            _write(config, replace(state, holds=tuple(h for h in state.holds if h != hold)))
        return hold


def whole(config: Config, tags: Collection[str] | None) -> tuple[ImageVersion, ...]:
    """The versions whose images are all in the engine, oldest first; the others can't be gone back to after a prune.

    Args:
        tags: the layout's references that the engine has; None where no engine answers: then all are.
    """
    known = read(config.paths.versions).known
    if tags is None:
        return known
    return tuple(v for v in known if all(f"{image.tag}-{v.name}" in tags for image in v.images if image.manifest))


def forget(config: Config, *, keep: Collection[ImageVersion]) -> None:
    """Forget all other versions; under the layout's lock."""
    state = read(config.paths.versions)
    known = tuple(v for v in state.known if v in keep)
    if known != state.known:
        _write(config, replace(state, known=known))


def _write(config: Config, state: Versions) -> None:
    files.write_json(config.paths.versions, versions.dumped(state))


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
