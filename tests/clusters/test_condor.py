"""A batch on a real HTCondor pool whose machines share no disk: each recording's result is right and there once."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clusters import batches, condor
from tests.clusters.condor import USER, Node, Pool
from tests.shared import ROOT, native_python

OPTIONS = ("--preset", "tiny-en", "--mode", "native", "--threads", "1")

LEASE = "job_lease_duration = 20"
"""Seconds without a node's word until its job goes elsewhere; a batch has minutes."""

pytestmark = pytest.mark.heavy  # a Debian of its own, and minutes


def installed() -> list[Path]:
    """What a site installs on every node: the stages' environment with its Python, the stages, the weights."""
    python = native_python()
    base = subprocess.run(
        [python, "-c", "import sys; print(sys.base_prefix)"], capture_output=True, text=True, check=True
    ).stdout.strip()
    environment = python.parents[1]
    if Path(base) == Path("/usr"):
        interpreter = python.resolve()
        base_paths = [interpreter, Path(f"/usr/lib/{interpreter.name}")]
    else:
        base_paths = [Path(base)]
    paths = [*base_paths, environment, ROOT / "stages", ROOT / ".bake/models"]
    return list(dict.fromkeys([*paths, *(path.resolve() for path in paths)]))


@dataclass
class Desk:
    """The folder of the user who submits: recordings, batch, what was rendered. No node sees it."""

    folder: Path

    @property
    def tapes(self) -> Path:
        return self.folder / "tapes"

    @property
    def batch(self) -> Path:
        return self.folder / "batch"

    @property
    def rendered(self) -> Path:
        return self.folder / "condor"

    def hand_over(self) -> None:
        """Give all of it to the user."""
        subprocess.run(["chown", "-hR", "1000:1000", str(self.folder)], check=True)


@pytest.fixture
def desk() -> Iterator[Desk]:
    with tempfile.TemporaryDirectory(prefix="wb-desk-") as folder:
        Path(folder).chmod(0o755)
        yield Desk(Path(folder))


@pytest.fixture(scope="module")
def cache(request: pytest.FixtureRequest) -> Path:
    """Where the Debian is kept from run to run."""
    if why := condor.why_not():
        assert os.environ.get("CI", "").lower() not in ("1", "true"), f"CI has all that is needed: {why}"
        pytest.skip(f"needs root, mmdebstrap and namespaces: {why}")
    return Path(request.config.cache.mkdir("condor"))  # type: ignore[union-attr]


class Misfortune:
    """Nodes lose their power at random while they work, and are turned on again a little later."""

    def __init__(self, pool: Pool, shards: int, kills: int, seed: int, sign: str) -> None:
        """
        Args:
            shards: how many there are: nodes die until three quarters of them are over.
            sign: of a program that runs on a node which may die.
        """
        self.pool = pool
        self.sign = sign
        self.dark: Node | None = None
        self._chance = random.Random(seed)
        self.due = sorted(self._chance.randint(0, shards * 3 // 4) for _ in range(kills))
        """How many shards are over when the next ones are to die."""
        self._looks = 0

    def __call__(self, ended: int) -> None:
        """Is called at each look at the queue."""
        self._looks -= 1
        if self._looks > 0:
            return
        if self.dark:
            self.dark.boot()
            self.dark = None
            self._looks = self._chance.randint(2, 12)
        elif self.due and ended >= self.due[0] and (working := self.pool.working(self.sign)):
            self.dark = self._chance.choice(working)
            self.dark.cut()
            self.due.pop(0)
            self._looks = self._chance.randint(1, 8)


def plan(desk: Desk, minutes: float) -> int:
    """Plan and render the desk's recordings; the number of shards."""
    batches.bake("plan", desk.tapes, "--out", desk.batch, "--shard-minutes", f"{minutes:g}", *OPTIONS)
    batches.bake("render", desk.batch, "--for", "htcondor", "--out", desk.rendered)
    return len({item["shard"] for item in batches.items(desk.batch) if "shard" in item})


def serial(pool: Pool, desk: Desk) -> Path:
    """The results of the same recordings by one process, all in one shard, on the head: the same Debian."""
    alone = Desk(desk.folder / "serial")
    alone.folder.mkdir()
    batches.bake("plan", desk.tapes, "--out", alone.batch, "--shard-minutes", "100000", *OPTIONS)
    batches.bake("render", alone.batch, "--for", "htcondor", "--out", alone.rendered)
    alone.hand_over()
    steps = alone.rendered / "steps.json"
    words = ["python3", alone.rendered / "batch.pyz", "run", alone.batch, "--shard", "0", "--steps", steps]
    done = pool.head.run(words, user=USER, cwd=alone.folder, check=False)
    assert done.returncode in (0, 8), done.stdout + done.stderr
    return alone.batch / "results"


def work(pool: Pool, desk: Desk, shards: int, kills: int, seed: int, sign: str) -> int:
    """Submit what was rendered, let nodes die, wait for the end, collect; how often jobs were started."""
    desk.hand_over()
    cluster = pool.submit("batch.sub", desk.rendered, LEASE)
    misfortune = Misfortune(pool, shards, kills, seed, sign)
    pool.wait(cluster, shards, 3600, misfortune)
    assert misfortune.due == [], "the shards ended before the last node was to die"
    ended = pool.history(cluster)
    assert sorted(job["ProcId"] for job in ended) == list(range(shards))
    assert {job["ExitCode"] for job in ended} <= {0, 8}
    return sum(job["NumJobStarts"] for job in ended)


@contextlib.contextmanager
def pool_for(desk: Desk, nodes: int, cache: Path) -> Iterator[Pool]:
    with condor.pool(nodes, cache, installed(), [desk.folder]) as made:
        seen = [n.run(["test", "-e", desk.folder], check=False).returncode for n in made.nodes]
        assert seen == [1] * nodes, "a node sees what only the head has"
        yield made


def test_a_killed_node_costs_no_result(desk: Desk, cache: Path) -> None:
    """Two nodes, twenty clips, one of which changes after the plan: it fails alone; the others are as a serial run's."""
    clips = batches.clips(desk.tapes, 20)
    shards = plan(desk, 0.5)
    clips[7].write_bytes(clips[8].read_bytes())
    with pool_for(desk, 2, cache) as pool:
        starts = work(pool, desk, shards, kills=1, seed=3, sign="stages/asr/main.py")
        assert starts > shards, "the kill hit no job"
        batches.bake("collect", desk.batch, "--no-pages", codes=(0, 8))
        results = desk.batch / "results"
        keys = {str(item["key"]): str(item["path"]) for item in batches.items(desk.batch)}
        changed = next(key for key, path in keys.items() if path == clips[7].name)
        found = batches.digests(results)
        assert set(found) == set(keys) - {changed}
        reason = next(results.glob(f"??/{changed}.failed.json")).read_text()
        assert "changed after the plan" in reason
        assert batches.leftovers(results) == []
        assert batches.events(results)["differs"] == 0

        alone = serial(pool, desk)
        assert set(batches.digests(alone)) - set(keys), "the second plan knows the changed clip as another item"
        assert set(found) <= set(batches.digests(alone))
        assert batches.different(results, alone) == []


def test_ten_killed_nodes_cost_no_result(desk: Desk, cache: Path) -> None:
    """Four nodes, five hundred clips; nodes die ten times at random, each time with all that runs on them."""
    batches.clips(desk.tapes, 500)
    shards = plan(desk, 2)
    with pool_for(desk, 4, cache) as pool:
        starts = work(pool, desk, shards, kills=10, seed=17, sign="condor_starter")
        assert starts > shards
        batches.bake("collect", desk.batch, "--no-pages")
        results = desk.batch / "results"
        found = batches.digests(results)
        assert set(found) == {str(item["key"]) for item in batches.items(desk.batch)}
        assert len(found) == 500
        assert batches.leftovers(results) == []
        assert batches.events(results)["differs"] == 0
        alone = serial(pool, desk)
        assert batches.different(results, alone) == []
        assert batches.digests(alone) == found
