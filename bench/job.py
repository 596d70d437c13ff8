"""make bench-job: what a native job costs, and how right it is.

Results are printed, and kept in bench/results.md with ``--save``.

    PYTHONPATH=. .venv/bin/python bench/job.py [--runs 5] [--whisperx] [--save]
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import (
    BUILD,
    EXAMPLE,
    ROOT,
    WORK,
    Row,
    alternating,
    build,
    native_python,
    peer,
    publish,
    ratio,
    spread,
    timed,
    whisper,
    working,
)
from metrics import diarization_error, read_rttm, word_errors

PLAIN = """
import sys
from faster_whisper import WhisperModel
model = WhisperModel(sys.argv[1], device="cpu", compute_type="int8", cpu_threads=2, local_files_only=True)
segments, _ = model.transcribe(sys.argv[2], beam_size=5, word_timestamps=True, vad_filter=True)
print("".join(s.text for s in segments))
"""

WHISPERX = "whisperx==3.8.6"


class Bench:
    """Jobs in a folder of their own, so that the user's stay untouched."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.jobs = folder / "jobs"
        self.env = {"BAKE_JOBS": str(self.jobs)}
        self.overheads: list[float] = []

    def bake(self, *arguments: str | Path) -> dict[str, object]:
        """A command's JSON."""
        return build(*arguments, env=self.env)

    def job(self, *more: str) -> float:
        """Seconds of a whole new job; what isn't inside a stage's own work goes to ``overheads``."""
        shutil.rmtree(self.jobs, ignore_errors=True)
        began = time.perf_counter()
        found = self.bake("run", EXAMPLE, *more)
        seconds = time.perf_counter() - began
        self.overheads.append(seconds - working(self.jobs / str(found["job"])))
        return seconds

    def dialogues(self, python: Path, seed: int) -> tuple[list[float], list[float], int]:
        """Error rates over ten dialogues: count found, count given, and how often the count was right."""
        place = self.folder / "dialogues"
        subprocess.run(
            [str(python), str(ROOT / "examples/make.py"), "--many", str(place), "--seed", str(seed)], check=True
        )
        found: list[float] = []
        given: list[float] = []
        right = 0
        for sound in sorted(place.glob("*.wav")):
            truth = read_rttm(sound.with_suffix(".rttm"))
            count = len({t.speaker for t in truth})
            for rates, flags in ((found, ()), (given, ("--speakers", str(count)))):
                output = Path(str(self.bake("run", sound, "--preset", "tiny-en", *flags)["output"]))
                heard = read_rttm(output / f"{sound.stem}.rttm")
                rates.append(diarization_error(truth, heard))
                right += not flags and len({t.speaker for t in heard}) == count
        return found, given, right


def whisperx(model: Path) -> list[str | Path]:
    """The whisperX command line (7.6 GB, installed in about 7 minutes), with the features that both have."""
    # No alignment (its weights are not to be had everywhere), no diarization (gated): text and segment times only.
    options = (
        "--device cpu --compute_type int8 --threads 2 --batch_size 4 --no_align --vad_method pyannote --language en"
    )
    program = peer("whisperx", WHISPERX) / "whisperx"
    return [program, "--model", model, *options.split(), "--output_dir", WORK / "out", EXAMPLE]


def measure(runs: int, with_whisperx: bool) -> list[Row]:
    """Rows of the table: what, figure, aim."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        bench = Bench(Path(folder))
        bench.job()
        python = native_python()
        model = whisper("base")
        output = Path(str(bench.bake("run", EXAMPLE)["output"]))
        said = re.sub(r"^Speaker \d+: ", "", (ROOT / "examples/dialogue.txt").read_text(), flags=re.M)
        heard = re.sub(r"^Speaker \d+: ", "", (output / "dialogue.txt").read_text(), flags=re.M)
        errors, count = word_errors(said, heard)
        rows.append(("word error rate, example, starter", f"{errors / count:.1%}", "≤ 15 %"))
        der = diarization_error(read_rttm(ROOT / "examples/dialogue.rttm"), read_rttm(output / "dialogue.rttm"))
        rows.append(("diarization error, example, count found", f"{der:.1%}", "≤ 15 %"))
        found, given, right = bench.dialogues(python, seed=1)
        each = " ".join(f"{r:.0%}" for r in found)
        rows.append(
            (
                "ten dialogues, count found, median",
                f"{statistics.median(found):.1%} ({right} of 10 right: {each})",
                "≤ 15 %",
            )
        )
        rows.append(("ten dialogues, count given, median", f"{statistics.median(given):.1%}", "≤ 5 %"))

        bench.overheads.clear()
        plain_env = {"HF_HUB_OFFLINE": "1"}
        plain_python = peer("faster-whisper", "faster-whisper==1.2.1") / "python"
        ours, plain = alternating(
            runs, bench.job, lambda: timed([plain_python, "-c", PLAIN, model, EXAMPLE], env=plain_env)
        )
        rows.append(("second job, all seven stages", spread(ours), ""))
        rows.append(("plain faster-whisper, transcription alone", spread(plain), ""))
        rows.append(("job / plain faster-whisper", ratio(ours, plain), ""))
        rows.append(("orchestration: outside the stages' own work", spread(bench.overheads), "≤ 1.0 s"))

        prepares = [timed([*BUILD, "prepare", EXAMPLE], env=bench.env) for _ in range(runs + 1)][1:]
        rows.append(("prepare", spread(prepares), "≤ 1 s"))
        checks = [timed([*BUILD, "preflight"], env=bench.env) for _ in range(runs + 1)][1:]
        rows.append(("preflight, cached", spread(checks), "≤ 0.3 s"))
        helps, bare = alternating(
            2 * runs, lambda: timed([*BUILD, "--help"]), lambda: timed([sys.executable, "-c", ""])
        )
        extra = statistics.median(a - b for a, b in zip(helps, bare, strict=True))
        rows.append(("--help, beyond a bare interpreter", f"{extra:.3f} s", "≤ 0.15 s"))

        if with_whisperx:
            command = whisperx(model)
            env = {"HF_HUB_OFFLINE": "1"}
            same = ("--no-diarization", "--workflow", "transcribe", "--language", "en")
            ours, theirs = alternating(max(3, runs // 2), lambda: bench.job(*same), lambda: timed(command, env=env))
            rows.append(("job with what both have", spread(ours), ""))
            rows.append((f"{WHISPERX} command line, no alignment, no diarization", spread(theirs), ""))
            rows.append(("job / whisperX", ratio(ours, theirs), "≤ 0.4 ×"))
    return rows


def run() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--whisperx", action="store_true", help="compare with the whisperX command line (7.6 GB)")
    parser.add_argument("--save", action="store_true", help="keep the table in bench/results.md")
    asked = parser.parse_args()
    WORK.mkdir(exist_ok=True)
    rows = measure(asked.runs, asked.whisperx)
    publish("bench-job", rows, save=asked.save)
    return 0


if __name__ == "__main__":
    sys.exit(run())
