"""vad: where there is speech. Silero VAD v6 or pyannote's segmentation-3.0 on ONNX Runtime, streamed."""

from __future__ import annotations

import sys
import wave
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import contract
import segments
from contract import RATE, ModelFault, Recording, StageJob
from loading import carried

WINDOW = 512
"""Samples of one probability (32 ms): what the model was trained on."""

CONTEXT = 64
"""Samples of the previous window that the model wants in front of each window."""

LONG = 25.0
"""Seconds. A longer region may have to be cut for a model that hears 30 s at a time."""

EVERY = 2.0
"""Seconds in which there is one place to cut."""

BLOCK = 1024
"""Windows a call (33 s of sound). Larger blocks aren't quicker, and 4096 windows take 120 MB more."""


def work(job: StageJob) -> None:
    session = carried(job, "vad", lambda: opened(job))
    with job.timed("work"):
        for recording in job.inputs:
            found = [detect(job, recording, session, path) for path in job.sounds(recording)]
            speech = union([f.speech for f in found])
            if not speech:
                job.note(recording, "no speech found")
            result = {"duration": round(found[0].duration, 3), "speech": speech, "doubts": found[0].doubts}
            if len(found) > 1:
                result["channels"] = [{"speech": f.speech, "doubts": f.doubts} for f in found]
            job.save(recording, result)


def opened(job: StageJob) -> Any:
    """The job's model.

    Raises:
        ModelFault: it is missing or broken.
    """
    with job.timed("imports"):
        import numpy  # noqa: F401
        import onnxruntime
    folder = job.model("vad")
    with job.timed("load"):
        options = onnxruntime.SessionOptions()
        # One thread: the recurrent part can't use more, and the results are the same on every machine.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        model = next(folder.glob("*.onnx"), None)
        if model is None:
            raise ModelFault(f"model {job.uses['vad']['id']}: no .onnx file in its folder")
        try:
            return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise ModelFault(f"model {job.uses['vad']['id']} can't be loaded: {error}") from error


@dataclass(frozen=True, kw_only=True)
class Detected:
    """Where there is speech in one sound; all times in seconds."""

    speech: list[list[float]]
    """Regions ``[start, end]``, sorted, not overlapping."""
    doubts: list[float]
    """Where a region that is too long for a model is best cut: the moments that are least like speech."""
    duration: float


def union(channels: list[list[list[float]]]) -> list[list[float]]:
    """Regions in which there is speech on any channel."""
    merged: list[list[float]] = []
    for start, end in sorted(region for regions in channels for region in regions):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    return merged


def detect(job: StageJob, recording: Recording, session: Any, path: Path) -> Detected:
    """Where there is speech in a WAV file."""

    def told(done: float, seconds: float) -> None:
        job.progress(recording, done, seconds)

    by_voices = session.get_inputs()[0].name == segments.INPUT
    found, duration = segments.chances(path, session, WINDOW, told) if by_voices else silero(path, session, told)
    heard = [float(p) for p in found]
    speech = regions(
        heard,
        duration=duration,
        threshold=job.settings["threshold"],
        min_speech=job.settings["min_speech_ms"] / 1000,
        min_silence=job.settings["min_silence_ms"] / 1000,
        pad=job.settings["pad_ms"] / 1000,
    )
    return Detected(speech=speech, doubts=doubts(heard, speech), duration=duration)


def silero(path: Path, session: Any, on_progress: Callable[[float, float], None]) -> tuple[Any, float]:
    """Silero's probability of speech, one for each window of a WAV file, and the file's seconds."""
    import numpy as np

    state = np.zeros((2, 1, 1, 128), dtype=np.float32)
    tail = np.zeros(CONTEXT, dtype=np.float32)
    chances: list[Any] = []
    with wave.open(str(path), "rb") as wav:
        total = wav.getnframes()
        done = 0
        while data := wav.readframes(BLOCK * WINDOW):
            samples = np.frombuffer(data, dtype="<i2").astype(np.float32) / 32768.0
            done += len(samples)
            if over := len(samples) % WINDOW:
                samples = np.pad(samples, (0, WINDOW - over))
            stretched = np.concatenate([tail, samples])
            tail = samples[-CONTEXT:]
            # Row i: the CONTEXT samples before window i, then the window.
            rows = np.lib.stride_tricks.sliding_window_view(stretched, WINDOW + CONTEXT)[::WINDOW]
            out, h, c = session.run(None, {"input": np.ascontiguousarray(rows), "h": state[0], "c": state[1]})
            state = np.stack([h, c])
            chances.append(np.asarray(out).reshape(-1))
            on_progress(done / RATE, total / RATE)
    return [p for block in chances for p in block], total / RATE


def doubts(chances: Sequence[float], speech: list[list[float]]) -> list[float]:
    """For each ``EVERY`` seconds of a region longer than ``LONG``, the middle of the windows least like speech.

    Three windows count together: a single one is often a consonant.
    """
    found = []
    for start, end in speech:
        if end - start <= LONG:
            continue
        first, last = int(start * RATE / WINDOW) + 1, min(int(end * RATE / WINDOW), len(chances)) - 1
        step = round(EVERY * RATE / WINDOW)
        for at in range(first, last, step):
            near = range(max(at, 1), min(at + step, last))
            if near:
                best = min(near, key=lambda k: (sum(chances[k - 1 : k + 2]), k))
                found.append(round((best + 0.5) * WINDOW / RATE, 3))
    return found


def regions(
    chances: Iterable[float], *, duration: float, threshold: float, min_speech: float, min_silence: float, pad: float
) -> list[list[float]]:
    """Turn the windows' probabilities into sorted regions ``[start, end]`` in seconds that don't overlap.

    Speech begins at ``threshold`` and ends when the probability stays below ``threshold - 0.15`` for ``min_silence``
    (Silero's own hysteresis). Regions shorter than ``min_speech`` are dropped. The others grow by ``pad`` on each side,
    and regions that meet become one.
    """
    step = WINDOW / RATE
    low = max(threshold - 0.15, 0.01)
    raw: list[tuple[float, float]] = []
    start: float | None = None
    quiet: float | None = None
    at = 0.0
    for count, chance in enumerate(chances):
        at = count * step
        if chance >= threshold:
            quiet = None
            if start is None:
                start = at
        elif start is not None and chance < low:
            quiet = at if quiet is None else quiet
            if at + step - quiet >= min_silence:
                raw.append((start, quiet))
                start = quiet = None
    if start is not None:
        raw.append((start, duration if quiet is None else quiet))
    merged: list[list[float]] = []
    for begin, end in raw:
        if end - begin < min_speech:
            continue
        left, right = round(max(begin - pad, 0.0), 3), round(min(end + pad, duration), 3)
        if merged and left <= merged[-1][1]:
            merged[-1][1] = max(right, merged[-1][1])
        elif right > left:
            merged.append([left, right])
    return merged


if __name__ == "__main__":
    contract.main("vad", work)
