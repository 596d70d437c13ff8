"""A container without a network: what it may do, and its run from its start to its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.receiver.engine import EngineSocket

Sandbox = Mapping[str, Any]
"""What a container may do, as JSON types (builder's core/jobs/sandbox.py, ``as_data``); load.py carries it."""

STDOUT = 1
"""Standard output in a frame of a container's log."""

MOST_PRINTED = 64 << 20
"""Bytes of a container's log that are read; an engine keeps less of the text, and each line has a head."""

LOOK = 0.5
"""Seconds between two looks at what a stage tells of its progress."""

CPU_PERIOD = 100_000
"""Microseconds; a container's quota of processors is counted in it."""


def container(
    sandbox: Sandbox,
    *,
    image: str,
    folder: Path,
    uid: int,
    gid: int,
    threads: int,
    memory: int,
    cpus: int,
) -> dict[str, Any]:
    """A stage's container, as the engine's API takes it (POST /containers/create).

    Args:
        folder: the job's.
        uid: the caller's; results belong to the caller.
        memory: bytes of memory and swap together.
        cpus: logical processors.
    """
    mounts = [
        {
            "Type": "bind",
            "Source": f"{folder}/{mount['source'].removeprefix('./')}",
            "Target": mount["target"],
            "ReadOnly": not mount["writable"],
        }
        for mount in sandbox["mounts"]
    ]
    path, _, options = sandbox["tmpfs"].partition(":")
    return {
        "Image": image,
        "Cmd": ["--job", "/job"],
        "User": sandbox["user_beside_root"] if uid == 0 else f"{uid}:{gid}",
        "Env": [f"OMP_NUM_THREADS={threads}", *(f"{name}=" for name in sandbox["emptied"])],
        "HostConfig": {
            "NetworkMode": sandbox["network"],
            "ReadonlyRootfs": sandbox["read_only"],
            "CapDrop": sandbox["cap_drop"],
            "SecurityOpt": sandbox["security"],
            "PidsLimit": sandbox["pids"],
            "Memory": memory,
            "MemorySwap": memory,
            "CpuPeriod": CPU_PERIOD,
            "CpuQuota": cpus * CPU_PERIOD,
            "Tmpfs": {path: options},
            "Mounts": mounts,
            "LogConfig": {
                "Type": sandbox["log_driver"],
                "Config": dict(option.split("=", 1) for option in sandbox["log_options"]),
            },
        },
    }


def memory_limit(sandbox: Sandbox, wish: int | None, machine: int) -> int:
    """Bytes that a container gets of a machine with ``machine`` bytes of memory.

    Args:
        wish: what the inventory says of the stage; None when it says nothing (an older loader wrote it).
    """
    rule = sandbox["memory"]
    least, wished = int(rule["least"]), int(rule["default"]) if wish is None else wish
    return max(least, min(wished, int(rule["share"] * machine)))


@dataclass(frozen=True)
class Ended:
    """How a container ended."""

    code: int
    lines: list[str]
    """What it printed on both streams."""
    out: str
    """What it printed on standard output."""
    out_of_memory: bool


def run_container(
    engine: EngineSocket, name: str, settings: Mapping[str, Any], on_look: Callable[[], None] = lambda: None
) -> Ended:
    """Run a container to its end; it is removed afterwards.

    Args:
        on_look: called twice a second while it runs.
    """
    engine.ask("DELETE", f"/containers/{name}?force=1")  # of a run that was killed
    id_ = engine.need("POST", f"/containers/create?name={name}", settings)["Id"]
    try:
        engine.need("POST", f"/containers/{id_}/start")
        with ThreadPoolExecutor(1) as pool:
            try:
                waiting = pool.submit(engine.need, "POST", f"/containers/{id_}/wait", patience=None)
                while not wait([waiting], timeout=LOOK).done:
                    on_look()
                code = waiting.result()["StatusCode"]
            except BaseException:
                engine.ask("DELETE", f"/containers/{id_}?force=1")  # the thread waits for its end
                raise
        state = engine.need("GET", f"/containers/{id_}/json")["State"]
        _, raw = engine.ask("GET", f"/containers/{id_}/logs?stdout=1&stderr=1", most=MOST_PRINTED)
    finally:
        engine.ask("DELETE", f"/containers/{id_}?force=1")
    out = b"".join(text for stream, text in frames(raw) if stream == STDOUT)
    return Ended(int(code), log_lines(raw), out.decode("utf-8", "replace"), bool(state.get("OOMKilled")))


def frames(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """Stream and text of a container's log: frames of an 8-byte head with the length in its last four bytes."""
    at = 0
    while at + 8 <= len(raw):
        size = int.from_bytes(raw[at + 4 : at + 8], "big")
        yield raw[at], raw[at + 8 : at + 8 + size]
        at += 8 + size


def log_lines(raw: bytes) -> list[str]:
    """Lines of a container's log."""
    return b"".join(text for _, text in frames(raw)).decode("utf-8", "replace").splitlines()
