"""A job as a compose project: one service a stage. Pure; what stands in a file is quoted for YAML and for compose.

Also the one place for what every container of ours may and may not, whoever starts it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from builder.core.config.types import StageSpec
from builder.core.jobs.job import Job, JobStage
from builder.core.terms import LABEL
from builder.errors import ConfigError

TEMPLATE = "job.yaml.j2"
FILE = "compose.yaml"

JOB, STAGE = f"{LABEL}job", f"{LABEL}stage"
"""Labels of a container."""

PIDS = 1024
"""Threads and processes of one container: a thread pool of each library on a large machine, and no fork bomb."""

TMPFS = "/tmp:rw,nosuid,nodev,size=256m,mode=1777"

BESIDE_ROOT = "65532:0"
"""Who runs in a container when the caller is root: nobody here is root without need."""

PARTS = ("recipe", "input", "work", "output", "events")
"""What every stage sees of its job's folder, by the names of :func:`mounts`."""

MB = 1_000_000

AUDIO = 300_000
"""Bytes of memory for one second of a recording: samples as float32, features, and a copy on the way (0.1 MB each)."""

UNKNOWN = 4 * 3600.0
"""Seconds that a recording counts as whose length its header doesn't tell."""

SHARE = 0.9
"""Of a machine's memory is given to stages at the most."""


@dataclass(frozen=True, kw_only=True)
class Image:
    """What a stage runs in."""

    id: str
    """``sha256:…``, local: a name with a digest makes a graph-driver engine ask a registry."""
    models: tuple[str, ...] = ()
    """Digests of the models that it has inside."""


@dataclass(frozen=True, kw_only=True)
class Mount:
    """A bind mount: the path here (absolute, or relative to the compose file), the path there."""

    source: str
    target: str
    writable: bool = False


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """How a stage gets its GPU: ``nvidia`` with the index of one, ``cdi`` with the name of a device."""

    driver: str
    device: str


@dataclass(frozen=True, kw_only=True)
class Service:
    """One stage's container."""

    name: str
    image: str
    needs: tuple[str, ...]
    threads: int
    memory: int
    mounts: tuple[str, ...]
    """Names of what it sees, of :func:`mounts`."""
    gpu: Gpu | None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What containers are given of a machine: logical processors, bytes of memory, who they run as, its GPUs."""

    threads: int
    memory: int
    user: str
    gpu_driver: str = "nvidia"
    gpu: int = 0
    """Index of the GPU that the job is given."""


def user(uid: int, gid: int) -> str:
    """``uid:gid`` in a container: the caller's own, so that results belong to the caller; never root."""
    return BESIDE_ROOT if uid == 0 else f"{uid}:{gid}"


def project(job_id: str) -> str:
    """Name of a job's compose project."""
    return f"whisperbake-{job_id}"


def memory(job: Job, stage: JobStage, *, spec: StageSpec | None, sizes: Mapping[str, int], machine: int) -> int:
    """Bytes that a stage may use: its limit as a container, and what it counts for in the queue.

    Twice what it was seen to need, its models (and half as much while they are converted), the sound of the longest
    recording; at most most of the machine.

    Args:
        sizes: bytes of each model, by id.
        machine: bytes of this machine.
    """
    longest = max((UNKNOWN if i.duration is None else i.duration for i in job.inputs), default=0.0)
    models = sum(sizes.get(use.id, 0) for use in stage.models.values())
    wish = 2 * (spec.memory(job.variant) if spec else 256 * MB) + models * 3 // 2 + int(AUDIO * longest)
    return max(64 * MB, min(wish, int(SHARE * machine)))


def needs_gpu(stage: JobStage) -> bool:
    """Whether a stage runs on a GPU."""
    return stage.settings.get("device") == "cuda"


def mounts(models: str) -> dict[str, Mount]:
    """What stages see, by name. They write results and events; not job.yaml, nor anything that compose reads.

    Args:
        models: the tree of weights here, for images that don't have theirs inside.
    """
    return {
        "recipe": Mount(source="./job.yaml", target="/job/job.yaml"),
        "input": Mount(source="./input", target="/job/input"),
        "work": Mount(source="./work", target="/job/work", writable=True),
        "output": Mount(source="./output", target="/job/output", writable=True),
        "events": Mount(source="./events.jsonl", target="/job/events.jsonl", writable=True),
        "models": Mount(source=models, target="/models"),
    }


def services(
    job: Job, images: Mapping[str, Image], *, machine: Machine, specs: Mapping[str, StageSpec], sizes: Mapping[str, int]
) -> tuple[Service, ...]:
    """The containers of a job, in pipeline order.

    Args:
        images: stage -> what it runs in.
        sizes: bytes of each model, by id.

    Raises:
        ConfigError: a stage has no image.
    """
    if lacking := [s.name for s in job.stages if s.name not in images]:
        raise ConfigError(f"no image for stage {lacking[0]}", where=f"job {job.id}", hint="build.py build")
    device = f"nvidia.com/gpu={machine.gpu}" if machine.gpu_driver == "cdi" else str(machine.gpu)
    gpu = Gpu(driver=machine.gpu_driver, device=device)
    return tuple(
        Service(
            name=stage.name,
            image=images[stage.name].id,
            needs=stage.needs,
            threads=int(stage.settings.get("threads", 1)),
            memory=memory(job, stage, spec=specs.get(stage.name), sizes=sizes, machine=machine.memory),
            # One model that the image lacks, and the whole tree of weights stands in its place.
            mounts=PARTS
            if {u.digest for u in stage.models.values()} <= set(images[stage.name].models)
            else (*PARTS, "models"),
            gpu=gpu if needs_gpu(stage) else None,
            labels={JOB: job.id, STAGE: stage.name},
        )
        for stage in job.stages
    )


def render(template: str, job: Job, made: Sequence[Service], *, machine: Machine, models: str) -> str:
    """compose.yaml; a pure function of its arguments.

    Args:
        template: text of compose/job.yaml.j2.
        models: the tree of weights here.
    """
    import jinja2  # not needed by those who only ask for names and limits

    from builder.core.images.render import name_

    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters |= {"name": name_, "quoted": quoted}
    used = {name for service in made for name in service.mounts}
    return environment.from_string(template).render(
        job=name_(job.id),
        project=project(job.id),
        stages=made,
        user=machine.user,
        cpus=machine.threads,
        pids=PIDS,
        tmpfs=TMPFS,
        mounts={name: mount for name, mount in mounts(models).items() if name in used},
    )


def run_command(
    host: str,
    image: str,
    arguments: Sequence[str],
    *,
    name: str,
    given: Sequence[Mount],
    user: str,
    variables: Mapping[str, str],
    labels: Mapping[str, str] = MappingProxyType({}),
    gpu: bool = False,
    entrypoint: str | None = None,
) -> list[str]:
    """``docker run`` with the rights that compose.yaml gives, for containers outside of a project.

    Args:
        given: bind mounts, with absolute paths.
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
        "--pull",
        "never",
        "--network",
        "none",
        "--read-only",
        "--tmpfs",
        TMPFS,
        "--cap-drop",
        "ALL",
        "--security-opt",
        "no-new-privileges",
        "--pids-limit",
        str(PIDS),
        "--user",
        user,
    ]
    for mount in given:
        words += ["--mount", _csv(mount)]
    for key, value in sorted(variables.items()):
        words += ["--env", f"{key}={value}"]
    for key, value in sorted(labels.items()):
        words += ["--label", f"{key}={value}"]
    words += ["--gpus", "all"] if gpu else []
    words += ["--entrypoint", entrypoint] if entrypoint else []
    return [*words, image, *arguments]


def _csv(mount: Mount) -> str:
    """One bind mount in docker's CSV, whatever the path holds."""
    row = ["type=bind", f"source={mount.source}", f"target={mount.target}", *([] if mount.writable else ["readonly"])]
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(row)
    return out.getvalue()


def quoted(text: str) -> str:
    """Any text in YAML's double quotes, with ``$`` doubled: compose expands variables in every value.

    Raises:
        ConfigError: bytes that are no text (a path that isn't UTF-8).
    """
    made = []
    for char in text:
        if char == "$":
            made.append("$$")
        elif char in '"\\':
            made.append(f"\\{char}")
        elif char.isprintable():
            made.append(char)
        elif 0xD800 <= ord(char) < 0xE000:
            raise ConfigError(
                f"{text!r} is not UTF-8, and can't stand in a compose file",
                expected="a path of UTF-8 text",
                hint="set BAKE_HOME to a folder whose name is",
            )
        else:
            made.append(f"\\U{ord(char):08x}")
    return f'"{"".join(made)}"'
