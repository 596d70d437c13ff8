"""The results of ``rollback``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import TypedDict

from builder.core.images.versions import options
from builder.core.text import table
from builder.program import command
from builder.views import View

if TYPE_CHECKING:
    from builder.core.images.versions import ImageVersion, Versions
    from builder.edges.images.past.versions import Move
    from builder.workflows.versions.commands import Released, RolledBack


class MovedTagJson(TypedDict):
    """A tag of an image."""

    tag: str
    """Its full reference."""
    id_before: str | None
    """The engine's id of the image that it named; null where there was none."""
    id: str
    """Of the image that it names now, or would name."""
    moved: bool
    """Whether these differ."""


class ImageVersionJson(TypedDict):
    """A version of a mode's images."""

    mode: str
    """``docker-cpu`` or ``docker-gpu``."""
    variant: str
    """``slim`` or ``full``."""
    name: str
    """What its tags end in."""
    commit: str
    """What further tags end in: ``g`` and digits of the project's commit; empty where none has just these images."""
    built: str
    """ISO 8601, UTC."""


class RollbackJson(TypedDict):
    """A rollback."""

    mode: str
    """``docker-cpu`` or ``docker-gpu``."""
    variant: str
    """``slim`` or ``full``."""
    dry_run: bool
    """Whether no tag was moved."""
    before: str | None
    """The version that the images were of; null where it isn't known."""
    version: ImageVersionJson
    """The version that they are of now, or would be."""
    held: bool
    """Whether jobs use them from now on as they are; those of the newest version aren't held."""
    tags: list[MovedTagJson]
    """The tags of the mode's images."""
    kept: list[ImageVersionJson]
    """All versions that a rollback could go to, newest first."""


def version_data(version: ImageVersion) -> ImageVersionJson:
    """A version of a mode's images."""
    return {
        "mode": version.mode,
        "variant": version.variant,
        "name": version.name,
        "commit": version.commit,
        "built": version.at,
    }


def _move(move: Move) -> MovedTagJson:
    return {"tag": move.tag, "id_before": move.before, "id": move.after, "moved": move.before != move.after}


def _rollback_data(done: RolledBack) -> RollbackJson:
    return {
        "mode": done.version.mode,
        "variant": done.version.variant,
        "dry_run": done.dry_run,
        "before": done.before.name if done.before else None,
        "version": version_data(done.version),
        "held": done.held,
        "tags": [_move(move) for move in done.moves],
        "kept": [version_data(version) for version in done.kept],
    }


def _rollback_text(done: RolledBack) -> list[str]:
    version = done.version
    moved = "would be" if done.dry_run else "moved"
    rows = [
        (
            move.tag,
            (move.before or "").removeprefix("sha256:")[:12],
            move.after.removeprefix("sha256:")[:12],
            moved if move.before != move.after else "the same",
        )
        for move in done.moves
    ]
    kept = [(one.name, one.commit, _day(one.at), "this one" if one == version else "") for one in done.kept]
    asked = options(version.mode, version.variant)
    end = "would be at" if done.dry_run else "is at"
    lines = [f"{version.mode} {version.variant} {end} {version.name}, built {_day(version.at)}"]
    if done.held and not done.dry_run:
        lines.append(f"held: jobs use it until {command('build')} or {command(f'rollback {asked} --release')}")
    return [
        *table(("IMAGE", "WAS", "IS", "TAG"), rows),
        "",
        *table(("VERSION", "COMMIT", "BUILT (UTC)", ""), kept),
        "",
        *lines,
    ]


ROLLBACK = View(command="rollback", shape=RollbackJson, data=_rollback_data, lines=_rollback_text)


class ReleaseJson(TypedDict):
    """Images that are no longer held."""

    mode: str
    """``docker-cpu`` or ``docker-gpu``."""
    variant: str
    """``slim`` or ``full``."""
    held_at: str | None
    """The version that they were held at; null when they weren't."""


def _release_data(released: Released) -> ReleaseJson:
    hold = released.hold
    return {"mode": released.mode, "variant": released.variant, "held_at": hold.name if hold else None}


def _release_text(released: Released) -> list[str]:
    what = f"{released.mode} {released.variant}"
    if released.hold is None:
        return [f"{what} is not held"]
    return [f"{what} is no longer held at {released.hold.name}: the next job or build brings it to today's code"]


RELEASE = View(command="rollback --release", shape=ReleaseJson, data=_release_data, lines=_release_text)


def kept_lines(versions: Versions) -> list[str]:
    """What is kept of earlier builds and what is held, for people: a line a mode and variant."""
    lines = []
    for mode, variant in dict.fromkeys((v.mode, v.variant) for v in versions.known):
        names = [f"{v.name} ({v.commit})" if v.commit else v.name for v in reversed(versions.of(mode, variant))]
        hold = versions.hold(mode, variant)
        state = f"; {held_words(hold.name, moving=hold.moving)}" if hold else ""
        lines.append(f"versions of {mode} {variant}, newest first: {', '.join(names)}{state}")
    return lines


def held_words(name: str, *, moving: bool) -> str:
    """That images are held, or that a rollback was interrupted."""
    return f"a rollback to {name} was interrupted" if moving else f"held at {name}"


def _day(at: str) -> str:
    return at.replace("T", " ").removesuffix("Z")
