"""What every container of ours may do and how much it may use, as data: pure.

Three places spell it: compose.yaml and ``docker run`` (core/jobs/compose.py), and the loader of a bundle, which gets
:func:`as_data` as JSON (core/bundle/loader.py, receiver/run.py). A golden test compares the three for every stage.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from builder.core.config.types import WHOLE

MB = 1_000_000

UNKNOWN = 4 * 3600.0
"""Seconds that a recording counts as when its header doesn't tell its length."""

SHARE = 0.9
"""The largest part of a machine's memory that stages get."""

LEAST = 64 * MB
"""Bytes; a container gets no less, whatever the machine has."""


@dataclass(frozen=True, kw_only=True)
class Mount:
    """A bind mount: the path here (absolute, or relative to the job's folder), the path in the container."""

    source: str
    target: str
    writable: bool = False


@dataclass(frozen=True, kw_only=True)
class ContainerLimits:
    """What one container may use."""

    memory: int
    """Bytes of memory and swap together: nothing of it is swapped beyond that."""
    cpus: int
    """Logical processors."""


PROXIES = tuple(
    spelled for name in ("HTTP", "HTTPS", "FTP", "NO", "ALL") for spelled in (f"{name}_PROXY", f"{name}_PROXY".lower())
)
"""What the docker client takes from ``proxies`` of its config.json: docker/cli, cli/config/configfile, ParseProxyConfig."""


@dataclass(frozen=True, kw_only=True)
class Rights:
    """What every container may do, whoever starts it."""

    user_beside_root: str = "65532:0"
    """Who runs in a container when the caller is root: nobody here is root without need."""
    network: str = "none"
    read_only: bool = True
    """Of the root file system."""
    tmpfs: str = "/tmp:rw,nosuid,nodev,size=256m,mode=1777"
    """Path and options of the only folder that every container writes."""
    cap_drop: tuple[str, ...] = ("ALL",)
    security: tuple[str, ...] = ("no-new-privileges",)
    emptied: tuple[str, ...] = PROXIES
    """Variables that are empty: the docker client puts its proxies, with their passwords, into every container."""
    pids: int = 1024
    """Threads and processes of one container: a thread pool of each library on a large machine, and no fork bomb."""
    log_driver: str = "local"
    log_options: tuple[str, ...] = ("max-size=8m", "max-file=1", "compress=false")
    """What an engine keeps of what a container prints; by its own default that has no end."""


RIGHTS = Rights()

JOB_MOUNTS: Mapping[str, Mount] = {
    "recipe": Mount(source="./job.yaml", target="/job/job.yaml"),
    "input": Mount(source="./input", target="/job/input"),
    "work": Mount(source="./work", target="/job/work", writable=True),
    "output": Mount(source="./output", target="/job/output", writable=True),
    "events": Mount(source="./events.jsonl", target="/job/events.jsonl", writable=True),
}
"""What every stage sees of its job's folder, by name: it writes results and events, nothing that decides what it may."""


def user(uid: int, gid: int) -> str:
    """``uid:gid`` in a container: the caller's own, so that results belong to the caller; never root."""
    return RIGHTS.user_beside_root if uid == 0 else f"{uid}:{gid}"


def lengths(durations: Iterable[float | None]) -> list[float]:
    """Seconds of recordings; :data:`UNKNOWN` where a header doesn't tell."""
    return [UNKNOWN if seconds is None else seconds for seconds in durations]


def memory_wish(*, seen: int, models: int) -> int:
    """Bytes that a stage should get: what it was seen to need, its models, and half as much again.

    The half is for other processors, libraries and recordings than those that were measured, and for models that are
    converted while they are loaded.

    Args:
        seen: bytes that the stage was seen to need beside its models (``StageSpec.memory``).
        models: bytes of its models.
    """
    return (seen + models) * 3 // 2


def memory_limit(wish: int, machine: int) -> int:
    """Bytes that a container gets of a machine with ``machine`` bytes of memory."""
    return max(LEAST, min(wish, int(SHARE * machine)))


LOOK = 1500 * MB
"""Bytes for a look into a recording, or a cut of it: what stages/confined.py lets it take, and Python with FFmpeg."""

PATIENCE = 400.0
"""Seconds after which a look is ended from outside: more than stages/confined.py gives a small recording by the clock."""

PACE = 400_000
"""Bytes of a recording for which it gets one second more, on a slow disk."""


def look_memory(machine: int) -> int:
    """Bytes for a container that looks into a recording, before there is a job."""
    return memory_limit(LOOK, machine)


def look_seconds(size: int) -> float:
    """Seconds that a look into a recording of so many bytes may take, or a cut of it."""
    return PATIENCE + size / PACE


DEFAULT_MEMORY = memory_wish(seen=(2000 + 4 * WHOLE) * MB, models=4000 * MB)
"""Bytes for a stage of which an inventory says nothing: the largest model in the full variant, and four hours of sound."""


def as_data() -> dict[str, Any]:
    """All of it for the loader of a bundle, as JSON types."""
    return {
        **{key: list(value) if isinstance(value, tuple) else value for key, value in asdict(RIGHTS).items()},
        "mounts": [asdict(mount) for mount in JOB_MOUNTS.values()],
        "memory": {"default": DEFAULT_MEMORY, "least": LEAST, "share": SHARE, "look": LOOK},
    }
