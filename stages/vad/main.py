"""vad: where there is speech. Silero VAD v6 on ONNX Runtime, streamed: memory doesn't grow with the recording."""

from __future__ import annotations

import sys
import wave
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import contract
from contract import RATE, ModelFault, Recording, StageJob

WINDOW = 512
"""Samples of one probability (32 ms): what the model was trained on."""

CONTEXT = 64
"""Samples of the previous window that the model wants in front of each window."""

BLOCK = 1024
"""Windows a call (33 s of sound). Larger blocks aren't quicker, and 4096 windows take 120 MB more."""


def work(job: StageJob) -> None:
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
            session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise ModelFault(f"model {job.uses['vad']['id']} can't be loaded: {error}") from error
    with job.timed("work"):
        for recording in job.inputs:
            path = job.work("demux", f"{recording.id}.wav")
            speech, duration = detect(job, recording, session, path)
            if not speech:
                job.note(recording, "no speech found")
            job.save(recording, {"duration": round(duration, 3), "speech": speech})


def detect(job: StageJob, recording: Recording, session: Any, path: Path) -> tuple[list[list[float]], float]:
    """Speech regions ``[start, end]`` and the sound's length, in seconds."""
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
            job.progress(recording, done / RATE, total / RATE)
    speech = regions(
        (float(p) for block in chances for p in block),
        duration=total / RATE,
        threshold=job.settings["threshold"],
        min_speech=job.settings["min_speech_ms"] / 1000,
        min_silence=job.settings["min_silence_ms"] / 1000,
        pad=job.settings["pad_ms"] / 1000,
    )
    return speech, total / RATE


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
