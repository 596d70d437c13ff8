"""Which images of the layout are pushed: current ones, the weights image beside them, and indexes of several platforms."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from builder.core.images.versions import Versions
from builder.core.images.weights import image as weights
from builder.core.images.weights import modelpack
from builder.errors import BakeError, MissingError
from builder.program import command
from builder.workflows.images import ImageSelection, planner, rendered, weights_of
from builder.workflows.session import Session

if TYPE_CHECKING:
    from builder.core.config.types import Config
    from builder.core.images.plan import PlannedImage
    from builder.core.platforms import Platform
    from builder.edges.images.installed import Planner
    from builder.edges.images.layout import Layout, Stored
    from builder.edges.registry.push import PushedImage


def current(
    session: Session, selection: ImageSelection, layout: Layout, platform: Platform | None = None
) -> list[PlannedImage]:
    """The selected images, as they are planned and assembled in the layout.

    Args:
        platform: another one than the engine's.

    Raises:
        MissingError: some are not built, or not current.
    """
    config, names = session.config, selection.names
    state = _versions(config)
    plan = rendered(session, selection, platform=platform).plan
    planned = [image for image in plan.images if not names or image.name in names]
    recorded = layout.images()
    missing = [image.name for image in planned if "manifest" not in recorded.get(image.tag, {})]
    plans = planner(config, selection, platform=platform)
    built = [image for image in planned if image.name not in missing]
    changed = {
        image.name: d
        for image in built
        if not state.holds_manifest(image.tag, recorded[image.tag]["manifest"])
        and (d := _differences(config, layout, image, plans))
    }
    words = f"build --mode {config.defaults.mode.value}" + (f" --platform {platform.name}" if platform else "")
    where = f" for {platform.name}" if platform else ""
    for affected, what in ((missing, "not built here"), (changed, "not of today's code, models and settings")):
        if affected:
            raise MissingError(
                f"{', '.join(affected)}: {what}{where}",
                where=str(layout.root),
                detail=[f"{name} has changed: {', '.join(changed[name])}" for name in affected if name in changed],
                hint=command(words),
            )
    return built


def _differences(config: Config, layout: Layout, image: PlannedImage, plans: Planner) -> tuple[str, ...]:
    from builder.edges.images import installed

    return installed.differences(config, image.tag, layout.image(image.tag).written.image.labels, plans)


def own(session: Session, selection: ImageSelection, layout: Layout) -> list[PushedImage]:
    """The selected images of the engine's own platform; all of them, or ``weights``: with the weights image.

    Raises:
        MissingError: some are not built, or not current.
    """
    names = tuple(name for name in selection.names if name != weights.NAME)
    stages = replace(selection, names=names)
    planned = [] if selection.names and not names else current(session, stages, layout)
    state = _versions(session.config)
    images = [_pushed(layout, image.name, layout.image(image.tag), state) for image in planned]
    if selection.names and weights.NAME not in selection.names:
        return images
    more = _weights(session, stages, layout)
    if not more and selection.names:
        raise MissingError(
            "no image with weights is built here",
            where=str(layout.root),
            hint=command(f"build --mode {session.config.defaults.mode.value}"),
        )
    return [*images, *more]


def _weights(session: Session, selection: ImageSelection, layout: Layout) -> list[PushedImage]:
    """The weights image of a preset and the same blobs as an artifact: nothing of them is sent that images have."""
    from builder.edges.registry.push import PushedImage
    from builder.edges.system import files

    with files.locked(layout.lock):
        made = weights_of(session, replace(selection, names=()), layout)
    if made is None:
        return []
    image = _pushed(layout, weights.NAME, made.image, Versions())
    tag = f"{image.tag}{modelpack.SUFFIX}"
    artifact = PushedImage(name=weights.NAME, tag=tag, manifest=made.artifact, data=made.data, blobs=made.blobs)
    return [image, artifact]


def _pushed(layout: Layout, name: str, stored: Stored, state: Versions) -> PushedImage:
    from builder.edges.registry.push import PushedImage

    tag = stored.ref.rpartition(":")[2]
    return PushedImage(
        name=name,
        tag=tag,
        also=tuple(f"{tag}-{name}" for name in state.names_of(stored.ref, stored.manifest.digest)),
        manifest=stored.manifest,
        data=stored.written.manifest,
        blobs=tuple(blob for blob in stored.blobs if blob != stored.manifest),
    )


def _versions(config: Config) -> Versions:
    """What is known of versions here.

    Raises:
        MissingError: a rollback was interrupted.
    """
    from builder.edges.images.past import versions

    state = versions.read(config.paths.versions)
    for hold in state.holds:
        versions.require_whole(hold)
    return state


def several(
    session: Session, selection: ImageSelection, layout: Layout, platforms: Sequence[Platform]
) -> list[PushedImage]:
    """The selected images, each an index of its manifests for these platforms. What those share is in it once.

    Raises:
        MissingError: one is not built for one of the platforms, or not current.
    """
    found: dict[str, list[tuple[Platform, Stored]]] = {}
    tags: dict[str, str] = {}
    for platform in platforms:
        native = platform.architecture == _own(layout)
        for image in current(session, selection, layout, None if native else platform):
            found.setdefault(image.name, []).append((platform, layout.image(image.tag)))
            tags[image.name] = image.tag.rpartition(":")[2].removesuffix(f"-{platform.architecture}")
    return [_index(name, tags[name], stored) for name, stored in found.items()]


def _own(layout: Layout) -> str:
    """The architecture of the engine that the layout's images were built with; empty where there are none.

    Images tell: a push asks no engine.
    """
    from builder.core.images import oci

    for reference, entry in layout.images().items():
        if "platform" not in entry:
            with suppress(BakeError):
                return oci.architecture(layout.image(reference).written.config)
    return ""


def _index(name: str, tag: str, found: Sequence[tuple[Platform, Stored]]) -> PushedImage:
    from builder.core.images import oci
    from builder.edges.registry.push import PushedImage

    data = oci.platform_index([stored.written for _, stored in found])
    return PushedImage(
        name=name,
        tag=tag,
        manifest=oci.describe(oci.INDEX, data),
        data=data,
        blobs=tuple(dict.fromkeys(blob for _, stored in found for blob in stored.blobs if blob != stored.manifest)),
        parts=tuple((platform.name, stored.manifest, stored.written.manifest) for platform, stored in found),
    )
