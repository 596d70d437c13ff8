"""Processes that share a machine's memory, one of which is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
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
time.sleep(float(sys.argv[4]))
with (folder / "log").open("a") as log:
    log.write("-\\n")
budget.give(name)
"""


def start(folder: Path, name: str, seconds: float) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WORKER, str(ROOT), name, str(folder), str(seconds)])


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
    held = [start(tmp_path, f"h{k}", 60) for k in range(3)]
    end = time.monotonic() + 30
    while not (tmp_path / "log").exists() or (tmp_path / "log").read_text().count("+") < 2:
        assert time.monotonic() < end
        time.sleep(0.02)
    for process in held:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert start(tmp_path, "next", 0.0).wait(30) == 0
