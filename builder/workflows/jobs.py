"""The commands about jobs: prepare, preflight, run, list, show, remove."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from builder import ui
from builder.edges import native
from builder.errors import InputError, UsageError
from builder.session import (
    Result,
    Session,
    Wishes,
    existing_job,
    fetch_missing,
    hardware_of,
    pinned,
    request_of,
)

if TYPE_CHECKING:
    from builder.edges.preflight import Checks


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


def listing(session: Session) -> Result:
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


def show(session: Session, name: str) -> Result:
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


def remove(session: Session, names: Sequence[str], *, dry_run: bool) -> Result:
    """Delete jobs; all of them exist, or none goes."""
    from builder.edges import jobs

    found = [jobs.find(session.config, name).id for name in names]
    gone = [jobs.remove(session.config, name, dry_run=dry_run) for name in dict.fromkeys(found)]
    word = "would free" if dry_run else "freed"
    return Result(
        data=[{"job": place.name, "bytes": size, "removed": not dry_run} for place, size in gone],
        text="\n".join(f"{place.name}: {word} {ui.size(size)}" for place, size in gone),
    )
