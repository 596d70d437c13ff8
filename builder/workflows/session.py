"""One command's session: its configuration and display, and the steps that several commands share."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from builder import ui
from builder.core.config import presets
from builder.core.config import selection as choice
from builder.core.config.types import Config
from builder.core.jobs.request import CPU_COMPUTE_TYPE
from builder.core.languages import require, spoken
from builder.core.progress import OnProgress
from builder.core.terms import MUSIC, SEPARATION, Mode, Purpose
from builder.core.weights.model import MLX, HubSource, Model, Pin, PinnedModel
from builder.edges.machine import environment as native
from builder.edges.machine import project
from builder.edges.weights.store import Store
from builder.errors import MissingError, UsageError, did_you_mean

if TYPE_CHECKING:
    from builder.core.machine import Hardware, Recommendation
    from builder.edges.images.layout import Layout
    from builder.edges.weights.fetch import Fetched


@dataclass(frozen=True, kw_only=True)
class Session:
    """One command's configuration, environment and progress display."""

    config: Config
    env: Mapping[str, str]
    on_progress: OnProgress
    live: ui.Live
    quiet: bool = False
    preset_reason: str = ""
    """Why the configuration has this preset, where it was left to ``auto``, or which of its models it does without."""


@contextlib.contextmanager
def open_session(
    *,
    home: Path | None,
    quiet: bool,
    env: Mapping[str, str],
    start: Path,
    overrides: Mapping[str, object],
    may_ask: bool = False,
) -> Iterator[Session]:
    """Read the project's files, decide what they leave to the machine, and show progress until the block ends.

    Args:
        may_ask: the hub may be asked what it has, for a preset that is left to ``auto`` on a machine without models.
    """
    config = project.load(
        project.find_root(start, env),
        env=env,
        home=home,
        overrides={name: value for name, value in overrides.items() if value is not None},
    )
    reason = ""
    config, closed = _without_closed(config, env)
    if config.defaults.preset == presets.AUTO:
        config, reason = _with_preset(config, env=env, may_ask=may_ask)
    reason = "; ".join(filter(None, (reason, closed.get(config.defaults.preset))))
    with ui.Live(quiet=quiet) as live:
        yield Session(
            config=config, env=env, on_progress=live.on_progress, live=live, quiet=quiet, preset_reason=reason
        )


def _without_closed(config: Config, env: Mapping[str, str]) -> tuple[Config, Mapping[str, str]]:
    """Presets that do without the gated pipelines which this machine neither has nor can ask for, and why, by preset."""
    gated = {model.id for model in config.models.values() if model.gated and config.defaults.variant in model.variants}
    named = {name: presets.gated_pipelines(preset, gated) for name, preset in config.presets.items()}
    closed = {id_ for ids in named.values() for id_ in ids if id_ in config.pins and not _at_hand(config, id_)}
    if not closed:
        return config, {}
    from builder.edges.weights import access

    if access.find_token(env, config.home) is not None:
        return config, {}
    changed = {name: presets.without(config.presets[name], closed) for name, ids in named.items() if closed & {*ids}}
    reasons = {
        name: f"{config.presets[name].models[Purpose.DIARIZATION][0]} wants a hub token (docs/models.md), "
        f"so {preset.models[Purpose.EMBEDDING][0]} tells the speakers apart"
        for name, preset in changed.items()
    }
    return replace(config, presets=MappingProxyType({**config.presets, **changed})), reasons


def _at_hand(config: Config, id_: str) -> bool:
    """Whether a pinned model is in the store, or the configured folders seem to have what is missing of it."""
    from builder.edges.weights.sources import folder

    model, pin = config.models[id_], config.pins[id_]
    missing = store_of(config).missing(model, pin)
    entries = tuple(entry for path in config.defaults.sources for entry in folder.index(Path(path))) if missing else ()
    return all(any(folder.candidates(file, model, entries)) for file in missing)


DECIDES_NOTHING = (Purpose.ALIGNMENT, Purpose.TRANSLATION)
"""Of ``auto``: all presets name the same aligners, and words have Whisper's times without; few jobs are translated."""


def _with_preset(config: Config, *, env: Mapping[str, str], may_ask: bool) -> tuple[Config, str]:
    """The configuration with the preset that ``auto`` stands for on this machine, and why."""
    # A command that only asks makes no state folder.
    store, (_, advice) = store_of(config), hardware_of(config, keep=config.home.is_dir())

    def using(preset: str) -> Config:
        return replace(config, defaults=replace(config.defaults, preset=preset))

    missing: dict[str, list[tuple[Model, Pin]]] = {}
    for preset in presets.up_to(advice.preset):
        with contextlib.suppress(UsageError, MissingError):  # not of this project, of another variant, or not pinned
            models = [use for purpose, use in chosen_models(using(preset)).items() if purpose not in DECIDES_NOTHING]
            missing[preset] = [made_of for use in models for made_of in _to_fetch(config, store, *use)]

    def can_be_had(preset: str) -> bool:
        from builder.edges.weights import access

        only = [(m, p) for m, p in missing[preset] if all(isinstance(source, HubSource) for source in m.sources)]
        return not only or (may_ask and access.offers(only, token=access.find_token(env, config.home), env=env))

    decided = presets.decide(
        advice,
        {name: sum(f.size for m, p in lack for f in store.missing(m, p)) for name, lack in missing.items()},
        presets=tuple(config.presets),
        can_be_had=can_be_had,
    )
    return using(decided.preset), decided.reason


def _to_fetch(config: Config, store: Store, model: Model, pin: Pin) -> Iterator[PinnedModel]:
    """A model that the store lacks; in place of weights in int8 what they are made from, where it lacks that too."""
    if store.missing(model, pin):
        use = (model, pin) if model.int8_of is None else (config.models[model.int8_of], config.pins[model.int8_of])
        if store.missing(*use):
            yield use


def store_of(config: Config) -> Store:
    """The store of weights."""
    return Store(config.paths.models)


def layout_of(config: Config) -> Layout:
    """The images' layers and manifests."""
    from builder.edges.images.layout import Layout

    return Layout(config.paths.layout, config.paths.models)


def model_named(config: Config, name: str) -> Model:
    """A model of the catalogue.

    Raises:
        UsageError: models.yaml has no such id.
    """
    if name not in config.models:
        raise UsageError(f'no model "{name}"', hint=did_you_mean(name, config.models) or "models list shows all")
    return config.models[name]


def pinned(config: Config, ids: Sequence[str]) -> list[tuple[Model, Pin]]:
    """Models by id, each with its pin.

    Raises:
        UsageError: models.yaml has no such id.
        MissingError: models.lock doesn't pin one of them.
    """
    models = [model_named(config, name) for name in ids]
    pins = choice.require_pins(config, models)
    return [(m, pins[m.id]) for m in models]


def chosen_models(
    config: Config,
    *,
    models: str | None = None,
    diarization: bool = True,
    separation: bool | None = None,
    tagging: bool | None = None,
    to_fetch: bool = False,
) -> dict[Purpose, tuple[Model, Pin]]:
    """The pinned model for each purpose of the planned stages.

    Args:
        separation: noise is to be taken out of the sound; None: the configuration says whether an image for that is built.
        tagging: music is to be looked for; None: likewise.
        to_fetch: they are about to be fetched. Otherwise a preset's aligner is left out that the store lacks, while the
            language is to be detected: nobody knows whether it will be needed, and words have Whisper's times without it.
    """
    speakers = diarization and config.defaults.diarization
    asked = [m.strip() for m in models.split(",") if m.strip()] if models else []
    chosen = choice.choose(
        config,
        preset=config.defaults.preset,
        variant=config.defaults.variant,
        stages=[name for name in config.stages if speakers or name != "diarize"],
        models=asked,
        diarization=speakers,
        separation=SEPARATION in config.defaults.extras if separation is None else separation,
        tagging=MUSIC in config.defaults.extras if tagging is None else tagging,
        language=spoken(config.defaults.language),
        apple=_on_apple(config),
        int8=_in_int8(config),
    )
    pins = choice.require_pins(config, chosen.values())
    found = {purpose: (model, pins[model.id]) for purpose, model in chosen.items()}
    aligner = found.get(Purpose.ALIGNMENT)
    if aligner is None or to_fetch or aligner[0].id in asked or spoken(config.defaults.language):
        return found
    if store_of(config).missing(*aligner):
        del found[Purpose.ALIGNMENT]
    return found


def _on_apple(config: Config) -> bool:
    """Whether jobs run natively on Apple silicon. Without a model for it nobody looks."""
    known = any(model.engine == MLX for model in config.models.values())
    return known and config.defaults.mode is Mode.NATIVE and hardware_of(config, keep=config.home.is_dir())[0].mps


IN_INT8 = {Purpose.ASR: "asr", Purpose.TRANSLATION: "translate"}
"""Purposes whose models have weights in int8, with the stage that computes with them."""


def _in_int8(config: Config) -> frozenset[Purpose]:
    """Purposes for which a processor computes in int8: such weights are half as large, and give the same words."""
    return frozenset(purpose for purpose, stage in IN_INT8.items() if _computes_int8(config, stage))


def _computes_int8(config: Config, stage: str) -> bool:
    mode, said = config.defaults.mode, {name: one.value for name, one in config.settings.get(stage, {}).items()}
    if mode is Mode.DOCKER_GPU or said.get("compute_type", CPU_COMPUTE_TYPE) != CPU_COMPUTE_TYPE:
        return False
    if mode is Mode.DOCKER_CPU or said.get("device") == "cpu":
        return True
    return "device" not in said and hardware_of(config, keep=config.home.is_dir())[1].device == "cpu"


def image_models(
    config: Config,
    *,
    presets: Sequence[str] = (),
    models: str | None = None,
    languages: str | None = None,
    diarization: bool = True,
    separation: bool | None = None,
    tagging: bool | None = None,
) -> tuple[tuple[Model, Pin], ...]:
    """The pinned models that images carry: one for each purpose, of alignment one for each language, in that order.

    Args:
        presets: others beside the configured one: one image serves jobs with each of them.
        models: ids in place of the presets'; several that hear (``tiny,small``) are all carried.

    Raises:
        UsageError: no language of that name, or it brings nothing.
    """
    asked = [require(word, where="--languages") for word in (languages or "").split(",") if word.strip()]
    found: dict[str, tuple[Model, Pin]] = {}
    every: Sequence[str | None] = asked or [config.defaults.language]
    wishes = itertools.product((config.defaults.preset, *presets), alternatives(config, models), every)
    for preset, one_asr, language in wishes:
        one = replace(config, defaults=replace(config.defaults, preset=preset, language=language))
        chosen = chosen_models(
            one, models=one_asr, diarization=diarization, separation=separation, tagging=tagging, to_fetch=True
        )
        if asked:
            choice.require_alignment(one, language, {purpose: model for purpose, (model, _) in chosen.items()})
        found |= {model.id: (model, pin) for model, pin in chosen.values()}
    return tuple(found.values())


def alternatives(config: Config, models: str | None) -> tuple[str | None, ...]:
    """The value of ``--models``, once for each model in it that hears; jobs take one of these."""
    ids = [word.strip() for word in (models or "").split(",") if word.strip()]
    hearing = [id_ for id_ in dict.fromkeys(ids) if id_ in config.models and config.models[id_].purpose is Purpose.ASR]
    if len(hearing) < 2:
        return (models,)
    return tuple(",".join(id_ for id_ in ids if id_ not in hearing or id_ == one) for one in hearing)


def fetch_missing(
    config: Config,
    models: Sequence[tuple[Model, Pin]],
    *,
    env: Mapping[str, str],
    on_progress: OnProgress,
    folders: Sequence[Path] = (),
    skip_gated: bool = False,
) -> tuple[Fetched, ...]:
    """Bring models into the store. Needs no network when all of them are in it.

    Args:
        folders: folders that may hold the files, tried before the configured ones.
        skip_gated: leave out gated models that the hub wouldn't give out; otherwise they are an error, before any download.

    Returns:
        What was fetched, a model each.

    Raises:
        SourceError: the hub wouldn't give out a gated model, or no source has a file.
        IntegrityError: a file's bytes are not those that models.lock pins.
        MissingError: the disk is full.
    """
    store = store_of(config)
    missing = [(model, pin) for model, pin in models if store.missing(model, pin)]
    for model, pin in models:
        if (model, pin) not in missing:
            with contextlib.suppress(OSError):  # a store that can't be written does without
                store.finish(model, pin)  # a fetch that was killed behind the last file has not
    if not missing:
        return ()
    from builder.edges.weights import access
    from builder.edges.weights.fetch import fetch_models

    sources = [*folders, *(Path(p) for p in config.defaults.sources)]
    token = access.find_token(env, config.home)
    if closed := access.closed_gates(missing, token=token, env=env, folders=sources):
        if not skip_gated:
            raise access.refusal(closed, token=token, home=config.home, way_out="models fetch --skip-gated")
        names = {gate.model.id for gate in closed}
        missing = [(model, pin) for model, pin in missing if model.id not in names]
    hub_env = {**env, "HF_TOKEN": token.value} if token else env
    return tuple(fetch_models(store, missing, folders=sources, env=hub_env, on_progress=on_progress))


def native_python(
    config: Config, *, cuda: bool, env: Mapping[str, str], on_progress: OnProgress, force: bool = False
) -> Path:
    """The native environment's python, made when it is missing.

    Args:
        cuda: a stage is to compute on a GPU.
    """
    return native.ensure(config, config.together, cuda=cuda, env=env, on_progress=on_progress, force=force)


def pythons_apart(
    config: Config, names: Collection[str], *, env: Mapping[str, str], on_progress: OnProgress
) -> dict[str, Path]:
    """The pythons of stages that have native environments of their own, made when they are missing.

    Args:
        names: stages of jobs.
    """
    return {
        name: native.ensure(config, (spec,), env=env, on_progress=on_progress)
        for name, spec in config.stages.items()
        if spec.apart and name in names
    }


def hardware_of(config: Config, *, refresh: bool = False, keep: bool = True) -> tuple[Hardware, Recommendation]:
    """What this machine has, and the settings that suit it."""
    from builder.core.machine import recommend
    from builder.edges.machine import hardware as probe

    hardware = probe.hardware(config.paths.hardware, refresh=refresh, keep=keep)
    return hardware, recommend(hardware)
