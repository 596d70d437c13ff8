"""What the benchmarks share: whole processes timed in turn, and the table that bench/results.md keeps.

Wall times are medians of alternating runs (A B A B …) in one go, so that a machine whose speed drifts drifts for both.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "bench" / ".work"
EXAMPLE = ROOT / "examples" / "dialogue.mp4"
BUILD = [sys.executable, str(ROOT / "build.py")]

Row = tuple[str, str, str]
"""What, the figure, the aim."""


def timed(command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> float:
    """Seconds of wall time of a whole process; fails when it fails."""
    everything = {**os.environ, **(env or {})}
    began = time.perf_counter()
    done = subprocess.run(
        [str(c) for c in command], env=everything, cwd=cwd, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{command[0]} … ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return seconds


def build(*arguments: str | Path, env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The JSON that a command prints; fails when it fails."""
    done = subprocess.run(
        [*BUILD, *map(str, arguments), "--json"],
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"build.py {' '.join(map(str, arguments))}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def native_python() -> Path:
    """The stages' python, with PyAV: .bake/native also has the environments of other locks."""
    return Path(build("bootstrap")["environment"]) / "bin/python"


def whisper(model: str) -> Path:
    """The folder of a Whisper's float16, what peers load; fetched where only int8 is here."""
    home = Path(os.environ.get("BAKE_HOME") or ROOT / ".bake")
    subprocess.run([*BUILD, "models", "fetch", model], check=True, stdout=subprocess.DEVNULL)
    return next((home / "models/hub").glob(f"models--Systran--faster-whisper-{model}/snapshots/*"))


def peer(name: str, *requirements: str) -> Path:
    """The bin folder of a peer's own venv, made in bench/.work with everything it requires; anew for other requirements."""
    place = WORK / name
    wanted = " ".join(requirements)
    if not (place / "ready").exists() or (place / "ready").read_text() != wanted:
        print(f"installing {wanted} into bench/.work/{name}, once…", file=sys.stderr)
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
        python = str(place / "bin" / "python")
        subprocess.run([sys.executable, "-m", "pip", "--python", python, "install", "-q", *requirements], check=True)
        (place / "ready").write_text(wanted)
    return place / "bin"


def working(job_folder: Path) -> float:
    """Seconds in which at least one stage was at its own work, by the stages' events.

    Stages that ran side by side count once: the union of their times.
    """
    spans: list[tuple[float, float]] = []
    started: dict[str, float] = {}
    for line in (job_folder / "events.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event.get("stage") and event["event"] == "start":
            started[event["stage"]] = event["t"]
        elif event.get("stage") and event["event"] == "done":
            spans.append((started[event["stage"]], event["t"]))
    total, at = 0.0, 0.0
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, at))
        at = max(at, end)
    return total


def alternating(runs: int, *contestants: Callable[[], float]) -> list[list[float]]:
    """One warm-up each, then A B A B …; the seconds of every run."""
    for each in contestants:
        each()
    found: list[list[float]] = [[] for _ in contestants]
    for _ in range(runs):
        for each, seconds in zip(contestants, found, strict=True):
            seconds.append(each())
    return found


def ratio(ours: list[float], theirs: list[float]) -> str:
    """Median of the ratios, pair by pair."""
    return f"{statistics.median(a / b for a, b in zip(ours, theirs, strict=True)):.2f} ×"


def spread(seconds: list[float]) -> str:
    """Median, and the range in brackets."""
    return f"{statistics.median(seconds):.2f} s ({min(seconds):.2f}–{max(seconds):.2f})"


def machine() -> str:
    """What the figures were measured on."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} threads, Python {platform.python_version()}"


def table(name: str, rows: Sequence[Row], *, note: str = "") -> str:
    """The section of one benchmark in bench/results.md; ``note`` names engine and versions."""
    lines = [f"| {name} | figure | aim |", "|---|---|---|", *(f"| {a} | {b} | {c} |" for a, b, c in rows)]
    head = f"{time.strftime('%Y-%m-%d')}, {machine()}" + (f", {note}" if note else "")
    return f"## {name}\n\n{head}\n\n" + "\n".join(lines) + "\n"


def publish(name: str, rows: Sequence[Row], *, save: bool, note: str = "") -> None:
    """Print the table; with ``save``, put it in the place of the last one in bench/results.md."""
    text = table(name, rows, note=note)
    print(text)
    if save:
        results = ROOT / "bench" / "results.md"
        before = results.read_text() if results.exists() else "# Results\n\nThe latest of each benchmark.\n"
        rest = re.sub(rf"\n## {re.escape(name)}\n.*?(?=\n## |\Z)", "", before, flags=re.S)
        results.write_text(f"{rest.rstrip()}\n\n{text}")
