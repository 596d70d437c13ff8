"""Processes that share a machine's memory, one of which is killed."""

from __future__ import annotations

import os
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
while not budget.take(name, memory=400):
    time.sleep(0.01)
with (folder / "log").open("a") as log:
    log.write("+\\n")
print("granted", flush=True)
time.sleep(float(sys.argv[4]))
with (folder / "log").open("a") as log:
    log.write("-\\n")
budget.give(name)
"""


def start(folder: Path, name: str, seconds: float, out: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """A worker that holds what it was granted for some seconds.

    Args:
        out: where it says that it was granted.
    """
    return subprocess.Popen([sys.executable, "-c", WORKER, str(ROOT), name, str(folder), str(seconds)], stdout=out)


def test_no_more_than_fits_runs_at_once_in_several_processes(tmp_path: Path) -> None:
    """Four tenths each of nine: two at a time, never three; and all come to their turn."""
    workers = [start(tmp_path, f"w{k}", 0.15) for k in range(5)]
    assert [w.wait(60) for w in workers] == [0] * 5
    now = most = 0
    for line in (tmp_path / "log").read_text().split():
        now += 1 if line == "+" else -1
        most = max(most, now)
    assert now == 0
    assert most <= 2


def test_what_a_killed_process_held_is_free(tmp_path: Path) -> None:
    """kill -9, also of one that only waits."""
    reading, writing = os.pipe()
    held = [start(tmp_path, f"h{k}", 60, writing) for k in range(3)]
    os.close(writing)
    with os.fdopen(reading) as said:
        assert [said.readline(), said.readline()] == ["granted\n"] * 2
    for process in held:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert start(tmp_path, "next", 0.0).wait(30) == 0
