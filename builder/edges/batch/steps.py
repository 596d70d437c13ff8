"""How the stages of a shard are started on this machine: natively, or in containers of an engine here."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from builder.core.batch import rendering, steps
from builder.core.batch.batch_file import Batch
from builder.core.config.types import Config
from builder.core.jobs import compose, sandbox
from builder.core.jobs.compose import Machine, StageImage
from builder.core.jobs.sandbox import ContainerLimits, Mount
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
    made = steps.native(
        rendering.stages_of(batch.job),
        python=str(python),
        apart={stage: str(place) for stage, place in apart.items()},
        code=str(config.shipped / "stages"),
        models=str(config.paths.models),
        libraries=":".join([*map(str, cuda), *([own] if own else [])]) if cuda else "",
        cache=str(environment.cuda_cache(python)) if cuda else "",
    )
    return tuple(NodeStep(stage=one["stage"], argv=tuple(one["argv"]), env=one["env"]) for one in made)


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
    longest = max((item.seconds for item in items), default=0.0)
    job = rendering.longest_job(batch.job, longest)
    sizes = {id_: pin.size for id_, pin in config.pins.items()}
    made = []
    for stage in job.stages:
        image, name = images[stage.name], f"{NAME}{stage.name}"
        cidfile = f"{{scratch}}/container-{stage.name}"
        mounts = [Mount(source="{scratch}/jobs", target="/jobs", writable=True)]
        if not {use.digest for use in stage.models.values()} <= set(image.models):
            mounts.append(compose.mounts(str(config.paths.models.resolve()))["models"])
        memory = compose.limit(job, stage, spec=config.stages.get(stage.name), sizes=sizes, machine=machine.memory)
        words = compose.run_command(
            engine,
            image.id,
            ["--jobs", "/jobs/list"],
            name=name,
            cidfile=cidfile,
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
        made.append(NodeStep(stage=stage.name, argv=tuple(words), env={}, inherit=CLIENT, end=end, cidfile=cidfile))
    return tuple(made)


def _gpu(machine: Machine) -> list[str]:
    if machine.gpu_driver == "cdi":
        return ["--device", f"nvidia.com/gpu={machine.gpu}"]
    return ["--gpus", f"device={machine.gpu}"]
