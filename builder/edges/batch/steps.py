"""How the stages of a shard are started on this machine: natively, or in containers of an engine here."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from builder.core.batch.batch_file import Batch
from builder.core.config.types import Config
from builder.core.jobs import compose, sandbox
from builder.core.jobs.compose import Machine, StageImage
from builder.core.jobs.job import Job, JobInput, JobStage, ModelUse
from builder.core.jobs.sandbox import ContainerLimits, Mount
from builder.core.stage_env import stage_environment
from builder.edges.machine import environment
from builder.errors import UsageError
from builder.node.items import Item
from builder.node.shard import NodeStep

NAME = "whisperbake-{run}-"
"""What the name of a shard's container begins with."""

SHARD = f"{compose.JOB}-shard"
"""Label of a shard's containers: the run's name."""

CLIENT = ("HOME", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY", "XDG_RUNTIME_DIR", "SSH_AUTH_SOCK")
"""Variables that an engine's client gets."""


def stages_of(batch: Batch) -> tuple[JobStage, ...]:
    """The stages that every job of a batch has."""
    return tuple(
        JobStage(
            name=one["name"],
            needs=tuple(one["needs"]),
            settings=one["settings"],
            models={p: ModelUse(**{**use, "languages": tuple(use["languages"])}) for p, use in one["models"].items()},
            optional=one["optional"],
        )
        for one in batch.job["stages"]
    )


def largest(batch: Batch, items: Sequence[Item]) -> Job:
    """A job of the longest recording of a shard: stages work through one recording after the other."""
    longest = max(items, key=lambda item: item.seconds, default=None)
    inputs = () if longest is None else (_input(longest),)
    return Job(
        id="shard",
        created=batch.created,
        workflow=batch.workflow,
        variant=batch.variant,
        preset=batch.preset,
        key="",
        inputs=inputs,
        stages=stages_of(batch),
    )


def _input(item: Item) -> JobInput:
    return JobInput(
        id="01", name=item.name, path="input/01.bin", sha256="", size=item.size, output="x", duration=item.seconds
    )


def native(
    config: Config, batch: Batch, *, python: Path, apart: Mapping[str, Path], env: Mapping[str, str]
) -> tuple[NodeStep, ...]:
    """Stages as processes of this machine, which end when the node program does.

    Args:
        python: the native environment's interpreter.
        apart: interpreters of stages that have an environment of their own.
        env: the caller's, of which little is taken over.
    """
    own = env.get("LD_LIBRARY_PATH")
    cuda = environment.cuda_libraries(python)
    libraries = ":".join([*map(str, cuda), *([own] if own else [])])
    steps = []
    for stage in stages_of(batch):
        variables = stage_environment(
            models=str(config.paths.models),
            scratch="{scratch}/home",
            threads=int(stage.settings.get("threads", 1)),
            inherit={**env, "LD_LIBRARY_PATH": libraries} if libraries else env,
        )
        if cuda:
            variables["CUDA_CACHE_PATH"] = str(environment.cuda_cache(python))
        variables["BAKE_PARENT"] = "{pid}"
        main = config.shipped / "stages" / stage.name / "main.py"
        argv = (str(apart.get(stage.name, python)), str(main), "--jobs", "{list}")
        steps.append(NodeStep(stage=stage.name, argv=argv, env=variables))
    return tuple(steps)


def containers(
    config: Config,
    batch: Batch,
    items: Sequence[Item],
    images: Mapping[str, StageImage],
    *,
    engine: str,
    machine: Machine,
    scratch: Path,
) -> tuple[NodeStep, ...]:
    """Stages in containers with the rights of every container of ours, of images that are here.

    Args:
        items: the shard's; its longest recording decides how much memory a stage gets.
        images: stage -> image.
        engine: its address.
        scratch: the folder that runs have theirs in.

    Raises:
        UsageError: the folder's name can't stand in a mount.
    """
    if set('",\n') & set(str(scratch)):
        raise UsageError("this folder can't be mounted", where=str(scratch), hint="--scratch DIR, without a comma")
    job = largest(batch, items)
    sizes = {id_: pin.size for id_, pin in config.pins.items()}
    steps = []
    for stage in job.stages:
        image, name = images[stage.name], f"{NAME}{stage.name}"
        mounts = [Mount(source="{scratch}/jobs", target="/jobs", writable=True)]
        if not {use.digest for use in stage.models.values()} <= set(image.models):
            mounts.append(compose.mounts(str(config.paths.models.resolve()))["models"])
        memory = compose.limit(job, stage, spec=config.stages.get(stage.name), sizes=sizes, machine=machine.memory)
        words = compose.run_command(
            engine,
            image.id,
            ["--jobs", "/jobs/list"],
            name=name,
            mounts=mounts,
            limits=ContainerLimits(memory=memory, cpus=machine.threads),
            user=sandbox.user(os.getuid(), os.getgid()),
            variables={"OMP_NUM_THREADS": str(int(stage.settings.get("threads", 1)))},
            labels={SHARD: "{run}", compose.STAGE: stage.name},
        )
        if compose.needs_gpu(stage):
            at = words.index("--rm")
            words[at:at] = _gpu(machine)
        end = ("docker", "--host", engine, "rm", "--force", name)
        steps.append(NodeStep(stage=stage.name, argv=tuple(words), env={}, inherit=CLIENT, end=end))
    return tuple(steps)


def _gpu(machine: Machine) -> list[str]:
    if machine.gpu_driver == "cdi":
        return ["--device", f"nvidia.com/gpu={machine.gpu}"]
    return ["--gpus", f"device={machine.gpu}"]
