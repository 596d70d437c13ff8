"""What a machine needs: set up, look, say what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from builder.core.terms import Mode, Purpose
from builder.core.text import format_size, table
from builder.workflows import images
from builder.workflows.session import (
    Result,
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
    no_images = engine.why_not(env)
    built = None
    if no_images is None:
        built = images.build(session, choice, cache=cache, refresh=refresh)
        media = {s.name for s in config.stages.values() if s.media}
        found = [image.installed for image in built.images if image.installed.name in media]
        stage_images.record_media(config, [(image.name, image.tag, image.id) for image in found])
    session.live.close()
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


def bootstrap(session: Session, *, fetch: bool, force: bool) -> Result:
    """Environment, hardware, models."""
    python = native_python(session.config, env=session.env, on_progress=session.on_progress, force=force)
    found, advice = hardware_of(session.config, refresh=force)
    chosen = chosen_models(session.config)
    fetched = (
        fetch_missing(session.config, list(chosen.values()), env=session.env, on_progress=session.on_progress)
        if fetch
        else ()
    )
    lacking = bytes_missing(session)
    session.live.close()
    text = (
        f"environment: ready\nmachine: {found.cores} cores, {format_size(found.memory)}; recommended: {advice.preset}\n"
        + (f"models: {format_size(lacking)} left to fetch: models fetch" if lacking else "models: all there")
    )
    data = {
        "environment": str(python.parent.parent),
        "hardware": asdict(found),
        "recommended": asdict(advice),
        "fetched": [asdict(f) for f in fetched],
        "missing_bytes": lacking,
    }
    return Result(data=data, text=text)


@dataclass(frozen=True, kw_only=True)
class HardwareFound:
    """This machine, and the settings that suit it."""

    hardware: Hardware
    recommended: Recommendation


def hardware(session: Session, *, refresh: bool) -> HardwareFound:
    """What this machine has, and what that recommends."""
    found, advice = hardware_of(session.config, refresh=refresh)
    return HardwareFound(hardware=found, recommended=advice)


def doctor(session: Session) -> Result:
    """Everything a job or a build needs, and what to do about what is missing."""
    from builder.edges.engine import connection as engine
    from builder.edges.machine import doctor as health

    why = engine.why_not(session.env)
    checks = (
        *health.look(session.config, session.env),
        ("container engine", why is None, why or "reachable", "needed for images only"),
    )
    rows = [("ok" if ok else "--", name, note, "" if ok else hint) for name, ok, note, hint in checks]
    return Result(
        data={"checks": [{"name": n, "ok": ok, "note": note, "hint": hint} for n, ok, note, hint in checks]},
        text=table(("", "CHECK", "FOUND", "NEXT"), rows),
    )
