"""What a machine needs: set up, look, say what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from builder.core.terms import Mode, Purpose
from builder.workflows import images
from builder.workflows.session import (
    Session,
    chosen_models,
    fetch_missing,
    hardware_of,
    native_python,
    store_of,
)

if TYPE_CHECKING:
    from builder.core.machine import Hardware, Recommendation
    from builder.core.weights.model import Model, Pin
    from builder.edges.machine.doctor import Finding
    from builder.edges.weights.fetch import Fetched


@dataclass(frozen=True, kw_only=True)
class NativeReady:
    """What the native mode has after a build."""

    preset: str
    models: Mapping[Purpose, tuple[Model, Pin]]
    fetched: tuple[str, ...]
    """Ids of the models that were not there before."""
    environment: Path
    """The folder of the native Python environment."""
    images: images.ImagesBuilt | None
    """The images that read media files."""
    no_images: str
    """Why there are none; empty when there are."""
    hardware: Hardware
    recommended: Recommendation


def build(
    session: Session, choice: images.ImageSelection, *, cache: bool, refresh: bool
) -> images.ImagesBuilt | NativeReady:
    """Set up what the mode needs, and say what is there."""
    from builder.edges.engine import connection as engine
    from builder.edges.jobs import stage_images

    config, env, on_progress = session.config, session.env, session.on_progress
    if config.defaults.mode is not Mode.NATIVE:
        return images.build(session, choice, cache=cache, refresh=refresh)
    models = chosen_models(config, models=choice.models, diarization=choice.diarization)
    fetched = fetch_missing(config, list(models.values()), env=env, on_progress=on_progress)
    python = native_python(config, env=env, on_progress=on_progress)
    hardware, recommended = hardware_of(config)
    no_images = engine.why_not(engine.address(env))
    built = None
    if no_images is None:
        built = images.build(session, choice, cache=cache, refresh=refresh)
        media = {s.name for s in config.stages.values() if s.media}
        found = [image.installed for image in built.images if image.installed.name in media]
        stage_images.record_media(config, [(image.name, image.tag, image.id) for image in found])
    return NativeReady(
        preset=config.defaults.preset,
        models=models,
        fetched=tuple(model.model for model in fetched),
        environment=python.parent.parent,
        images=built,
        no_images=no_images or "",
        hardware=hardware,
        recommended=recommended,
    )


def bytes_missing(session: Session) -> int:
    """Bytes that the preset's models still lack."""
    store = store_of(session.config)
    return sum(f.size for model, pin in chosen_models(session.config).values() for f in store.missing(model, pin))


@dataclass(frozen=True, kw_only=True)
class MachineReady:
    """This machine after its set-up."""

    environment: Path
    """The folder of the native Python environment."""
    hardware: Hardware
    recommended: Recommendation
    fetched: tuple[Fetched, ...]
    """A model each, of those that were not in the store."""
    missing_bytes: int
    """What the preset's models still lack."""


def bootstrap(session: Session, *, fetch: bool, force: bool) -> MachineReady:
    """Environment, hardware, models.

    Args:
        fetch: fetch the preset's models.
        force: make the environment again, and inspect the hardware again.
    """
    config = session.config
    python = native_python(config, env=session.env, on_progress=session.on_progress, force=force)
    hardware, recommended = hardware_of(config, refresh=force)
    models = list(chosen_models(config).values())
    fetched = fetch_missing(config, models, env=session.env, on_progress=session.on_progress) if fetch else ()
    return MachineReady(
        environment=python.parent.parent,
        hardware=hardware,
        recommended=recommended,
        fetched=fetched,
        missing_bytes=bytes_missing(session),
    )


@dataclass(frozen=True, kw_only=True)
class HardwareFound:
    """This machine, and the settings that suit it."""

    hardware: Hardware
    recommended: Recommendation


def hardware(session: Session, *, refresh: bool) -> HardwareFound:
    """What this machine has, and what that recommends."""
    inspected, recommended = hardware_of(session.config, refresh=refresh)
    return HardwareFound(hardware=inspected, recommended=recommended)


@dataclass(frozen=True, kw_only=True)
class MachineChecked:
    """What a job or a build needs, checked."""

    checks: tuple[Finding, ...]


def doctor(session: Session) -> MachineChecked:
    """Check everything that a job or a build needs."""
    from builder.edges.engine import connection as engine
    from builder.edges.machine import doctor as machine
    from builder.edges.machine.doctor import Finding

    why = engine.why_not(engine.address(session.env))
    reachable = Finding(name="container engine", ok=why is None, note=why or "reachable", hint="needed for images only")
    return MachineChecked(checks=(*machine.inspect(session.config, session.env), reachable))
