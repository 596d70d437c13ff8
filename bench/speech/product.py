"""The product through its own command, in native mode, with jobs in a folder of the benchmark's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import BUILD, WORK

from builder.core.compare.speakers import SpeakerTurn
from speech import kept
from speech.sound import RATE

PORTION = 600.0
"""Seconds of sound in a job: what an interruption loses."""

SHAPE = 3
"""Of what is kept of a recording; another number when :func:`results` keeps something else."""


@dataclass(frozen=True)
class Setup:
    """What a job is asked for."""

    preset: str
    flags: tuple[str, ...] = ()
    until: str = ""
    """The last stage; empty: all of them."""


@contextmanager
def jobs() -> Iterator[Path]:
    """A folder for jobs, gone afterwards."""
    place = WORK / "jobs"
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place) as folder:
        yield Path(folder)


def run(recordings: Sequence[Path], setup: Setup, folder: Path) -> Path:
    """Run one job of all recordings; its folder. Ends the program when the command fails."""
    words = [*BUILD, "run", *map(str, recordings), "--mode", "native", "--variant", "slim", "--preset", setup.preset]
    words += [*setup.flags, *(["--until", setup.until] if setup.until else []), "--json"]
    env = {k: v for k, v in os.environ.items() if not k.startswith("BAKE_") or k in ("BAKE_HOME", "BAKE_SOURCES")}
    env["BAKE_JOBS"] = str(folder)
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"run … ended with {done.returncode}:\n{done.stdout[-1500:]}{done.stderr[-1500:]}")
    return Path(json.loads(done.stdout)["output"]).parent


def results(job: Path, recordings: Sequence[Path]) -> list[dict[str, Any]]:
    """What the stages say of each recording: stage -> its JSON (docs/job-format.md)."""
    found: list[dict[str, Any]] = []
    for number, recording in enumerate(recordings, 1):
        said: dict[str, Any] = {}
        for stage in ("separate", "vad", "asr", "align", "diarize"):
            path = job / "work" / stage / f"{number:02}.json"
            if path.exists():
                said[stage] = json.loads(path.read_text())
        transcript = job / "work/subtitles" / f"{number:02}.transcript.json"
        if transcript.exists():
            said["transcript"] = json.loads(transcript.read_text())
            said["srt"] = (job / "output" / f"{recording.stem}.srt").read_text()
        found.append(said)
    return found


def heard(what: str, recordings: Sequence[Path], setup: Setup) -> list[dict[str, Any]]:
    """What the product makes of each recording, in order; from an earlier run where nothing changed since."""
    names = [kept.key(SHAPE, kept.tree(), kept.digest(r), setup.preset, *setup.flags, setup.until) for r in recordings]
    missing = [k for k, name in enumerate(names) if kept.get(name) is None]
    old = len(recordings) - len(missing)
    for group in portions([recordings[k].stat().st_size / (2 * RATE) for k in missing]):
        chosen = [missing[k] for k in group]
        with jobs() as folder:
            files = [link(recordings[k], folder / "in" / f"{n:03}.wav") for n, k in enumerate(chosen)]
            said = results(run(files, setup, folder / "jobs"), files)
        for k, value in zip(chosen, said, strict=True):
            kept.put(names[k], value)
        kept.progress(what, sum(kept.get(name) is not None for name in names), len(names), old)
    return [kept.get(name) for name in names]


def link(source: Path, target: Path) -> Path:
    """The recording under a short name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    return target


def portions(seconds: Sequence[float]) -> Iterator[list[int]]:
    """Numbers of recordings that go into one job."""
    group: list[int] = []
    room = PORTION
    for number, length in enumerate(seconds):
        if group and (length > room or len(group) == 40):
            yield group
            group, room = [], PORTION
        group.append(number)
        room -= length
    if group:
        yield group


def turns(said: dict[str, Any]) -> list[SpeakerTurn]:
    """Who spoke when, as the diarize stage found it."""
    return [
        SpeakerTurn(start=t["start"], end=t["end"], speaker=t["speaker"])
        for t in said.get("diarize", {}).get("turns", [])
    ]


def text(said: dict[str, Any]) -> str:
    """All that is in the subtitles, as one line."""
    return " ".join(" ".join(s["text"] for s in said["transcript"]["segments"]).split())


def words(said: dict[str, Any]) -> list[dict[str, Any]]:
    """The words of the transcript with their times, speakers and marks."""
    return [
        {"speaker": segment.get("speaker"), **word}
        for segment in said["transcript"]["segments"]
        for word in segment.get("words", [])
    ]
