"""The commands about jobs: prepare, preflight, list, show, logs, cancel, remove. ``run`` has a file of its own."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from builder.core.jobs import timeline
from builder.core.jobs.request import JobOptions
from builder.core.terms import Mode
from builder.core.text import format_size, format_time, table
from builder.edges.machine import environment as native
from builder.errors import MissingError, UsageError, did_you_mean
from builder.workflows.session import Result, Session


def prepare(session: Session, inputs: Sequence[Path], options: JobOptions, *, build: bool = True) -> Result:
    """Make a job without running it; where stages run in containers, with its compose file."""
    from builder.edges.jobs import folder as jobs
    from builder.edges.jobs import prepare
    from builder.workflows import host as places

    place = places.choose(session, build=build)
    job = prepare.prepare(
        session.config, inputs, places.resolve(session, options), media=place.media, on_progress=session.on_progress
    )
    folder = jobs.folder(session.config, job)
    data = {"job": job.id, "folder": str(folder), "workflow": job.workflow, "stages": [s.name for s in job.stages]}
    following = f"python3 build.py run {job.id}"
    if place.text is not None:
        from builder.edges.jobs.hosts import compose

        compose.write(folder, place.text(job, 0))
        mode = session.config.defaults.mode.value
        following += f" --mode {mode}    (or: cd {folder} && docker compose up)"
        data |= {"compose": str(folder / "compose.yaml"), "mode": mode}
    session.live.close()
    return Result(data=data, text=f"{job.id}\nnext: {following}")


def preflight(session: Session, name: str | None, *, refresh: bool) -> Result:
    """Check that a job can run here."""
    from builder.edges.jobs import listing
    from builder.edges.jobs import preflight as checking
    from builder.workflows import host as places

    config = session.config
    if name is None:
        if (job := listing.newest(config)) is None:
            raise UsageError("there is no job to check", hint="build.py prepare RECORDING")
    else:
        job = listing.find(config, name)
    python, containers, lacking = None, None, None
    if config.defaults.mode is Mode.NATIVE:
        python = native.ready(config, tuple(config.stages.values()))
    else:
        try:
            containers = places.choose(session, build=False).containers
        except MissingError as missing:
            lacking = checking.Check(name="images", note=missing.what, failure=missing)
    checks = checking.check(
        config, job, python=python, containers=containers, env=session.env, refresh=refresh, lacking=lacking
    )
    rows = [("ok" if c.failure is None else "FAILED", c.name, c.note) for c in checks.checks]
    failure = next((c.failure for c in checks.checks if c.failure), None)
    return Result(
        data={"job": job.id, **checking.summary(checks)},
        text=f"job {job.id}{' (cached)' if checks.cached else ''}\n" + table(("", "CHECK", "FOUND"), rows),
        failure=failure,
    )


def listing(session: Session) -> Result:
    """The jobs, newest first."""
    from builder.edges.jobs import listing

    found = listing.listing(session.config)
    rows, data = [], []
    for job in found:
        now = _doing(job.folder) if job.state == "running" else ""
        rows.append((job.id, job.state, now, job.workflow, ", ".join(repr(n)[1:-1] for n in job.inputs)))
        data.append(
            {
                "id": job.id,
                "state": job.state,
                "now": now,
                "created": job.created,
                "workflow": job.workflow,
                "inputs": list(job.inputs),
            }
        )
    head = ("JOB", "STATE", "NOW", "WORKFLOW", "RECORDINGS")
    return Result(data=data, text=table(head, rows) if rows else "no jobs here")


def _doing(place: Path) -> str:
    """``asr 45 %, diarize``: the stages that run."""
    from builder.edges.jobs import folder as jobs

    running = [s for s in timeline.spans(jobs.events(place)).values() if s.state == "running"]
    return ", ".join(s.stage + ("" if s.progress is None else f" {s.progress:.0%}") for s in running)


def watch(session: Session, *, every: float = 0.5) -> Iterator[Result]:
    """The listing whenever it changes, until the reader stops."""
    last = None
    while True:
        result = listing(session)
        if result.data != last:
            last = result.data
            yield result
        time.sleep(every)


def show(session: Session, name: str) -> Result:
    """One job: its stages, when they worked, times and files."""
    from builder.edges.jobs import folder, listing
    from builder.edges.jobs import folder as jobs
    from builder.edges.system import files

    job = listing.find(session.config, name)
    place = jobs.folder(session.config, job)
    spans = timeline.spans(jobs.events(place))
    lines = dict(zip(spans, timeline.bars(list(spans.values()), now=time.time()), strict=True))
    began = min((s.start for s in spans.values()), default=0.0)
    rows, stages = [], []
    made: list[str] = []
    notes: list[str] = []
    for stage in job.stages:
        manifest = files.read_json(place / "work" / stage.name / "manifest.json") or {}
        timings = manifest.get("timings", {})
        models = ", ".join(u.id for u in stage.models.values())
        made += [str(place / p) for p in manifest.get("outputs", {}) if p.startswith("output/")]
        notes += manifest.get("notes", [])
        total, span = timings.get("total"), spans.get(stage.name)
        entry: dict[str, Any] = {"name": stage.name, "done": bool(manifest), "timings": timings, "models": models}
        if span is not None:
            entry |= {"began": round(span.start - began, 3), "state": span.state, "progress": span.progress}
            entry["ended"] = None if span.end is None else round(span.end - began, 3)
        stages.append(entry)
        state = "done" if manifest else span.state if span and span.state != "done" else "open"
        spent = format_time(total) if total is not None else ""
        rows.append((stage.name, state, spent, lines.get(stage.name, "").ljust(timeline.WIDTH), models))
    state = folder.state(place)
    data = {
        "id": job.id,
        "state": state,
        "created": job.created,
        "workflow": job.workflow,
        "preset": job.preset,
        "inputs": [i.name for i in job.inputs],
        "stages": stages,
        "files": sorted(made),
        "notes": notes,
    }
    head = f"{job.id}  {state}  {job.workflow}, preset {job.preset}\n"
    tail = "".join(f"\n{line}" for line in [*(f"note: {n}" for n in notes), *sorted(made)])
    return Result(data=data, text=head + table(("STAGE", "STATE", "TIME", "WHEN", "MODELS"), rows) + tail)


def logs(session: Session, name: str, stage: str | None, *, follow: bool) -> Iterator[tuple[str, str]]:
    """(stage, line) of what the stages printed; with ``follow`` as it comes, while the job is running.

    Raises:
        UsageError: no such job or stage.
    """
    from builder.edges.jobs import folder, listing
    from builder.edges.jobs import folder as jobs

    job = listing.find(session.config, name)
    names = [s.name for s in job.stages]
    if stage is not None and stage not in names:
        raise UsageError(
            f'job {job.id} has no stage "{stage}"', expected=", ".join(names), hint=did_you_mean(stage, names)
        )
    place = jobs.folder(session.config, job)
    wanted = [stage] if stage else names
    offsets = dict.fromkeys(wanted, 0)
    while True:
        going = follow and folder.state(place) in ("running", "queued")
        for each in wanted:
            lines, offsets[each] = jobs.log_lines(place / "logs" / f"{each}.log", offsets[each], whole=going)
            yield from ((each, line) for line in lines)
        if not going:
            return
        time.sleep(0.1)


def cancel(session: Session, names: Sequence[str]) -> Result:
    """Stop running jobs; what is done stays done."""
    from builder.edges.jobs import folder, listing
    from builder.edges.jobs import folder as jobs
    from builder.edges.jobs.hosts import compose

    found = list({job.id: job for job in (listing.find(session.config, name) for name in names)}.values())
    asked = [job for job in found if jobs.ask_to_stop(jobs.folder(session.config, job))]
    data = []
    for job in found:
        place = jobs.folder(session.config, job)
        if job in asked:
            jobs.wait_for_end(place)
        with contextlib.suppress(TimeoutError), jobs.held(place):  # else somebody has begun it anew
            compose.clean(place)  # of a run that was killed
        data.append({"job": job.id, "was_running": job in asked, "state": folder.state(place)})
    text = "\n".join(f"{d['job']}: {'stopped' if d['was_running'] else 'was not running'}" for d in data)
    return Result(data=data, text=text)


def remove(session: Session, names: Sequence[str], *, dry_run: bool) -> Result:
    """Delete jobs; all of them, or none."""
    from builder.edges.jobs import listing

    gone = listing.remove(session.config, names, dry_run=dry_run)
    word = "would free" if dry_run else "freed"
    return Result(
        data=[{"job": place.name, "bytes": size, "removed": not dry_run} for place, size in gone],
        text="\n".join(f"{place.name}: {word} {format_size(size)}" for place, size in gone),
    )
