"""A job as a compose project: one service for each stage; and ``docker run`` with the same rights. Pure.

What stands in a file is quoted for YAML and for compose. What a container may do is data of :mod:`sandbox`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from builder.core.config.types import StageSpec
from builder.core.images.weights.image import MODELS, MOUNTED
from builder.core.jobs import sandbox
from builder.core.jobs.job import Job, JobStage
from builder.core.jobs.sandbox import RIGHTS, ContainerLimits, Mount
from builder.core.stage_env import stage_environment
from builder.core.terms import LABEL, Purpose
from builder.errors import ConfigError
from builder.program import command

TEMPLATE = "job.yaml.j2"
FILE = "compose.yaml"

JOB, STAGE = f"{LABEL}job", f"{LABEL}stage"
"""Labels of a container."""

CPU_PERIOD = 100_000
"""Microseconds. An engine refuses ``--cpus`` beyond what it has; a quota above that limits nothing and is not an error."""


@dataclass(frozen=True, kw_only=True)
class StageImage:
    """What a stage runs in."""

    id: str
    """``sha256:…``, local: a name with a digest makes a graph-driver engine ask a registry."""
    models: tuple[str, ...] = ()
    """Digests of the models that it has inside."""


@dataclass(frozen=True, kw_only=True)
class ComposeFile:
    """A job's compose file, and what it needs to stay."""

    text: str
    engine: str
    """Address of the engine whose images it names."""
    images: Mapping[str, str]
    """Id of each of them -> repository that it has a name in for the jobs that name it."""


@dataclass(frozen=True, kw_only=True)
class GpuDevice:
    """How a stage gets its GPU: ``nvidia`` with the index of one, ``cdi`` with the name of a device."""

    driver: str
    device: str


@dataclass(frozen=True, kw_only=True)
class Service:
    """One stage's container."""

    name: str
    image: str
    needs: tuple[tuple[str, bool], ...]
    """Stages whose end it waits for, and whether it needs what they make."""
    threads: int
    memory: int
    mounts: tuple[str, ...]
    """Names of what it sees, of :func:`mounts`, and :data:`WEIGHTS`."""
    gpu: GpuDevice | None
    labels: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    """Of its environment, beside those that all have: where weights are, if not where the image says."""


WEIGHTS = "weights"
"""Name of the mount of an image with weights."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What containers are given of a machine: logical processors, bytes of memory, who they run as, its GPUs."""

    threads: int
    memory: int
    user: str
    gpu_driver: str = "nvidia"
    gpu: int = 0
    """Index of the GPU that the job is given."""


def project(job_id: str) -> str:
    """Name of a job's compose project."""
    return f"whisperbake-{job_id}"


def memory(job: Job, stage: JobStage, *, spec: StageSpec | None, sizes: Mapping[str, int], machine: int) -> int:
    """Bytes that a stage counts for in the queue.

    Args:
        sizes: bytes of each model, by id.
        machine: bytes of this machine.
    """
    return sandbox.memory_limit(sandbox.memory_wish(**_needed(job, stage, spec, sizes)), machine)


def limit(job: Job, stage: JobStage, *, spec: StageSpec | None, sizes: Mapping[str, int], machine: int) -> int:
    """Bytes at which a stage's container is ended: those of :func:`memory`, and where recordings are read what one may cost.

    So a recording that is made to take memory is told as such by the stage, and the container isn't ended for it.
    """
    counted = memory(job, stage, spec=spec, sizes=sizes, machine=machine)
    return max(counted, sandbox.look_memory(machine)) if spec is not None and spec.media else counted


def planned(spec: StageSpec, variant: str, *, seconds: float, models: int) -> int:
    """Bytes of a stage's container for a recording of so many seconds, on a machine that has them.

    Args:
        models: their bytes.
    """
    wish = sandbox.memory_wish(seen=spec.memory(variant, [seconds]), models=models)
    return max(wish, sandbox.LOOK) if spec.media else wish


def needed(job: Job, stage: JobStage, *, spec: StageSpec | None, sizes: Mapping[str, int]) -> int:
    """Bytes that a stage takes, as far as was measured: without the margin that :func:`memory` has.

    Args:
        sizes: bytes of each model, by id.
    """
    return sum(_needed(job, stage, spec, sizes).values())


def _needed(job: Job, stage: JobStage, spec: StageSpec | None, sizes: Mapping[str, int]) -> dict[str, int]:
    known = spec or StageSpec(name=stage.name, summary="")
    models = sum(sizes.get(use.id, 0) for use in stage.models.values())
    seen = known.memory(job.variant, sandbox.lengths(i.duration for i in job.inputs))
    return {"seen": seen + drawing(stage) + crowd(stage, models) + voices(stage), "models": models}


VOICES = 1_600_000_000
"""Bytes that a stage takes more, beside the model, where it takes voices out of music: what the network holds of a segment."""


def voices(stage: JobStage) -> int:
    """Bytes that a model for voices takes more; 0 where a stage has none."""
    return VOICES * (Purpose.VOCALS.value in stage.models)


def crowd(stage: JobStage, models: int) -> int:
    """Bytes that a stage takes more for many windows of sound at once, on the processor; 0 up to :data:`WINDOWS`.

    A window's keys and values for the decoder, its encoding and its attention: from Whisper's sizes 0.2 to 0.3 of the
    weights' bytes in float16, from tiny to large.
    """
    batch = stage.settings.get("batch_size") or 0
    return 0 if needs_gpu(stage) else max(0, batch - WINDOWS) * models * 3 // 10


WINDOWS = 4
"""Windows at once that are in a stage's ``memory_mb``: the default."""


DRAWING = 700 * sandbox.MB
"""What a stage takes more when it draws subtitles into a picture: measured with 3840 x 2160, where x264 takes most of it."""


def drawing(stage: JobStage) -> int:
    """Bytes that a stage takes to draw subtitles into the picture; 0 where it doesn't."""
    return DRAWING if stage.settings.get("burn") is True else 0


def needs_gpu(stage: JobStage) -> bool:
    """Whether a stage runs on a GPU."""
    return stage.settings.get("device") == "cuda"


def mounts(models: str) -> dict[str, Mount]:
    """What stages may see, by name.

    Args:
        models: the tree of weights here, for images that don't have theirs inside.
    """
    return {**sandbox.JOB_MOUNTS, "models": Mount(source=models, target="/models")}


def services(
    job: Job,
    images: Mapping[str, StageImage],
    *,
    machine: Machine,
    specs: Mapping[str, StageSpec],
    sizes: Mapping[str, int],
    weights: StageImage | None = None,
) -> tuple[Service, ...]:
    """The containers of a job, in pipeline order.

    Args:
        images: stage -> what it runs in.
        weights: an image of weights, which a container mounts that lacks a model which is in there.
        sizes: bytes of each model, by id.

    Raises:
        ConfigError: a stage has no image.
    """
    if lacking := [s.name for s in job.stages if s.name not in images]:
        raise ConfigError(f"no image for stage {lacking[0]}", where=f"job {job.id}", hint=command("build"))
    device = f"nvidia.com/gpu={machine.gpu}" if machine.gpu_driver == "cdi" else str(machine.gpu)
    gpu = GpuDevice(driver=machine.gpu_driver, device=device)
    parts = tuple(sandbox.JOB_MOUNTS)
    more = {stage.name: _more(stage, images[stage.name], weights) for stage in job.stages}
    return tuple(
        Service(
            name=stage.name,
            image=images[stage.name].id,
            needs=tuple((need, not job.stage(need).optional) for need in stage.needs),
            threads=int(stage.settings.get("threads", 1)),
            memory=limit(job, stage, spec=specs.get(stage.name), sizes=sizes, machine=machine.memory),
            mounts=(*parts, *more[stage.name]),
            variables=weights_variables() if WEIGHTS in more[stage.name] else {},
            gpu=gpu if needs_gpu(stage) else None,
            labels={JOB: job.id, STAGE: stage.name},
        )
        for stage in job.stages
    )


def _more(stage: JobStage, image: StageImage, weights: StageImage | None) -> tuple[str, ...]:
    """What a stage sees beside its job: one model that its image lacks, and all weights stand in its place."""
    lacking = {use.digest for use in stage.models.values()} - set(image.models)
    if not lacking:
        return ()
    return (WEIGHTS,) if weights is not None and lacking <= set(weights.models) else ("models",)


def weights_variables() -> dict[str, str]:
    """The variables that lead a stage to the weights of a mounted image."""
    whole = stage_environment(models=MODELS, scratch="/tmp", threads=1, inherit={})
    return {name: value for name, value in whole.items() if value.startswith(MODELS)}


def render(
    template: str,
    job: Job,
    containers: Sequence[Service],
    *,
    machine: Machine,
    models: str,
    weights: StageImage | None = None,
) -> str:
    """compose.yaml; a pure function of its arguments.

    Args:
        template: text of compose/job.yaml.j2.
        models: the tree of weights here.
        weights: the image that weights are mounted from.
    """

    from builder.core.quoting import environment, name_

    used = {name for service in containers for name in service.mounts}
    return (
        environment({}, name=name_, quoted=quoted)
        .from_string(template)
        .render(
            job=name_(job.id),
            project=project(job.id),
            stages=containers,
            user=machine.user,
            cpus=machine.threads,
            rights=RIGHTS,
            mounts={name: mount for name, mount in mounts(models).items() if name in used},
            weights=weights.id if weights is not None and WEIGHTS in used else "",
            weights_target=MOUNTED,
        )
    )


def run_command(
    host: str,
    image: str,
    arguments: Sequence[str],
    *,
    name: str,
    mounts: Sequence[Mount],
    limits: ContainerLimits,
    user: str,
    variables: Mapping[str, str],
    cidfile: str | None = None,
    labels: Mapping[str, str] = MappingProxyType({}),
    entrypoint: str | None = None,
) -> list[str]:
    """``docker run`` with the rights that compose.yaml gives, for containers outside of a project.

    Args:
        mounts: bind mounts, with absolute paths.
        cidfile: a file that isn't there yet, which gets the container's id once there is one. Whoever may end the client
            early needs it: see builder/node/client.py.
        entrypoint: instead of the image's own.
    """
    words = [
        "docker",
        "--host",
        host,
        "run",
        "--rm",
        "--name",
        name,
        *(["--cidfile", cidfile] if cidfile else []),
        "--pull",
        "never",
        "--network",
        RIGHTS.network,
        *(["--read-only"] if RIGHTS.read_only else []),
        "--tmpfs",
        RIGHTS.tmpfs,
        *(word for name in RIGHTS.cap_drop for word in ("--cap-drop", name)),
        *(word for name in RIGHTS.security for word in ("--security-opt", name)),
        "--pids-limit",
        str(RIGHTS.pids),
        "--log-driver",
        RIGHTS.log_driver,
        *(word for option in RIGHTS.log_options for word in ("--log-opt", option)),
        "--cpu-period",
        str(CPU_PERIOD),
        "--cpu-quota",
        str(limits.cpus * CPU_PERIOD),
        "--memory",
        str(limits.memory),
        "--memory-swap",
        str(limits.memory),
        "--user",
        user,
    ]
    for mount in mounts:
        words += ["--mount", _csv(mount)]
    for key, value in sorted({**dict.fromkeys(RIGHTS.emptied, ""), **variables}.items()):
        words += ["--env", f"{key}={value}"]
    for key, value in sorted(labels.items()):
        words += ["--label", f"{key}={value}"]
    words += ["--entrypoint", entrypoint] if entrypoint else []
    return [*words, image, *arguments]


def _csv(mount: Mount) -> str:
    """One bind mount in docker's CSV, whatever the path holds."""
    row = ["type=bind", f"source={mount.source}", f"target={mount.target}", *([] if mount.writable else ["readonly"])]
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerow(row)  # a cell with one of these characters is quoted
    return out.getvalue().removesuffix("\r\n")


def quoted(text: str) -> str:
    """Any text in YAML's double quotes, with ``$`` doubled: compose expands variables in every value.

    Raises:
        ConfigError: bytes that are not text (a path that isn't UTF-8).
    """
    signs = []
    for char in text:
        if char == "$":
            signs.append("$$")
        elif char in '"\\':
            signs.append(f"\\{char}")
        elif char.isprintable():
            signs.append(char)
        elif 0xD800 <= ord(char) < 0xE000:
            raise ConfigError(
                f"{text!r} is not UTF-8, and can't stand in a compose file",
                expected="a path of UTF-8 text",
                hint="set BAKE_HOME to a folder whose name is",
            )
        else:
            signs.append(f"\\U{ord(char):08x}")
    return f'"{"".join(signs)}"'
