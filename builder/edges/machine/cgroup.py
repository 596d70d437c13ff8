"""What this process may use of the machine: the limits of its control groups, of both versions, and of those above.

See cgroups(7), the kernel's admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst, and proc(5) for mountinfo. A container
mostly sees its own group as the root; a service of systemd sees the whole path, and any group on it may have a limit.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

SELF = Path("/proc/self")

NONE = 1 << 60
"""Bytes; version 1 says that there is no limit with a number about as large as the address space."""


@dataclass(frozen=True, kw_only=True)
class _Group:
    """The files of one group that tell its limits."""

    memory_limit: Path
    memory_used: Path
    reclaimable: str
    """The line of memory.stat with the bytes of files in memory that nobody uses."""
    cpu: tuple[Path, ...]
    """One file with quota and period, or a file for each; in microseconds."""


def memory_limit(process: Path = SELF) -> int | None:
    """Bytes that this process and those it starts may use together; None without a limit."""
    return min((limit for _, limit in _memory(process)), default=None)


def memory_left(process: Path = SELF) -> int | None:
    """Bytes up to the nearest limit, where files in memory that nobody uses don't count; None without a limit."""
    return min((max(0, limit - _used(group)) for group, limit in _memory(process)), default=None)


def cpu_quota(process: Path = SELF) -> float | None:
    """The number of processors whose time this process may use; None without a limit."""
    quotas = [quota for group in _groups(process, "cpu") if (quota := _quota(group)) is not None]
    return min(quotas, default=None)


def _memory(process: Path) -> Iterator[tuple[_Group, int]]:
    for group in _groups(process, "memory"):
        limit = _number(group.memory_limit)
        if limit is not None and limit < NONE:
            yield group, limit


def _used(group: _Group) -> int:
    used = _number(group.memory_used) or 0
    with contextlib.suppress(OSError):
        stat = (group.memory_used.parent / "memory.stat").read_text()
        match = re.search(rf"^{group.reclaimable} ([0-9]+)$", stat, re.M)
        used -= int(match[1]) if match else 0
    return max(0, used)


def _quota(group: _Group) -> float | None:
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = [word for path in group.cpu for word in path.read_text().split()]
        if quota not in ("max", "-1"):
            return int(quota) / int(period)
    return None


def _number(path: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text())
    return None


def _groups(process: Path, controller: str) -> Iterator[_Group]:
    """The groups of a process that may limit it, the innermost first."""
    for version, folder, top in _folders(process, controller):
        while True:
            yield _of_version_2(folder) if version == 2 else _of_version_1(folder)
            if folder == top:
                break
            folder = folder.parent


def _of_version_2(folder: Path) -> _Group:
    return _Group(
        memory_limit=folder / "memory.max",
        memory_used=folder / "memory.current",
        reclaimable="inactive_file",
        cpu=(folder / "cpu.max",),
    )


def _of_version_1(folder: Path) -> _Group:
    return _Group(
        memory_limit=folder / "memory.limit_in_bytes",
        memory_used=folder / "memory.usage_in_bytes",
        reclaimable="total_inactive_file",
        cpu=(folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us"),
    )


def _folders(process: Path, controller: str) -> Iterator[tuple[int, Path, Path]]:
    """Version, folder of the process's own group, and where its hierarchy is mounted."""
    try:
        lines = (process / "cgroup").read_text().splitlines()
        mounts = list(_mounts(process))
    except OSError:
        return  # not Linux
    for line in lines:
        _, controllers, path = line.split(":", 2)
        version = 2 if not controllers else 1
        if version == 1 and controller not in controllers.split(","):
            continue
        for of_version, options, root, point in mounts:
            if of_version == version and (version == 2 or controller in options):
                yield version, _below(point, root, path), point
                break


def _below(point: Path, root: str, path: str) -> Path:
    """The folder of a group: a container may see only what is below its own, by another path than the process's."""
    with contextlib.suppress(ValueError):
        relative = PurePosixPath(path).relative_to(root)
        folder = point / relative
        if ".." not in relative.parts and folder.is_dir():
            return folder
    return point


def _mounts(process: Path) -> Iterator[tuple[int, set[str], str, Path]]:
    """Version, options (with the controllers of version 1), root and mount point of each hierarchy."""
    for line in (process / "mountinfo").read_text().splitlines():
        own, _, of_system = line.partition(" - ")
        fields, kind = own.split(), of_system.split()
        if kind and kind[0] in ("cgroup", "cgroup2"):
            point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
            yield (2 if kind[0] == "cgroup2" else 1), set(kind[-1].split(",")), fields[3], Path(point)
