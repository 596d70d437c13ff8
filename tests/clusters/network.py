"""Machines of the tests' own on this one: each has its network, host name, processes and mounts, and can lose its power.

All are joined by a bridge that lives in a namespace of its own: nothing listens, and no link stands, where others see it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

COUNT = itertools.count()
"""Networks of this process."""

NET = "10.77.0"
"""Of the addresses; each network is alone in its namespaces, so that all can have the same."""

WAIT = 60.0
"""Seconds for what :func:`until` waits for, unless told."""


def why_not(programs: Sequence[str] = ()) -> str | None:
    """Why no machines can be made here, in a few words; ``programs`` are those that they should run, too."""
    if sys.platform != "linux":
        return "not Linux"
    if os.geteuid() != 0:
        return "not root"
    lacking = [name for name in ("ip", "nsenter", "unshare", *programs) if not shutil.which(name)]
    return f"no {', '.join(lacking)}" if lacking else None


@dataclass
class Machine:
    """One machine; its programs run only between :meth:`boot` and :meth:`cut`."""

    name: str
    """Its host's name."""
    address: str
    netns: str
    hosts: Path
    """What is its /etc/hosts."""
    _power: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def on(self) -> bool:
        return self._power is not None and self._power.poll() is None

    @property
    def begun(self) -> bool:
        """Whether its process 1 is there, so that :meth:`inside` works."""
        return bool(self._first())

    def boot(self, argv: Sequence[str], log: Path, *, prepare: str = "", env: dict[str, str] | None = None) -> None:
        """Start a program below an init of the machine's own.

        Args:
            prepare: lines of shell that run first, in the machine's own mounts.
        """
        assert not self.on, f"{self.name} runs"
        script = (
            f"hostname {self.name}\nmount --bind {shlex.quote(str(self.hosts))} /etc/hosts\n{prepare}\n"
            f"{shlex.join(argv)} &\nwait\n"  # the shell stays: process 1 gets the orphans, and takes their codes
        )
        words = ["unshare", "--uts", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-ec", script]
        with log.open("ab") as out:
            self._power = subprocess.Popen(
                self.enter(words), stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env, start_new_session=True
            )

    def enter(self, words: Sequence[str]) -> list[str]:
        """What runs ``words`` in the machine's network; not below its init: the power doesn't take it."""
        # ip netns exec would hide /sys/fs/cgroup.
        return ["nsenter", f"--net=/run/netns/{self.netns}", *words]

    def inside(self, words: Sequence[str]) -> list[str]:
        """What runs ``words`` among the machine's processes, in its mounts. Raises RuntimeError when it has no power."""
        first = self._first() if self.on else []
        if not first:
            raise RuntimeError(f"{self.name} has no power")
        return ["nsenter", f"--target={first[0]}", "--net", "--uts", "--mount", "--pid", *words]

    def cut(self) -> None:
        """Take the power away: all of its processes get -9 at once, and are gone when this returns."""
        if self._power is None:
            return
        for pid in self._first():
            # The kernel ends a namespace's processes with its first, and tells of its end after theirs.
            subprocess.run(["kill", "-9", pid], check=False)
        self._power.wait(WAIT)
        self._power = None

    def _first(self) -> list[str]:
        """The number, as seen here, of its process 1; none while it isn't there."""
        if self._power is None:
            return []
        try:
            return Path(f"/proc/{self._power.pid}/task/{self._power.pid}/children").read_text().split()
        except OSError:
            return []


@contextlib.contextmanager
def network(names: Sequence[str], folder: Path) -> Iterator[list[Machine]]:
    """Machines of these names, at 10.77.0.1, .2 …; none runs yet, and none does afterwards.

    Args:
        folder: what they have in common, such as the list of hosts, is written there.
    """
    mark = f"{os.getpid()}-{next(COUNT)}"
    hosts = folder / "hosts"
    lines = ["127.0.0.1 localhost", *(f"{NET}.{number} {name}" for number, name in enumerate(names, 1))]
    hosts.write_text("\n".join(lines) + "\n")
    with contextlib.ExitStack() as stack:
        hub = stack.enter_context(_namespace(f"wb-hub-{mark}"))
        _ip("-n", hub, "link", "add", "bridge", "type", "bridge")
        _ip("-n", hub, "link", "set", "bridge", "up")
        machines = []
        for number, name in enumerate(names, 1):
            netns = stack.enter_context(_namespace(f"wb-{name}-{mark}"))
            ends = ["name", "eth0", "type", "veth", "peer", "name", f"port{number}", "netns", hub]
            _ip("-n", netns, "link", "add", *ends)
            _ip("-n", netns, "addr", "add", f"{NET}.{number}/24", "dev", "eth0")
            _ip("-n", netns, "link", "set", "eth0", "up")
            _ip("-n", hub, "link", "set", f"port{number}", "master", "bridge", "up")
            machine = Machine(name, f"{NET}.{number}", netns, hosts)
            stack.callback(machine.cut)
            machines.append(machine)
        yield machines


def until(ready: Callable[[], bool], why: Callable[[], str], seconds: float = WAIT) -> None:
    """Wait for something of another program's that sends no event; ``why`` says what it wrote, where it doesn't come."""
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise TimeoutError(f"not after {seconds:.0f} s:\n{why()}")
        time.sleep(0.1)


def tail(log: Path, lines: int = 20) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else f"no {log}"


@contextlib.contextmanager
def _namespace(name: str) -> Iterator[str]:
    _ip("netns", "add", name)
    try:
        _ip("-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)
