"""The commands ``batch``: thousands of recordings, a module a subject."""

from __future__ import annotations

import typer

from builder.cli.batch import plan, render, retry, run, status

app = typer.Typer(rich_markup_mode=None)
for command in (plan.plan, run.run, render.render, status.status, status.collect, retry.retry):
    app.command()(command)
