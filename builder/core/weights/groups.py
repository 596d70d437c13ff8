"""Groups of models that are fetched together: what each step of the pipeline can load. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from builder.core.terms import Purpose, Variant
from builder.core.weights.model import MLX, Model, Pin, PinnedModel
from builder.errors import UsageError, did_you_mean

SPEECH, DIARIZATION = "speech", "diarization"

OF_PURPOSE = {
    Purpose.ASR: SPEECH,
    Purpose.VAD: SPEECH,
    Purpose.EMBEDDING: DIARIZATION,
    Purpose.SEGMENTATION: DIARIZATION,
}
"""Groups of several purposes; every other purpose is a group of its own."""


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A model of a group that isn't fetched with it."""

    model: str
    why: str


def group_of(model: Model) -> str:
    """The group that a model belongs to."""
    return MLX if model.engine == MLX else OF_PURPOSE.get(model.purpose, model.purpose.value)


def groups(models: Mapping[str, Model]) -> tuple[str, ...]:
    """The groups of a catalogue, in its order."""
    return tuple(dict.fromkeys(group_of(model) for model in models.values()))


def select(
    models: Mapping[str, Model],
    pins: Mapping[str, Pin],
    *,
    names: Sequence[str],
    variant: Variant,
    languages: Sequence[str] = (),
    apple: bool,
) -> tuple[tuple[PinnedModel, ...], tuple[LeftOut, ...]]:
    """The models of groups, and those of them that are left out, with the reason.

    Args:
        names: groups; empty for all models that this machine can use, of both variants.
        variant: of a group that is named, only what this variant can load.
        languages: ISO 639-1 codes; empty for all. A model for any language is never left out.
        apple: this machine has Apple silicon. Its models are left out elsewhere, unless their group is named.

    Raises:
        UsageError: no such group.
    """
    known = groups(models)
    for name in names:
        if name not in known:
            raise UsageError(
                f'no group "{name}"', where="--for", expected=", ".join(known), hint=did_you_mean(name, known)
            )
    found: list[PinnedModel] = []
    left: list[LeftOut] = []
    for model in models.values():
        if names and group_of(model) not in names:
            continue
        pin = pins.get(model.id)
        why = _why_not(model, named=bool(names), variant=variant, languages=languages, apple=apple)
        if pin is None:
            why = "not pinned: models.lock doesn't say which bytes it is"
        if pin is None or why:
            left.append(LeftOut(model=model.id, why=why))
        else:
            found.append((model, pin))
    return tuple(found), tuple(left)


def _why_not(model: Model, *, named: bool, variant: Variant, languages: Sequence[str], apple: bool) -> str:
    """Why a pinned model is left out; empty when it isn't."""
    if group_of(model) == MLX and not (apple or named):
        return "for Apple silicon (--for mlx fetches it here)"
    if named and variant not in model.variants:
        return f"for the {model.variants[0].value} variant (--variant {model.variants[0].value})"
    if languages and model.languages and not set(languages) & set(model.languages):
        return f"for {', '.join(model.languages)}"
    return ""
