"""``batch render``: files for Kubernetes, Slurm or HTCondor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from builder.cli.batch.options import BatchArgument
from builder.cli.options import Json, opened, show

PARALLELISM = 16


def render(
    batch: BatchArgument,
    engine: Annotated[str, typer.Option("--for", help="kubernetes, slurm or htcondor.")],
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Default: B/ENGINE.")] = None,
    first: Annotated[int, typer.Option("--first", min=0, help="Only shards from this one on, as retry says.")] = 0,
    parallelism: Annotated[int, typer.Option("--parallelism", min=1, help="Shards at once.")] = PARALLELISM,
    gpus: Annotated[
        int | None, typer.Option("--gpus", min=0, help="GPUs of a shard. Default: 1 where stages compute on one.")
    ] = None,
    registry: Annotated[
        str | None, typer.Option("--registry", help="HOST[:PORT]/PREFIX, where push sent the images.")
    ] = None,
    queue: Annotated[str | None, typer.Option("--queue", help="Kueue's LocalQueue, or Slurm's partition.")] = None,
    namespace: Annotated[str | None, typer.Option("--namespace", help="Kubernetes: where the Job runs.")] = None,
    input_claim: Annotated[
        str | None, typer.Option("--input-claim", metavar="CLAIM[/DIR]", help="Kubernetes: has the recordings' folder.")
    ] = None,
    results_claim: Annotated[
        str | None, typer.Option("--results-claim", metavar="CLAIM[/DIR]", help="Kubernetes: has the batch's folder.")
    ] = None,
    host_path: Annotated[
        bool, typer.Option("--host-path", help="Kubernetes: nodes see both at the paths of this machine.")
    ] = False,
    user: Annotated[
        str | None, typer.Option("--user", metavar="UID:GID", help="Kubernetes: who containers run as.")
    ] = None,
    weights_image: Annotated[
        str | None,
        typer.Option(
            "--weights-image",
            metavar="REF",
            help="By digest: the image to mount weights from (push sends one).",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Write plain files with which an engine works through a batch, without this program on its nodes.

    Example: python3 build.py batch render tapes --for slurm
    """
    from builder.views.batch import render as views
    from builder.workflows.batch import render as work

    asked = work.BatchRenderOptions(
        engine=engine,
        out=out,
        first=first,
        parallelism=parallelism,
        gpus=gpus,
        registry=registry,
        namespace=namespace,
        queue=queue,
        input_claim=input_claim,
        results_claim=results_claim,
        host_path=host_path,
        user=user,
        weights_image=weights_image,
    )
    with opened() as session:
        rendered = work.render(session, batch, asked)
    show(json, views.RENDER, rendered)
