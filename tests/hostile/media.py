"""Media: bombs, lists of files, odd names, damaged structure; looked at, cut, heard and muxed as the stages do it.

Each attempt is within the limits of stages/confined.py and ends with 0 or 2 and one sentence, or it has an effect.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import tempfile
from multiprocessing.util import Finalize
from pathlib import Path
from random import Random
from typing import Any

import yaml

from tests.hostile import Attempt
from tests.hostile.media_made import BOMBS, FOREIGN, mutated
from tests.shared import ROOT, native_python

SEEDS = (
    "wav-s16le.wav", "wav-adpcm_ms.wav", "aiff-pcm_s16be.aiff", "au-pcm_alaw.au", "caf-alac.caf", "w64.w64",
    "tta.tta", "wavpack.wv", "flac8.flac", "mp3-16.mp3", "mp2.mp2", "opus.opus", "vorbis.ogg", "alac.m4a",
    "aac-11.m4a", "adts.aac", "ac3.ac3", "amr.amr", "wma2.wma", "voc.voc", "real144.ra", "nut.nut",
    "mkv-libx264-aac.mkv", "mp4-libx264-aac.mp4", "mov-mjpeg-pcm_s24le.mov", "avi-mpeg4-libmp3lame.avi",
    "ts-mpeg2video-mp2.ts", "mpg-mpeg1video-mp2.mpg", "flv-flv-libmp3lame.flv", "webm-libvpx-vp9-libopus.webm",
)  # fmt: skip
"""Recordings of tests/odd_recordings.py that are changed."""

MEMORY = 1_250_000_000
"""Bytes that a stage may take at most: what stages/confined.py gives, and Python with its libraries."""

SECONDS = 40.0
"""Of the processor, for a small recording: what stages/confined.py gives, twice since two processes may need it."""

NAMES = (
    "concat:a|b.wav", "http:x.wav", "data:audio,x.wav", "-i.wav", "subfile,,start,0,end,0,,:x.wav", "a\nb.wav", "%d.wav",
    "a\x1b[2Jb.mp3", "pipe:0", "a'b\".mkv", "file:x.wav", "crypto:x.wav", "é\udcff.wav",
)  # fmt: skip


def attempt(number: int) -> Attempt:
    """One recording: three of five a changed seed, else made."""
    chance = Random(number)
    kind = ("seed", "seed", "seed", "bomb", "foreign")[number % 5]
    if kind == "seed":
        seed, other = SEEDS[number // 5 % len(SEEDS)], chance.choice(SEEDS)
        name = f"{number}: {seed} changed"
    else:
        makers = BOMBS if kind == "bomb" else FOREIGN
        maker = makers[number // 5 % len(makers)]
        name = f"{number}: {maker.__name__}"

    def run(folder: Path) -> str | None:
        if kind == "seed":
            made = seed, mutated((seeds() / seed).read_bytes(), (seeds() / other).read_bytes(), chance)
        else:
            made = maker(chance)
        if chance.random() < 0.05:
            made = chance.choice(NAMES), made[1]
        return effect_of(made, folder, chance)

    return Attempt(name=name, run=run)


def effect_of(made: tuple[str, bytes], folder: Path, chance: Random) -> str | None:
    """Put a recording into a folder and let the stages read it; what goes wrong."""
    name, data = made
    source = folder / os.fsencode(name).decode("utf-8", "surrogateescape").replace("/", "_")
    source.write_bytes(data)
    job = job_of(folder / "job", source)
    tries = [["clip", "--probe", str(source)], ["demux", "--job", str(job)]]
    if chance.random() < 0.3:
        start = chance.choice((0.0, 0.5, 3.0))
        target = folder / f"cut{source.suffix or '.mkv'}"
        tries.append(["clip", str(source), str(target), "--start", str(start), "--end", str(start + 1)])
    results = worker().ask(tries, folder / "log")
    if chance.random() < 0.3:
        (job / "work/subtitles").mkdir()
        cues = {"language": "en", "cues": [{"start": 0.0, "end": 1.0, "text": "Good morning"}]}
        (job / "work/subtitles/01.json").write_text(json.dumps(cues))
        if not (heard := job / "work/demux/01.json").exists():  # demux refused it
            heard.write_text(json.dumps({"jumps": []}))
        tries.append(["mux", "--job", str(job)])
        results += worker().ask(tries[-1:], folder / "log")
    faults = [f"{words[0]}: {why}" for words, did in zip(tries, results, strict=True) if (why := wrong(did, len(data)))]
    faults += left(folder, len(data))
    return "; ".join(faults) or None


def wrong(did: dict[str, Any], size: int) -> str:
    """What is wrong with one try; empty when nothing is."""
    last = (did["said"].strip().splitlines() or [""])[-1]
    if did["peak"] > MEMORY:
        return f"it took {did['peak'] / 1e6:.0f} MB"
    if did["seconds"] > SECONDS + size / 5e6:
        return f"it took {did['seconds']:.0f} s of the processor, {did['wall']:.0f} s altogether"
    if did["code"] not in (0, 2):
        return f"it ended with {did['code']}: {last[-300:]}"
    if did["code"] == 2 and ("Traceback" in did["said"] or not last):
        return f"it gave no reason: {did['said'][-300:]}"
    return ""


def left(folder: Path, size: int) -> list[str]:
    """Files that should not be there, or are too large."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and ".tmp" in path.name:
            found.append(f"{path.name} is left")
        elif path.is_file() and path.stat().st_size > 300_000_000 + 20 * size:
            found.append(f"{path.name} has {path.stat().st_size / 1e6:.0f} MB")
    return found


def job_of(folder: Path, source: Path) -> Path:
    """A job of one recording with the stages demux and mux, as prepare writes it."""
    (folder / "input").mkdir(parents=True)
    (folder / "output").mkdir()
    suffix = source.suffix.lower() if source.suffix[1:].isalnum() and source.suffix.isascii() else ".bin"
    os.link(source, folder / f"input/01{suffix}")
    inputs = [{"id": "01", "name": "recording", "path": f"input/01{suffix}", "output": "talk", "clip": None}]
    stages = [{"name": n, "needs": [], "settings": {}, "models": {}} for n in ("demux", "subtitles", "mux")]
    job = {"schema": 1, "id": "x", "variant": "slim", "inputs": inputs, "stages": stages}
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    return folder


class Worker:
    """tests/hostile/media_worker.py, running."""

    def __init__(self) -> None:
        words = [str(native_python()), str(ROOT / "tests/hostile/media_worker.py")]
        env = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "GNUTLS_SYSTEM_PRIORITY_FILE": "/dev/null"}
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
        Finalize(None, self._process.kill, exitpriority=1)

    def ask(self, tries: list[list[str]], log: Path) -> list[dict[str, Any]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"tries": tries, "log": str(log)}).encode() + b"\n")
        self._process.stdin.flush()
        answer: list[dict[str, Any]] = json.loads(self._process.stdout.readline())
        return answer


@functools.cache
def worker() -> Worker:
    return Worker()


@functools.cache
def seeds() -> Path:
    """A folder with the recordings that are changed; it goes with this process."""
    folder = tempfile.TemporaryDirectory(prefix="wb-seeds-")
    Finalize(None, folder.cleanup, exitpriority=1)
    words = [str(native_python()), str(ROOT / "tests/odd_recordings.py"), folder.name, *SEEDS]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in Path(folder.name).iterdir()} == set(SEEDS)
    return Path(folder.name)
