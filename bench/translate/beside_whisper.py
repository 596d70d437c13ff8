"""Run in faster-whisper's environment: a job's windows of sound in English, by its own transcribe().

    python beside_whisper.py MODEL JOB LANGUAGE BEAM

A window is cut as the stage asr cuts it, and has silence behind it up to 30 s, as there. Where the text repeats itself or is
improbable, it is sampled as there too, at one temperature and from the same seed. A line of JSON for each window.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import ctranslate2
import numpy as np
from faster_whisper import WhisperModel

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / part) for part in ("stages", "stages/asr")]

import guards  # noqa: E402
import hearing  # noqa: E402
import slim  # noqa: E402
import windows  # noqa: E402

RATE = 16_000
LONGEST = 30 * RATE


def main() -> None:
    folder, job, language, beam = sys.argv[1:]
    model = WhisperModel(folder, device="cpu", compute_type="int8", cpu_threads=2, local_files_only=True)
    found = json.loads((Path(job) / "work/vad/01.json").read_text())
    sound = next((Path(job) / "work/demux").glob("01*.wav"))
    for window in windows.windows(found["speech"], found["duration"], found.get("doubts", [])):
        samples = windows.read(sound, window)[:LONGEST]
        ctranslate2.set_random_seed(slim.SEED)
        segments, _ = model.transcribe(
            np.pad(samples, (0, LONGEST - len(samples))),
            task="translate",
            language=language,
            beam_size=int(beam),
            best_of=slim.SAMPLES,
            temperature=[0.0, hearing.TEMPERATURE],
            without_timestamps=True,
            condition_on_previous_text=False,
            no_speech_threshold=None,
            log_prob_threshold=guards.DOUBTFUL,
            compression_ratio_threshold=guards.RATIO,
        )
        print(json.dumps("".join(segment.text for segment in segments)), flush=True)


if __name__ == "__main__":
    main()
