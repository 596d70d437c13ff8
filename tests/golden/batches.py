"""A batch as files for each engine, from the small project: what the golden files show."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from builder.core.batch import htcondor, kubernetes, readme, rendering, slurm, steps
from builder.core.batch.kubernetes import ClusterOptions, Volume
from builder.core.batch.rendering import RenderedBatch, ShardTable
from builder.core.batch.slurm import SlurmOptions
from builder.core.jobs.job import stage_data
from tests.golden.project import HOSTILE, job, read, templates

CREATED = "2026-11-23T20:03:12Z"
WEIGHTS = f"registry.example/speech/weights@sha256:{'e' * 64}"
FOLDER = "/srv/Tapes of '$(reboot)' \n1961"

CLAIMS = ClusterOptions(batch=Volume(claim="results", path="tapes"), input=Volume(claim="archive"))
HOSTS = ClusterOptions(
    batch=Volume(path=FOLDER),
    input=Volume(path=HOSTILE),
    user=(1000, 100),
    namespace="speech",
    queue="nightly",
    weights=WEIGHTS,
)


def template(device: str = "cpu") -> dict[str, Any]:
    """What batch.yaml says of every job."""
    made = job(device)
    return {
        "schema": 1,
        "workflow": made.workflow,
        "mode": "docker-cpu" if device == "cpu" else "docker-gpu",
        "variant": made.variant,
        "preset": made.preset,
        "stages": [json.loads(json.dumps(stage_data(stage))) for stage in made.stages],
    }


def images(job_template: Mapping[str, Any]) -> dict[str, str]:
    """A reference by digest for each stage."""
    names = [stage.name for stage in rendering.stages_of(job_template)]
    return {name: f"registry.example/speech/{name}@sha256:{k:064x}" for k, name in enumerate(names, 1)}


def batch(*, device: str = "cpu", native: bool = False, first: int = 0, shards: int = 3) -> RenderedBatch:
    """A batch of a few shards of two recordings each."""
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


def native() -> list[dict[str, Any]]:
    """Steps of a native batch, below a folder as a person may call it."""
    stages = rendering.stages_of(template())
    where = HOSTILE.removesuffix("/models")
    return steps.native(stages, python=f"{where}/bin/python", apart={}, code=f"{where}/stages", models=HOSTILE)


def podman(device: str = "cpu") -> list[dict[str, Any]]:
    """Steps of containers, with weights of the nodes."""
    job_template = template(device)
    stages = rendering.stages_of(job_template)
    return steps.podman(stages, images=images(job_template), pull=True, models="/srv/models")


def _kubernetes(one: RenderedBatch, options: ClusterOptions) -> dict[str, str]:
    page = readme.render(
        one,
        templates(),
        engine="kubernetes",
        folder=FOLDER,
        mode="docker-cpu",
        way=readme.REGISTRY,
        claims=bool(options.input.claim),
    )
    return {**kubernetes.render(one, options, templates()), readme.FILE: page}


def _slurm(one: RenderedBatch) -> dict[str, str]:
    options = SlurmOptions(folder=FOLDER, here=f"{FOLDER}/slurm", python=HOSTILE, queue="long,gpu")
    page = readme.render(
        one, templates(), engine="slurm", folder=FOLDER, mode="native", way=readme.NATIVE, python=HOSTILE
    )
    return {**slurm.render(one, options, templates()), readme.FILE: page}


def _htcondor(one: RenderedBatch) -> dict[str, str]:
    page = readme.render(one, templates(), engine="htcondor", folder=FOLDER, mode="docker-gpu", way=readme.LOADED)
    return {**htcondor.render(one, templates(), beside=True), readme.FILE: page}


def rendered() -> dict[str, str]:
    """Every golden file by its name."""
    one = template("cuda")
    cases = {
        "batch-kubernetes": _kubernetes(batch(), CLAIMS),
        "batch-kubernetes-gpu": _kubernetes(batch(device="cuda", first=40), HOSTS),
        "batch-slurm": {**_slurm(batch(native=True, shards=1204)), steps.FILE: steps.text(template(), {}, native())},
        "batch-htcondor": {**_htcondor(batch(device="cuda")), steps.FILE: steps.text(one, {}, podman("cuda"))},
    }
    return {f"{case}.{name}": text for case, files in cases.items() for name, text in files.items()}
