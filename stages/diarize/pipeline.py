"""A whole diarization pipeline of pyannote.audio (full only): segmentation, embedding and clustering of its own."""

from __future__ import annotations

import wave
from typing import Any

from contract import RATE, ModelFault, Recording, StageJob, stand_in

STEPS = {"segmentation": 0.0, "embeddings": 0.5}
"""pyannote.audio's steps that report progress, and the share of the work that lies before each."""

TELEMETRY = ("track_model_init", "track_pipeline_init", "track_pipeline_apply")
"""What pyannote.audio reports to its makers, by libraries that are not installed; here it does nothing."""


def load(job: StageJob) -> Any:
    """The pipeline in the job's folder, on the job's device.

    Raises:
        ModelFault: it can't be loaded.
    """
    folder = job.model("diarization")
    stand_in("pyannote.audio.telemetry", **dict.fromkeys(TELEMETRY, lambda *_, **__: None))
    with job.timed("imports"):
        import torch
        from pyannote.audio import Pipeline
    with job.timed("load"):
        torch.set_num_threads(job.settings["threads"])
        try:
            pipeline = Pipeline.from_pretrained(folder)
        except Exception as error:  # yaml's, torch's, pyannote's: no base class in common
            raise ModelFault(f"model {job.uses['diarization']['id']} can't be loaded: {error}") from error
        if pipeline is None:
            raise ModelFault(f"model {job.uses['diarization']['id']}: no config.yaml in its folder")
        return pipeline.to(torch.device(job.settings["device"]))


def diarize(
    job: StageJob, recording: Recording, pipeline: Any, speech: list[list[float]], duration: float
) -> list[dict[str, Any]]:
    """Turns that don't overlap: pyannote.audio's exclusive diarization, made for putting words to speakers.

    The pipeline hears all of it and finds ``speech`` (regions in seconds) by itself.
    """
    import numpy as np
    import torch

    with wave.open(str(job.work("demux", f"{recording.id}.wav")), "rb") as wav:
        sound = np.frombuffer(wav.readframes(wav.getnframes()), dtype="<i2").astype(np.float32) / 32768.0

    def hook(step: str, *_: Any, total: int | None = None, completed: int | None = None, **__: Any) -> None:
        if step in STEPS and total:
            share = STEPS[step] + 0.5 * min(completed or 0, total) / total
            job.progress(recording, share * duration, duration)

    # Samples, not a path: decoding would need torchcodec and ffmpeg's libraries.
    heard = {"waveform": torch.from_numpy(sound)[None], "sample_rate": RATE, "uri": recording.id}
    made = pipeline(heard, num_speakers=job.settings["speakers"], hook=hook)
    turns = getattr(made, "exclusive_speaker_diarization", made)  # "legacy" pipelines give the annotation itself
    job.progress(recording, duration, duration)
    return described([(t.start, t.end, str(who)) for t, _, who in turns.itertracks(yield_label=True)], duration)


def described(tracks: list[tuple[float, float, str]], duration: float) -> list[dict[str, Any]]:
    """Turns in order, without overlap, named S1, S2… as they appear."""
    names: dict[str, str] = {}
    found: list[dict[str, Any]] = []
    for start, end, who in sorted(tracks):
        start = max(start, found[-1]["end"] if found else 0.0)
        end = min(end, duration)
        if end > start:
            speaker = names.setdefault(who, f"S{len(names) + 1}")
            found.append({"start": round(start, 3), "end": round(end, 3), "speaker": speaker})
    return found
