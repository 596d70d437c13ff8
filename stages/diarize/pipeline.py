"""A diarization pipeline of pyannote.audio (full only), with its own segmentation, embedding and clustering."""

from __future__ import annotations

import wave
from typing import Any

from contract import RATE, ModelFault, Recording, StageJob
from loading import stand_in

STEPS = {"segmentation": 0.0, "embeddings": 0.5}
"""pyannote.audio's steps that report progress, and the share of the work before each."""

TELEMETRY = ("track_model_init", "track_pipeline_init", "track_pipeline_apply")
"""Functions by which pyannote.audio reports to its makers, through libraries that aren't installed. Here they do
nothing."""


def load(job: StageJob) -> Any:
    """The job's pipeline, on the job's device.

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
        except Exception as error:  # the exceptions of yaml, torch and pyannote share no base class
            raise ModelFault(f"model {job.uses['diarization']['id']} can't be loaded: {error}") from error
        if pipeline is None:
            raise ModelFault(f"model {job.uses['diarization']['id']}: no config.yaml in its folder")
        return pipeline.to(torch.device(job.settings["device"]))


def diarize(
    job: StageJob, recording: Recording, pipeline: Any, speech: list[list[float]], duration: float
) -> list[dict[str, Any]]:
    """Turns that don't overlap: pyannote.audio's exclusive diarization, which is meant for assigning words to speakers.

    The pipeline hears everything and finds speech itself; ``speech`` (regions in seconds) is not used.
    """
    import numpy as np
    import torch

    with wave.open(str(job.work("demux", f"{recording.id}.wav")), "rb") as wav:
        sound = np.frombuffer(wav.readframes(wav.getnframes()), dtype="<i2").astype(np.float32) / 32768.0

    def hook(step: str, *_: Any, total: int | None = None, completed: int | None = None, **__: Any) -> None:
        if step in STEPS and total:
            share = STEPS[step] + 0.5 * min(completed or 0, total) / total
            job.progress(recording, share * duration, duration)

    # Samples in place of a path: decoding would need torchcodec and FFmpeg's libraries.
    heard = {"waveform": torch.from_numpy(sound)[None], "sample_rate": RATE, "uri": recording.id}
    output = pipeline(
        heard,
        num_speakers=job.settings["speakers"],
        min_speakers=job.settings.get("min_speakers"),
        max_speakers=job.settings.get("max_speakers"),
        hook=hook,
    )
    turns = getattr(output, "exclusive_speaker_diarization", output)  # "legacy" pipelines return the annotation itself
    job.progress(recording, duration, duration)
    return described([(t.start, t.end, str(who)) for t, _, who in turns.itertracks(yield_label=True)], duration)


def described(tracks: list[tuple[float, float, str]], duration: float) -> list[dict[str, Any]]:
    """Turns in order, without overlap; speakers are S1, S2… by first appearance.

    Args:
        tracks: start, end (seconds) and the pipeline's name of the speaker.
    """
    names: dict[str, str] = {}
    turns: list[dict[str, Any]] = []
    for start, end, who in sorted(tracks):
        start = max(start, turns[-1]["end"] if turns else 0.0)
        end = min(end, duration)
        if end > start:
            speaker = names.setdefault(who, f"S{len(names) + 1}")
            turns.append({"start": round(start, 3), "end": round(end, 3), "speaker": speaker})
    return turns
