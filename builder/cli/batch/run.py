"""``batch run``: one shard, on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from builder.cli.batch.options import BatchArgument
from builder.errors import BakeError


def run(
    batch: BatchArgument,
    shard: Annotated[
        int | None, typer.Option("--shard", min=0, help="Its number. Default: what the engine says.")
    ] = None,
) -> None:
    """Work through one shard of a batch. What has a result already is passed over.

    Example: python3 build.py batch run tapes --shard 0
    """
    raise BakeError("not written yet")
