"""A batch on a real Slurm whose nodes lose their power: each recording's result is right, and there once."""

from __future__ import annotations

import json
import os
import random
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.clusters import batches, slurm
from tests.clusters.network import Machine, until
from tests.clusters.slurm import Slurm
from tests.shared import native_python

OPTIONS = ("--preset", "tiny-en", "--mode", "native", "--threads", "1")

OVER = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE"}
"""States of tasks that don't change any more; NODE_FAIL is none, since the tasks are to be requeued."""


@pytest.fixture(scope="module", autouse=True)
def _possible() -> None:
    if why := slurm.why_none():
        assert os.environ.get("CI", "").lower() not in ("1", "true"), f"CI has all that is needed: {why}"
        pytest.skip(f"needs root, Slurm and namespaces: {why}")
    native_python()


class Misfortune:
    """Nodes lose their power at random, while a stage works there, and get it back at once or when Slurm has missed them.

    Args:
        shards: how many there are: nodes die until three quarters of them are over.
        slow: how likely it is that one stays off until Slurm has missed it.
    """

    def __init__(self, cluster: Slurm, shards: int, kills: int, seed: int, slow: float) -> None:
        self.cluster = cluster
        self._slow = slow
        self._chance = random.Random(seed)
        self.due = sorted(self._chance.randint(0, shards * 3 // 4) for _ in range(kills))
        """How many shards are over when the next ones are to die."""
        self._dark: dict[str, Machine] = {}
        self._dead: set[Path] = set()

    def __call__(self, over: int) -> None:
        """Is called at each look at the queue."""
        for node in [n for n in self._dark.values() if self.cluster.misses(n)]:
            self.cluster.start(self._dark.pop(node.name))
        working = [node for node in self.cluster.nodes if node.on and self.cluster.marks(node) - self._dead]
        if self.due and over >= self.due[0] and working:
            node = self._chance.choice(working)
            node.cut()
            self._dead |= self.cluster.marks(node)
            self.due.pop(0)
            if self._chance.random() < self._slow:
                self._dark[node.name] = node
            else:
                self.cluster.start(node)


def plan(folder: Path, batch: str, minutes: float) -> tuple[Path, int]:
    """Plan the recordings of a folder; the batch and its number of shards."""
    made = folder / batch
    batches.bake("plan", folder / "tapes", "--out", made, "--shard-minutes", f"{minutes:g}", *OPTIONS)
    return made, len({item["shard"] for item in batches.items(made) if "shard" in item})


def work(cluster: Slurm, batch: Path, shards: int, misfortune: Misfortune, seconds: float) -> None:
    """Submit what is rendered for a batch, let nodes die, wait for the end."""
    rendered = batch.parent / "slurm"
    batches.bake("render", batch, "--for", "slurm", "--out", rendered)
    job = cluster.submit(rendered / "batch.sbatch", cwd=rendered)

    def over() -> bool:
        states = cluster.states(job)
        ended = sum(states.get(state, 0) for state in OVER)
        misfortune(ended)
        return ended == shards

    def why() -> str:
        logs = "\n".join(f"── {p.name}\n{p.read_text(errors='replace')}" for p in sorted(rendered.rglob("*.log")))
        return f"{cluster.states(job)}\n{cluster.said()}\n{logs}"

    until(over, why, seconds)
    assert misfortune.due == [], "the shards ended before the last node was to die"
    assert cluster.states(job) == {"COMPLETED": shards}, why()
    assert cluster.restarts(job) > 0, "the kills hit no task"


def serial(folder: Path) -> dict[str, str]:
    """The digests of the same recordings on one machine, all in one shard."""
    batch, shards = plan(folder, "serial", 100_000)
    assert shards == 1
    batches.bake("run", batch, "--shard", "0", env={"TMPDIR": str(folder)})
    return batches.digests(batch / "results")


def once(results: Path) -> Counter[str]:
    """How often each item was computed and published, as the journals say it."""
    found: Counter[str] = Counter()
    for path in results.glob("journal/*.jsonl"):
        for line in path.read_text().splitlines():
            event = json.loads(line) if line.endswith("}") else {}
            if event.get("event") == "done" and not event.get("kept"):
                found[event["key"]] += 1
    return found


def check(batch: Path, count: int) -> dict[str, str]:
    """Every item has its result, once, and nothing else lies there; the digests."""
    results = batch / "results"
    keys = {str(item["key"]) for item in batches.items(batch)}
    found = batches.digests(results)
    assert len(keys) == count
    assert set(found) == keys
    batches.collect_late(batch)  # a node that died and got no other shard left its folder
    assert batches.leftovers(results) == []
    events = batches.events(results)
    assert (events["failed"], events["differs"]) == (0, 0)
    # A node that died between a rename and its line leaves a result that no line tells of, until it is kept.
    assert max(once(results).values()) == 1
    status = batches.bake("status", batch, "--json").data
    assert status["done"] == count, status
    return found


def test_a_node_that_dies_costs_no_result(tmp_path: Path) -> None:
    """Two nodes, twenty clips; one dies with all that runs on it, and comes back."""
    batches.clips(tmp_path / "tapes", 20)
    batch, shards = plan(tmp_path, "batch", 0.8)
    with slurm.slurm(2, [tmp_path]) as cluster:
        work(cluster, batch, shards, Misfortune(cluster, shards, 1, seed=3, slow=0), 300)
    assert check(batch, 20) == serial(tmp_path)


STAND_IN = """\
#!/bin/sh
echo "$SLURM_ARRAY_TASK_ID ${{SLURM_RESTART_COUNT:-0}} ${{SECRET_OF_MINE:-unset}}" >> {log}
case "$SLURM_ARRAY_TASK_ID ${{SLURM_RESTART_COUNT:-0}}" in
    "0 0") exit 3 ;;
    "1 0") exit 8 ;;
    "2 0") exit 2 ;;
esac
"""
"""What runs in the place of the node program: the machine's fault the first time, recordings' faults, a wrong batch."""


def test_only_a_fault_of_the_machine_queues_a_task_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the codes alone; what the submitter has in the environment gets to no node."""
    batches.clips(tmp_path / "tapes", 3)
    batch, shards = plan(tmp_path, "batch", 0.1)
    assert shards == 3
    rendered = tmp_path / "slurm"
    batches.bake("render", batch, "--for", "slurm", "--out", rendered)
    stand_in, log = tmp_path / "stand-in", tmp_path / "log"
    stand_in.write_text(STAND_IN.format(log=log))
    stand_in.chmod(0o755)
    script = rendered / "batch.sbatch"
    text, changed = re.subn(r"^python=.*$", f"python={stand_in}", script.read_text(), flags=re.MULTILINE)
    assert changed == 1
    script.write_text(text)
    monkeypatch.setenv("SECRET_OF_MINE", "told")
    with slurm.slurm(2, [tmp_path]) as cluster:
        job = cluster.submit(script, cwd=rendered)
        until(lambda: cluster.states(job) == {"COMPLETED": 1, "FAILED": 2}, cluster.said)
        assert cluster.restarts(job) == 1
    assert sorted(log.read_text().splitlines()) == ["0 0 unset", "0 1 unset", "1 0 unset", "2 0 unset"]


@pytest.mark.heavy
def test_ten_nodes_that_die_cost_no_result(tmp_path: Path) -> None:
    """Four nodes, five hundred clips; ten times one dies, at a moment that chance names."""
    seed = int(os.environ.get("WHISPERBAKE_SEED", random.SystemRandom().randrange(1_000_000)))
    print(f"WHISPERBAKE_SEED={seed}")
    batches.clips(tmp_path / "tapes", 500)
    batch, shards = plan(tmp_path, "batch", 2)
    with slurm.slurm(4, [tmp_path]) as cluster:
        work(cluster, batch, shards, Misfortune(cluster, shards, 10, seed, slow=0.5), 3600)
    assert check(batch, 500) == serial(tmp_path)
