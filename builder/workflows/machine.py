"""What a machine needs: set up, look, say what is missing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from builder.core.terms import Mode
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


def build(session: Session, choice: images.Choice, *, cache: bool, refresh: bool) -> Result:
    """Set up what the mode needs, and say what is there."""
    from builder.edges.engine import connection as engine
    from builder.edges.jobs import stage_images

    if session.config.defaults.mode is not Mode.NATIVE:
        return images.build(session, choice, cache=cache, refresh=refresh)
    chosen = chosen_models(session.config, models=choice.models, diarization=choice.diarization)
    fetched = fetch_missing(session.config, list(chosen.values()), env=session.env, on_progress=session.on_progress)
    python = native_python(session.config, env=session.env, on_progress=session.on_progress)
    found, advice = hardware_of(session.config)
    why = engine.why_not(session.env)
    made = None
    if why is None:
        made = images.build(session, choice, cache=cache, refresh=refresh)
        media = {s.name for s in session.config.stages.values() if s.media}
        stage_images.record_media(
            session.config, [(i["name"], i["tag"], i["id"]) for i in made.data["images"] if i["name"] in media]
        )
    session.live.close()
    data = {
        "mode": session.config.defaults.mode.value,
        "preset": session.config.defaults.preset,
        "images": made.data["images"] if made else [],
        "unique_bytes": made.data["unique_bytes"] if made else 0,
        "images_note": f"no images are built: {why}" if why else "media files are parsed in these containers",
        "environment": str(python.parent.parent),
        "models": [{"id": m.id, "purpose": p.value, "size": pin.size} for p, (m, pin) in chosen.items()],
        "fetched": [f.model for f in fetched],
        "ready": True,
    }
    rows = [(p.value, m.id, format_size(pin.size), m.licence) for p, (m, pin) in chosen.items()]
    lines = [
        table(("PURPOSE", "MODEL", "SIZE", "LICENCE"), rows),
        "",
        *([made.text, ""] if made else []),
        f"machine: {found.cores} cores, {format_size(found.memory)}; recommended preset: {advice.preset} ({advice.reason})",
        *([f"native: no images are built: {why}"] if why else []),
        "ready to run jobs: python3 build.py run RECORDING",
    ]
    return Result(data=data, text="\n".join(lines))


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
