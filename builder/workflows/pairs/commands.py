"""Which languages can be translated into which on this machine, and by whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from builder.core import translation
from builder.core.config.types import Config
from builder.core.languages import spoken
from builder.core.terms import Purpose
from builder.core.translation import Pair
from builder.core.weights.model import Model, PinnedModel
from builder.edges.machine import apertium
from builder.program import command
from builder.workflows.session import Session, chosen_models, store_of


@dataclass(frozen=True, kw_only=True)
class PairsListed:
    """What can be translated from here, and what lacks something."""

    source: str | None
    """The language that is asked for; None: all."""
    pairs: tuple[Pair, ...]
    """Those that a job would choose come first."""


def listing(session: Session) -> PairsListed:
    """The pairs from the configured language, or all of them."""
    config = session.config
    source = spoken(config.defaults.language)
    pairs = here(config, chosen_models(config))
    wanted = [pair for pair in pairs if source is None or (pair.takes(source, pair.target) and pair.target != source)]
    return PairsListed(source=source, pairs=tuple(sorted(wanted, key=lambda pair: not pair.ready)))


def with_model(
    config: Config, models: Mapping[Purpose, PinnedModel], wanted: tuple[str, ...]
) -> dict[Purpose, PinnedModel]:
    """A job's models, with one for translation where none is chosen and the store has one that suits.

    Args:
        wanted: languages that the text is translated into.
    """
    if Purpose.TRANSLATION in models:
        return dict(models)
    there = [model for model in _translators(config) if not _lacking(config, model)]
    best = translation.suited(there, spoken(config.defaults.language), wanted)
    return {**models, **({Purpose.TRANSLATION: (best, config.pins[best.id])} if best else {})}


def here(config: Config, models: Mapping[Purpose, PinnedModel]) -> tuple[Pair, ...]:
    """All pairs, the better backends first: a model for translation, Whisper, Apertium; a language model alone is the last.

    Args:
        models: those of the job; one for translation may be fetched yet.
    """
    mine = models[Purpose.TRANSLATION][0] if Purpose.TRANSLATION in models else None
    pairs = translation.neural(mine) if mine else ()
    for model in _translators(config):
        if model != mine:
            other = f"a job has one model for translation: --models {model.id}" if mine else ""
            pairs += translation.neural(model, lacking=_lacking(config, model) or other)
    pairs += translation.heard(models[Purpose.ASR][0])
    pairs += translation.apertium(apertium.pairs(config.shipped / "stages"), config.defaults.mode, config.apertium)
    return pairs + _asked(config)


def _asked(config: Config) -> tuple[Pair, ...]:
    """What the language model translates that the configuration names.

    Raises:
        UsageError: its address is none that may be asked.
    """
    from builder.edges.jobs.correct import endpoint

    chosen = config.settings.get(translation.STAGE, {})
    found = endpoint.endpoint({name: setting.value for name, setting in chosen.items()})
    return translation.asked(found.model, found.host) if found else ()


def _translators(config: Config) -> list[Model]:
    """The catalogue's models for translation that the variant can load."""
    every = config.models.values()
    return [m for m in every if m.purpose is Purpose.TRANSLATION and config.defaults.variant in m.variants]


def _lacking(config: Config, model: Model) -> str:
    """Why a model can't be used now; empty where it can."""
    if model.id not in config.pins:
        return f"it isn't pinned: {command(f'models lock {model.id}')}"
    if store_of(config).missing(model, config.pins[model.id]):
        return f"it isn't here: {command(f'models fetch {model.id}')}"
    return ""
