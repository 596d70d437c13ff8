"""The full backend: WhisperX's alignment with a wav2vec2 model of the recording's language."""

from __future__ import annotations

import math
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contract import RATE, ModelFault, Recording, StageJob
from rules import adopt

PAD = 0.2
"""Seconds of sound around a segment that the aligner hears too: Whisper's edges are that inexact."""

LONGEST = 30.0
"""Seconds of a segment that are aligned: memory grows with the length."""


class WholeText:
    """Takes the place of NLTK's sentence splitter, whose data WhisperX would download. Segments are split already."""

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        return [(0, len(text))]


@dataclass
class Aligner:
    """WhisperX's alignment module with a model."""

    whisperx: Any
    model: Any
    metadata: dict[str, Any]
    device: str


def load(job: StageJob, language: str) -> Aligner:
    """The model for ``language`` from the model's folder, by torchaudio or by Transformers.

    Raises:
        ModelFault: the folder has no such model.
    """
    folder, device = job.model("alignment"), job.settings["device"]
    with job.timed("imports"):
        import torch
        from whisperx import alignment

        alignment.nltk_load = lambda _: WholeText()
    with job.timed("load"):
        torch.set_num_threads(job.settings["threads"])
        name = str(folder) if (folder / "config.json").is_file() else None
        if name is None:
            _require(folder, alignment, language, job.uses["alignment"]["id"])
        try:
            model, metadata = alignment.load_align_model(
                language, device, model_name=name, model_dir=None if name else str(folder), model_cache_only=True
            )
        except (ValueError, OSError, RuntimeError) as error:
            raise ModelFault(f"model {job.uses['alignment']['id']} can't be loaded: {error}") from error
        return Aligner(alignment, model.eval(), metadata, device)


def _require(folder: Path, alignment: Any, language: str, model: str) -> None:
    """Raises ModelFault when the checkpoint is missing: torchaudio would download it."""
    import torchaudio

    bundle = getattr(torchaudio.pipelines, alignment.DEFAULT_ALIGN_MODELS_TORCH.get(language, ""), None)
    file = Path(getattr(bundle, "_path", "")).name
    if not file or not (folder / file).is_file():
        raise ModelFault(f"model {model}: no {file or 'config.json'} in its folder")


def refine(job: StageJob, recording: Recording, aligner: Aligner, result: dict[str, Any], path: Path) -> None:
    """Give the words of ``result`` the times of their characters.

    Args:
        path: the sound that they were heard in.
    """
    import numpy as np

    with wave.open(str(path), "rb") as wav:
        for segment in result["segments"]:
            words = segment["words"]
            start = max(segment["start"] - PAD, 0.0)
            end = min(segment["end"] + PAD, result["duration"], start + LONGEST + 2 * PAD)
            wav.setpos(min(round(start * RATE), wav.getnframes()))
            pcm = wav.readframes(round((end - start) * RATE))
            sound = np.frombuffer(pcm, dtype="<i2").astype(np.float32) / 32768.0
            if words and len(sound):
                # As in WhisperX, every aligned time is taken: none can leave the segment.
                adopt(words, times(aligner, sound, words, start), result["duration"], farthest=math.inf)
                segment["start"], segment["end"] = words[0]["start"], words[-1]["end"]
            job.progress(recording, segment["end"], result["duration"])
    job.progress(recording, result["duration"], result["duration"])


def times(aligner: Aligner, sound: Any, words: list[dict[str, Any]], start: float) -> dict[int, tuple[float, float]]:
    """Start and end in seconds, by position in ``words``, of the words with characters that the model knows.

    Args:
        sound: float32 samples from ``start`` (seconds) on.
    """
    text = "".join(word["word"] for word in words)
    aligned = aligner.whisperx.align(
        [{"start": 0.0, "end": len(sound) / RATE, "text": text}],
        aligner.model,
        aligner.metadata,
        sound,
        aligner.device,
        return_char_alignments=True,
    )
    characters = [character for segment in aligned["segments"] for character in segment["chars"] or ()]
    if len(characters) != len(text):
        return {}  # the segment can't be aligned
    edges = {}
    at = 0
    for k, word in enumerate(words):
        mine = [c for c in characters[at : at + len(word["word"])] if c["char"] != " " and "start" in c]
        at += len(word["word"])
        if mine:
            edges[k] = (start + mine[0]["start"], start + mine[-1]["end"])
    return edges
