"""asr: speech to text with word times. faster-whisper on CTranslate2, no PyTorch."""

from __future__ import annotations

import importlib.util
import sys
import types
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import contract
from contract import RATE, InputFault, ModelFault, Recording, StageJob

WINDOW = 29.0
"""Seconds. Whisper hears 30 s at a time; a second is left for padding."""

PAD = 0.2
"""Seconds of sound around speech that the model gets to hear."""

BRIDGE = 2.0
"""Seconds. Silences up to this stay inside a window; longer ones are never shown to the model, which invents
text for them."""

PIECE = 600.0
"""Seconds of sound whose features are computed at once: memory doesn't grow with the recording."""

SEED = 20_000
"""Where the temperature fallback samples: the same job gives the same text."""


def work(job: StageJob) -> None:
    heard = {r.id: job.load("vad", r) for r in job.inputs}
    with job.timed("imports"):
        stand_in("av", "huggingface_hub", "onnxruntime")
        import ctranslate2
        from faster_whisper import WhisperModel
    model: Any = None
    for recording in job.inputs:
        speech, duration = heard[recording.id]["speech"], heard[recording.id]["duration"]
        path = job.work("demux", f"{recording.id}.wav")
        if not speech:
            job.note(recording, "no speech found: nothing to transcribe")
            job.save(recording, result(job.settings["language"], 0.0, duration, []))
            continue
        if model is None:
            with job.timed("load"):
                folder = job.model("asr")
                try:
                    model = WhisperModel(
                        str(folder),
                        device=job.settings["device"],
                        compute_type=job.settings["compute_type"],
                        cpu_threads=job.settings["threads"],
                        local_files_only=True,
                    )
                except (RuntimeError, ValueError, OSError) as error:
                    raise ModelFault(f"model {job.uses['asr']['id']} can't be loaded: {error}") from error
        with job.timed("work"):
            ctranslate2.set_random_seed(SEED)
            job.save(recording, transcribe(job, recording, model, path, speech, duration))


def transcribe(
    job: StageJob, recording: Recording, model: Any, path: Path, speech: list[list[float]], duration: float
) -> dict[str, Any]:
    """The result of one recording; ``speech`` are regions in seconds."""
    language = job.settings["language"]
    if language is not None and language not in model.supported_languages:
        raise InputFault(
            f"model {job.uses['asr']['id']} does not know the language {language!r}; "
            f"it knows {', '.join(sorted(model.supported_languages)[:12])}…"
            if len(model.supported_languages) > 1
            else f"model {job.uses['asr']['id']} knows English only, not {language!r}"
        )
    chance = 1.0
    segments: list[dict[str, Any]] = []
    for piece in pieces(windows(speech, duration)):
        offset = piece[0][0]
        sound = read(path, offset, piece[-1][1])
        found, info = recognise(job, model, sound, [(a - offset, b - offset) for a, b in piece], language)
        if language is None:
            language, chance = info.language, info.language_probability
        for segment in found:
            if not segment.text.strip():
                continue
            segments.append(described(len(segments), segment, offset, duration))
            job.progress(recording, offset + segment.end, duration)
        job.progress(recording, piece[-1][1], duration)
    job.progress(recording, duration, duration)
    return result(language, chance, duration, segments)


def recognise(
    job: StageJob, model: Any, sound: Any, spans: list[tuple[float, float]], language: str | None
) -> tuple[Iterator[Any], Any]:
    """faster-whisper over ``spans`` (seconds) of float32 ``sound``: one after the other, or in batches."""
    options: dict[str, Any] = {
        "language": language,
        "beam_size": job.settings["beam_size"],
        "word_timestamps": True,
        "initial_prompt": job.settings["initial_prompt"],
    }
    if job.settings["batch_size"]:
        from faster_whisper import BatchedInferencePipeline

        chunks = [{"start": a, "end": b} for a, b in spans]
        return BatchedInferencePipeline(model).transcribe(  # type: ignore[no-any-return]
            sound, batch_size=job.settings["batch_size"], clip_timestamps=chunks, vad_filter=False, **options
        )
    return model.transcribe(  # type: ignore[no-any-return]
        sound,
        clip_timestamps=[edge for span in spans for edge in span],
        # Text of one window in the prompt of the next repeats itself without end once it goes wrong.
        condition_on_previous_text=False,
        **options,
    )


def windows(speech: list[list[float]], duration: float) -> list[tuple[float, float]]:
    """Group speech regions into windows of at most ``WINDOW`` seconds that don't overlap.

    Regions less than ``BRIDGE`` apart go together. A region that is longer is cut into equal parts.
    """
    out: list[list[float]] = []
    for start, end in speech:
        parts = max(1, -int(-(end - start) // WINDOW))
        step = (end - start) / parts
        for k in range(parts):
            a, b = start + k * step, start + (k + 1) * step
            if out and k == 0 and a - out[-1][1] < BRIDGE and b - out[-1][0] <= WINDOW:
                out[-1][1] = b
            else:
                out.append([a, b])
    padded: list[tuple[float, float]] = []
    for k, (a, b) in enumerate(out):
        before = out[k - 1][1] if k else 0.0
        after = out[k + 1][0] if k + 1 < len(out) else duration
        # Half of the gap at the most, so that neighbours never overlap.
        padded.append((round(a - min(PAD, (a - before) / 2), 3), round(b + min(PAD, (after - b) / 2), 3)))
    return padded


def pieces(spans: list[tuple[float, float]]) -> Iterator[list[tuple[float, float]]]:
    """Consecutive windows, together at most ``PIECE`` seconds long."""
    group: list[tuple[float, float]] = []
    for span in spans:
        if group and span[1] - group[0][0] > PIECE:
            yield group
            group = []
        group.append(span)
    if group:
        yield group


def read(path: Path, start: float, end: float) -> Any:
    """Float32 samples of a part of a WAV file (seconds)."""
    import numpy as np

    with wave.open(str(path), "rb") as wav:
        wav.setpos(min(round(start * RATE), wav.getnframes()))
        data = wav.readframes(round((end - start) * RATE))
    return np.frombuffer(data, dtype="<i2").astype(np.float32) / 32768.0


def described(number: int, segment: Any, offset: float, duration: float) -> dict[str, Any]:
    """A segment as plain data on the recording's timeline."""

    def at(seconds: float) -> float:
        return round(min(max(offset + seconds, 0.0), duration), 3)

    return {
        "id": number,
        "start": at(segment.start),
        "end": at(segment.end),
        "text": segment.text,
        "words": [
            {"word": w.word, "start": at(w.start), "end": at(w.end), "probability": round(float(w.probability), 3)}
            for w in segment.words or []
        ],
    }


def result(language: str | None, chance: float, duration: float, segments: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "language": language,
        "language_probability": round(float(chance), 3),
        "duration": duration,
        "segments": segments,
    }


def stand_in(*names: str) -> None:
    """Empty modules for what faster-whisper imports but a model folder and ready samples never need.

    PyAV, the hub client and ONNX Runtime are 150 MB of an image; only where they are absent.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            sys.modules[name] = types.ModuleType(name)


if __name__ == "__main__":
    contract.main("asr", work)
