"""The full backend: WhisperX's batched inference, with PyTorch. Word times are Whisper's own until align's.

What is heard again, and languages, go the way of the slim backend on the same model.
"""

from __future__ import annotations

import os
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import slim
from contract import StageJob
from instructions import before, task
from loading import stand_in
from slim import Encoded, Hearing, encode, languages, model_options, part

__all__ = ["BATCH", "encode", "hear", "languages", "load", "part"]

BATCH = 8
"""Windows that are heard at once when the settings name no number: WhisperX's own default."""


def load(job: StageJob, folder: Path) -> Any:
    """WhisperX's model with the weights in ``folder``; imports and loading are timed.

    Raises:
        RuntimeError, ValueError, OSError: CTranslate2 can't load the weights.
    """
    with job.timed("imports"):
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        # pyannote.audio and its dozen packages take 10 s to import, and the vad stage has found the regions already.
        stand_in("av", "onnxruntime")  # nothing is decoded here, and vad has run
        stand_in("whisperx.vads", Vad=type("Vad", (), {}), Silero=None, Pyannote=None)
        import torch
        from whisperx.asr import WhisperModel

    class Timed(WhisperModel):  # type: ignore[misc,unused-ignore]
        """Hears what is encoded already, and keeps the words' times: WhisperX leaves times to its alignment."""

        given: Encoded | None = None
        """The batch that WhisperX hears."""
        found: list[Hearing]

        def encode(self, features: Any) -> Any:
            return super().encode(features) if self.given is None else self.given.states

        def generate_segment_batched(
            self, features: Any, tokenizer: Any, options: Any, encoder_output: Any = None
        ) -> Any:
            heard = super().generate_segment_batched(features, tokenizer, options, encoder_output)
            assert self.given is not None
            tokens = [tokenizer.encode(text) for text in heard["text"]]
            words = slim.word_times(self, tokenizer, self.given, tokens)
            self.found += [
                Hearing(words=mine, likelihood=chance) for mine, chance in zip(words, heard["avg_logprob"], strict=True)
            ]
            return heard

    with job.timed("load"):
        torch.set_num_threads(job.settings["threads"])
        return Timed(str(folder), **model_options(job))


def hear(
    job: StageJob,
    model: Any,
    encoded: Encoded,
    language: str,
    *,
    temperature: float = 0.0,
    prompt: bool = True,
    terms: str = "",
    doing: str | None = None,
) -> list[Hearing]:
    """What WhisperX hears in each window of a batch.

    Args:
        temperature: above zero, the slim backend samples.
        prompt: without the job's prompt, too, it is the slim backend that hears.
        terms: of the glossary, in the prompt.
        doing: as of the slim backend, which hears it.
    """
    if temperature or not prompt or doing:
        return slim.hear(job, model, encoded, language, temperature=temperature, prompt=prompt, doing=doing)
    import numpy as np
    import whisperx.asr

    edges = list(accumulate(encoded.lengths, initial=0.0))

    class Regions(whisperx.asr.Vad):  # type: ignore[misc,name-defined,unused-ignore]
        """Gives WhisperX the windows in the place of its speech detection."""

        def __call__(self, heard: Any) -> Any:
            return [{"start": a, "end": b, "segments": [(a, b)]} for a, b in pairwise(edges)]

        @staticmethod
        def preprocess_audio(audio: Any) -> Any:
            return audio

        @staticmethod
        def merge_chunks(segments: Any, *_: Any, **__: Any) -> Any:
            return segments

    pipeline = whisperx.asr.load_model(
        "",
        job.settings["device"],
        model=model,
        vad_model=Regions(),
        language=language,
        compute_type=job.settings["compute_type"],
        task=task(job),
        asr_options={"beam_size": job.settings["beam_size"], "hotwords": before(job, language, terms)},
    )
    model.given, model.found = encoded, []
    try:
        # One batch is one call of the model: its windows are encoded already.
        pipeline.transcribe(np.concatenate(encoded.sounds), batch_size=len(encoded.lengths), language=language)
    finally:
        model.given = None
    return list(model.found)
