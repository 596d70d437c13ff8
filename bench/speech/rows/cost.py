"""Time and memory of whole jobs, beside faster-whisper alone and the whisperX command line."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import job as bench_job
import numpy as np
from harness import EXAMPLE, WORK, alternating, ratio, spread, whisper

from speech import mixes, peers, product, sound
from speech.report import Line, Options

BATCHED = """
import sys
from faster_whisper import BatchedInferencePipeline, WhisperModel
model = WhisperModel(sys.argv[1], device="cpu", compute_type="int8", cpu_threads=2, local_files_only=True)
segments, _ = BatchedInferencePipeline(model).transcribe(sys.argv[2], beam_size=5, batch_size=8)
print("".join(s.text for s in segments))
"""


class Clock:
    """Wall and processor seconds of whole commands."""

    def __init__(self) -> None:
        self.processor: list[float] = []

    def timed(self, work: Callable[[], object]) -> float:
        """Seconds of wall time; the processor's are noted."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        work()
        seconds = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.processor.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return seconds


def job(recording: Path, setup: product.Setup, keep: dict[str, int] | None = None) -> None:
    """One whole job; with ``keep``, the peak bytes of its stages go into it."""
    with product.jobs() as folder:
        place = product.run([recording], setup, folder)
        if keep is not None:
            keep.update(peaks(place))


def peaks(job_folder: Path) -> dict[str, int]:
    """Stage -> the most memory it had, bytes."""
    found = {}
    for path in sorted((job_folder / "work").glob("*/manifest.json")):
        found[path.parent.name] = int(json.loads(path.read_text())["peak_bytes"])
    return found


def plain(script: str, recording: Path) -> None:
    """faster-whisper alone, a whole process."""
    words = [str(peers.python()), "-c", script, str(whisper("base")), str(recording)]
    env = {**os.environ, "HF_HUB_OFFLINE": "1"}
    subprocess.run(words, check=True, env=env, stdout=subprocess.DEVNULL)


def against(
    row: str, what: str, bar: float, runs: int, ours: Callable[[], object], theirs: Callable[[], object]
) -> Line:
    """Alternating runs, as a ratio of wall time."""
    clocks = Clock(), Clock()
    mine, other = alternating(runs, lambda: clocks[0].timed(ours), lambda: clocks[1].timed(theirs))
    processor = [a / b for a, b in zip(clocks[0].processor[1:], clocks[1].processor[1:], strict=True)]
    middle = statistics.median(a / b for a, b in zip(mine, other, strict=True))
    figure = f"{ratio(mine, other)} ({spread(mine)}); processor {statistics.median(processor):.2f} ×"
    return Line(row, what, figure, f"≤ {bar} ×", middle <= bar, spread(other))


def dialogue(options: Options) -> list[Line]:
    """All stages on the example, against faster-whisper's transcription alone."""
    setup = product.Setup("starter")
    what = "30 s dialogue, all stages, base / faster-whisper alone"
    runs = options.count or 5
    return [against("dialogue", what, 1.05, runs, lambda: job(EXAMPLE, setup), lambda: plain(bench_job.PLAIN, EXAMPLE))]


def long(minutes: int) -> Path:
    """Conversations of the development mixes one after the other, so many minutes."""
    path = WORK / "long" / f"{minutes:03}.wav"
    if not path.exists():
        seeds = mixes.seeds(final=False)
        pieces: list[sound.Samples] = []
        number = 0
        while sum(map(len, pieces)) < minutes * 60 * sound.RATE:
            pieces += [sound.read(mixes.made(seeds[number % len(seeds)]).path), sound.silence(2.0)]
            number += 1
        sound.write(path, np.concatenate(pieces)[: minutes * 60 * sound.RATE])
    return path


def hour(options: Options) -> list[Line]:
    """All stages on 60 minutes, against faster-whisper batched alone; ``--count`` is minutes."""
    minutes = options.count or 60
    path = long(minutes)
    setup = product.Setup("starter", ("--language", "en"))
    what = f"{minutes} minutes, all stages, base / faster-whisper batched alone"
    clocks = Clock(), Clock()
    mine = clocks[0].timed(lambda: job(path, setup))
    other = clocks[1].timed(lambda: plain(BATCHED, path))
    processor = clocks[0].processor[0] / clocks[1].processor[0]
    figure = f"{mine / other:.2f} × ({mine:.0f} s); processor {processor:.2f} ×"
    return [Line("hour", what, figure, "≤ 1.0 ×", mine <= other, f"{other:.0f} s")]


def memory(options: Options) -> list[Line]:
    """Peak of every stage at 15, 60 and 180 minutes; ``--count`` is the longest."""
    lengths = [m for m in (15, 60, 180) if m <= (options.count or 180)] or [options.count or 15]
    setup = product.Setup("tiny-en")
    found: list[dict[str, int]] = []
    for minutes in lengths:
        peak: dict[str, int] = {}
        job(long(minutes), setup, peak)
        found.append(peak)
    most = [max(peak.values()) for peak in found]
    shown = ", ".join(f"{m} min {b / 1e6:.0f} MB" for m, b in zip(lengths, most, strict=True))
    stages = ", ".join(f"{name} {found[0][name] / 1e6:.0f} → {found[-1][name] / 1e6:.0f}" for name in found[0])
    flat = most[-1] <= 1.15 * most[0]
    return [Line("memory", "peak of the largest stage, tiny.en", f"{shown} ({stages})", "flat: ≤ 1.15 ×", flat)]


def diarization(options: Options) -> list[Line]:
    """Who speaks when, of three hours: the stage's time and memory; ``--count`` is minutes."""
    minutes = options.count or 180
    with product.jobs() as folder:
        place = product.run([long(minutes)], product.Setup("starter", (), "diarize"), folder)
        manifest = json.loads((place / "work/diarize/manifest.json").read_text())
    share = manifest["timings"]["total"] / (60 * minutes)
    peak = manifest["peak_bytes"] / 1e6
    return [
        Line("diarization", f"{minutes} minutes, of real time", f"{share:.3f} ×", "≤ 0.05 ×", share <= 0.05),
        Line("diarization", f"{minutes} minutes, memory", f"{peak:.0f} MB", "≤ 500 MB", peak <= 500),
    ]


def whisperx(options: Options) -> list[Line]:
    """The whisperX command line with what both have (7.6 GB, installed once)."""
    command = [str(word) for word in bench_job.whisperx(whisper("base"))]
    setup = product.Setup("starter", ("--no-diarization", "--workflow", "transcribe", "--language", "en"))
    env = {**os.environ, "HF_HUB_OFFLINE": "1"}

    def theirs() -> None:
        subprocess.run(command, check=True, env=env, capture_output=True)

    what = "dialogue with what both have / whisperX command line"
    return [against("whisperx", what, 0.35, options.count or 3, lambda: job(EXAMPLE, setup), theirs)]
