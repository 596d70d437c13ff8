"""A batch in a real engine's containers: the same bytes as natively, nothing left behind, also where the run was killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.clusters.batches import digests
from tests.e2e.test_batch import OPTIONS, clips
from tests.engine.conftest import ONE_STORE, ROOT, Engine
from tests.engine.test_jobs import wait_for

NO_ENGINE = {"DOCKER_HOST": "unix:///nowhere.sock"}


def planned(engine: Engine, tapes: Path, out: Path, mode: str) -> Path:
    """A batch of one shard."""
    words = ("batch", "plan", tapes, "--out", out, "--mode", mode, "--no-build", *OPTIONS)
    done = engine.bake(*words, env=NO_ENGINE if mode == "native" else None)
    assert done.code == 0, done.said
    return out


@ONE_STORE
def test_a_shard_in_containers_gives_what_native_gives(
    engine: Engine, built: Any, native: Path, tmp_path: Path
) -> None:
    """And a run that is killed leaves its container to the next one, which ends it before it begins."""
    before = engine.left()
    tapes = tmp_path / "tapes"
    clips(native / "work/demux/01.wav", tapes, 3)
    batch = planned(engine, tapes, tmp_path / "C", "docker-cpu")
    words = [sys.executable, str(ROOT / "build.py"), "-q", "batch", "run", str(batch), "--shard", "0", "--no-build"]
    run = subprocess.Popen(words, env=engine.env, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    names = lambda: [name for name in engine.left()["containers"] if name.startswith("whisperbake-batch-")]  # noqa: E731
    wait_for(names, 120)
    run.kill()
    run.wait()
    assert digests(batch / "results") == {}
    done = engine.bake("batch", "run", batch, "--shard", "0", "--no-build", "--json")
    assert done.code == 0, done.said
    assert done.data["done"] == 3
    assert engine.left() == before
    other = planned(engine, tapes, tmp_path / "N", "native")
    done = engine.bake("batch", "run", other, "--shard", "0", "--json", env=NO_ENGINE)
    assert done.code == 0, done.said
    assert digests(batch / "results") == digests(other / "results")
    assert len(digests(other / "results")) == 3
    done = engine.bake("batch", "run", batch, "--shard", "0", "--no-build", env=NO_ENGINE)
    assert done.code == 3, "there is no engine: a machine's fault"
