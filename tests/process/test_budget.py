"""Processes that share a machine's memory, one of which is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

WORKER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from builder.edges.jobs.budget import Budget
name, folder = sys.argv[2], Path(sys.argv[3])
budget = Budget(folder / "budget.json", memory=1000, gpus=0)
granted = budget.take(name, memory=400)
print("granted" if granted else "waits", flush=True)
while not granted:
    time.sleep(0.01)
    granted = budget.take(name, memory=400)
with (folder / "log").open("a") as log:
    log.write("+\\n")
sys.stdin.read()
with (folder / "log").open("a") as log:
    log.write("-\\n")
budget.give(name)
"""


def start(folder: Path, name: str) -> subprocess.Popen[str]:
    """A worker that says what it was told at first, and holds what it was granted until its input ends."""
    words = [sys.executable, "-c", WORKER, str(ROOT), name, str(folder)]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def told(worker: subprocess.Popen[str]) -> str:
    assert worker.stdout is not None
    return worker.stdout.readline().strip()


def test_no_more_than_fits_runs_at_once_in_several_processes(tmp_path: Path) -> None:
    """Four tenths each of nine: two of five that ask at once, never three; and all come to their turn."""
    workers = [start(tmp_path, f"w{k}") for k in range(5)]
    assert sorted(map(told, workers)) == ["granted"] * 2 + ["waits"] * 3
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.close()
    assert [w.wait(60) for w in workers] == [0] * 5
    now = most = 0
    for line in (tmp_path / "log").read_text().split():
        now += 1 if line == "+" else -1
        most = max(most, now)
    assert (now, most) == (0, 2)


def test_what_a_killed_process_held_is_free(tmp_path: Path) -> None:
    """kill -9, also of one that only waits."""
    held = [start(tmp_path, f"h{k}") for k in range(3)]
    assert sorted(map(told, held)) == ["granted", "granted", "waits"]
    for process in held:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    following = start(tmp_path, "next")
    assert told(following) == "granted"
    following.communicate(timeout=30)
    assert following.returncode == 0
