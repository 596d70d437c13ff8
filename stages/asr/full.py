"""The full backend: WhisperX's batched inference, with PyTorch. Word times are Whisper's own until align's."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from contract import StageJob, stand_in
from instructions import before, task
from slim import model_options

BATCH = 8
"""Windows that are heard at once when the settings name no number: WhisperX's own default."""

ENDS = ".?!…。？！"
"""Marks that end a sentence: WhisperX gives a whole window as one segment."""


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
        """Also keeps the times of the words that it hears, in order: WhisperX leaves times to its alignment."""

        lengths: Sequence[float] = ()
        """Seconds of each window."""
        words: list[list[dict[str, Any]]]
        encoded: Any = None

        def encode(self, features: Any) -> Any:
            self.encoded = super().encode(features)
            return self.encoded

        def generate_segment_batched(
            self, features: Any, tokenizer: Any, options: Any, encoder_output: Any = None
        ) -> Any:
            heard = super().generate_segment_batched(features, tokenizer, options, encoder_output)
            first = len(self.words)
            lengths = self.lengths[first : first + len(heard["text"])]
            segments = [
                [{"tokens": tokenizer.encode(text), "start": 0.0, "end": seconds, "seek": 0}]
                for text, seconds in zip(heard["text"], lengths, strict=True)
            ]
            frames = [int(seconds * self.frames_per_second) for seconds in lengths]
            marks = options.prepend_punctuations, options.append_punctuations
            self.add_word_timestamps(segments, tokenizer, self.encoded, frames, *marks, 0.0)
            self.words += [window[0]["words"] for window in segments]
            return heard

    with job.timed("load"):
        torch.set_num_threads(job.settings["threads"])
        return Timed(str(folder), **model_options(job))


def recognise(job: StageJob, model: Any, sound: Any, spans: list[tuple[float, float]], language: str) -> Iterator[Any]:
    """What WhisperX hears in ``spans`` (seconds) of float32 ``sound``: a segment for each sentence, with its words."""
    import whisperx.asr

    class Regions(whisperx.asr.Vad):  # type: ignore[misc,name-defined,unused-ignore]
        """Gives WhisperX the windows in the place of its speech detection."""

        def __call__(self, heard: Any) -> Any:
            return [{"start": a, "end": b, "segments": [(a, b)]} for a, b in spans]

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
        asr_options={"beam_size": job.settings["beam_size"], "hotwords": before(job)},
    )
    model.words, model.lengths = [], [b - a for a, b in spans]
    # All at once: WhisperX reports nothing before the end.
    pipeline.transcribe(sound, batch_size=job.settings["batch_size"] or BATCH, language=language)
    for (start, end), words in zip(spans, model.words, strict=True):
        yield from sentences(words, start, end)


def sentences(words: list[dict[str, Any]], start: float, end: float) -> Iterator[SimpleNamespace]:
    """A window's words as segments that end where a sentence does.

    Args:
        words: with times in seconds from ``start`` on.
        start, end: of the window, in seconds; no time goes beyond it.
    """
    group: list[SimpleNamespace] = []
    for k, word in enumerate(words):
        a, b = min(start + word["start"], end), min(start + word["end"], end)
        group.append(SimpleNamespace(word=word["word"], start=a, end=b, probability=word["probability"]))
        ends = word["word"].rstrip("\"'”’)]»").endswith(tuple(ENDS))
        if k + 1 == len(words) or (ends and not words[k + 1]["word"][:1].isdigit()):  # not within "10." "30"
            yield SimpleNamespace(
                start=group[0].start, end=group[-1].end, text="".join(w.word for w in group), words=group
            )
            group = []
