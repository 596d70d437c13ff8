"""What a machine has, and what to run on it."""

from __future__ import annotations

from dataclasses import dataclass

GB = 1_000_000_000

PRESETS = ("fast", "starter", "balanced", "high", "premium")
"""What may be recommended, smallest first."""


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One NVIDIA GPU."""

    name: str
    """As its driver calls it."""
    memory: int
    """Bytes."""
    driver: str
    """The driver's version."""
    cuda: str
    """The CUDA version that the driver supports."""


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """This machine, within the limits of this process's cgroup."""

    system: str
    """Linux or Darwin."""
    machine: str
    """The processor's architecture, such as x86_64."""
    cpu: str
    """The processor's name."""
    cores: int
    """Physical cores that this process may use."""
    threads: int
    """Logical processors that this process may use."""
    memory: int
    """Bytes."""
    gpus: tuple[Gpu, ...] = ()
    """NVIDIA's GPUs."""
    mps: bool = False
    """Whether it has Apple's GPU."""


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """Settings for a machine, and why."""

    preset: str
    """The models to take."""
    device: str
    """cpu or cuda."""
    compute_type: str
    """CTranslate2's type of numbers."""
    batch_size: int
    """Windows of sound at once; 0: one after the other."""
    threads: int
    """Threads for each stage."""
    reason: str
    """Why this preset."""


def recommend(hardware: Hardware) -> Recommendation:
    """The largest preset that is fast enough on a machine.

    A preset takes about as much memory as its models in int8 or float16, plus 0.3–1 GB (measured with base: 0.35 GB, in
    batches of four 0.9 GB). CTranslate2 gains nothing from hyper-threads, so threads are physical cores.
    """
    best = max(hardware.gpus, key=lambda g: g.memory, default=None)
    threads = max(1, min(hardware.cores, 16))
    if best is not None and best.memory >= 10 * GB:
        return _choice(
            "premium", "cuda", "float16", 16, threads, f"{best.name} with {best.memory / GB:.0f} GB holds large-v3"
        )
    if best is not None and best.memory >= 6 * GB:
        return _choice(
            "high", "cuda", "int8_float16", 8, threads, f"{best.name} with {best.memory / GB:.0f} GB holds medium"
        )
    if best is not None and best.memory >= 2 * GB:
        return _choice(
            "balanced", "cuda", "int8_float16", 4, threads, f"{best.name} with {best.memory / GB:.0f} GB holds small"
        )
    note = "; CTranslate2 does not use Apple's GPU" if hardware.mps else ""
    if hardware.cores >= 8 and hardware.memory >= 8 * GB:
        return _choice("balanced", "cpu", "int8", 4, threads, f"{hardware.cores} cores keep up with small{note}")
    if hardware.memory >= 1.5 * GB:
        return _choice(
            "starter",
            "cpu",
            "int8",
            4,
            threads,
            f"{hardware.cores} cores without a GPU: base is quicker than real time{note}",
        )
    return _choice("fast", "cpu", "int8", 4, threads, f"{hardware.memory / GB:.1f} GB of memory: tiny fits{note}")


def _choice(preset: str, device: str, compute_type: str, batch: int, threads: int, reason: str) -> Recommendation:
    return Recommendation(
        preset=preset, device=device, compute_type=compute_type, batch_size=batch, threads=threads, reason=reason
    )
