"""``batch status`` and ``batch collect``: how far a batch is, and its results on one page."""

from __future__ import annotations

from typing import Annotated

import typer

from builder.cli.batch.options import BatchArgument
from builder.cli.options import Json
from builder.errors import BakeError


def status(
    batch: BatchArgument,
    watch: Annotated[bool, typer.Option("--watch", help="Until every item is done or failed.")] = False,
    json: Json = False,
) -> None:
    """How far a batch is: done, failed and why, running, missing; what is left.

    Example: python3 build.py batch status tapes
    """
    raise BakeError("not written yet")


def collect(
    batch: BatchArgument,
    no_pages: Annotated[bool, typer.Option("--no-pages", help="No page for each recording.")] = False,
    json: Json = False,
) -> None:
    """Take in what nodes sent back, and write the page with all results.

    Example: python3 build.py batch collect tapes
    """
    raise BakeError("not written yet")
