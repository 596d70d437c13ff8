"""``batch status`` and ``batch collect``: how far a batch is, and its results on one page."""

from __future__ import annotations

from typing import Annotated

import typer

from builder.cli.batch.options import BatchArgument
from builder.cli.options import Json, opened, show, show_again


def status(
    batch: BatchArgument,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Again whenever it changes, until every recording is done or failed.")
    ] = False,
    json: Json = False,
) -> None:
    """How far a batch is: done, failed and why, running, missing; what is left.

    Example: python3 build.py batch status tapes
    """
    from builder.views.batch import status as views
    from builder.workflows.batch import status as batches

    with opened():
        if not watch:
            show(json, views.STATUS, batches.status(batch))
            return
        try:
            for found in batches.watch(batch):
                show_again(json, views.STATUS, found, clear=True)
        except KeyboardInterrupt:  # the way to end it
            return


def collect(
    batch: BatchArgument,
    no_pages: Annotated[bool, typer.Option("--no-pages", help="No page for each recording.")] = False,
    json: Json = False,
) -> None:
    """Take in what nodes sent back, and write the page with all results.

    Example: python3 build.py batch collect tapes
    """
    from builder.views.batch import status as views
    from builder.workflows.batch import collect as batches

    with opened() as session:
        collected = batches.collect(session, batch, pages=not no_pages)
    show(json, views.COLLECT, collected, failure=collected.failure)
