"""``batch plan``: recordings become items, and items shards."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from builder.cli.options import NO_JOB_OPTIONS, Json, NewJobOptions, NoBuild, expanded, show


@expanded
def plan(
    words: Annotated[
        list[str], typer.Argument(metavar="FOLDER|LIST...", help="Folders, or lists of paths, a line each (-: stdin).")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="B", help="The batch's folder, made if need be.")],
    shard_minutes: Annotated[
        float, typer.Option("--shard-minutes", min=0.1, max=100_000, help="Minutes of sound in a shard, or so.")
    ] = 30.0,
    identity: Annotated[
        str, typer.Option("--identity", help="What tells that a recording changed: mtime (default) or sha256.")
    ] = "mtime",
    options: NewJobOptions = NO_JOB_OPTIONS,
    no_build: NoBuild = False,
    json: Json = False,
) -> None:
    """Plan a batch: look into every recording, and share them out in shards of even length.

    Planned again, finished recordings stay, and new and changed ones get new shards.

    Example: python3 build.py batch plan /archive/tapes --out tapes --language en
    """
    from builder.views.batch import plan as views
    from builder.workflows.batch import plan as workflow

    typed = {name: value for name, value in asdict(options).items() if value not in (None, False, [])}
    asked = workflow.PlanOptions(
        out=out, shard_minutes=shard_minutes, identity=identity, typed=typed, build=not no_build
    )
    with options.opened() as session:
        planned = workflow.plan(session, words, options.job(), asked)
    show(json, views.PLAN, planned)
