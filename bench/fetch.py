"""make bench-fetch: models fetch against huggingface_hub.snapshot_download, on one hub on this machine.

The hub (tests/hub) runs in a process of its own: 20 ms before every answer, 30 MB/s a connection, large files on a second
host. Ours hashes and flushes every byte; the peer does neither. Each run is a process of its own with an empty store;
the clock runs inside it, around the call. Runs alternate (A B A B …); medians.

    PYTHONPATH=. .venv/bin/python bench/fetch.py [--runs 3] [--mb 512] [--files 1,4,16] [--save]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import ROOT, WORK, Row, alternating, publish, ratio, spread

from tests.hub.server import REVISION, folder, in_a_process

RATE, LATENCY = 30e6, 0.02

OURS = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
import huggingface_hub.file_download
from pathlib import Path
from builder.core.progress import silent
from builder.core.terms import Purpose
from builder.core.weights.model import FilePin, HubSource, Model, Pin
from builder.edges.weights.fetch import fetch_models
from builder.edges.weights.store import Store
address, place, repo, revision, files = sys.argv[2:]
model = Model(id="m", purpose=Purpose.ASR, title="t", licence="MIT", sources=(HubSource(repo=repo),))
pin = Pin(revision=revision, files=tuple(FilePin(**f) for f in json.loads(files)))
began = time.perf_counter()
fetch_models(Store(Path(place)), [(model, pin)], env={"HF_ENDPOINT": address}, on_progress=silent)
print(time.perf_counter() - began)
"""

PEER = """
import sys, time
import huggingface_hub.file_download
from huggingface_hub import snapshot_download
from huggingface_hub.utils import disable_progress_bars
disable_progress_bars()
address, place, repo, revision, files = sys.argv[2:]
began = time.perf_counter()
snapshot_download(repo, revision=revision, cache_dir=place, endpoint=address)
print(time.perf_counter() - began)
"""


def timed(code: str, place: Path, *arguments: str) -> float:
    """Seconds of one download into an empty folder."""
    shutil.rmtree(place, ignore_errors=True)
    env = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    env |= {"NO_PROXY": "127.0.0.1", "HF_HOME": str(place.with_name("home"))}
    argv = [sys.executable, "-c", code, str(ROOT), arguments[0], str(place), *arguments[1:]]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    shutil.rmtree(place)
    os.sync()  # what one leaves to be written is not the other's burden
    return float(done.stdout)


def make(place: Path, counts: list[int], size: int) -> None:
    """Repositories ``<count>-files`` of ``size`` bytes in so many equal files, and two small ones."""
    for count in counts:
        repo = place / f"{count}-files"
        repo.mkdir(parents=True)
        for number in range(count):
            with (repo / f"model-{number:02}.bin").open("wb") as out:
                left = size // count
                while left:
                    left -= out.write(os.urandom(min(left, 1 << 24)))
        (repo / "config.json").write_text("{}")
        (repo / "tokenizer.json").write_text("[]" * 400)


def measure(runs: int, size: int, counts: list[int]) -> list[Row]:
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="bench-", dir=WORK) as name:
        served, target = Path(name) / "served", Path(name) / "target"
        make(served, counts, size)
        repos = folder(served)
        with in_a_process(served, rate=RATE, latency=LATENCY) as address:
            for count in counts:
                repo = f"bench/{count}-files"
                files = json.dumps([{"path": n, "size": c.size, "sha256": c.sha256} for n, c in repos[repo].items()])
                arguments = (address, repo, REVISION, files)
                ours, theirs = alternating(
                    runs,
                    lambda a=arguments: timed(OURS, target, *a),  # type: ignore[misc]
                    lambda a=arguments: timed(PEER, target, *a),  # type: ignore[misc]
                )
                what = f"{size / 1e6:.0f} MB in {count} file{'s' if count > 1 else ''}"
                rows.append((f"{what}: models fetch", spread(ours), ""))
                rows.append((f"{what}: snapshot_download", spread(theirs), ""))
                rows.append((f"{what}: speed, ours / theirs", ratio(theirs, ours), "≥ 1.0 ×"))
    return rows


def run() -> int:
    import huggingface_hub

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--mb", type=int, default=512)
    parser.add_argument("--files", default="1,4,16")
    parser.add_argument("--save", action="store_true", help="keep the table in bench/results.md")
    asked = parser.parse_args()
    WORK.mkdir(exist_ok=True)
    rows = measure(asked.runs, asked.mb * 1_000_000, [int(n) for n in asked.files.split(",")])
    publish("bench-fetch", rows, save=asked.save, note=f"huggingface_hub {huggingface_hub.__version__}")
    return 0


if __name__ == "__main__":
    sys.exit(run())
