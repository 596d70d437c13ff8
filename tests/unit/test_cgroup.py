"""What a process may use, by the files of its control groups: both versions, containers, limits further up."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.core.machine import Hardware
from builder.edges.machine import cgroup
from builder.edges.machine import hardware as probe

ROOT = Path(__file__).resolve().parents[2]

MACHINE = Hardware(system="Linux", machine="x86_64", cpu="x", cores=32, threads=64, memory=256 << 30)


class Process:
    """A process's two files in /proc, and the hierarchies that they name."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.groups, self.mounts = folder, [""], [""]
        self.write()

    def mounted(self, kind: str, options: str, root: str = "/", *, at: str) -> Path:
        """A hierarchy, of which the process sees what is below ``root``."""
        point = self.folder / at
        point.mkdir(parents=True)
        shown = str(point).replace(" ", "\\040")
        self.mounts.append(f"31 23 0:28 {root} {shown} rw,relatime shared:9 - {kind} cgroup {options}")
        self.write()
        return point

    def within(self, line: str) -> None:
        self.groups.append(line)
        self.write()

    def write(self) -> None:
        (self.folder / "cgroup").write_text("\n".join(self.groups[1:]))
        (self.folder / "mountinfo").write_text("\n".join(self.mounts[1:]))

    @property
    def limits(self) -> tuple[int | None, int | None, float | None]:
        return cgroup.memory_limit(self.folder), cgroup.memory_left(self.folder), cgroup.cpu_quota(self.folder)


@pytest.fixture
def process(tmp_path: Path) -> Process:
    return Process(tmp_path)


def fill(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")


def test_version_2_in_a_container_of_its_own(process: Process) -> None:
    """docker run --memory 200m --cpus 1.5: the group is the root of what it sees. Files in memory can go."""
    process.within("0::/")
    fill(
        process.mounted("cgroup2", "rw,nsdelegate", at="fs"),
        memory__max=200_000_000,
        memory__current=150_000_000,
        memory__stat="anon 1\ninactive_file 90000000\nactive_file 5",
        cpu__max="150000 100000",
    )
    assert process.limits == (200_000_000, 140_000_000, 1.5)


def test_version_2_of_a_service_whose_slice_has_the_limit(process: Process) -> None:
    """systemd: the leaf says max, a group above it has the number; the smallest counts."""
    process.within("0::/user.slice/run-7.scope")
    top = process.mounted("cgroup2", "rw", at="fs")
    fill(top / "user.slice", memory__max=1_000, memory__current=400, cpu__max="300000 100000")
    fill(top / "user.slice/run-7.scope", memory__max="max", memory__current=300, cpu__max="max 100000")
    assert process.limits == (1_000, 600, 3.0)
    fill(top / "user.slice/run-7.scope", memory__max=500, cpu__max="50000 100000")
    assert process.limits == (500, 200, 0.5)


def test_version_1_in_a_container(process: Process) -> None:
    """/proc names the path on the host, and the mount shows what is below it."""
    process.within("5:cpu,cpuacct:/docker/4f2a")
    process.within("4:memory:/docker/4f2a")
    process.within("0::/")
    memory = process.mounted("cgroup", "rw,memory", "/docker/4f2a", at="memory")
    processors = process.mounted("cgroup", "rw,cpu,cpuacct", "/docker/4f2a", at="cpu,cpuacct")
    fill(
        memory,
        memory__limit_in_bytes=300,
        memory__usage_in_bytes=250,
        memory__stat="inactive_file 9\ntotal_inactive_file 50",
    )
    fill(processors, cpu__cfs_quota_us=100_000, cpu__cfs_period_us=100_000)
    assert process.limits == (300, 100, 1.0)


def test_version_1_without_a_limit_says_so_with_a_number(process: Process) -> None:
    """9223372036854771712 bytes, and a quota of -1."""
    process.within("4:memory:/")
    process.within("1:cpu:/")
    fill(process.mounted("cgroup", "rw,memory", at="memory"), memory__limit_in_bytes=9223372036854771712)
    fill(process.mounted("cgroup", "rw,cpu", at="cpu"), cpu__cfs_quota_us=-1, cpu__cfs_period_us=100_000)
    assert process.limits == (None, None, None)


@pytest.mark.parametrize("path", ["/../../other", "/gone", "/docker/4f2a"])
def test_a_group_that_can_not_be_seen_is_the_mounted_one(process: Process, path: str) -> None:
    """A namespace shows groups outside with dots, and a mount from outside by a path that isn't there."""
    process.within(f"0::{path}")
    fill(process.mounted("cgroup2", "rw", "/", at="with a space"), memory__max=700, memory__current=0)
    assert process.limits[0] == 700


def test_a_machine_without_groups_has_no_limits(tmp_path: Path) -> None:
    assert cgroup.memory_limit(tmp_path / "none") is None
    assert cgroup.memory_left(tmp_path / "none") is None
    assert cgroup.cpu_quota(tmp_path / "none") is None


def test_limits_are_no_part_of_what_is_kept(process: Process, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The next process may be in a container: it looks for its own, and the cache has the machine."""
    monkeypatch.setattr(probe, "look", lambda: MACHINE)
    monkeypatch.setattr(probe.os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(cgroup, "cpu_quota", lambda: 1.5)
    monkeypatch.setattr(cgroup, "memory_limit", lambda: 200_000_000)
    cache = tmp_path / "hardware.json"
    for _ in range(2):
        found = probe.hardware(cache)
        assert (found.cores, found.threads, found.memory) == (1, 2, 200_000_000)
    monkeypatch.setattr(cgroup, "cpu_quota", lambda: None)
    monkeypatch.setattr(cgroup, "memory_limit", lambda: None)
    assert probe.hardware(cache) == MACHINE


@pytest.fixture
def real() -> Iterator[Path]:
    """A group of this machine with a limit of 200 MB."""
    own = [folder for _, folder, _ in cgroup._folders(cgroup.SELF, "memory")]
    if not own or not os.access(own[0], os.W_OK):
        pytest.skip("only root makes groups, where their hierarchy is mounted writable")
    folder = own[0] / f"whisperbake-test-{os.getpid()}"
    folder.mkdir()
    try:
        limit = next((f for n in ("memory.max", "memory.limit_in_bytes") if (f := folder / n).exists()), None)
        if limit is None:
            pytest.skip("version 2 has not given this group the memory controller")
        limit.write_text("200000000")
        yield folder
    finally:
        folder.rmdir()


def test_a_real_limit_of_this_machine_is_seen(real: Path) -> None:
    """By a process that the kernel holds to it."""
    code = (
        "import os, sys; open(sys.argv[1] + '/cgroup.procs', 'w').write(str(os.getpid()))\n"
        "from builder.edges.machine import cgroup, hardware\n"
        "print(hardware.within_limits(hardware.look()).memory, hardware.memory_available())"
    )
    done = subprocess.run([sys.executable, "-c", code, str(real)], cwd=ROOT, capture_output=True, text=True, check=True)
    memory, available = map(int, done.stdout.split())
    assert 199_000_000 < memory <= 200_000_000
    assert available < memory
