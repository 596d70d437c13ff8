"""What a list of models says of each: whether it is here, and what uses it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from builder.core.terms import Purpose
from builder.core.weights.model import Model, Pin


@dataclass(frozen=True, kw_only=True)
class ListedModel:
    """One model of the catalogue, as a list shows it."""

    model: Model
    pin: Pin | None
    missing: int
    """Files of the pin that the store lacks; 0 without a pin."""
    presets: tuple[str, ...]
    """Presets that choose it for some purpose."""
    images: tuple[str, ...]
    """Images whose stage could load it."""

    @property
    def present(self) -> bool:
        """True when the store has all of its pinned files."""
        return self.pin is not None and not self.missing

    @property
    def begun(self) -> bool:
        """True when the store has some of its pinned files, but not all."""
        return self.pin is not None and 0 < self.missing < len(self.pin.files)


def list_models(
    models: Mapping[str, Model],
    pins: Mapping[str, Pin],
    *,
    missing: Mapping[str, int],
    presets: Mapping[str, Collection[str]],
    images: Mapping[str, Collection[Purpose]],
) -> tuple[ListedModel, ...]:
    """Every model of the catalogue, in its order.

    Args:
        missing: number of files that the store lacks, by pinned model.
        presets: ids of the models that each preset may choose.
        images: purposes that each image's stage has a model for.
    """
    return tuple(
        ListedModel(
            model=model,
            pin=pins.get(id_),
            missing=missing.get(id_, 0),
            presets=tuple(preset for preset, chosen in presets.items() if id_ in chosen),
            images=tuple(image for image, purposes in images.items() if model.purpose in purposes),
        )
        for id_, model in models.items()
    )
