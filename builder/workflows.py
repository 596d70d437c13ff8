"""One short function a command; each reads like the picture in the README.

Recording and choices go in on the left, effects happen in ``edges``, a :class:`Result` comes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder import ui
from builder.core import catalog
from builder.core.types import Mode
from builder.edges import native
from builder.errors import InputError, IntegrityError, UsageError
from builder.session import (
    Result,
    Session,
    Wishes,
    chosen_models,
    existing_job,
    fetch_missing,
    hardware_of,
    model_named,
    native_python,
    open_session,
    pinned,
    request_of,
    store_of,
)

if TYPE_CHECKING:
    from builder.edges.preflight import Checks

__all__ = ["Result", "Session", "Wishes", "open_session"]

# What a machine needs


def build(
    session: Session, *, models: str | None, diarization: bool, names: Sequence[str], cache: bool, refresh: bool
) -> Result:
    """Set up what the mode needs, and say what is there."""
    from builder import imaging, places
    from builder.edges import engine

    if session.config.defaults.mode is not Mode.NATIVE:
        return imaging.build(session, models=models, names=names, cache=cache, refresh=refresh)
    chosen = chosen_models(session, models=models, diarization=diarization)
    fetched = fetch_missing(session, list(chosen.values()))
    python = native_python(session)
    found, advice = hardware_of(session)
    why = engine.why_not(session.env)
    made = None
    if why is None:
        made = imaging.build(session, models=models, names=names, cache=cache, refresh=refresh)
        media = {s.name for s in session.config.stages.values() if s.media}
        places.record(session, [(i["name"], i["tag"], i["id"]) for i in made.data["images"] if i["name"] in media])
    session.live.close()
    data = {
        "mode": session.config.defaults.mode.value,
        "preset": session.config.defaults.preset,
        "images": made.data["images"] if made else [],
        "unique_bytes": made.data["unique_bytes"] if made else 0,
        "images_note": f"no images are built: {why}" if why else "media files are parsed in these containers",
        "environment": str(python.parent.parent),
        "models": [{"id": m.id, "purpose": p.value, "size": pin.size} for p, (m, pin) in chosen.items()],
        "fetched": [f.model for f in fetched],
        "ready": True,
    }
    rows = [(p.value, m.id, ui.size(pin.size), m.licence) for p, (m, pin) in chosen.items()]
    lines = [
        ui.table(("PURPOSE", "MODEL", "SIZE", "LICENCE"), rows),
        "",
        *([made.text, ""] if made else []),
        f"machine: {found.cores} cores, {ui.size(found.memory)}; recommended preset: {advice.preset} ({advice.reason})",
        *([f"native: no images are built: {why}"] if why else []),
        "ready to run jobs: python3 build.py run RECORDING",
    ]
    return Result(data=data, text="\n".join(lines))


def bytes_missing(session: Session) -> int:
    """Bytes that the preset's models still lack."""
    store = store_of(session)
    return sum(f.size for model, pin in chosen_models(session).values() for f in store.missing(model, pin))


def bootstrap(session: Session, *, fetch: bool, force: bool) -> Result:
    """Environment, hardware, models."""
    python = native_python(session, force=force)
    found, advice = hardware_of(session, refresh=force)
    chosen = chosen_models(session)
    fetched = fetch_missing(session, list(chosen.values())) if fetch else ()
    lacking = bytes_missing(session)
    session.live.close()
    text = (
        f"environment: ready\nmachine: {found.cores} cores, {ui.size(found.memory)}; recommended: {advice.preset}\n"
        + (f"models: {ui.size(lacking)} left to fetch: models fetch" if lacking else "models: all there")
    )
    data = {
        "environment": str(python.parent.parent),
        "hardware": asdict(found),
        "recommended": asdict(advice),
        "fetched": [asdict(f) for f in fetched],
        "missing_bytes": lacking,
    }
    return Result(data=data, text=text)


def hardware(session: Session, *, refresh: bool) -> Result:
    """What this machine has, and what that recommends."""
    found, advice = hardware_of(session, refresh=refresh)
    gpus = [
        (f"GPU {k}", f"{g.name}, {ui.size(g.memory)}, driver {g.driver}, CUDA {g.cuda}")
        for k, g in enumerate(found.gpus)
    ]
    rows = [
        ("system", f"{found.system} {found.machine}"),
        ("processor", f"{found.cpu}, {found.cores} cores, {found.threads} threads"),
        ("memory", ui.size(found.memory)),
        *(gpus or [("GPU", "Apple MPS" if found.mps else "none")]),
        ("preset", f"{advice.preset}: {advice.reason}"),
        (
            "settings",
            f"{advice.device}, {advice.compute_type}, batch size {advice.batch_size}, {advice.threads} threads",
        ),
    ]
    return Result(
        data={"hardware": asdict(found), "recommended": asdict(advice)}, text=ui.table(("WHAT", "FOUND"), rows)
    )


def doctor(session: Session) -> Result:
    """Everything a job or a build needs, and what to do about what is missing."""
    from builder.edges import engine, health

    why = engine.why_not(session.env)
    checks = (
        *health.look(session.config, session.env),
        ("container engine", why is None, why or "reachable", "needed for images only"),
    )
    rows = [("ok" if ok else "--", name, note, "" if ok else hint) for name, ok, note, hint in checks]
    return Result(
        data={"checks": [{"name": n, "ok": ok, "note": note, "hint": hint} for n, ok, note, hint in checks]},
        text=ui.table(("", "CHECK", "FOUND", "NEXT"), rows),
    )


# Models


def models_list(session: Session) -> Result:
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


def models_fetch(session: Session, ids: Sequence[str], *, folders: Sequence[Path]) -> Result:
    """Fetch models, the preset's by default."""
    wanted = pinned(session, ids) if ids else list(chosen_models(session).values())
    fetched = fetch_missing(session, wanted, folders)
    session.live.close()
    there = [m.id for m, _ in wanted if m.id not in {f.model for f in fetched}]
    lines = [f"{f.model}: {ui.size(f.size)} from {f.source} in {ui.clock(f.seconds)}" for f in fetched]
    lines += [f"{name}: there already" for name in there]
    return Result(data={"fetched": [asdict(f) for f in fetched], "present": there}, text="\n".join(lines))


def models_verify(session: Session, ids: Sequence[str], *, deep: bool) -> Result:
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


def models_lock(session: Session, ids: Sequence[str]) -> Result:
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


# Jobs


def prepare(session: Session, inputs: Sequence[Path], wishes: Wishes) -> Result:
    """Make a job without running it."""
    from builder import places
    from builder.edges import jobs

    place = places.choose(session)
    job = jobs.prepare(session.config, inputs, request_of(session, wishes), media=place.media, report=session.report)
    folder = jobs.folder(session.config, job)
    session.live.close()
    return Result(
        data={"job": job.id, "folder": str(folder), "workflow": job.workflow, "stages": [s.name for s in job.stages]},
        text=f"{job.id}\nnext: python3 build.py run {job.id}",
    )


def preflight(session: Session, name: str | None, *, refresh: bool) -> Result:
    """Check that a job can run here."""
    from builder.edges import jobs
    from builder.edges import preflight as checking

    config = session.config
    if name is None:
        known = sorted(config.jobs.glob("*/job.yaml"))
        if not known:
            raise UsageError("there is no job to check", hint="build.py prepare RECORDING")
        job = jobs.read(known[-1].parent)
    else:
        job = jobs.find(config, name)
    checks = checking.check(config, job, python=native.ready(config, tuple(config.stages.values())), refresh=refresh)
    rows = [("ok" if c.failure is None else "FAILED", c.name, c.note) for c in checks.checks]
    failure = next((c.failure for c in checks.checks if c.failure), None)
    return Result(
        data={"job": job.id, **checking.summary(checks)},
        text=f"job {job.id}{' (cached)' if checks.cached else ''}\n" + ui.table(("", "CHECK", "FOUND"), rows),
        failure=failure,
    )


def run(session: Session, inputs: Sequence[str], wishes: Wishes, *, build: bool = True) -> Result:
    """Transcribe recordings or resume a job: set up, prepare, check, run."""
    from builder import places
    from builder.edges import jobs, preflight, runner

    config = session.config
    job = existing_job(config, inputs)
    if job is None:
        for name in inputs:  # before anything is installed, built or fetched
            if not Path(name).expanduser().exists():
                raise InputError(
                    "no such file, and no such job", where=name, hint="check the path; jobs list shows the jobs"
                )
        request = request_of(session, wishes)
        place = places.choose(session, build=build)
        hardware_of(session)
        fetch_missing(session, list(request.models.values()))
        job = jobs.prepare(
            config, [Path(i) for i in inputs], request, media=place.media, report=session.report, resume=True
        )
    else:
        place = places.choose(session, build=build)
        fetch_missing(session, pinned(session, sorted({u.id for s in job.stages for u in s.models.values()})))
    images = sorted(place.images.values()) if place.python is None else ()
    checks: Checks = preflight.check(config, job, python=place.python, images=images)
    checks.raise_failure()
    found, _ = hardware_of(session)
    parallel = 2 if found.threads > 1 else 1
    outcome = runner.run(config, job, start=place.start(job), report=session.report, parallel=parallel)
    session.live.close()
    for note in outcome.notes:
        ui.say(f"note: {note}")
    kept = [s.name for s in outcome.stages if s.kept]
    if kept:
        ui.say(f"kept from before: {', '.join(kept)}")
    ui.say(f"job {job.id} done in {ui.clock(outcome.seconds)}; {place.note}")
    data = {
        "job": job.id,
        "output": str(outcome.folder),
        "files": [str(p) for p in outcome.files],
        "stages": [asdict(s) for s in outcome.stages],
        "notes": list(outcome.notes),
        "seconds": round(outcome.seconds, 3),
    }
    return Result(data=data, text="\n".join(str(p) for p in outcome.files))


def jobs_list(session: Session) -> Result:
    """The jobs, newest first."""
    from builder.edges import jobs

    found = jobs.listing(session.config)
    rows = [(j.id, j.state, j.workflow, ", ".join(repr(n)[1:-1] for n in j.inputs)) for j in found]
    data = [
        {"id": j.id, "state": j.state, "created": j.created, "workflow": j.workflow, "inputs": list(j.inputs)}
        for j in found
    ]
    return Result(
        data=data, text=ui.table(("JOB", "STATE", "WORKFLOW", "RECORDINGS"), rows) if rows else "no jobs here"
    )


def jobs_show(session: Session, name: str) -> Result:
    """One job: its stages, times and files."""
    from builder.edges import files, jobs

    job = jobs.find(session.config, name)
    place = jobs.folder(session.config, job)
    rows, stages = [], []
    made: list[str] = []
    notes: list[str] = []
    for stage in job.stages:
        manifest = files.read_json(place / "work" / stage.name / "manifest.json") or {}
        timings = manifest.get("timings", {})
        models = ", ".join(u.id for u in stage.models.values())
        made += [str(place / p) for p in manifest.get("outputs", {}) if p.startswith("output/")]
        notes += manifest.get("notes", [])
        stages.append({"name": stage.name, "done": bool(manifest), "timings": timings, "models": models})
        total = timings.get("total")
        rows.append((stage.name, "done" if manifest else "open", ui.clock(total) if total is not None else "", models))
    state = jobs.state(place)
    data = {
        "id": job.id, "state": state, "created": job.created, "workflow": job.workflow, "preset": job.preset,
        "inputs": [i.name for i in job.inputs], "stages": stages, "files": sorted(made), "notes": notes,
    }  # fmt: skip
    head = f"{job.id}  {state}  {job.workflow}, preset {job.preset}\n"
    tail = "".join(f"\n{line}" for line in [*(f"note: {n}" for n in notes), *sorted(made)])
    return Result(data=data, text=head + ui.table(("STAGE", "STATE", "TIME", "MODELS"), rows) + tail)


def jobs_remove(session: Session, names: Sequence[str], *, dry_run: bool) -> Result:
    """Delete jobs; all of them exist, or none goes."""
    from builder.edges import jobs

    found = [jobs.find(session.config, name).id for name in names]
    gone = [jobs.remove(session.config, name, dry_run=dry_run) for name in dict.fromkeys(found)]
    word = "would free" if dry_run else "freed"
    return Result(
        data=[{"job": place.name, "bytes": size, "removed": not dry_run} for place, size in gone],
        text="\n".join(f"{place.name}: {word} {ui.size(size)}" for place, size in gone),
    )
