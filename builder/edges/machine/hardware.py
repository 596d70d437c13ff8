"""Inspect this machine: cores, memory, GPUs. The result is kept for an hour."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import platform
import time
from pathlib import Path
from typing import Any

from builder.core.machine import Gpu, Hardware
from builder.edges.machine import cgroup
from builder.edges.system import files

FRESH = 3600.0
"""Seconds that a result is kept."""


def hardware(cache: Path, *, refresh: bool = False, keep: bool = True, now: float | None = None) -> Hardware:
    """This machine, from the cache when that is complete and younger than an hour; within this process's limits.

    Args:
        keep: write what is found into the cache.
        now: seconds since the epoch, for tests.
    """
    at = time.time() if now is None else now
    known = files.read_object(cache)
    if not refresh and 0 <= at - known.get("at", -FRESH) < FRESH:
        with contextlib.suppress(TypeError, KeyError):
            gpus = tuple(Gpu(**gpu) for gpu in known["hardware"].pop("gpus"))
            return within_limits(Hardware(**known["hardware"], gpus=gpus))
    found = look()
    if keep:
        with contextlib.suppress(OSError):  # a state folder that can't be written must not stop the work
            files.write_json(cache, {"at": at, "hardware": dataclasses.asdict(found)})
    return within_limits(found)


def look() -> Hardware:
    """This machine, whoever asks, now."""
    import psutil

    threads = psutil.cpu_count() or 1
    return Hardware(
        system=platform.system(),
        machine=platform.machine(),
        cpu=_cpu_name(),
        cores=psutil.cpu_count(logical=False) or threads,
        threads=threads,
        memory=psutil.virtual_memory().total,
        gpus=_gpus(),
        mps=apple_silicon(),
    )


def apple_silicon() -> bool:
    """Whether this machine has Apple's GPU."""
    return platform.system() == "Darwin" and platform.machine() == "arm64"


def within_limits(machine: Hardware) -> Hardware:
    """What this process may use of a machine: its processors, and the limits of its control groups.

    Not part of what is kept: the next process may be in a container, or in another one.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else machine.threads
    quota = cgroup.cpu_quota()
    threads = max(1, min(allowed, machine.threads, math.ceil(quota) if quota else allowed))
    return dataclasses.replace(
        machine,
        cores=max(1, min(threads, round(machine.cores * threads / machine.threads) or 1, machine.cores)),
        threads=threads,
        memory=min(machine.memory, cgroup.memory_limit() or machine.memory),
    )


def memory_available() -> int:
    """Bytes that this process and those it starts may take now without swapping."""
    import psutil

    free, left = int(psutil.virtual_memory().available), cgroup.memory_left()
    return free if left is None else min(free, left)


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _gpus() -> tuple[Gpu, ...]:
    """NVIDIA's GPUs by NVML; empty without a driver."""
    if platform.system() == "Linux" and not Path("/dev/nvidiactl").exists() and not Path("/dev/dxg").exists():
        return ()
    try:
        import pynvml
    except ImportError:
        return ()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        driver = _text(pynvml.nvmlSystemGetDriverVersion())
        version = int(pynvml.nvmlSystemGetCudaDriverVersion())
        found = []
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            found.append(
                Gpu(
                    name=_text(pynvml.nvmlDeviceGetName(handle)),
                    memory=int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
                    driver=driver,
                    cuda=f"{version // 1000}.{version % 1000 // 10}",
                )
            )
        return tuple(found)
    except pynvml.NVMLError:
        return ()
    finally:
        pynvml.nvmlShutdown()


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
