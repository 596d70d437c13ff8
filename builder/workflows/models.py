"""The commands about weights: list, fetch, verify, lock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from builder import ui
from builder.core import catalog
from builder.errors import IntegrityError
from builder.session import (
    Result,
    Session,
    chosen_models,
    fetch_missing,
    layout_of,
    model_named,
    pinned,
    store_of,
)


def listing(session: Session) -> Result:
    """Every model of the catalogue."""
    config, store = session.config, store_of(session)
    data: list[dict[str, Any]] = []
    for model in config.models.values():
        pin = config.pins.get(model.id)
        presets = [p.id for p in config.presets.values() if any(model.id in ids for ids in p.models.values())]
        data.append(
            {
                "id": model.id, "purpose": model.purpose.value, "title": model.title,
                "size": pin.size if pin else None, "licence": model.licence, "commercial": model.commercial,
                "gated": model.gated, "pinned": pin is not None, "present": bool(pin and not store.missing(model, pin)),
                "variants": [v.value for v in model.variants], "presets": presets,
            }
        )  # fmt: skip
    rows = [
        (d["id"], d["purpose"], ui.size(float(str(d["size"]))) if d["size"] else "?",
         str(d["licence"]) + ("" if d["commercial"] else " (non-commercial)") + (" (gated)" if d["gated"] else ""),
         "yes" if d["pinned"] else "no", "yes" if d["present"] else "no", ", ".join(d["presets"]))
        for d in data
    ]  # fmt: skip
    return Result(
        data=data, text=ui.table(("MODEL", "PURPOSE", "SIZE", "LICENCE", "PINNED", "PRESENT", "PRESETS"), rows)
    )


def fetch(session: Session, ids: Sequence[str], *, folders: Sequence[Path]) -> Result:
    """Fetch models, the preset's by default."""
    wanted = pinned(session, ids) if ids else list(chosen_models(session).values())
    fetched = fetch_missing(session, wanted, folders)
    session.live.close()
    there = [m.id for m, _ in wanted if m.id not in {f.model for f in fetched}]
    lines = [f"{f.model}: {ui.size(f.size)} from {f.source} in {ui.clock(f.seconds)}" for f in fetched]
    lines += [f"{name}: there already" for name in there]
    return Result(data={"fetched": [asdict(f) for f in fetched], "present": there}, text="\n".join(lines))


def verify(session: Session, ids: Sequence[str], *, deep: bool) -> Result:
    """Compare the store with the lock."""
    store = store_of(session)
    known = [(m, session.config.pins[m.id]) for m in session.config.models.values() if m.id in session.config.pins]
    wanted = pinned(session, ids) if ids else [(m, p) for m, p in known if len(store.missing(m, p)) < len(p.files)]
    rows: list[tuple[str, str]] = []
    data: list[dict[str, Any]] = []
    broken = 0
    for model, pin in wanted:
        problems = store.verify(model, pin, deep=deep)
        broken += len(problems)
        data.append(
            {
                "id": model.id, "ok": not problems,
                "problems": [
                    {"file": p.path.name, "what": p.what, "moved_to": str(p.moved_to) if p.moved_to else None}
                    for p in problems
                ],
            }
        )  # fmt: skip
        note = "; ".join(
            f"{p.path.name}: {p.what}" + (f", moved to {p.moved_to}" if p.moved_to else "") for p in problems
        )
        rows.append((model.id, note or "as models.lock says"))
    failure = None
    if broken:
        bad = " ".join(str(d["id"]) for d in data if not d["ok"])
        failure = IntegrityError(f"{broken} files are not as models.lock says", hint=f"models fetch {bad}")
    return Result(data=data, text=ui.table(("MODEL", "FOUND"), rows) if rows else "no models here", failure=failure)


def lock(session: Session, ids: Sequence[str]) -> Result:
    """Pin models as the hub has them today, and write models.lock."""
    from builder.edges import files, hub

    config = session.config
    pins = dict(config.pins)
    lines = []
    for model in (model_named(config, name) for name in ids):
        found = hub.resolve(model, session.env)
        before = pins.get(model.id)
        # The same files make the same layers.
        pins[model.id] = replace(found, layers=before.layers) if before and before.files == found.files else found
        change = (
            "unchanged"
            if before and before.files == found.files
            else f"{before.revision if before else 'new'} → {found.revision}"
        )
        lines.append(f"{model.id}: {change}, {ui.size(found.size)}, {len(found.files)} files")
    files.write_atomic(config.root / "models.lock", catalog.dump_lock(pins))
    return Result(
        data={name: {"revision": pins[name].revision, "size": pins[name].size} for name in ids}, text="\n".join(lines)
    )


def lock_layers(session: Session, ids: Sequence[str]) -> Result:
    """Write the digests of models' image layers into models.lock: a build then knows them without a read, and checks them."""
    from builder.core import layers
    from builder.edges import files

    config, store, layout = session.config, store_of(session), layout_of(session)
    pins = dict(config.pins)
    lines = []
    for model, pin in pinned(session, ids):
        fresh = replace(pin, layers=MappingProxyType({}))
        store.require(model, fresh)
        with files.locked(layout.lock):
            made = {layer.name.partition("/")[2]: layout.weights(layer) for layer in layers.layers(model, fresh)}
        digests = {name: layer.blob.digest for name, layer in made.items()}
        pins[model.id] = replace(pin, layers=MappingProxyType(digests))
        change = "unchanged" if dict(pin.layers) == digests else "written"
        lines.append(f"{model.id}: {change}, {ui.size(sum(m.blob.size for m in made.values()))} in {len(made)} layers")
    files.write_atomic(config.root / "models.lock", catalog.dump_lock(pins))
    return Result(data={id_: dict(pins[id_].layers) for id_ in ids}, text="\n".join(lines))
