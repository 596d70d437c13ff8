"""make bench-media: odd recordings through demux and mux, against plain ffmpeg.

The set is made by tests/odd_recordings.py: formats, clocks, channels, tracks, names, damage. The peer is the ffmpeg of
this machine, which decodes the same track. Results are printed, and kept in bench/results.md with ``--save``.

    .venv/bin/python bench/odd_media.py [NAME …] [--save]
"""

from __future__ import annotations

import argparse
import array
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import wave
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from harness import ROOT, WORK, Row, native_python, publish

STAGES = ROOT / "stages"

NEAR = 0.05
"""Seconds within which the same sound was read."""

SOON = 0.06
"""Seconds within which a tone stands where it should: codecs begin with up to 50 ms of their own."""

COUNT = """
import json, sys
sys.path[:0] = [sys.argv[1]]
import av, media
with media.open_media(sys.argv[2]) as container:
    kinds = [s for s in container.streams if s.type == "audio" or s.type == "video" and not media.is_cover(s)]
    counts = dict.fromkeys((s.index for s in kinds), 0)
    try:
        for packet in media.read(container, kinds):
            counts[packet.stream.index] += packet.size > 0
    except av.FFmpegError:
        pass
print(json.dumps(list(counts.values())))
"""


@dataclass(kw_only=True)
class Tried:
    """What became of one recording."""

    name: str
    heard: float | None = None
    """Seconds of sound that demux read; None: it refused the recording."""
    peer: float | None = None
    """Seconds of sound that ffmpeg read; None: it read none."""
    offset: float = 0.0
    """Seconds by which the worst tone stands beside its place."""
    crashes: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    unsaid: list[str] = field(default_factory=list)

    @property
    def apart(self) -> float:
        """Seconds by which the sound read here and by ffmpeg differ; 0 where only one reads it."""
        return 0.0 if self.heard is None or self.peer is None else abs(self.heard - self.peer)


class Bench:
    """The stages as programs, and the peer."""

    def __init__(self, python: Path, folder: Path) -> None:
        self.python = python
        self.folder = folder

    def made(self, names: list[str]) -> list[dict[str, Any]]:
        """The recordings: what tests/odd_recordings.py says of each."""
        command: list[str | Path] = [self.python, ROOT / "tests/odd_recordings.py", self.folder / "set", *names]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr[-2000:])
        return [json.loads(line) for line in done.stdout.splitlines()]

    def stage(self, job: Path, name: str) -> subprocess.CompletedProcess[str]:
        """Run one stage."""
        command: list[str | Path] = [self.python, STAGES / name / "main.py", "--job", job]
        return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)

    def attempt(self, odd: dict[str, Any]) -> Tried:
        """One recording through demux and mux, and through ffmpeg."""
        tried = Tried(name=odd["file"])
        job = Path(tempfile.mkdtemp(dir=self.folder))
        try:
            self.demux(tried, odd, job_of(job, self.folder / "set" / odd["file"]))
            if tried.heard is not None:
                self.mux(tried, job)
        finally:
            shutil.rmtree(job)
        return tried

    def demux(self, tried: Tried, odd: dict[str, Any], job: Path) -> None:
        """Hear it, and compare."""
        path = next((job / "input").iterdir())
        done = self.stage(job, "demux")
        if done.returncode not in (0, 2):
            tried.crashes.append(f"demux ended with {done.returncode}: {done.stderr[-300:]}")
        if done.returncode:
            tried.peer = peer(path, "a:0")
            if tried.peer:
                tried.lost.append(done.stderr.strip())
            return
        found = json.loads((job / "work/demux/01.json").read_bytes())
        notes = " ".join(json.loads((job / "work/demux/manifest.json").read_bytes())["notes"])
        tried.heard = found["duration"] - found["silence"]
        tried.peer = peer(path, str(found["tracks"][0]))
        if tried.peer is not None and tried.heard < tried.peer - NEAR:
            tried.lost.append(f"{tried.heard:.3f} s of {tried.peer:.3f} s of sound")
        whole = max(odd["tones"], default=5.0) + 1
        if odd["announced"] and found["duration"] < whole - 0.3 and not re.search(r"\d s\b", notes):
            tried.unsaid.append(f"{found['duration']:.2f} s of {whole:.2f} s: {notes or 'no note'}")
        if odd["tones"]:
            there = bursts(job / "work/demux/01.wav")
            if len(there) != len(odd["tones"]):
                tried.lost.append(f"tones at {there}, not at {odd['tones']}")
            else:
                tried.offset = max(abs(a - b) for a, b in zip(there, odd["tones"], strict=True))

    def mux(self, tried: Tried, job: Path) -> None:
        """Give it subtitles, and count packets."""
        (job / "work/subtitles").mkdir()
        cues = [{"start": 0.5, "end": 1.5, "text": "Good morning"}, {"start": 4.0, "end": 5.0, "text": "สวัสดี 早上好"}]
        (job / "work/subtitles/01.json").write_text(json.dumps({"language": "en", "cues": cues}))
        done = self.stage(job, "mux")
        if done.returncode:
            tried.crashes.append(f"mux ended with {done.returncode}: {done.stderr[-300:]}")
            return
        notes = json.loads((job / "work/mux/manifest.json").read_bytes())["notes"]
        films = list((job / "output").glob("*")) if (job / "output").is_dir() else []
        if not films:
            if not any("no copy with the subtitles" in note for note in notes):
                tried.unsaid.append("no film, and no note")
            return
        before, after = (self.count(path) for path in (next((job / "input").iterdir()), films[0]))
        if before != after:
            tried.lost.append(f"packets {before} became {after}")

    def count(self, path: Path) -> list[int]:
        """Packets of each stream of sound or pictures; none where the file can't be read."""
        done = subprocess.run([self.python, "-c", COUNT, STAGES, path], capture_output=True, text=True, check=False)
        if done.returncode:
            return []
        counts: list[int] = json.loads(done.stdout)
        return counts


def job_of(folder: Path, recording: Path) -> Path:
    """A job of one recording with the stages demux and mux, as prepare writes it."""
    (folder / "input").mkdir()
    target = folder / f"input/01{recording.suffix}"
    os.link(recording, target)
    stages: list[dict[str, Any]] = [
        {"name": n, "needs": [], "settings": defaults(n), "models": {}} for n in ("demux", "subtitles", "mux")
    ]
    inputs = [{"id": "01", "name": recording.name, "path": f"input/{target.name}", "output": "talk", "clip": None}]
    job = {"schema": 1, "id": "x", "variant": "slim", "inputs": inputs, "stages": stages}
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    return folder


def defaults(stage: str) -> dict[str, Any]:
    """The settings of a stage that nobody chose."""
    settings = yaml.safe_load((STAGES / stage / "stage.yaml").read_text()).get("settings", {})
    return {name: rule["default"] for name, rule in settings.items()}


def peer(path: Path, stream: str) -> float | None:
    """Seconds of sound that plain ffmpeg decodes of a stream."""
    command = ["ffmpeg", "-nostdin", "-v", "quiet", "-i", f"file:{path}", "-map", f"0:{stream}"]
    done = subprocess.run([*command, "-f", "s16le", "-ac", "1", "-ar", "16000", "-"], capture_output=True, check=False)
    return len(done.stdout) / 32_000 or None


def bursts(path: Path) -> list[float]:
    """When tones begin, in seconds."""
    with wave.open(str(path)) as wav:
        samples = array.array("h", wav.readframes(wav.getnframes()))
    loud = max((abs(s) for s in samples), default=0) * 0.3
    found: list[float] = []
    last = -16_000
    for at, value in enumerate(samples):
        if abs(value) > loud:
            if at - last > 4_000:
                found.append(round(at / 16_000, 3))
            last = at
    return found


def rows(results: list[Tried]) -> list[Row]:
    """The table."""
    apart = max((r.apart for r in results), default=0.0)
    beside = max((r.offset for r in results), default=0.0)
    return [
        ("recordings", f"{len(results)}", "≥ 200"),
        ("read by ffmpeg, lost or read in part here", f"{sum(1 for r in results if r.lost)}", "0"),
        ("crashes", f"{sum(1 for r in results if r.crashes)}", "0"),
        ("losses of sound without a note", f"{sum(1 for r in results if r.unsaid)}", "0"),
        ("sound read, against ffmpeg: the largest difference", f"{apart * 1000:.0f} ms", "≤ 50 ms"),
        ("tones: the farthest from its place", f"{beside * 1000:.0f} ms", f"≤ {SOON * 1000:.0f} ms"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="of recordings of the set; default: all")
    parser.add_argument("--save", action="store_true", help="keep the table in bench/results.md")
    args = parser.parse_args()
    if shutil.which("ffmpeg") is None:
        sys.exit("bench-media needs ffmpeg on the PATH: it is the peer")
    python = native_python()
    WORK.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=WORK) as folder, ThreadPoolExecutor(2) as pool:
        bench = Bench(python, Path(folder))
        results = list(pool.map(bench.attempt, bench.made(args.names)))
    for tried in results:
        far = [f"a tone is {tried.offset:.3f} s beside its place"] if tried.offset > SOON else []
        if tried.apart > NEAR:
            far.append(f"{tried.heard:.3f} s of sound, ffmpeg reads {tried.peer:.3f} s")
        for kind in [*tried.crashes, *tried.lost, *tried.unsaid, *far]:
            print(f"{tried.name!a}: {kind}")
    publish("odd recordings", rows(results), save=args.save)


if __name__ == "__main__":
    main()
