"""The commands about weights: list, fetch, verify, lock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from builder import ui
from builder.core import catalog
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


def fetch(session: Session, ids: Sequence[str], *, folders: Sequence[Path], skip_gated: bool = False) -> Result:
    """Fetch models, the preset's by default."""
    wanted = pinned(session, ids) if ids else list(chosen_models(session).values())
    fetched = fetch_missing(session, wanted, folders, skip_gated=skip_gated)
    session.live.close()
    store = store_of(session)
    skipped = [m.id for m, p in wanted if store.missing(m, p)]
    there = [m.id for m, _ in wanted if m.id not in {f.model for f in fetched} and m.id not in skipped]
    lines = [f"{f.model}: {ui.size(f.size)} from {f.source} in {ui.clock(f.seconds)}" for f in fetched]
    lines += [f"{name}: there already" for name in there]
    lines += [f"{name}: skipped, gated" for name in skipped]
    data = {"fetched": [asdict(f) for f in fetched], "present": there, "skipped": skipped}
    return Result(data=data, text="\n".join(lines))


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


def serve(session: Session, *, bind: str, gated: bool) -> Result:
    """Give the store out to hub clients until Ctrl-C."""
    import signal

    from builder.edges import serve as server

    host, port = _address(bind)
    wide = not server.loopback(host)
    config = session.config
    known = [(m, config.pins[m.id]) for m in config.models.values() if m.id in config.pins]
    given = [(m, p) for m, p in known if gated or not wide or not m.gated]
    withheld = frozenset(str(m.repo) for m, p in known if (m, p) not in given and server.in_hub(m, p))
    if not session.quiet:
        ui.say("looking at the store: what was not read before is read once")
    shelf = server.Shelf(store_of(session), given)
    shelf.look()
    listening = server.listen(host, port)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listening.getsockname()[1]}"
    size = sum(s.pin.size for s in shelf.models.values())
    ui.say(f"serving {len(shelf.models)} models, {ui.size(size)}, at {address}  (Ctrl-C ends it)")
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
        text=f"served {ui.size(count.bytes)} in {count.requests} answers",
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
