"""An HTCondor pool of the tests' own: Debian 13's daemons on machines that share no file system but what they transfer.

Debian 12 has no HTCondor: the machines have a Debian 13 as their root, each with a disk of its own over it. What a site
installs on its nodes is there at the same path, read-only.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.edges.images import rootfs
from tests.clusters import network
from tests.clusters.network import Machine

PACKAGES = ("htcondor", "procps", "python3")
"""Debian's packages in a machine's root."""

FRESH = 7 * 24 * 3600.0
"""Seconds for which a root that was made is used again."""

SUBMIT = "submit"
"""The host that has the queue, and where users are."""

USER = "baker"
"""Who submits; has no account on the other machines: jobs run as nobody there."""

HEAD = "MASTER, COLLECTOR, NEGOTIATOR, SCHEDD"

HELD = 5
"""A job's status."""

SETTINGS = f"""\
CONDOR_HOST = {SUBMIT}
NETWORK_INTERFACE = eth0
TRUST_DOMAIN = pool
UID_DOMAIN = $(HOSTNAME)
FILESYSTEM_DOMAIN = $(HOSTNAME)
START = True
# A machine of the tests may be one of cgroups that nobody gave us.
BASE_CGROUP =
CREATE_CGROUP_WITHOUT_ROOT = False
# Four machines share the cores of one here.
NUM_CPUS = 1
MEMORY = 8192
NUM_SLOTS = 1
NUM_SLOTS_TYPE_1 = 1
SLOT_TYPE_1 = 100%
SLOT_TYPE_1_PARTITIONABLE = False
# What takes minutes by default is to take seconds: the state of a pool, its matches, and the loss of a machine.
NEGOTIATOR_INTERVAL = 3
NEGOTIATOR_MIN_INTERVAL = 1
NEGOTIATOR_CYCLE_DELAY = 1
SCHEDD_INTERVAL = 3
SCHEDD_MIN_INTERVAL = 1
UPDATE_INTERVAL = 5
MASTER_UPDATE_INTERVAL = 10
CLASSAD_LIFETIME = 20
POLLING_INTERVAL = 2
ALIVE_INTERVAL = 5
MAX_CLAIM_ALIVES_MISSED = 3
JOB_DEFAULT_LEASE_DURATION = 20
JOB_START_DELAY = 0
SHADOW_QUEUE_UPDATE_INTERVAL = 5
STARTER_UPDATE_INTERVAL = 5
STARTER_INITIAL_UPDATE_INTERVAL = 2
PERIODIC_EXPR_INTERVAL = 3
MASTER_BACKOFF_CEILING = 5
STARTD_NOCLAIM_SHUTDOWN = 0
RUNBENCHMARKS = False
"""
"""For all machines; what each runs stands in its daemons' environment."""


def why_not() -> str | None:
    """Why no pool can be made here, in a few words."""
    return network.why_not(["mmdebstrap", "tar", "chroot"])


def debian(cache: Path, packages: Sequence[str] = PACKAGES) -> Path:
    """A Debian 13 with packages as a tar file, made in ``cache`` when there is none or it is old: half a minute.

    Raises RuntimeError with mmdebstrap's words.
    """
    kept = cache / f"trixie {' '.join(packages)}.tar"
    if kept.exists() and time.time() - kept.stat().st_mtime < FRESH:
        return kept
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".part-") as folder:
        made = Path(folder) / "root.tar"
        argv = [
            "mmdebstrap",
            "--quiet",
            "--variant=minbase",
            '--aptopt=Acquire::Check-Valid-Until "false"',  # a mirror may be a snapshot; signatures are checked
            "--aptopt=APT::Install-Recommends false",
            f"--include={','.join(packages)}",
            "--format=tar",
            "trixie",
            str(made),
            *rootfs.sources("trixie", Path("/etc/apt")),
        ]
        done = subprocess.run(argv, env=os.environ | {"TMPDIR": folder}, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)
        made.replace(kept)
    return kept


@dataclass
class Node:
    """One of the pool's machines."""

    machine: Machine
    folder: Path
    """Its disk, its log and where its root is mounted: in its own mounts only."""
    lower: Path
    installed: Sequence[Path]
    daemons: str
    desk: Sequence[Path] = ()
    """Folders of this machine that it has at the same path, to write to."""

    @property
    def root(self) -> Path:
        return self.folder / "root"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def boot(self) -> None:
        """Start its daemons, on the disk as it was left. Raises TimeoutError with its log's end."""
        for name in ("root", "disk", "work"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        root, disk, work = (shlex.quote(str(self.folder / name)) for name in ("root", "disk", "work"))
        lines = [
            f"mount -t overlay -o lowerdir={shlex.quote(str(self.lower))},upperdir={disk},workdir={work} disk {root}",
            f"rm -rf {root}/run/*",  # a boot begins without what the last one had there
            f"chroot {root} install -d -o condor -g condor /run/condor /run/lock /run/lock/condor",
            f"cp {shlex.quote(str(self.machine.hosts))} {root}/etc/hosts",
            f"mount --rbind /dev {root}/dev",
            f"mount -t tmpfs shm {root}/dev/shm",
            *(line for path in self.installed for line in _shown(path, self.root, ["remount,bind,ro"])),
            *(line for path in self.desk for line in _shown(path, self.root)),
            f"mount -t proc proc {root}/proc",  # the last: see inside
        ]
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "_CONDOR_DAEMON_LIST": self.daemons}
        self.machine.boot(
            ["chroot", str(self.root), "condor_master", "-f"], self.log, prepare="\n".join(lines), env=env
        )

        def ready() -> bool:
            if not self.machine.on:
                raise RuntimeError(f"{self.machine.name} ended at its start:\n{network.tail(self.log)}")
            return self.machine.begun and self.run(["test", "-e", "/proc/1"], check=False).returncode == 0

        network.until(ready, lambda: network.tail(self.log))

    def cut(self) -> None:
        """kill -9 of its daemons and the jobs' processes, all at once; what it wrote stays on its disk."""
        self.machine.cut()

    def run(
        self, argv: Sequence[str | Path], *, user: str = "root", cwd: str | Path = "/", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the machine. Raises RuntimeError with what it printed when it fails and ``check`` is set."""
        words = ["chroot", *(["--userspec", f"{user}:"] if user != "root" else []), str(self.root)]
        words += ["env", "-i", "PATH=/usr/sbin:/usr/bin", "LANG=C.UTF-8", f"HOME=/home/{user}", f"USER={user}"]
        words += ["sh", "-c", 'cd "$0" && exec "$@"', str(cwd), *map(str, argv)]
        done = subprocess.run(
            self.machine.inside(words), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if check and done.returncode:
            raise RuntimeError(f"{self.machine.name}: {shlex.join(map(str, argv))}: {done.stdout}{done.stderr}")
        return done

    def logged(self) -> str:
        """The ends of what its daemons wrote, for a person who asks why."""
        logs = sorted((self.folder / "disk/var/log/condor").glob("*Log*"))
        return "\n".join(f"--- {log.name}\n{network.tail(log)}" for log in [self.log, *logs])


@dataclass
class Pool:
    """A head that has the queue, and nodes that run jobs."""

    head: Node
    nodes: list[Node] = field(default_factory=list)

    @property
    def home(self) -> Path:
        """The submitting user's folder, on the head's disk only; as seen from this machine."""
        return self.head.folder / "disk/home" / USER

    def submit(self, file: str, folder: str | Path, *more: str) -> int:
        """Submit a file as the user, from its folder on the head; the cluster's number.

        Args:
            more: lines that stand before its ``queue``.
        """
        words = ["condor_submit", "-terse", *(word for line in more for word in ("-append", line)), file]
        done = self.head.run(words, user=USER, cwd=folder)
        return int(done.stdout.split(".")[0])

    def queue(self, cluster: int) -> list[dict[str, Any]]:
        """The jobs of a cluster that are in the queue still, as HTCondor says it."""
        return _ads(self.head.run(["condor_q", "-allusers", str(cluster), "-json"], user=USER).stdout)

    def history(self, cluster: int) -> list[dict[str, Any]]:
        """The jobs of a cluster that have left the queue."""
        return _ads(self.head.run(["condor_history", str(cluster), "-json"], user=USER).stdout)

    def working(self, sign: str) -> list[Node]:
        """Nodes where a program runs now that has ``sign``, a regular expression, in its command line."""
        # pgrep would find the shell that starts it, whose words have the sign, too.
        found = [node for node in self.nodes if node.machine.on]
        return [n for n in found if n.run(["pgrep", "-f", f"[{sign[0]}]{sign[1:]}"], check=False).returncode == 0]

    def wait(self, cluster: int, count: int, seconds: float, each: Callable[[int], None] = lambda ended: None) -> None:
        """Wait until ``count`` jobs of a cluster have left the queue.

        A job that is held for good is a RuntimeError; one that HTCondor tries again by itself isn't.

        Args:
            each: is called now and then meanwhile, with how many have left.
        """

        def over() -> bool:
            ended = len(self.history(cluster))
            each(ended)
            held = [job for job in self.queue(cluster) if job["JobStatus"] == HELD and not _again(job)]
            if held:
                raise RuntimeError(f"held: {[job.get('HoldReason') for job in held]}\n{self.logged()}")
            return ended >= count  # not "none in the queue": they are put there bit by bit

        network.until(over, self.logged, seconds)

    def logged(self) -> str:
        """What all daemons wrote last."""
        return "\n".join(f"=== {node.machine.name}\n{node.logged()}" for node in [self.head, *self.nodes])


@contextlib.contextmanager
def pool(count: int, cache: Path, installed: Sequence[Path] = (), desk: Sequence[Path] = ()) -> Iterator[Pool]:
    """A pool of ``count`` nodes and a head, all answering; ended by their own process numbers.

    Args:
        cache: where :func:`debian`'s file is kept.
        installed: folders and files of this machine that all have at the same path, read-only.
        desk: folders that only the head has, at the same path, and may write to.
    """
    # Not below pytest's folder: what is installed is no result, and a socket's path has at most 107 bytes.
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wb-condor-")))
        folder.chmod(0o755)
        lower = folder / "debian"
        _unpack(debian(cache), lower)
        names = [f"node{number}" for number in range(1, count + 1)]
        machines = stack.enter_context(network.network([SUBMIT, *names], folder))
        nodes = [Node(m, folder / m.name, lower, installed, "MASTER, STARTD") for m in machines[1:]]
        made = Pool(Node(machines[0], folder / SUBMIT, lower, installed, HEAD, desk), nodes)
        for node in [made.head, *nodes]:
            node.boot()
        made.head.run(["install", "-d", "-o", USER, "-g", USER, f"/home/{USER}"])
        network.until(lambda: _answer(made), made.logged)
        yield made


def _unpack(tar: Path, root: Path) -> None:
    """The root that all machines have below their disks: one key of the pool, one user who submits."""
    root.mkdir(mode=0o755)
    subprocess.run(["tar", "xf", str(tar), "-C", str(root)], check=True)
    (root / "root").chmod(0o755)  # a home of this machine's may have what is installed
    (root / "etc/condor/config.d/99-tests.config").write_text(SETTINGS)
    key = root / "etc/condor/passwords.d/POOL"
    key.parent.mkdir(mode=0o700)
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(64))
    subprocess.run(["chroot", str(root), "useradd", "--uid", "1000", "--user-group", USER], check=True)
    shutil.rmtree(root / "var/log/condor", ignore_errors=True)
    subprocess.run(
        ["chroot", str(root), "install", "-d", "-o", "condor", "-g", "condor", "/var/log/condor"], check=True
    )


def _shown(path: Path, root: Path, options: Sequence[str] = ()) -> list[str]:
    """Shell that shows a folder or a file of this machine below a root."""
    target = shlex.quote(f"{root}{path}")
    make = f"mkdir -p {target}" if path.is_dir() else f"mkdir -p {shlex.quote(f'{root}{path.parent}')}; touch {target}"
    return [make, f"mount --bind {shlex.quote(str(path))} {target}", *(f"mount -o {how} {target}" for how in options)]


def _answer(pool: Pool) -> bool:
    """Whether the queue answers and all nodes are known."""
    status = pool.head.run(["condor_status", "-json", "-attributes", "Machine"], check=False)
    if status.returncode or pool.head.run(["condor_q"], user=USER, check=False).returncode:
        return False
    return len(_ads(status.stdout)) == len(pool.nodes)


def _again(job: dict[str, Any]) -> bool:
    """Whether a held job is one that was ended by a machine's fault, or in a transfer: rendered jobs are released."""
    code = job.get("HoldReasonCode"), job.get("HoldReasonSubCode")
    return code[0] in (12, 13) or code == (3, 3)


def _ads(text: str) -> list[dict[str, Any]]:
    """HTCondor prints nothing for an empty list."""
    return list(json.loads(text)) if text.strip() else []
