"""What a bundle says of the licences of its models. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from builder.core.weights.model import Model, Pin

MODELS_FILE, PROJECT_FILE = "licences/models.md", "licences/LICENSE"
"""Paths in a bundle."""

_HEAD = "| model | what it is | licence | commercial use | page | revision |\n|---|---|---|---|---|---|\n"


@dataclass(frozen=True, kw_only=True)
class ModelLicence:
    """What the inventory says of a model."""

    id: str
    title: str
    licence: str
    commercial: bool
    page: str | None
    revision: str
    size: int


def licences(models: Sequence[tuple[Model, Pin]]) -> tuple[ModelLicence, ...]:
    """The licence of each model."""
    return tuple(
        ModelLicence(
            id=model.id,
            title=model.title,
            licence=model.licence,
            commercial=model.commercial,
            page=model.page,
            revision=pin.revision,
            size=pin.size,
        )
        for model, pin in models
    )


def licence_table(models: Sequence[tuple[Model, Pin]]) -> str:
    """The licences of models as a table in Markdown."""
    rows = [
        f"| {m.id} | {m.title} | {m.licence} | {'yes' if m.commercial else 'no'} | {m.page or m.repo or ''} | {pin.revision} |"
        for m, pin in models
    ]
    return _HEAD + "\n".join(rows) + "\n"
