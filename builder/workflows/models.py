"""The commands about weights: list, fetch, verify, lock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from builder import ui
from builder.core import catalog
from builder.core.types import Model, Pin
from builder.errors import IntegrityError, UsageError
from builder.session import Result, Session, chosen_models, fetch_missing, model_named, pinned, store_of


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


def fetch(
    session: Session,
    ids: Sequence[str],
    *,
    folders: Sequence[Path],
    languages: str | None = None,
    everything: bool = False,
    preset: str | None = None,
) -> Result:
    """Fetch models: those named, all that are pinned, or the preset's (for each of the languages)."""
    asked = {"model names": bool(ids), "--all": everything, "--languages": bool(languages)}
    if ids or everything:
        given = [name for name, there in {**asked, "--preset": bool(preset)}.items() if there]
        if len(given) > 1:
            raise UsageError(f"{' and '.join(given)} say different things", hint="give one of them")
    wanted = _asked_for(session, ids, languages, everything)
    fetched = fetch_missing(session, wanted, folders)
    session.live.close()
    there = [m.id for m, _ in wanted if m.id not in {f.model for f in fetched}]
    lines = [f"{f.model}: {ui.size(f.size)} from {f.source} in {ui.clock(f.seconds)}" for f in fetched]
    lines += [f"{name}: there already" for name in there]
    return Result(data={"fetched": [asdict(f) for f in fetched], "present": there}, text="\n".join(lines))


def _asked_for(
    session: Session, ids: Sequence[str], languages: str | None, everything: bool
) -> list[tuple[Model, Pin]]:
    config = session.config
    if everything:
        return [(m, config.pins[m.id]) for m in config.models.values() if m.id in config.pins]
    if ids:
        return pinned(session, list(dict.fromkeys(ids)))
    if languages is None:
        return list(chosen_models(session).values())
    found: dict[str, tuple[Model, Pin]] = {}
    for code in (c.strip() for c in languages.split(",") if c.strip()):
        if code not in catalog.LANGUAGES:
            raise UsageError(f'"{code}" is no language code', where="--languages", expected="ISO 639-1: en,de")
        found |= {m.id: (m, p) for m, p in chosen_models(session, language=code).values()}
    return list(found.values())


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
        pins[model.id] = found
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
