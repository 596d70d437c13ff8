"""Several jobs at once, natively: parts, one bad recording among good ones, cancel, logs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from builder.edges.jobs import folder
from builder.edges.jobs import folder as jobs
from tests.e2e.conftest import ROOT, Bake, write_wav

TINY = ("--preset", "tiny-en")


def test_a_queue_of_recordings(bake: Bake, tmp_path: Path) -> None:
    """A job each; a file that is none stops nothing but its own job's making, and silence is a result."""
    sounds = [write_wav(tmp_path / f"{k}.wav", 2.0) for k in range(3)]
    ran = bake("run", *sounds, *TINY, "--parallel", "2", "--json")
    assert ran.code == 0, ran.err
    found = ran.data["jobs"]
    assert len({job["job"] for job in found}) == 3
    assert "3 of 3 jobs done" in ran.said
    assert {s["state"] for s in bake("jobs", "list", "--json").data} == {"done"}
    held = (ROOT / ".bake/cache/budget.json").read_text()
    assert not any(job["job"] in held for job in found), "what a job used is given back"
    again = bake("run", *(job["job"] for job in found), "--parallel", "3", "--json")
    assert all(s["kept"] for job in again.data["jobs"] for s in job["stages"])


def test_one_failure_among_several_jobs(bake: Bake, tmp_path: Path) -> None:
    """The others are done; the exit code and the table say which one wasn't."""
    sounds = [write_wav(tmp_path / f"{k}.wav", 1.0) for k in range(2)]
    names = [bake("prepare", s, *TINY, "--json").data["job"] for s in sounds]
    (tmp_path / "jobs" / names[0] / "input/01.wav").write_bytes(b"RIFF nonsense")
    ran = bake("run", *names, "--parallel", "1")
    assert ran.code == 2
    assert "1 of 2 jobs done" in ran.said
    rows = {line.split()[0]: line.split()[1] for line in ran.out.splitlines()[1:]}
    assert rows == {names[0]: "failed", names[1]: "done"}
    mixed = bake("run", names[1], sounds[0])
    assert mixed.code == 2
    assert "is a job" in mixed.said


def test_cancel_and_parts_natively(bake: Bake, tmp_path: Path) -> None:
    """The same words as in containers."""
    sound = ROOT / "examples/dialogue.mp4"
    name = bake("prepare", sound, *TINY, "--json").data["job"]
    place = tmp_path / "jobs" / name
    done = bake("run", name, "--until", "demux", "--json")
    assert [s["name"] for s in done.data["stages"]] == ["demux"]
    assert folder.state(place) == "part"
    env = {**os.environ, "BAKE_JOBS": str(tmp_path / "jobs")}
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "build.py"), "run", name], env=env, stderr=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 60
    while not any(e.get("stage") == "vad" for e in jobs.events(place)) and time.monotonic() < end:
        time.sleep(0.02)
    cancelled = bake("jobs", "cancel", name, "--json")
    assert cancelled.data[0]["state"] == "interrupted"
    assert process.wait(30) == 130
    assert "was cancelled" in str(process.communicate()[1])
    logs = bake("jobs", "logs", name, "vad", "--json")
    assert logs.code == 0
    assert bake("run", name, "--json").data["stages"][0]["kept"] is True
    shown = bake("jobs", "show", name)
    assert "█" in shown.out
