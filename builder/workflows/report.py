"""The command ``jobs report``: a job as one page to look at."""

from __future__ import annotations

from pathlib import Path

from builder.core.jobs.page import render
from builder.errors import UsageError
from builder.workflows.session import Result, Session


def report(session: Session, name: str | None, *, out: Path | None, megabytes: int, show: bool) -> Result:
    """Write a job's page, and open it when asked to."""
    from builder.edges.jobs import folder as jobs
    from builder.edges.jobs import listing
    from builder.edges.jobs import page as pages

    config = session.config
    if name is None:
        if (job := listing.newest(config)) is None:
            raise UsageError("there is no job to report", hint="build.py run RECORDING")
    else:
        job = listing.find(config, name)
    place = jobs.folder(config, job) / "report.html" if out is None else out.expanduser()
    if place.is_dir():
        place = place / f"{job.id}.html"
    page = pages.gather(config, job, out=place, limit=megabytes * 1_000_000)
    pages.write(place, render(page, pages.templates(config.root)))
    beside = [f.href for r in page.recordings for f in (r.media, *r.files) if f is not None and f.data is None]
    data = {
        "job": job.id,
        "state": page.state,
        "file": str(place),
        "bytes": place.stat().st_size,
        "recordings": [r.name for r in page.recordings],
        "beside": beside,
    }
    failure = pages.open_page(place.resolve(), session.env) if show else None
    return Result(data=data, text=str(place), failure=failure)
