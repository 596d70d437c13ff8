"""The command pull: what push sent, on a machine that builds nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from builder.core.config.defaults import MOUNTED
from builder.core.images.weights import image as weights
from builder.core.progress import Progress
from builder.core.text import visible
from builder.edges.system import files
from builder.errors import MissingError
from builder.workflows.images import ImageSelection, planner, rendered
from builder.workflows.registry import connected, target_of
from builder.workflows.session import Session, layout_of

if TYPE_CHECKING:
    from builder.core.config.types import Config
    from builder.core.images.reference import Target
    from builder.edges.images.remote.pull import PullStep, WantedImage

REVISION = "org.opencontainers.image.revision"
"""Label: the commit that an image was built from."""


@dataclass(frozen=True, kw_only=True)
class ImagesPulled:
    """What a pull did, or would do."""

    target: Target
    dry_run: bool
    steps: tuple[tuple[PullStep, int], ...]
    """Each image's step, with the bytes that came for it, or would come."""
    seconds: float


def pull(
    session: Session,
    selection: ImageSelection,
    *,
    registry: str | None,
    dry_run: bool,
    token_servers: Sequence[str] = (),
) -> ImagesPulled:
    """Bring images of a registry into the engine, under the names that a build here would give them.

    Raises:
        MissingError: the registry lacks an image, or has one of other code, models or settings than this project's; a disk
            is too small.
        SourceError, IntegrityError, Interrupted: see :mod:`builder.edges.images.remote.pull`.
    """
    from builder.edges.engine import connection as engines
    from builder.edges.images import installed
    from builder.edges.images.build import drop_replaced
    from builder.edges.images.remote import pull as pulling
    from builder.edges.registry.http import StopSignal
    from builder.edges.registry.read import RegistryReader

    began, config, on_progress = time.monotonic(), session.config, session.on_progress
    target = target_of(config, registry)
    wanted = _wanted(session, selection, target)
    engine = engines.connect(session.env, builds=False)
    layout, stop = layout_of(config), StopSignal()
    http = connected(config, target, env=session.env, stop=stop, token_servers=token_servers)
    reader = RegistryReader(http)
    resolved = pulling.resolve(reader, wanted, engine.architecture)
    if dry_run:
        steps = pulling.decide(engine, layout, resolved)
        _require_current(config, selection, steps)
        done = [(step, step.fetch_bytes) for step in steps]
    else:
        on_progress(Progress(what="pull", note="asking what the engine has"))
        with files.locked(layout.lock):
            steps = pulling.decide(engine, layout, resolved)
            _require_current(config, selection, steps)
            pulling.require_room(layout, engine, steps)
            before = {step.wanted.ref: installed.id_of(engine, step.wanted.ref) for step in steps}
            done = list(pulling.carry_out(steps, reader, engine, layout, stop=stop, on_progress=on_progress))
            drop_replaced(engine, config.jobs, before)
    seconds = round(time.monotonic() - began, 1)
    return ImagesPulled(target=target, dry_run=dry_run, steps=tuple(done), seconds=seconds)


def _wanted(session: Session, selection: ImageSelection, target: Target) -> list[WantedImage]:
    """The images that the plan of this machine's project has, and the weights image where it is named or mounted."""
    from builder.edges.images.remote.pull import WantedImage

    config = session.config
    names = [name for name in selection.names if name != weights.NAME]
    plan = rendered(session, replace(selection, names=tuple(names))).plan
    refs = [(i.name, i.tag) for i in plan.images if (not selection.names or i.name in names)]
    mounted = config.defaults.weights == MOUNTED and not selection.names
    if mounted or weights.NAME in selection.names:
        tag = weights.tag((config.defaults.preset, *selection.presets), plan)
        refs.append((weights.NAME, f"{config.defaults.registry}/{weights.NAME}:{tag}"))
    return [
        WantedImage(name=name, repository=target.repository(name), tag=ref.rpartition(":")[2], ref=ref)
        for name, ref in refs
    ]


def _require_current(config: Config, selection: ImageSelection, steps: Sequence[PullStep]) -> None:
    """Raises MissingError, before anything comes, for images that `run` would not take as this project's."""
    from builder.edges.images import installed

    plans = planner(config, replace(selection, names=()))
    changed = {}
    for step in steps:
        if step.wanted.name != weights.NAME:
            labels = step.image.written.image.labels
            if found := installed.differences(config, step.wanted.ref, labels, plans):
                revision = visible(labels.get(REVISION, ""))[:40]
                changed[step.wanted.name] = f"{', '.join(found)}{f' (commit {revision})' if revision else ''}"
    if changed:
        raise MissingError(
            f"{', '.join(changed)}: not of this project's code, models and settings",
            where=steps[0].wanted.repository.rpartition("/")[0],
            detail=[f"{name} differs: {why}" for name, why in changed.items()],
            hint="the checkout, --variant, --preset, --models and --weights that were pushed",
        )
