"""The slim backend: Whisper by CTranslate2 and faster-whisper's parts, no PyTorch. Windows are heard in batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contract import RATE, StageJob
from instructions import before, task
from loading import stand_in

SEED = 20_000
"""Seed of the temperatures above zero, which sample: the same job gives the same text."""

SAMPLES = 5
"""Texts that are sampled at a temperature above zero; the likeliest is taken. Whisper's own number."""

PREPENDED, APPENDED = "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、"
"""Marks that belong to the word after them, and to the one before: faster-whisper's lists."""

SHORTEST = 800
"""Samples that features can be computed of."""

LONGEST = 30 * RATE
"""Samples that the model hears at a time."""


@dataclass(kw_only=True)
class Encoded:
    """Windows of one batch after the encoder, which costs half of the time: language and text use the same."""

    lengths: list[float]
    """Seconds of each window."""
    sounds: list[Any]
    """Float32 samples of each."""
    states: Any
    """CTranslate2's StorageView, [windows, 1500, dimensions]."""


@dataclass(kw_only=True)
class Hearing:
    """What the model wrote for one window."""

    words: list[dict[str, Any]] = field(default_factory=list)
    """``word``, ``start``, ``end`` (seconds from the window's start) and ``probability``."""
    likelihood: float = 0.0
    """Mean logarithm of the tokens' probabilities."""
    silence: float = 0.0
    """The model's own probability that nobody speaks."""


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
        stand_in("huggingface_hub", "onnxruntime")
        stand_in("av", AudioFrame=None)  # installed in native mode: a third of this import's time
        from faster_whisper import WhisperModel
    with job.timed("load"):
        return WhisperModel(str(folder), **model_options(job))


def encode(model: Any, sounds: Sequence[Any]) -> Encoded:
    """Run the encoder over windows of float32 samples, at most 30 s each."""
    import numpy as np
    from faster_whisper.audio import pad_or_trim

    # Silence behind the sound, as in training: with faster-whisper's zeros behind the features, more words are wrong
    # (57 in place of 48 of 1217, tiny.en).
    padded = [np.pad(sound[:LONGEST], (0, LONGEST - min(len(sound), LONGEST))) for sound in sounds]
    features = [pad_or_trim(model.feature_extractor(sound)[..., :-1]) for sound in padded]
    return Encoded(
        lengths=[min(len(sound), LONGEST) / RATE for sound in sounds],
        sounds=list(sounds),
        states=model.encode(np.stack(features)),
    )


def part(model: Any, encoded: Encoded, which: Sequence[int]) -> Encoded:
    """Some of a batch's windows."""
    if list(which) == list(range(len(encoded.lengths))):
        return encoded
    sounds = [encoded.sounds[k] for k in which]
    if encoded.states.device != "cpu":  # NumPy has no view of a GPU's memory
        return encode(model, sounds)
    import ctranslate2
    import numpy as np

    states = ctranslate2.StorageView.from_array(np.ascontiguousarray(np.asarray(encoded.states)[list(which)]))
    return Encoded(lengths=[encoded.lengths[k] for k in which], sounds=sounds, states=states)


def languages(model: Any, encoded: Encoded) -> list[dict[str, float]]:
    """Language -> probability, for each window."""
    return [
        {token[2:-2]: float(chance) for token, chance in found} for found in model.model.detect_language(encoded.states)
    ]


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
    """The words of each window.

    Args:
        temperature: above zero, texts are sampled, and the likeliest of :data:`SAMPLES` is taken.
        prompt: whether the model is given the job's hotwords and prompt, with ``terms`` between them.
        doing: Whisper's task; None: the job's.
    """
    import ctranslate2
    from faster_whisper.tokenizer import Tokenizer
    from faster_whisper.transcribe import get_suppressed_tokens

    ctranslate2.set_random_seed(SEED)
    tokenizer = Tokenizer(model.hf_tokenizer, model.model.is_multilingual, task=doing or task(job), language=language)
    told = before(job, language, terms) if prompt else None
    start = model.get_prompt(tokenizer, [], without_timestamps=True, hotwords=told)
    how: dict[str, Any] = {"beam_size": job.settings["beam_size"]}
    if temperature:
        anew(job, model)
        how = {"beam_size": 1, "num_hypotheses": SAMPLES, "sampling_topk": 0, "sampling_temperature": temperature}
    found = model.model.generate(
        encoded.states,
        [start] * len(encoded.lengths),
        max_length=model.max_length,
        return_scores=True,
        return_no_speech_prob=True,
        suppress_tokens=get_suppressed_tokens(tokenizer, [-1]),
        **how,
    )
    words = word_times(model, tokenizer, encoded, [result.sequences_ids[0] for result in found])
    return [
        Hearing(
            words=mine,
            likelihood=result.scores[0] * len(result.sequences_ids[0]) / (len(result.sequences_ids[0]) + 1),
            silence=result.no_speech_prob,
        )
        for mine, result in zip(words, found, strict=True)
    ]


def anew(job: StageJob, model: Any) -> None:
    """Have the texts of this job sampled as if it were the first.

    CTranslate2 seeds a model's generator once, when the model's thread first needs it, so that what is sampled would
    depend on the jobs before. Weights that are loaded again come with a new thread.
    """
    before, model.sampled = getattr(model, "sampled", None), job.root
    if before not in (None, job.root):
        with job.timed("load"):
            model.model = type(model.model)(
                str(job.model("asr")),
                device=job.settings["device"],
                compute_type=job.settings["compute_type"],
                intra_threads=job.settings["threads"],
            )


def word_times(model: Any, tokenizer: Any, encoded: Encoded, tokens: list[list[int]]) -> list[list[dict[str, Any]]]:
    """Words with times from the decoder's attention to the sound, for each window."""
    segments = [
        [{"tokens": mine, "start": 0.0, "end": seconds, "seek": 0}]
        for mine, seconds in zip(tokens, encoded.lengths, strict=True)
    ]
    frames = [int(seconds * model.frames_per_second) for seconds in encoded.lengths]
    model.add_word_timestamps(segments, tokenizer, encoded.states, frames, PREPENDED, APPENDED, 0.0)
    return [window[0]["words"] for window in segments]
