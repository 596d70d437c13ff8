"""A batch as files for each engine, from the small project: what the golden files show."""

from __future__ import annotations

import json
from collections.abc import Mapping

from builder.core.batch import kubernetes, rendering
from builder.core.batch.kubernetes import ClusterOptions, Volume
from builder.core.batch.rendering import RenderedBatch, ShardTable
from builder.core.jobs.job import stage_data
from tests.golden.project import HOSTILE, job, read, templates

CREATED = "2026-11-23T20:03:12Z"
WEIGHTS = f"registry.example/speech/weights@sha256:{'e' * 64}"
FOLDER = "/srv/Tapes of '$(reboot)' \n1961"


def template(device: str = "cpu") -> dict[str, object]:
    """What batch.yaml says of every job."""
    made = job(device)
    return {
        "schema": 1,
        "workflow": made.workflow,
        "mode": "docker-cpu",
        "variant": made.variant,
        "preset": made.preset,
        "stages": [json.loads(json.dumps(stage_data(stage))) for stage in made.stages],
    }


def images(job_template: Mapping[str, object]) -> dict[str, str]:
    """A reference by digest for each stage."""
    names = [stage.name for stage in rendering.stages_of(job_template)]
    return {name: f"registry.example/speech/{name}@sha256:{k:064x}" for k, name in enumerate(names, 1)}


def batch(*, device: str = "cpu", native: bool = False, first: int = 0, shards: int = 3) -> RenderedBatch:
    """A batch of a few shards."""
    config, job_template = read({}), template(device)
    table = ShardTable(first, first + shards)
    for number in range(first, first + shards):
        table.add(number, 1500.0, 48_000_000)
        table.add(number, 280.5, 9_000_000)
    return RenderedBatch(
        name=rendering.batch_name(FOLDER, CREATED),
        version="1.2.3",
        created=CREATED,
        first=first,
        shards=table.shards,
        steps=rendering.step_needs(
            job_template,
            longest=table.longest,
            specs=config.stages,
            sizes={id_: pin.size for id_, pin in config.pins.items()},
            images={} if native else images(job_template),
        ),
        parallelism=2,
        gpus=1 if device == "cuda" else 0,
    )


CLAIMS = ClusterOptions(batch=Volume(claim="results", path="tapes"), input=Volume(claim="archive"))
HOSTS = ClusterOptions(
    batch=Volume(path=FOLDER),
    input=Volume(path=HOSTILE),
    user=(1000, 100),
    namespace="speech",
    queue="nightly",
    weights=WEIGHTS,
)


def rendered() -> dict[str, str]:
    """Every golden file by its name."""
    made: dict[str, str] = {}
    for case, one, options in (
        ("batch-kubernetes", batch(), CLAIMS),
        ("batch-kubernetes-gpu", batch(device="cuda", first=40), HOSTS),
    ):
        files = kubernetes.render(one, options, templates())
        made |= {f"{case}.{name}": text for name, text in files.items()}
    return made
