"""The slim backend: faster-whisper on CTranslate2, no PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from contract import StageJob, stand_in
from instructions import before, task

SEED = 20_000
"""Seed of the temperature fallback, which samples: the same job gives the same text."""


def model_options(job: StageJob) -> dict[str, Any]:
    """The job's settings for a model of faster-whisper, which never asks the hub."""
    return {
        "device": job.settings["device"],
        "compute_type": job.settings["compute_type"],
        "cpu_threads": job.settings["threads"],
        "local_files_only": True,
    }


def load(job: StageJob, folder: Path) -> Any:
    """faster-whisper's model with the weights in ``folder``; imports and loading are timed.

    Raises:
        RuntimeError, ValueError, OSError: CTranslate2 can't load the weights.
    """
    with job.timed("imports"):
        # PyAV, the hub client and ONNX Runtime would be 150 MB of an image. A local folder and samples need none of them.
        stand_in("av", "huggingface_hub", "onnxruntime")
        from faster_whisper import WhisperModel
    with job.timed("load"):
        return WhisperModel(str(folder), **model_options(job))


def recognise(job: StageJob, model: Any, sound: Any, spans: list[tuple[float, float]], language: str) -> Iterator[Any]:
    """Segments that faster-whisper hears in ``spans`` (seconds) of float32 ``sound``: one by one, or in batches."""
    import ctranslate2

    ctranslate2.set_random_seed(SEED)
    options: dict[str, Any] = {
        "language": language,
        "task": task(job),
        "beam_size": job.settings["beam_size"],
        "word_timestamps": True,
        "hotwords": before(job),
    }
    if job.settings["batch_size"]:
        from faster_whisper import BatchedInferencePipeline

        chunks = [{"start": a, "end": b} for a, b in spans]
        segments, _ = BatchedInferencePipeline(model).transcribe(
            sound, batch_size=job.settings["batch_size"], clip_timestamps=chunks, vad_filter=False, **options
        )
        return segments  # type: ignore[no-any-return]
    segments, _ = model.transcribe(
        sound,
        clip_timestamps=[edge for span in spans for edge in span],
        # When the previous window's text is in the prompt, one repetition goes on forever.
        condition_on_previous_text=False,
        **options,
    )
    return segments  # type: ignore[no-any-return]
