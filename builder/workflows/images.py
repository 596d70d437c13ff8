"""The commands about images: plan, render, build, list."""

from __future__ import annotations

import functools
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from builder.core.config.defaults import MOUNTED
from builder.core.images.history import BuildRecord, grown, predecessors
from builder.core.progress import OnProgress, Progress
from builder.core.terms import MUSIC, SEPARATION, Mode, Purpose, Variant
from builder.errors import BakeError, MissingError
from builder.program import command
from builder.workflows.session import Session, fetch_missing, image_models, layout_of, store_of

if TYPE_CHECKING:
    from builder.core.config.types import BaseSpec, Config
    from builder.core.images.estimate import PlanEstimate
    from builder.core.images.layer_order import Block
    from builder.core.images.plan import Plan
    from builder.core.images.versions import Versions
    from builder.core.platforms import Platform
    from builder.core.weights.model import PinnedModel
    from builder.edges.engine.connection import Engine
    from builder.edges.images.build import Built
    from builder.edges.images.installed import InstalledImage, Planner
    from builder.edges.images.layout import Layout
    from builder.edges.images.rendered import Rendered
    from builder.edges.images.weights_image import StoredWeights


@dataclass(frozen=True, kw_only=True)
class ImageSelection:
    """What the command line asks of images, as it was typed."""

    models: str | None = None
    languages: str | None = None
    diarization: bool = True
    presets: Sequence[str] = ()
    """Presets beside the session's: an image carries the models of all of them."""
    names: Sequence[str] = ()
    """Images; empty for all of the mode."""


ALL = ImageSelection()


class Different(BakeError):
    """``--check`` found other files: exit 1, as a linter does."""

    exit_code = 1


@dataclass(frozen=True, kw_only=True)
class ImagesPlanned:
    """What would be built."""

    plan: Plan
    order: Mapping[str, tuple[Block, ...]]
    """Image -> its layers, lowest first."""
    estimate: PlanEstimate
    memory: Mapping[str, int]
    """Image -> bytes of its container's limit for a recording of an hour; images without a stage have none."""


@dataclass(frozen=True, kw_only=True)
class FilesRendered:
    """A rendered folder."""

    folder: Path
    files: tuple[str, ...]
    """Paths in the folder, sorted."""


@dataclass(frozen=True, kw_only=True)
class FilesCompared:
    """A folder compared with what would be rendered."""

    folder: Path
    differences: tuple[str, ...]
    failure: BakeError | None


@dataclass(frozen=True, kw_only=True)
class ImageBuilt:
    """What became of one image, and what the engine has of it now."""

    built: Built
    installed: InstalledImage
    before: BuildRecord | None = None
    """What its tag had before, where it is much larger now."""


@dataclass(frozen=True, kw_only=True)
class ImagesBuilt:
    """The images of a mode after a build."""

    mode: Mode
    variant: Variant
    base: BaseSpec
    images: tuple[ImageBuilt, ...]
    unique_bytes: int
    """Unpacked, each layer counted once."""
    others: tuple[OtherBuilt, ...] = ()
    """Images of other platforms than the engine's."""


@dataclass(frozen=True, kw_only=True)
class OtherBuilt:
    """An image of another platform than the engine's: in the layout, and in no engine."""

    built: Built
    platform: Platform
    manifest: str
    """Its digest."""
    size_bytes: int
    """All of its blobs, as they are sent: code is compressed."""


@dataclass(frozen=True, kw_only=True)
class ImageHistory:
    """What was built when."""

    records: tuple[BuildRecord, ...]
    """Newest first."""
    before: tuple[BuildRecord | None, ...]
    """For each, the image that had its tag until then."""


@dataclass(frozen=True, kw_only=True)
class ImagesListed:
    """The images that the engine has."""

    images: tuple[InstalledImage, ...]
    versions: Versions
    """What is kept of earlier builds, and what is held."""


def plan(session: Session, selection: ImageSelection) -> ImagesPlanned:
    """What would be built: images, their layers in order, models, estimated sizes. Touches no engine."""
    from builder.core.images import estimate
    from builder.core.jobs import compose
    from builder.edges.images.rendered import sizes

    today = rendered(session, selection)
    variant = today.plan.variant.value
    return ImagesPlanned(
        plan=today.plan,
        order={image.name: today.order[image.name] for image in today.plan.images},
        estimate=estimate.estimate(today.plan, sizes(session.config)),
        memory={
            image.name: compose.planned(
                session.config.stages[image.stage],
                variant,
                seconds=3600.0,
                models=_loaded(today.plan.loaded(image)),
            )
            for image in today.plan.images
            if image.stage
        },
    )


def _loaded(models: Sequence[PinnedModel]) -> int:
    """Bytes of the models that one job loads: of several for one purpose, the largest."""
    largest: dict[Purpose, int] = {}
    for model, pin in models:
        largest[model.purpose] = max(pin.size, largest.get(model.purpose, 0))
    return sum(largest.values())


def render(
    session: Session, selection: ImageSelection, *, out: Path | None, platform: Platform | None = None
) -> FilesRendered:
    """Write the Dockerfile, docker-bake.json and what they need; for ``platform`` where it isn't this machine's."""
    from builder.edges.images import rendered as images

    today = rendered(session, selection, platform=platform)
    folder = out or images.folder_of(session.config, platform)
    roots = images.roots_of(session.config, today.plan, session.env, session.on_progress)
    images.write(folder, today.files, roots)
    files = sorted([*today.files, *roots])
    return FilesRendered(folder=folder, files=tuple(files))


def compare(
    session: Session, selection: ImageSelection, *, out: Path | None, platform: Platform | None = None
) -> FilesCompared:
    """Compare a rendered folder with what would be rendered today."""
    from builder.edges.images import rendered as images

    folder = out or images.folder_of(session.config, platform)
    differences = images.differences(folder, rendered(session, selection, platform=platform).files)
    failure = None
    if differences:
        failure = Different(
            f"{len(differences)} files differ from what is rendered",
            where=str(folder),
            detail=differences[:20],
            hint=command(f"render --out {folder}"),
        )
    return FilesCompared(folder=folder, differences=tuple(differences), failure=failure)


def build(session: Session, selection: ImageSelection, *, cache: bool, refresh: bool) -> ImagesBuilt:
    """Build images; what the engine has of them then."""
    from builder.edges.images import installed

    engine, today, built = ensure(session, selection, cache=cache, refresh=refresh, ends_hold=True)
    known = {image.tag: image for image in here(session, engine, selection)}
    unique = installed.unique_bytes(engine, [b.tag for b in built])
    if not selection.names:
        _with_weights(session, selection, engine)
    larger = _note(session.config, built, known)
    return ImagesBuilt(
        mode=today.plan.mode,
        variant=today.plan.variant,
        base=today.plan.base,
        images=tuple(ImageBuilt(built=b, installed=known[b.tag], before=larger.get(b.tag)) for b in built),
        unique_bytes=unique,
    )


def _note(config: Config, built: Sequence[Built], known: Mapping[str, InstalledImage]) -> dict[str, BuildRecord]:
    """Write down what was built; for each image that became much larger, what its tag had before."""
    from builder.edges.images.past import history

    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    fresh = [
        BuildRecord(
            at=at,
            tag=one.tag,
            id=known[one.tag].id,
            state=one.state,
            seconds=one.seconds,
            size_bytes=known[one.tag].size_bytes,
            sent_bytes=one.sent,
        )
        for one in built
        if one.state != "up to date"
    ]
    if not fresh:
        return {}
    history.note(config.paths.history, fresh)
    records = history.read(config.paths.history)
    pairs = zip(records, predecessors(records), strict=True)
    return {now.tag: old for now, old in pairs if now in fresh and old is not None and grown(old, now)}


def past(session: Session) -> ImageHistory:
    """What was built here, and what it replaced."""
    from builder.edges.images.past import history

    records = history.read(session.config.paths.history)
    return ImageHistory(records=records[::-1], before=predecessors(records)[::-1])


def listing(session: Session) -> ImagesListed:
    """The images that the engine has, and whether they are current."""
    from builder.edges.engine import connection as engines
    from builder.edges.images.past import versions

    images = here(session, engines.connect(session.env), keeping=True)
    return ImagesListed(images=images, versions=versions.read(session.config.paths.versions))


# Steps that other workflows share


Labels = Mapping[str, Mapping[str, str]]
"""Tag of an image that is there -> its labels."""


def rendered(
    session: Session,
    selection: ImageSelection = ALL,
    *,
    engine: Engine | None = None,
    keeping: Labels | None = None,
    platform: Platform | None = None,
) -> Rendered:
    """Today's plan of the session's mode and variant, with its files.

    Args:
        platform: another one than the engine's.
        keeping: images whose models of other presets stay; of these only those that the store has, for a build.
    """
    from builder.edges.images import base
    from builder.edges.images import rendered as images

    config = session.config
    spec = base.decide_base(config, session.env, session.on_progress, engine, platform=platform)
    diarization = selection.diarization and config.defaults.diarization
    models = _models(config, selection)
    names = _names(config, selection.names, diarization=diarization)
    today = images.rendered(config, spec, models, names, platform)
    if keeping is None:
        return today
    store = store_of(config)
    more = [(m, p) for m, p in _beside(config, today, models, keeping) if (m, p) in models or not store.missing(m, p)]
    return images.rendered(config, spec, more, names, platform)


def _models(config: Config, selection: ImageSelection) -> tuple[PinnedModel, ...]:
    return image_models(
        config,
        presets=selection.presets,
        models=selection.models,
        languages=selection.languages,
        diarization=selection.diarization and config.defaults.diarization,
        separation=True if SEPARATION in selection.names else None,
        tagging=True if MUSIC in selection.names else None,
    )


def _beside(config: Config, today: Rendered, models: Sequence[PinnedModel], labels: Labels) -> tuple[PinnedModel, ...]:
    """The models of a plan, and what its images have beside them."""
    from builder.core.images import currency

    known = [(m, config.pins[m.id]) for m in config.models.values() if m.id in config.pins]
    able = [(model, pin) for model, pin in known if today.plan.variant in model.variants]
    return currency.beside(models, [labels[i.tag] for i in today.plan.images if i.tag in labels], able)


def ensure(
    session: Session,
    selection: ImageSelection = ALL,
    *,
    cache: bool = True,
    refresh: bool = False,
    keeping: bool = False,
    ends_hold: bool = False,
) -> tuple[Engine, Rendered, tuple[Built, ...]]:
    """Build the images of the session's mode that are missing or not current, with their weights.

    Args:
        keeping: what images have of other presets stays in them.
        ends_hold: images that are held at an earlier version are built, too, and no longer held.

    Raises:
        MissingError: a rollback of them was interrupted, and ``ends_hold`` isn't asked for.
    """
    from builder.edges.engine import connection as engines
    from builder.edges.images import installed
    from builder.edges.images.build import require_space
    from builder.edges.images.past import versions

    config, env, on_progress = session.config, session.env, session.on_progress
    engine = engines.connect(env)
    labels = {image.tag: image.labels for image in installed.tagged(config, engine)} if keeping else None
    today = rendered(session, selection, engine=engine, keeping=labels)
    fetch_missing(config, today.plan.every, env=env, on_progress=on_progress)
    require_space(config, today.plan, engine)
    held = {} if ends_hold else versions.held(config, engine)
    today, built = carried_out(
        config, today, engine, env=env, on_progress=on_progress, cache=cache, refresh=refresh, held=held
    )
    ended = versions.note(config, engine, today.plan.mode, [one.tag for one in built], ends_hold=ends_hold)
    for hold in ended:
        note = f"{hold.mode} {hold.variant} is no longer held at {hold.name}"
        on_progress(Progress(what="images", note=note, finished=True))
    return engine, today, built


def here(
    session: Session, engine: Engine, selection: ImageSelection = ALL, *, keeping: bool = False
) -> tuple[InstalledImage, ...]:
    """Our images on an engine, compared with what today's files and this selection would make of them.

    Args:
        keeping: an image that has more models than the selection is current, too.
    """
    from builder.edges.images import installed
    from builder.edges.images.past import versions

    found = installed.tagged(session.config, engine)
    labels = {image.tag: image.labels for image in found} if keeping else None
    plans = planner(session.config, selection, keeping=labels)
    return installed.described(session.config, found, plans, held=versions.held(session.config, engine, whole=False))


def planner(
    config: Config,
    selection: ImageSelection = ALL,
    *,
    keeping: Labels | None = None,
    chosen: bool = True,
    platform: Platform | None = None,
) -> Planner:
    """Today's plans of all images of a mode, for the rule of what is current (:mod:`builder.core.images.currency`).

    Args:
        keeping: images that may have more models than the selection.
        chosen: the selection's models belong to the plan; otherwise those alone that the images have.
        platform: another one than the engine's.
    """
    from builder.edges.images import rendered as images

    extras = tuple(name for name, spec in config.images.items() if spec.extra)

    @functools.cache
    def planned(mode: Mode, variant: Variant, base: BaseSpec) -> Rendered:
        today = replace(config, defaults=replace(config.defaults, mode=mode, variant=variant, extras=extras))
        try:
            models = _models(today, selection) if chosen else ()
        except BakeError:  # a preset that this variant can't load
            models = ()
        plain = images.rendered(today, base, models, platform=platform)
        return plain if keeping is None else images.rendered(today, base, _beside(today, plain, models, keeping))

    return planned


def weights_of(session: Session, selection: ImageSelection, layout: Layout) -> StoredWeights | None:
    """The weights image of the selection's presets, and the artifact: written into the layout, which the caller has locked.

    Returns:
        None where no image of the plan carries a model, or none of them is in the layout.

    Raises:
        MissingError: a model is not in the store, and its layers' digests aren't known.
        UsageError: a preset's name can't be a tag.
    """
    from builder.core.images.weights import image as weights
    from builder.edges.images import weights_image

    config, plan = session.config, rendered(session, selection).plan
    recorded = layout.images()
    there = [image.tag for image in plan.images if "manifest" in recorded.get(image.tag, {})]
    if not there or not (models := weights.carried(plan)):
        return None
    tag = weights.tag((config.defaults.preset, *selection.presets), plan)
    ref = f"{config.defaults.registry}/{weights.NAME}:{tag}"
    platform = weights_image.platform_of([layout.image(there[-1])])
    return weights_image.make(layout, ref, models, platform, session.on_progress)


def weights_here(session: Session, engine: Engine, *, build: bool) -> tuple[str, str, tuple[str, ...]]:
    """The image that containers mount the weights of the session's preset from: its tag, its id, digests of its models.

    Args:
        build: make it and bring it into the engine.

    Raises:
        MissingError: the engine has none with all models of the preset, and nothing is to be built.
    """
    from builder.core.images.weights import image as weights
    from builder.core.weights.model import model_digest
    from builder.edges.images import weights_image

    config, plan = session.config, rendered(session).plan
    if build:
        _with_weights(session, ALL, engine)
    ref = f"{config.defaults.registry}/{weights.NAME}:{weights.tag((config.defaults.preset,), plan)}"
    found = weights_image.in_engine(engine, ref, {model_digest(pin) for _, pin in weights.carried(plan)})
    if found is None:
        raise MissingError(
            f"the engine has no {ref} with all models of this preset",
            where=engine.host,
            hint=command(f"build --mode {config.defaults.mode.value} --weights mounted") + ", or pull weights",
        )
    return found


def _with_weights(session: Session, selection: ImageSelection, engine: Engine) -> None:
    """Make the weights image of what is built; an engine whose containers mount it gets it, too."""
    from builder.edges.images import weights_image
    from builder.edges.system import files

    layout, config = layout_of(session.config), session.config
    with files.locked(layout.lock):
        made = weights_of(session, selection, layout)
        if made is not None and config.defaults.weights == MOUNTED:
            weights_image.load_into(engine, layout, made.image, config.jobs, session.on_progress)


def _names(config: Config, names: Sequence[str], *, diarization: bool) -> Sequence[str]:
    """Images to plan; empty for all of the mode."""
    if names or diarization:
        return names
    there = [n for n, i in config.images.items() if config.defaults.mode in i.modes and i.stage != "diarize"]
    return [n for n in there if not config.images[n].extra or n in config.defaults.extras]


def carried_out(
    config: Config,
    today: Rendered,
    engine: Engine,
    *,
    env: Mapping[str, str],
    on_progress: OnProgress,
    cache: bool,
    refresh: bool,
    held: Collection[str],
) -> tuple[Rendered, tuple[Built, ...]]:
    """The plan with the digest of its base, and what became of its images."""
    from builder.edges.images import build as baking
    from builder.edges.images import rendered as images
    from builder.edges.images.rootfs import digest
    from builder.edges.system import files

    roots = images.roots_of(config, today.plan, env, on_progress, refresh=refresh)
    if images.ROOTFS in roots:
        today = replace(today, base_digest=digest(roots[images.ROOTFS]))
    folder = images.folder_of(config, today.plan.platform)
    with files.locked(folder.with_suffix(".lock")):
        images.write(folder, today.files, roots)
        built = baking.build(config, today, folder, engine, env=env, on_progress=on_progress, cache=cache, held=held)
    return today, built
