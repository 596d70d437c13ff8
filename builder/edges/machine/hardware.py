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
from builder.edges.system import files

FRESH = 3600.0
"""Seconds that a result is kept."""


def hardware(cache: Path, *, refresh: bool = False, now: float | None = None) -> Hardware:
    """This machine, from the cache when that is complete and younger than an hour.

    Args:
        now: seconds since the epoch, for tests.
    """
    at = time.time() if now is None else now
    known = files.read_object(cache)
    if not refresh and 0 <= at - known.get("at", -FRESH) < FRESH:
        with contextlib.suppress(TypeError, KeyError):
            gpus = tuple(Gpu(**gpu) for gpu in known["hardware"].pop("gpus"))
            return Hardware(**known["hardware"], gpus=gpus)
    found = look()
    with contextlib.suppress(OSError):  # a state folder that can't be written must not stop the work
        files.write_json(cache, {"at": at, "hardware": dataclasses.asdict(found)})
    return found


def look() -> Hardware:
    """This machine, now."""
    import psutil

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota(Path("/sys/fs/cgroup"))
    threads = max(1, min(allowed, math.ceil(quota))) if quota else allowed
    physical = psutil.cpu_count(logical=False) or threads
    logical = psutil.cpu_count() or threads
    return Hardware(
        system=platform.system(),
        machine=platform.machine(),
        cpu=_cpu_name(),
        cores=max(1, min(threads, round(physical * threads / logical) or 1, physical)),
        threads=threads,
        memory=min(psutil.virtual_memory().total, memory_limit(Path("/sys/fs/cgroup")) or 1 << 62),
        gpus=_gpus(),
        mps=platform.system() == "Darwin" and platform.machine() == "arm64",
    )


def cpu_quota(cgroup: Path) -> float | None:
    """The number of processors whose time the cgroup (v2) may use, or None without a limit."""
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (cgroup / "cpu.max").read_text().split()
        if quota != "max":
            return int(quota) / int(period)
    return None


def memory_limit(cgroup: Path) -> int | None:
    """Bytes that the cgroup (v2) may use, or None without a limit."""
    with contextlib.suppress(OSError, ValueError):
        return int((cgroup / "memory.max").read_text())
    return None


def memory_available() -> int:
    """Bytes that are available now without swapping."""
    import psutil

    return int(psutil.virtual_memory().available)


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
