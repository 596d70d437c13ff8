"""The command about versions of images: rollback."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from builder.core.images import versions as rules
from builder.core.images.versions import Hold, ImageVersion
from builder.core.terms import Mode
from builder.errors import MissingError, UsageError
from builder.program import command
from builder.workflows.session import Session

if TYPE_CHECKING:
    from builder.edges.engine.connection import Engine
    from builder.edges.images.build import Built
    from builder.edges.images.past.versions import Move
    from builder.edges.images.rendered import Rendered


@dataclass(frozen=True, kw_only=True)
class RolledBack:
    """A mode's images that were moved to a version, or would be."""

    version: ImageVersion
    before: ImageVersion | None
    """The version that the tags were of."""
    dry_run: bool
    held: bool
    """Whether they are held now, or would be: those of the newest version aren't."""
    moves: tuple[Move, ...]
    kept: tuple[ImageVersion, ...]
    """All versions that a rollback could go to, newest first."""


@dataclass(frozen=True, kw_only=True)
class Released:
    """A mode's images that are no longer held."""

    mode: str
    variant: str
    hold: Hold | None
    """What they were held at; None when they weren't."""


def rollback(session: Session, *, to: str | None, dry_run: bool) -> RolledBack:
    """Move the tags of the mode's images to an earlier version, all of them or none, and hold them there.

    Args:
        to: the name of a version, a commit or a tag; None: the version before the current one.

    Raises:
        UsageError: native has no versions, or none of that name is kept.
        MissingError: no engine answers, or an image is neither in the engine nor in the layout.
    """
    from builder.edges.engine import connection as engines
    from builder.edges.images.past import versions

    config = session.config
    mode, variant = _key(session)
    state = versions.read(config.paths.versions)
    version = rules.target(state, mode, variant, to)
    kept = state.of(mode, variant)
    engine = engines.connect(session.env)
    move = versions.moves if dry_run else partial(versions.roll_back, config, on_progress=session.on_progress)
    moves = move(engine, version)
    return RolledBack(
        version=version,
        before=state.current(mode, variant),
        dry_run=dry_run,
        held=version != kept[-1],
        moves=moves,
        kept=kept[::-1],
    )


def release(session: Session) -> Released:
    """No longer hold the mode's images: the next job or build brings them to today's code. No tag is moved.

    Raises:
        UsageError: native has no versions.
        MissingError: a rollback was interrupted.
    """
    from builder.edges.images.past import versions

    mode, variant = _key(session)
    return Released(mode=mode, variant=variant, hold=versions.release(session.config, mode, variant))


def require_models_of_plan(engine: Engine, today: Rendered, built: Sequence[Built]) -> None:
    """Refuse held images that carry other models than the plan: what goes with them would be about models that they lack.

    Raises:
        MissingError: one does.
    """
    from builder.core.images import assembly
    from builder.edges.images.installed import labels_of

    held = {one.tag for one in built if one.state == "held"}
    for image in today.plan.images:
        wanted = today.expected(image)[assembly.DIGESTS]
        if image.tag in held and labels_of(engine, image.tag).get(assembly.DIGESTS, "") != wanted:
            raise MissingError(
                f"{image.tag} is held at an earlier version, with other models than these",
                hint=f"{command('build')} brings images to today's models, which ends the hold",
            )


def _key(session: Session) -> tuple[str, str]:
    defaults = session.config.defaults
    if defaults.mode is Mode.NATIVE:
        raise UsageError(
            "native jobs use images of today's code only: there is nothing to go back to",
            where="--mode",
            hint=command("rollback --mode docker-cpu"),
        )
    return defaults.mode.value, defaults.variant.value
