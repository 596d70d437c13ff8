"""What changes when a model is pinned anew, in words; and which changes must not happen silently."""

from __future__ import annotations

from collections.abc import Sequence

from builder.core.weights.model import FilePin, Model, Pin


def changes(model: Model, before: Pin | None, after: Pin) -> list[str]:
    """Lines for a person: the revision, then one line for each file that comes, goes or changes, and the licence."""
    old = {f.path: f for f in before.files} if before else {}
    new = {f.path: f for f in after.files}
    was = before.revision[:12] if before else "not pinned"
    same = before is not None and before.revision == after.revision and old == new
    lines = [f"{model.id}: {was if same else f'{was} → {after.revision[:12]}'}, {_size(after.size)}, {len(new)} files"]
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
    """Why a new pin might be a step back; empty when it is none.

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
    return f"{_size(file.size)} {file.sha256[:8]}…"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
