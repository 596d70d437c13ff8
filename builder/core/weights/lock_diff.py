"""Which models to pin, what a new pin changes, in words, and which changes must not happen silently. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from builder.core.text import format_size
from builder.core.weights.model import FilePin, Model, Pin


@dataclass(frozen=True, kw_only=True)
class PlannedPin:
    """A model that somebody wants pinned."""

    model: Model
    before: Pin | None
    ask: bool
    """True when the hub is to be asked; False when the pin stays as it is."""


@dataclass(frozen=True, kw_only=True)
class PinChange:
    """A pin, before and after the hub was asked; they are equal when nothing changed."""

    model: Model
    before: Pin | None
    after: Pin
    lines: tuple[str, ...]
    """The change for a person (:func:`changes`)."""
    lowered: tuple[str, ...]
    """Why the new pin may be a step back (:func:`lowered`)."""


def plan_pins(
    models: Mapping[str, Model], pins: Mapping[str, Pin], *, named: Sequence[Model], update: Sequence[Model]
) -> tuple[PlannedPin, ...]:
    """The models to pin, each once: those named and those to update, or else all that are in a repository and have no pin.

    Args:
        named: models that get a pin when they have none.
        update: models whose pin moves to what the hub has today.
    """
    fresh = named if named or update else [m for m in models.values() if _at_hub(m) and m.id not in pins]
    chosen = {model.id: model for model in (*fresh, *update)}
    moving = {model.id for model in update}
    return tuple(
        PlannedPin(model=model, before=pins.get(id_), ask=id_ not in pins or id_ in moving)
        for id_, model in chosen.items()
    )


def at_hub(models: Mapping[str, Model], pins: Mapping[str, Pin]) -> list[Model]:
    """The models that are pinned, and that the hub can be asked about."""
    return [model for model in models.values() if model.id in pins and _at_hub(model)]


def _at_hub(model: Model) -> bool:
    """Whether the hub can be asked; weights in int8 are made from others', all of which have to be fetched for it."""
    return model.repo is not None and model.int8_of is None


def pin_change(model: Model, before: Pin | None, answer: Pin, history: Sequence[str] | None) -> PinChange:
    """What the hub's answer changes. With the same files, the records and the layers of the old pin stay.

    Args:
        answer: the pin that the hub's answer makes.
        history: commits of the repository from the answer's backwards; None when the hub doesn't tell.
    """
    after = answer
    if before is not None and (before.files, before.source_files) == (answer.files, answer.source_files):
        records = tuple(dict.fromkeys((*before.records, *answer.records)))
        after = replace(answer, records=records, layers=before.layers)
        if model.repo is None:  # an address has no commits: the name that somebody gave to these bytes stays
            after = replace(after, revision=before.revision)
    return PinChange(
        model=model,
        before=before,
        after=after,
        lines=tuple(changes(model, before, after)),
        lowered=tuple(lowered(before, after, history)),
    )


def changes(model: Model, before: Pin | None, after: Pin) -> list[str]:
    """Lines for a person: the revision, one line for each file that is added, removed or changed, and the licence."""
    old = {f.path: f for f in before.files} if before else {}
    new = {f.path: f for f in after.files}
    was = before.revision[:12] if before else "not pinned"
    same = before is not None and before.revision == after.revision and old == new
    lines = [
        f"{model.id}: {was if same else f'{was} → {after.revision[:12]}'}, {format_size(after.size)}, {len(new)} files"
    ]
    if same:
        lines[0] += ", unchanged"
    width = max((len(p) for p in {*old, *new}), default=0)
    for path in sorted({*old, *new}):
        a, b = old.get(path), new.get(path)
        if a == b:
            continue
        sign = "+" if a is None else "-" if b is None else "~"
        lines.append(f"  {sign} {path.ljust(width)}  {' → '.join(_file(f) for f in (a, b) if f is not None)}")
    if after.licence and not same_licence(model.licence, after.licence):
        lines.append(f"  ! licence: the hub says {after.licence}, models.yaml says {model.licence}")
    return lines


def lowered(before: Pin | None, after: Pin, history: Sequence[str] | None) -> list[str]:
    """Why a new pin may be a step back; empty when it is not.

    Args:
        history: commits of the repository from ``after.revision`` backwards; None when the hub doesn't tell.
    """
    if before is None or before == after:
        return []
    reasons = []
    if before.revision != after.revision and before.revision not in (history or ()):
        known = "is not among the commits that led to" if history is not None else "may be newer than"
        reasons.append(f"the pinned {before.revision[:12]} {known} {after.revision[:12]}")
    kept = {f.path for f in after.files}
    reasons += [f"{f.path} is gone" for f in before.files if f.path not in kept]
    if before.revision == after.revision:
        sizes = {f.path: f for f in after.files}
        reasons += [
            f"{f.path} is another file under the same commit"
            for f in before.files
            if f.path in sizes and sizes[f.path] != f
        ]
    return reasons


def same_licence(ours: str, theirs: str) -> bool:
    """SPDX identifiers and the hub's short names (``apache-2.0``) differ in case only."""
    return ours.lower().replace(" ", "-") == theirs.lower().replace(" ", "-")


def _file(file: FilePin) -> str:
    return f"{format_size(file.size)} {file.sha256[:8]}…"
