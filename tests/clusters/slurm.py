"""A Slurm of the tests' own: its keys, its controller, its nodes, each on a machine of tests/clusters/network.py.

By hand: ``sudo .venv/bin/python -m tests.clusters.slurm 4`` prints what enters the controller, and runs until Ctrl-C.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.clusters.network import Machine, network, tail, until, why_not
from tests.shared import ROOT

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")

CONF = """\
ClusterName=wb
SlurmctldHost=ctl({ctl})
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={run}/munge/socket,cred_expire=5
StateSaveLocation={run}/state
SlurmdSpoolDir={run}/spool-%n
SlurmctldPidFile={run}/slurmctld.pid
SlurmdPidFile={run}/slurmd-%n.pid
SlurmctldLogFile={run}/slurmctld.log
SlurmdLogFile={run}/slurmd-%n.log
# No cgroups: they are the machine's that runs the tests.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
# Nodes that one machine plays: it may have less than they say.
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
# A node that is gone is seen within seconds, and taken back as soon as it answers.
SlurmdTimeout=10
ReturnToService=2
BatchStartTimeout=1
MessageTimeout=3
JobRequeue=1
SchedulerParameters=max_batch_requeue=1000,batch_sched_delay=0,sched_min_interval=0,bf_interval=1
MinJobAge=3600
KillWait=25
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=EXCLUSIVE
"""
"""slurm.conf. Exclusive: a node does one task at a time, so that to kill it is to kill one."""


def why_none() -> str | None:
    """Why no Slurm can be started here, in a few words."""
    return why_not(PROGRAMS)


@dataclass(frozen=True)
class Slurm:
    """A cluster that runs."""

    run: Path
    """Its folder: configuration, state, logs."""
    ctl: Machine
    nodes: list[Machine]
    shared: list[Path]
    """Folders below /tmp that all nodes see; the rest of /tmp is each node's own."""

    @property
    def env(self) -> dict[str, str]:
        mine = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_"))}
        return {**mine, "SLURM_CONF": str(self.run / "slurm.conf")}

    def tell(self, *words: str, cwd: Path | None = None) -> str:
        """Run one of Slurm's commands where the controller is; what it printed.

        Raises:
            AssertionError: it failed.
        """
        done = subprocess.run(
            self.ctl.enter(words), env=self.env, cwd=cwd, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    def submit(self, *words: str | Path, cwd: Path | None = None) -> str:
        """``sbatch`` with these words; the job's number."""
        return self.tell("sbatch", "--parsable", *map(str, words), cwd=cwd).strip()

    def states(self, job: str) -> dict[str, int]:
        """How many of an array's tasks are in which state."""
        found: dict[str, int] = {}
        for state in self.tell(
            "squeue", "--noheader", "--array", "--states=all", "--format=%T", f"--jobs={job}"
        ).split():
            found[state] = found.get(state, 0) + 1
        return found

    def restarts(self, job: str) -> int:
        """How often tasks of an array were started anew."""
        return sum(map(int, re.findall(r"\bRestarts=(\d+)", self.tell("scontrol", "show", "job", job))))

    def disk(self, node: Machine) -> Path:
        """What is a node's /tmp; it stays when the node dies."""
        return self.run / f"disk-{node.name}"

    def start(self, node: Machine) -> None:
        """Turn a node on: its slurmd registers by itself, and tells that it was off."""
        self.disk(node).mkdir(exist_ok=True)
        node.boot(
            ["slurmd", "-D", "-b", "-N", node.name, "-f", str(self.run / "slurm.conf")],
            self.run / f"slurmd-{node.name}.out",
            prepare="\n".join(_own_tmp(self.disk(node), self.shared)),
            env=self.env,
        )

    def misses(self, node: Machine) -> bool:
        """Whether the controller knows that a node is gone."""
        return self.tell("sinfo", "--noheader", f"--nodes={node.name}", "--format=%T").startswith("down")

    def marks(self, node: Machine) -> set[Path]:
        """Files in which stages tell of the recordings that they are done with, on a node's disk; each run has its own.

        They are there while a shard is in the midst of its work, and go when it ends by itself.
        """
        disk = self.disk(node)
        # Path.glob fails where a folder goes while it looks (before Python 3.13).
        found = glob.glob("*/*/jobs/ended-*.jsonl", root_dir=disk)  # noqa: PTH207
        return {disk / name for name in found}

    def said(self) -> str:
        """The ends of its logs."""
        logs = [*self.run.glob("*.log"), *self.run.glob("*.out")]
        return "\n".join(f"── {log.name}\n{tail(log)}" for log in sorted(logs))


@contextlib.contextmanager
def slurm(count: int, shared: Sequence[Path] = (), *, cpus: int = 2, mebibytes: int = 16_000) -> Iterator[Slurm]:
    """A controller and ``count`` nodes, all of which answer.

    Args:
        shared: folders that nodes see at the same path, though they lie below /tmp.
        cpus: what each node says that it has.
        mebibytes: its memory, said only.
    """
    with contextlib.ExitStack() as stack:
        run = Path(tempfile.mkdtemp(prefix="wb-slurm-"))
        stack.callback(shutil.rmtree, run, ignore_errors=True)
        run.chmod(0o755)  # munged wants its socket where everyone gets to it
        names = [f"n{number}" for number in range(1, count + 1)]
        ctl, *nodes = stack.enter_context(network(["ctl", *names], run))
        lines = [f"NodeName={n.name} NodeAddr={n.address} CPUs={cpus} RealMemory={mebibytes}" for n in nodes]
        (run / "slurm.conf").write_text(CONF.format(ctl=ctl.address, run=run, nodes="\n".join(lines)))
        (run / "state").mkdir()
        stack.enter_context(_munge(run / "munge"))
        below = [p for p in (run, ROOT, *shared) if p.is_relative_to("/tmp")]
        cluster = Slurm(run, ctl, nodes, below)
        ctl.boot(["slurmctld", "-D", "-f", str(run / "slurm.conf")], run / "slurmctld.out", env=cluster.env)
        for node in nodes:
            cluster.start(node)
        until(lambda: _idle(cluster) == count, cluster.said)
        yield cluster


def _own_tmp(disk: Path, shared: Sequence[Path]) -> list[str]:
    """Shell that gives a machine a /tmp of its own, in which the shared folders are where they were."""
    aside = [(f"/mnt/{number}", shlex.quote(str(path))) for number, path in enumerate(shared)]
    lines = ["mount -t tmpfs aside /mnt"]
    lines += [f"mkdir {place}; mount --bind {path} {place}" for place, path in aside]
    lines += [f"mount --bind {shlex.quote(str(disk))} /tmp"]
    return [*lines, *(f"mkdir -p {path}; mount --move {place} {path}" for place, path in aside), "umount /mnt"]


def _idle(cluster: Slurm) -> int:
    words = ["sinfo", "--noheader", "--Node", "--format=%T"]
    done = subprocess.run(
        cluster.ctl.enter(words), env=cluster.env, capture_output=True, text=True, check=False, timeout=60
    )
    return done.stdout.split().count("idle")


@contextlib.contextmanager
def _munge(folder: Path) -> Iterator[None]:
    """The daemon that signs what the others send, with a key of its own."""
    folder.mkdir(mode=0o755)
    key = folder / "key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(128))
    words = ["munged", "--foreground", f"--key-file={key}", f"--socket={folder / 'socket'}"]
    words += [f"--{name}-file={folder / name}" for name in ("pid", "log", "seed")]
    with (folder / "out").open("ab") as out:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
    try:
        until((folder / "socket").exists, lambda: tail(folder / "out") + tail(folder / "log"))
        yield
    finally:
        process.terminate()
        process.wait(30)


def main(arguments: Sequence[str]) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with slurm(int(arguments[0]) if arguments else 2) as cluster:
        print(f"export SLURM_CONF={cluster.run}/slurm.conf; {' '.join(cluster.ctl.enter(['bash']))}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main(sys.argv[1:])
