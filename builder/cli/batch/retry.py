"""``batch retry``: shards of what is left."""

from __future__ import annotations

from typing import Annotated

import typer

from builder.cli.batch.options import BatchArgument
from builder.cli.options import Json, opened, show


def retry(
    batch: BatchArgument,
    failed: Annotated[bool, typer.Option("--failed", help="Recordings that failed, too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")] = False,
    json: Json = False,
) -> None:
    """Make shards of the recordings that have no result.

    Example: python3 build.py batch retry tapes --failed
    """
    from builder.views.batch import retry as views
    from builder.workflows.batch import retry as workflow

    with opened():
        retried = workflow.retry(batch, failed=failed, dry_run=dry_run)
    show(json, views.RETRY, retried)
