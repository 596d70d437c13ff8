"""The commands about weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from builder import ui
from builder.core.progress import Progress
from builder.core.text import format_size, format_time, table
from builder.core.weights import lock_diff as lockdiff
from builder.core.weights.model import Model, Pin
from builder.edges.weights.store import Store
from builder.errors import BakeError, IntegrityError, MissingError, SourceError, UsageError
from builder.workflows.session import (
    Result,
    Session,
    chosen_models,
    fetch_missing,
    image_models,
    model_named,
    pinned,
    store_of,
)


def listing(session: Session) -> Result:
    """Every model of the catalogue."""
    config, store = session.config, store_of(session.config)
    data: list[dict[str, Any]] = []
    for model in config.models.values():
        pin = config.pins.get(model.id)
        lacking = len(store.missing(model, pin)) if pin else 0
        presets = [p.id for p in config.presets.values() if any(model.id in ids for ids in p.models.values())]
        data.append(
            {
                "id": model.id,
                "purpose": model.purpose.value,
                "title": model.title,
                "size": pin.size if pin else None,
                "licence": model.licence,
                "commercial": model.commercial,
                "gated": model.gated,
                "page": model.page,
                "languages": list(model.languages),
                "repo": model.repo,
                "revision": pin.revision if pin else None,
                "pinned": pin is not None,
                "records": list(pin.records) if pin else [],
                "present": pin is not None and not lacking,
                "begun": bool(pin and 0 < lacking < len(pin.files)),
                "variants": [v.value for v in model.variants],
                "presets": presets,
                "images": [i.name for i in config.images.values() if i.stage and _loads(session, i.stage, model)],
            }
        )
    rows = [
        (
            d["id"],
            d["purpose"],
            format_size(float(d["size"])) if d["size"] else "?",
            d["licence"] + ("" if d["commercial"] else " (non-commercial)") + (" (gated)" if d["gated"] else ""),
            "yes" if d["pinned"] else "no",
            "yes" if d["present"] else "partly" if d["begun"] else "no",
            " ".join(d["presets"]) or "-",
            " ".join(d["images"]) or "-",
        )
        for d in data
    ]
    head = ("MODEL", "PURPOSE", "SIZE", "LICENCE", "PINNED", "PRESENT", "PRESETS", "IMAGES")
    return Result(data=data, text=table(head, rows))


def _loads(session: Session, stage: str, model: Model) -> bool:
    """True when a variant of the stage's image could load the model."""
    return model.purpose in session.config.stages[stage].uses and bool(model.variants)


def fetch(
    session: Session,
    ids: Sequence[str],
    *,
    folders: Sequence[Path],
    languages: str | None = None,
    everything: bool = False,
    preset: str | None = None,
    skip_gated: bool = False,
) -> Result:
    """Fetch models: those named, all that are pinned, or the preset's (for each of the languages)."""
    asked = {"model names": bool(ids), "--all": everything, "--languages": bool(languages)}
    if ids or everything:
        given = [name for name, there in {**asked, "--preset": bool(preset)}.items() if there]
        if len(given) > 1:
            raise UsageError(f"{' and '.join(given)} say different things", hint="give one of them")
    wanted = _asked_for(session, ids, languages, everything)
    fetched = fetch_missing(
        session.config, wanted, folders=folders, skip_gated=skip_gated, env=session.env, on_progress=session.on_progress
    )
    session.live.close()
    store = store_of(session.config)
    skipped = [m.id for m, p in wanted if store.missing(m, p)]
    there = [m.id for m, _ in wanted if m.id not in {f.model for f in fetched} and m.id not in skipped]
    lines = [f"{f.model}: {format_size(f.size)} from {f.source} in {format_time(f.seconds)}" for f in fetched]
    lines += [f"{name}: there already" for name in there]
    lines += [f"{name}: skipped, gated" for name in skipped]
    data = {"fetched": [asdict(f) for f in fetched], "present": there, "skipped": skipped}
    return Result(data=data, text="\n".join(lines))


def _asked_for(
    session: Session, ids: Sequence[str], languages: str | None, everything: bool
) -> list[tuple[Model, Pin]]:
    config = session.config
    if everything:
        return [(m, config.pins[m.id]) for m in config.models.values() if m.id in config.pins]
    if ids:
        return pinned(session.config, list(dict.fromkeys(ids)))
    return (
        list(image_models(session.config, languages=languages))
        if languages
        else list(chosen_models(session.config).values())
    )


def verify(session: Session, ids: Sequence[str], *, deep: bool) -> Result:
    """Compare the store with the lock."""
    store = store_of(session.config)
    wanted = pinned(session.config, ids) if ids else [(m, p) for m, p in _known(session) if _begun(store, m, p)]
    rows: list[tuple[str, str]] = []
    data: list[dict[str, Any]] = []
    broken = 0
    total, done = sum(p.size for _, p in wanted), 0
    for model, pin in wanted:
        session.on_progress(Progress(what="verify", done=done, total=total, unit="bytes"))
        problems = store.verify(model, pin, deep=deep)
        done += pin.size
        broken += len(problems)
        data.append(
            {
                "id": model.id,
                "ok": not problems,
                "problems": [
                    {"file": p.path.name, "what": p.what, "moved_to": str(p.moved_to) if p.moved_to else None}
                    for p in problems
                ],
            }
        )
        note = "; ".join(
            f"{p.path.name}: {p.what}" + (f", moved to {p.moved_to}" if p.moved_to else "") for p in problems
        )
        rows.append((model.id, note or "as models.lock says"))
    if wanted:
        session.on_progress(Progress(what="verify", done=done, total=total, unit="bytes", finished=True))
    session.live.close()
    failure = None
    if broken:
        bad = " ".join(str(d["id"]) for d in data if not d["ok"])
        failure = IntegrityError(f"{broken} files are not as models.lock says", hint=f"models fetch {bad}")
    return Result(data=data, text=table(("MODEL", "FOUND"), rows) if rows else "no models here", failure=failure)


def _known(session: Session) -> list[tuple[Model, Pin]]:
    """Every model that is pinned."""
    return [(m, session.config.pins[m.id]) for m in session.config.models.values() if m.id in session.config.pins]


def _begun(store: Store, model: Model, pin: Pin) -> bool:
    return len(store.missing(model, pin)) < len(pin.files)


SHOWN = 20
"""Lines about files that were ignored; --json has all."""


def take(session: Session, paths: Sequence[Path]) -> Result:
    """Take in what matches the lock."""
    from builder.edges.weights import importing as parcel

    store = store_of(session.config)
    taken = parcel.take(store, _known(session), paths, session.on_progress)
    session.live.close()
    lines = [f"took {path} as {model} {file} ({format_size(size)})" for path, model, file, size in taken.took]
    lines += [f"there already: {path} is {model} {file}" for path, model, file in taken.there]
    lines += [f"ignored {path}: {why}" for path, why in taken.ignored[:SHOWN]]
    if len(taken.ignored) > SHOWN:
        lines.append(f"… and {len(taken.ignored) - SHOWN} more ignored  (--json lists them)")
    touched = dict.fromkeys(model for _, model, *_ in (*taken.took, *taken.there))
    state = {}
    for model, pin in _known(session):
        if model.id in touched:
            lacking = [f.path for f in store.missing(model, pin)]
            state[model.id] = lacking
            lines.append(f"{model.id}: " + (f"still lacks {', '.join(lacking)}" if lacking else "whole"))
    failure = None
    if not touched:
        failure = SourceError(
            "nothing there is what models.lock names",
            where=", ".join(map(str, paths)),
            hint="models list shows the sizes",
        )
    data = {
        "took": [{"path": p, "model": m, "file": f, "size": s} for p, m, f, s in taken.took],
        "there": [{"path": p, "model": m, "file": f} for p, m, f in taken.there],
        "ignored": [{"path": p, "why": w} for p, w in taken.ignored],
        "models": state,
    }
    return Result(data=data, text="\n".join(lines), failure=failure)


def export(session: Session, target: Path, ids: Sequence[str]) -> Result:
    """Write models to a folder, from which another machine takes them."""
    from builder.edges.weights import importing as parcel

    store = store_of(session.config)
    wanted = pinned(session.config, ids) if ids else [(m, p) for m, p in _known(session) if not store.missing(m, p)]
    if not wanted:
        raise MissingError("no models are here to export", hint="models fetch")
    count, size = parcel.export(store, wanted, target, session.on_progress)
    session.live.close()
    lines = [f"{m.id}: {format_size(p.size)}, {m.licence}" + _terms(m) for m, p in wanted]
    lines += [f"{count} files, {format_size(size)} written to {target}", f"there: build.py models import {target}"]
    data = {"models": [m.id for m, _ in wanted], "files": count, "bytes": size, "folder": str(target)}
    return Result(data=data, text="\n".join(lines))


def _terms(model: Model) -> str:
    return ("" if model.commercial else ", not for commercial use") + (
        ", gated: who gets it must have accepted its licence" if model.gated else ""
    )


def prune(session: Session, *, dry_run: bool) -> Result:
    """Remove what no pin needs."""
    from builder.edges.weights import prune as pruning

    store = store_of(session.config)
    found = pruning.leftovers(store, _known(session))
    others = pruning.foreign(store, list(session.config.models.values()))
    gone = found if dry_run else pruning.remove(store, found)
    freed = sum(item.size for item in gone)
    rows = [(str(i.path.relative_to(store.root)), format_size(i.size), i.why) for i in found]
    lines = [table(("WHAT", "SIZE", "WHY"), rows)] if rows else []
    lines += [f"left alone, not in models.yaml: {path.relative_to(store.root)}" for path in others]
    lines += [f"left: {i.path.relative_to(store.root)} is in use or can't be removed" for i in found if i not in gone]
    lines.append(f"{format_size(freed)} " + ("would be freed  (--dry-run)" if dry_run else "freed"))
    data = {
        "removed": [{"path": str(i.path), "why": i.why, "size": i.size} for i in gone],
        "bytes": freed,
        "dry_run": dry_run,
        "foreign": [str(p) for p in others],
    }
    return Result(data=data, text="\n".join(lines))


def lock(session: Session, ids: Sequence[str], *, update: Sequence[str], force: bool, dry_run: bool) -> Result:
    """Pin what is not pinned yet, and move the pins of ``update`` to what the hub has today."""
    from builder.edges.weights import access as gates
    from builder.edges.weights import pinning as locking

    config = session.config
    fresh = [model_named(config, name) for name in ids]
    if not ids and not update:
        fresh = [m for m in config.models.values() if m.repo and m.id not in config.pins]
    moved = [model_named(config, name) for name in update]
    token = gates.find_token(session.env, config.home)
    pins: dict[str, Pin] = {}
    lines: list[str] = []
    back: list[str] = []
    refused: list[SourceError] = []
    data: list[dict[str, Any]] = []
    for model in {m.id: m for m in (*fresh, *moved)}.values():
        before = config.pins.get(model.id)
        if before is not None and model not in moved:
            lines.append(f"{model.id}: pinned already at {before.revision[:12]}  (--update {model.id} asks again)")
            continue
        session.on_progress(Progress(what=f"lock {model.id}", note="asking the hub", finished=True))
        try:
            after, history = locking.resolve(model, token=token, env=session.env)
        except SourceError as error:
            refused.append(error)
            if isinstance(error, locking.Unreachable):
                break
            continue
        if before is not None and before.files == after.files:
            after = replace(
                after, records=tuple(dict.fromkeys((*before.records, *after.records))), layers=before.layers
            )
        told = lockdiff.changes(model, before, after)
        reasons = lockdiff.lowered(before, after, history)
        lines += told
        back += [f"{model.id}: {reason}" for reason in reasons]
        data.append(
            {
                "id": model.id,
                "before": before.revision if before else None,
                "after": after.revision,
                "size": after.size,
                "licence": after.licence,
                "changes": told[1:],
                "lowered": reasons,
            }
        )
        if before != after:
            pins[model.id] = after
    session.live.close()
    failure: BakeError | None = None
    if refused:
        failure = refused[0]
        failure.detail = (*failure.detail, *(f"{e.where}: {e.what}" for e in refused[1:]))
    if back and not force:
        failure = IntegrityError(
            "a pin would be lowered; models.lock is as it was",
            where="models.lock",
            detail=back,
            hint="--force, when that is meant",
        )
    elif pins and not dry_run:  # what the hub told is kept, whatever it refused to tell of others
        locking.write(config.root, config.home, pins, config.models)
    if dry_run:
        lines.append("models.lock is as it was (--dry-run)")
    if not data and not lines and not refused:
        lines.append("every model that has a repository is pinned  (--update MODEL asks again)")
    return Result(data=data, text="\n".join(lines), failure=failure)


def serve(session: Session, *, bind: str, gated: bool) -> Result:
    """Give the store out to hub clients until Ctrl-C."""
    import signal

    from builder.edges.weights import serve as server

    host, port = _address(bind)
    wide = not server.loopback(host)
    known = _known(session)
    given = [(m, p) for m, p in known if gated or not wide or not m.gated]
    withheld = frozenset(str(m.repo) for m, p in known if (m, p) not in given and server.in_hub(m, p))
    if not session.quiet:
        ui.say("looking at the store: what was not read before is read once")
    shelf = server.Shelf(store_of(session.config), given)
    shelf.look()
    listening = server.listen(host, port)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listening.getsockname()[1]}"
    size = sum(s.pin.size for s in shelf.models.values())
    ui.say(f"serving {len(shelf.models)} models, {format_size(size)}, at {address}  (Ctrl-C ends it)")
    if wide:
        ui.say(f"  warning: everyone who reaches {shown} can read the weights; there is no password and no TLS")
    if withheld:
        ui.say(f"  left out, gated: {', '.join(sorted(withheld))}; --gated, where all have accepted their licences")
    ui.say(f"  elsewhere: HF_ENDPOINT={address} python3 build.py models fetch")
    count = server.Count()

    def log(line: str) -> None:
        if not session.quiet:
            ui.say(line)

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    server.more_files()
    before = signal.signal(signal.SIGTERM, end)
    try:
        server.run(server.application(shelf, withheld=withheld, log=log, count=count), listening)
    except KeyboardInterrupt:  # the way a server is meant to end
        pass
    finally:
        signal.signal(signal.SIGTERM, before)
        listening.close()
    return Result(
        data={"address": address, "models": sorted(shelf.models), "requests": count.requests, "bytes": count.bytes},
        text=f"served {format_size(count.bytes)} in {count.requests} answers",
    )


def _address(bind: str) -> tuple[str, int]:
    """Host and port of ``host:port``, ``[v6]:port`` or a port alone (then loopback)."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(f"//127.0.0.1:{bind}" if bind.isdigit() else f"//{bind}")
        if parts.port is not None and parts.hostname and parts.netloc == parts.netloc.strip() and not parts.path:
            return parts.hostname, parts.port
    except ValueError:
        pass
    raise UsageError(f'"{bind}" is no address', where="--bind", expected="host:port, such as 127.0.0.1:8377")
