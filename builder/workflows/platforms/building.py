"""Building images for several platforms: the engine's own as always, others into the layout alone."""

from __future__ import annotations

import platform as system
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from builder.core import platforms as known
from builder.core.platforms import Platform
from builder.core.terms import Mode
from builder.errors import UsageError
from builder.workflows import images
from builder.workflows.images import ImagesBuilt, ImageSelection, OtherBuilt
from builder.workflows.session import Session, fetch_missing, layout_of

if TYPE_CHECKING:
    from builder.edges.engine.connection import Engine
    from builder.edges.images.rendered import Rendered


def build(
    session: Session, selection: ImageSelection, platforms: Sequence[Platform], *, cache: bool, refresh: bool
) -> ImagesBuilt:
    """Build the images of a mode for each of some platforms.

    Args:
        platforms: at least one; the engine gets the images of its own, where that is among them.

    Raises:
        UsageError: the mode is native, or has no images of such a platform.
    """
    from builder.edges.engine import connection as engines

    if session.config.defaults.mode is Mode.NATIVE:
        raise UsageError("native jobs run on this machine alone", where="--platform", hint="--mode docker-cpu")
    engine = engines.connect(session.env)
    plans = [
        (platform, images.rendered(session, selection, engine=engine, platform=platform))
        for platform in known.foreign(tuple(platforms), engine.architecture)
    ]
    own = None
    if len(plans) < len(platforms):
        own = images.build(session, selection, cache=cache, refresh=refresh)
    others = tuple(
        other
        for platform, today in plans
        for other in _others(session, engine, platform, today, cache=cache, refresh=refresh)
    )
    if own is not None:
        return replace(own, others=others)
    plan = plans[0][1].plan
    return ImagesBuilt(mode=plan.mode, variant=plan.variant, base=plan.base, images=(), unique_bytes=0, others=others)


def of_folder(platforms: Sequence[Platform]) -> Platform | None:
    """The platform of a rendered folder, where it isn't this machine's: no engine is asked.

    Raises:
        UsageError: there are several.
    """
    if len(platforms) > 1:
        raise UsageError("a rendered folder is for one platform", where="--platform", hint="render each, --out DIR")
    others = known.foreign(tuple(platforms), known.architecture(system.machine()))
    return others[0] if others else None


def _others(
    session: Session, engine: Engine, platform: Platform, today: Rendered, *, cache: bool, refresh: bool
) -> Iterator[OtherBuilt]:
    from builder.edges.images.build import require_space

    config, env, on_progress = session.config, session.env, session.on_progress
    fetch_missing(config, today.plan.models, env=env, on_progress=on_progress)
    require_space(config, today.plan, engine)
    _, built = images.carried_out(
        config, today, engine, env=env, on_progress=on_progress, cache=cache, refresh=refresh, held={}
    )
    layout = layout_of(config)
    for one in built:
        stored = layout.image(one.tag)
        size = sum(blob.size for blob in stored.blobs)
        yield OtherBuilt(built=one, platform=platform, manifest=stored.manifest.digest, size_bytes=size)
