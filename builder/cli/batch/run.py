"""``batch run``: one shard, on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from builder.cli.batch.options import BatchArgument
from builder.cli.options import Json, NoBuild, opened, show


def run(
    batch: BatchArgument,
    shard: Annotated[
        int | None, typer.Option("--shard", min=0, help="Its number. Default: what the engine says.")
    ] = None,
    scratch: Annotated[
        Path | None, typer.Option("--scratch", metavar="DIR", help="A folder for what goes on. Default: in --home.")
    ] = None,
    no_build: NoBuild = False,
    json: Json = False,
) -> None:
    """Work through one shard of a batch. What has a result already is passed over.

    Exit code 0: all have results; 8: some failed, each with its reason; 3 and 1: run it again.

    Example: python3 build.py batch run tapes --shard 0
    """
    from builder.views.batch import run as views
    from builder.workflows.batch import run as batches

    with opened() as session:
        ran = batches.run(session, batch, shard, scratch=scratch, build=not no_build)
        session.live.close()
    show(json, views.RUN, ran, failure=ran.failure)
