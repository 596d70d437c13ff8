"""A Docker Engine of the tests' own: its sockets, its data root, its containerd, its bridge; ended by its own ids.

By hand: ``sudo .venv/bin/python -m tests.engine.private_engine containerd`` prints DOCKER_HOST and runs until Ctrl-C.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

STORES = ("containerd", "overlay2")

COUNT = itertools.count()
"""Engines of this process."""

START = 60.0
"""Seconds an engine may take to answer."""


def why_not() -> str | None:
    """Why none can be started here, in a few words."""
    if sys.platform != "linux":
        return "not Linux"
    if os.geteuid() != 0:
        return "not root"
    lacking = [name for name in ("dockerd", "containerd", "runc", "ip", "iptables") if not shutil.which(name)]
    return f"no {', '.join(lacking)}" if lacking else None


@contextlib.contextmanager
def namespace() -> Iterator[str]:
    """A network namespace with loopback only; its name."""
    name = f"wb-{os.getpid()}-{next(COUNT)}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False)


@contextlib.contextmanager
def engine(store: str, root: Path | None = None, *, netns: str | None = None) -> Iterator[str]:
    """Run one; gives its DOCKER_HOST.

    Args:
        store: one of :data:`STORES`.
        root: where its data stay; None: a folder that is removed afterwards.
        netns: the network namespace it lives in, alone: it has no bridge then.
    """
    # Short: a socket's path has at most 107 bytes.
    with contextlib.ExitStack() as stack:
        run = Path(stack.enter_context(_folder("wb-")))
        data = root or Path(stack.enter_context(_folder("wb-data-")))
        data.mkdir(parents=True, exist_ok=True)
        stack.callback(_unmount, str(data))  # an engine that was killed leaves mounts
        # --bridge=none deletes the docker0 of its own namespace only.
        bridge = "none" if netns else stack.enter_context(_bridge())
        inside = ["nsenter", f"--net=/run/netns/{netns}"] if netns else []  # ip netns exec would hide /sys/fs/cgroup
        containerd = [
            *inside,
            "containerd",
            "--config",
            str(_write(run / "containerd.toml", "version = 2\n")),
            "--root",
            str(data / "containerd"),
            "--state",
            str(run / "c"),
            "--address",
            str(run / "c.sock"),
        ]
        stack.enter_context(_process(containerd, data / "containerd.log"))
        _until((run / "c.sock").exists, data / "containerd.log")
        config = {"features": {"containerd-snapshotter": store == "containerd"}}
        if store == "overlay2":
            config["storage-driver"] = "overlay2"  # type: ignore[assignment]
        host = f"unix://{run / 'd.sock'}"
        dockerd = [
            *inside,
            "dockerd",
            "--config-file",
            str(_write(run / "daemon.json", json.dumps(config))),
            "--host",
            host,
            "--data-root",
            str(data / "docker"),
            "--exec-root",
            str(run / "x"),
            "--pidfile",
            str(run / "d.pid"),
            "--containerd",
            str(run / "c.sock"),
            f"--bridge={bridge}",
            "--iptables=false",
            "--ip6tables=false",
        ]
        stack.enter_context(_process(dockerd, data / "dockerd.log"))
        stack.callback(_end_restarted, run / "d.pid")
        _until(lambda: _answers(host), data / "dockerd.log")
        yield host


def restart(host: str, how: signal.Signals) -> None:
    """End an engine of :func:`engine` with a signal, and start it again on the same data and socket."""
    run = Path(host.removeprefix("unix://")).parent
    pid = int((run / "d.pid").read_text())
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]
    log = Path(words[words.index("--data-root") + 1]).parent / "dockerd.log"
    os.kill(pid, how)
    _until(lambda: not _lives(pid), log)
    (run / "d.pid").unlink(missing_ok=True)  # the old process may be one that nobody has waited for yet
    with log.open("ab") as out:
        subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
    _until(lambda: _answers(host), log)


@contextlib.contextmanager
def reconfigured(host: str, more: dict[str, object]) -> Iterator[None]:
    """An engine of :func:`engine` with more in its daemon.json, and afterwards without it again."""
    path = Path(host.removeprefix("unix://")).parent / "daemon.json"
    before = path.read_text()
    config = json.loads(before)
    features = {**config.get("features", {}), **more.get("features", {})}  # type: ignore[dict-item]
    path.write_text(json.dumps({**config, **more, "features": features}))
    try:
        restart(host, signal.SIGTERM)
        yield
    finally:
        path.write_text(before)
        restart(host, signal.SIGTERM)


def _end_restarted(pidfile: Path) -> None:
    """End the engine that a restart left, before its containerd."""
    with contextlib.suppress(OSError, ValueError):
        pid = int(pidfile.read_text())
        os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + 30
        while _lives(pid) and time.monotonic() < end:
            time.sleep(0.1)


def _lives(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for yet doesn't."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextlib.contextmanager
def _folder(prefix: str) -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix=prefix)
    try:
        yield folder
    finally:
        _unmount(folder)  # rmtree would remove through the mounts
        shutil.rmtree(folder, ignore_errors=True)


def _unmount(folder: str) -> None:
    """What an engine left mounted below a folder."""
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        target = line.split()[1]
        if target.startswith(folder + "/"):
            subprocess.run(["umount", "--lazy", target], check=False)


@contextlib.contextmanager
def _bridge() -> Iterator[str]:
    """A bridge of its own, with a way out for builds; its rules name its own subnet and go with it.

    ``--bridge=none`` would delete the docker0 of another engine here, and ``--iptables=true`` would rewrite its rules.
    """
    name = f"wb{os.getpid() % 100_000}-{next(COUNT)}"
    with Path("/tmp/whisperbake-bridge.lock").open("w") as lock:  # two engines must not take the same subnet
        fcntl.flock(lock, fcntl.LOCK_EX)
        taken = subprocess.run(["ip", "-o", "-4", "addr"], capture_output=True, text=True, check=True).stdout
        used = [ipaddress.ip_interface(line.split()[3]).network for line in taken.splitlines()]
        nets = ipaddress.ip_network("172.30.0.0/16").subnets(new_prefix=24)
        net = next(n for n in nets if not any(n.overlaps(u) for u in used))
        subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True)
        subprocess.run(["ip", "addr", "add", f"{net[1]}/24", "dev", name], check=True)
        subprocess.run(["ip", "link", "set", name, "up"], check=True)
    rules = [
        ["-t", "nat", "{}", "POSTROUTING", "-s", str(net), "!", "-d", str(net), "-j", "MASQUERADE"],
        ["{}", "FORWARD", "-s", str(net), "-j", "ACCEPT"],
        ["{}", "FORWARD", "-d", str(net), "-j", "ACCEPT"],
    ]
    try:
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        for rule in rules:
            subprocess.run(["iptables", *(word.format("-I") for word in rule)], check=True)
        yield name
    finally:
        for rule in rules:
            subprocess.run(["iptables", *(word.format("-D") for word in rule)], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", name], check=False)


@contextlib.contextmanager
def _process(argv: list[str], log: Path) -> Iterator[None]:
    with log.open("ab") as out:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(host: str) -> bool:
    words = ["docker", "--host", host, "info", "--format", "{{.ServerVersion}}"]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def _until(ready, log: Path) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + START
    while not ready():
        if time.monotonic() > end:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
            raise RuntimeError(f"no engine after {START:.0f} s:\n{tail}")
        time.sleep(0.2)


def _write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


if __name__ == "__main__":
    kind = sys.argv[1] if len(sys.argv) > 1 else STORES[0]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with engine(kind, Path(sys.argv[2]) if len(sys.argv) > 2 else None) as address:
        print(f"export DOCKER_HOST={address}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
