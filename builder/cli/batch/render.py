"""``batch render``: files for Kubernetes, Slurm or HTCondor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from builder.cli.batch.options import BatchArgument
from builder.errors import BakeError


def render(
    batch: BatchArgument,
    engine: Annotated[str, typer.Option("--for", help="kubernetes, slurm or htcondor.")],
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Default: B/ENGINE.")] = None,
) -> None:
    """Write plain files with which an engine works through a batch, without this program on its nodes.

    Example: python3 build.py batch render tapes --for slurm
    """
    raise BakeError("not written yet")
