"""What a machine needs: set up, look, say what is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from builder.core.images.versions import options
from builder.core.terms import Mode, Purpose
from builder.core.text import format_size
from builder.errors import BakeError, MissingError, SourceError, UsageError, did_you_mean
from builder.program import command
from builder.workflows import host, images
from builder.workflows.platforms import building
from builder.workflows.session import (
    Session,
    alternatives,
    chosen_models,
    fetch_missing,
    hardware_of,
    image_models,
    native_python,
    store_of,
)

if TYPE_CHECKING:
    from builder.core.config.types import ChosenSetting, Profile, StageSetting
    from builder.core.machine import Hardware, Recommendation
    from builder.core.platforms import Platform
    from builder.core.weights.model import Model, Pin
    from builder.edges.machine.doctor import Finding
    from builder.edges.weights.fetch import Fetched


@dataclass(frozen=True, kw_only=True)
class NativeReady:
    """What the native mode has after a build."""

    preset: str
    preset_reason: str
    """Why it is this one, where that was left to ``auto``; else empty."""
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
    session: Session,
    choice: images.ImageSelection,
    *,
    cache: bool,
    refresh: bool,
    here: bool = False,
    platforms: Sequence[Platform] = (),
) -> images.ImagesBuilt | NativeReady:
    """Set up what the mode needs, and say what is there.

    Args:
        here: for this machine's jobs; else images may be for another one.
        platforms: what images are built for; none: for the engine.

    Raises:
        MissingError: this machine has no GPU for the images of docker-gpu.
    """
    from builder.edges.engine import connection as engine

    config, env, on_progress = session.config, session.env, session.on_progress
    if here and config.defaults.mode is Mode.DOCKER_GPU:
        host.require_gpu(config, env, hint=f"{command('build --mode docker-gpu')}, for another machine")
    if platforms:
        return building.build(session, choice, platforms, cache=cache, refresh=refresh)
    if config.defaults.mode is not Mode.NATIVE:
        return images.build(session, choice, cache=cache, refresh=refresh)
    one_asr = alternatives(config, choice.models)[0]
    models = chosen_models(config, models=one_asr, diarization=choice.diarization, to_fetch=True)
    every = image_models(config, presets=choice.presets, models=choice.models, diarization=choice.diarization)
    fetched = fetch_missing(config, every, env=env, on_progress=on_progress)
    hardware, recommended = hardware_of(config)
    python = native_python(config, cuda=recommended.device == "cuda", env=env, on_progress=on_progress)
    no_images = engine.why_not(engine.address(env))
    built = None
    if no_images is None:
        try:
            built = images.build(session, choice, cache=cache, refresh=refresh)
        except (MissingError, SourceError) as error:  # an engine without buildx, or nothing for images to stand on
            no_images = f"{error.what}; {error.hint}" if error.hint else error.what
    return NativeReady(
        preset=config.defaults.preset,
        preset_reason=session.preset_reason,
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
    return sum(
        f.size
        for model, pin in chosen_models(session.config, to_fetch=True).values()
        for f in store.missing(model, pin)
    )


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
    hardware, recommended = hardware_of(config, refresh=force)
    cuda = recommended.device == "cuda"
    python = native_python(config, cuda=cuda, env=session.env, on_progress=session.on_progress, force=force)
    models = list(chosen_models(config, to_fetch=fetch).values())
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
class SettingListed:
    """A stage's setting, and what it is now."""

    stage: str
    name: str
    setting: StageSetting
    chosen: ChosenSetting | None
    """None: nobody has set it."""


@dataclass(frozen=True, kw_only=True)
class SettingsListed:
    """What can be set."""

    settings: tuple[SettingListed, ...]
    profiles: tuple[Profile, ...]


def settings(session: Session, stage: str | None) -> SettingsListed:
    """The stages' settings in pipeline order, and the profiles.

    Raises:
        UsageError: no such stage.
    """
    config = session.config
    if stage is not None and stage not in config.stages:
        close = did_you_mean(stage, config.stages)
        raise UsageError(f'no stage "{stage}"', expected=", ".join(config.stages), hint=close)
    listed = [
        SettingListed(stage=spec.name, name=name, setting=setting, chosen=config.settings.get(spec.name, {}).get(name))
        for spec in config.stages.values()
        if stage in (None, spec.name)
        for name, setting in spec.settings.items()
    ]
    return SettingsListed(settings=tuple(listed), profiles=tuple(config.profiles.values()))


@dataclass(frozen=True, kw_only=True)
class MachineChecked:
    """What a job or a build needs, checked."""

    checks: tuple[Finding, ...]


def doctor(session: Session) -> MachineChecked:
    """Check everything that a job or a build needs."""
    from builder.edges.engine import buildx, needs
    from builder.edges.engine import connection as engine
    from builder.edges.images import base as bases
    from builder.edges.machine import doctor as machine
    from builder.edges.machine.doctor import Finding

    config, env = session.config, session.env

    def finding(name: str, look: Callable[[], str]) -> Finding:
        try:
            return Finding(name=name, ok=True, note=look(), hint="")
        except BakeError as error:
            return Finding(name=name, ok=False, note=error.what, hint=error.hint or "")

    def listening() -> str:
        host = engine.address(env)
        if why := engine.why_not(host):
            raise MissingError(why, hint="needed for images only: install docker, or start it")
        return needs.engine(engine.info(host), host)

    def gpu_driver() -> str:
        if not hardware_of(config)[0].gpus:
            return "no NVIDIA GPU here"
        return needs.gpu(engine.info(engine.address(env)), config.defaults.gpu_driver)

    def cached() -> str:
        size, free = buildx.cached_bytes(engine.connect(env))
        return format_size(size) + (
            f", {format_size(free)} of it to be freed: {command('prune --builder')}" if free else ""
        )

    def versions() -> str:
        from builder.edges.images.past import versions as kept

        state = kept.read(config.paths.versions)
        for hold in state.holds:
            kept.require_whole(hold)
        held = [
            f"{h.mode} {h.variant} is held at {h.name}: {command(f'rollback {options(h.mode, h.variant)} --release')}"
            for h in state.holds
        ]
        return "; ".join(held) or f"{len(state.known)} kept, none is held"

    listens = finding("container engine", listening)
    looks: dict[str, Callable[[], str]] = {
        "compose": lambda: needs.compose(engine.info(engine.address(env))),
        "buildx": lambda: engine.require_buildx(env),
        "base of images": lambda: bases.look(config, env, engine.connect(env)),
        "GPU in containers": gpu_driver,
        "BuildKit's cache": cached,
    }
    without = Finding(name="", ok=False, note="not looked at: no container engine answers", hint="")
    rest = [finding(name, look) if listens.ok else replace(without, name=name) for name, look in looks.items()]
    images = finding("versions of images", versions)
    return MachineChecked(checks=(*machine.inspect(config, env), images, listens, *rest))
