"""``preset: auto``: the preset that suits a machine and that it has, or can have without much waiting. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from types import MappingProxyType

from builder.core.config.types import Preset
from builder.core.machine import PRESETS, Recommendation
from builder.core.terms import Purpose
from builder.core.text import format_size
from builder.program import command

AUTO = "auto"
"""What stands for a preset that is decided on the machine."""

FETCHED_UNASKED = 600_000_000
"""The most bytes of models that a first command fetches because of ``auto``: some minutes on a slow line."""

SURE = "starter"
"""The preset of a machine that has no models: those of this one come from the package index, as everything else did."""


@dataclass(frozen=True, kw_only=True)
class PresetChoice:
    """The preset that ``auto`` stands for here."""

    preset: str
    reason: str
    """Why, and how to get the one that is recommended where that is another."""


def up_to(recommended: str) -> tuple[str, ...]:
    """The presets that suit a machine for which ``recommended`` is, largest first."""
    return PRESETS[: PRESETS.index(recommended) + 1][::-1]


def gated_pipelines(preset: Preset, gated: Set[str]) -> tuple[str, ...]:
    """The gated pipelines of diarization for which a preset also names an embedding, which does without them."""
    if Purpose.EMBEDDING not in preset.models:
        return ()
    return tuple(id_ for id_ in preset.models.get(Purpose.DIARIZATION, ()) if id_ in gated)


def without(preset: Preset, ids: Set[str]) -> Preset:
    """A preset that doesn't name the models ``ids``."""
    left = {purpose: tuple(id_ for id_ in names if id_ not in ids) for purpose, names in preset.models.items()}
    return replace(preset, models=MappingProxyType({purpose: names for purpose, names in left.items() if names}))


def decide(
    advice: Recommendation, lacking: Mapping[str, int], *, presets: Sequence[str], can_be_had: Callable[[str], bool]
) -> PresetChoice:
    """The largest preset that suits the machine and is here; without any, the largest that is small and can be had.

    Args:
        lacking: bytes of models that the machine lacks, for each preset whose models are pinned and load in this variant.
        presets: those of bake.yaml.
        can_be_had: whether the sources of what a preset lacks answer; asked only where no preset is here.
    """
    fitting = [preset for preset in up_to(advice.preset) if preset in lacking]
    here = (preset for preset in fitting if not lacking[preset])
    small = (p for p in fitting if lacking[p] <= FETCHED_UNASKED and (p == SURE or can_be_had(p)))
    chosen = next(here, None) or next(small, None) or (SURE if SURE in presets else presets[0])
    if chosen == advice.preset:
        return PresetChoice(preset=chosen, reason=f"recommended: {advice.reason}")
    missing = lacking.get(advice.preset)
    way = (
        "its models are not pinned"
        if missing is None
        else f"{command('models fetch --preset')} {advice.preset} gets it"
    )
    size = f", {format_size(missing)}" if missing else ""
    return PresetChoice(preset=chosen, reason=f"{advice.preset} is recommended ({advice.reason}): {way}{size}")
