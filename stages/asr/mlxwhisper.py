"""Whisper on Apple silicon by mlx-whisper: its encoder, decoder and word times, on windows and in batches as of the slim backend.

MLX computes on Metal where that is there, in half precision, else on the processor. It has no beam search: the likeliest token
is taken each time, and texts of a temperature are sampled as everywhere.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import instructions
from contract import RATE, StageJob
from loading import stand_in
from slim import APPENDED, LONGEST, PREPENDED, SAMPLES, SEED, SHORTEST, Encoded, Hearing

WEIGHTS = ("weights.safetensors", "weights.npz")
"""What a converted model's weights are called, the first that is there."""

FRAMES = 100
"""Frames of the spectrogram a second."""


def kind(folder: Path) -> bool:
    """Whether a folder has a model in MLX's layout: Whisper's dimensions by OpenAI's names, and weights."""
    try:
        said = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(said, dict) and "n_audio_state" in said and any((folder / name).is_file() for name in WEIGHTS)


@dataclass(kw_only=True)
class Model:
    """A loaded model; ``model`` says what others ask of Whisper."""

    whisper: Any
    """mlx-whisper's."""
    half: bool
    """Whether it computes in half precision."""
    supported_languages: tuple[str, ...]
    model: Any

    def tokenizer(self, language: str, task: str = "transcribe") -> Any:
        """Whisper's tokenizer, whose vocabulary comes with the library."""
        from mlx_whisper.tokenizer import get_tokenizer

        many = self.whisper.is_multilingual
        return get_tokenizer(many, num_languages=self.whisper.num_languages, language=language, task=task)

    @property
    def max_length(self) -> int:
        """Tokens of the decoder's context."""
        return int(self.whisper.dims.n_text_ctx)

    @cached_property
    def hf_tokenizer(self) -> Any:
        """The tokenizer as faster-whisper's models have it: what a prompt has room for is counted with it."""
        plain = self.tokenizer("en")

        def encode(text: str, **_: Any) -> Any:
            return SimpleNamespace(ids=plain.encode(text, disallowed_special=()))

        return SimpleNamespace(encode=encode)

    def prompt(self, text: str | None) -> list[int] | None:
        """The tokens before the text, of which the first count: the library would take the last."""
        return self.hf_tokenizer.encode(f" {text}").ids[: self.max_length // 2 - 1] if text else None


def load(job: StageJob, folder: Path) -> Model:
    """The model with the weights in ``folder``; raises RuntimeError, ValueError or OSError where it can't be loaded."""
    with job.timed("imports"):
        stand_in("huggingface_hub", snapshot_download=None)  # a folder that is there: the hub is never asked
        try:
            import mlx.core as mx
            from mlx_whisper.load_models import load_model
            from mlx_whisper.tokenizer import LANGUAGES
        except ImportError as error:
            raise RuntimeError("mlx-whisper is not here: it is for native jobs on Apple silicon") from error
    with job.timed("load"):
        half = mx.default_device() == mx.Device(mx.gpu, 0)  # a processor computes halves by way of floats
        try:
            whisper = load_model(str(folder), dtype=mx.float16 if half else mx.float32)
        except (KeyError, TypeError) as error:
            raise ValueError(f"its config.json or weights are not of mlx-whisper: {error}") from error
        if half != (whisper.encoder.conv1.weight.dtype == mx.float16):
            whisper.set_dtype(mx.float16 if half else mx.float32)
    many = whisper.is_multilingual
    known = tuple(LANGUAGES)[: whisper.num_languages] if many else ("en",)
    return Model(whisper=whisper, half=half, supported_languages=known, model=SimpleNamespace(is_multilingual=many))


def look(job: StageJob, model: Model) -> None:
    """Say what the model makes of its instructions; raises InputFault where it can't do what is asked."""
    instructions.look(job, model)
    if job.settings["beam_size"] > 1:
        job.note(job.inputs[0], f"model {job.uses['asr']['id']} has no beam search: beam_size says nothing to it")


def encode(model: Model, sounds: Sequence[Any]) -> Encoded:
    """Run the encoder over windows of float32 samples, at most 30 s each, with silence behind them as in training."""
    import mlx.core as mx
    import numpy as np
    from mlx_whisper.audio import log_mel_spectrogram

    padded = [np.pad(sound[:LONGEST], (0, LONGEST - min(len(sound), LONGEST))) for sound in sounds]
    mels = [log_mel_spectrogram(sound.astype(np.float32), n_mels=model.whisper.dims.n_mels) for sound in padded]
    states = model.whisper.embed_audio(mx.stack(mels).astype(mx.float16 if model.half else mx.float32))
    mx.eval(states)
    return Encoded(lengths=[min(len(s), LONGEST) / RATE for s in sounds], sounds=list(sounds), states=states)


def part(model: Model, encoded: Encoded, which: Sequence[int]) -> Encoded:
    """Some of a batch's windows."""
    import mlx.core as mx

    return Encoded(
        lengths=[encoded.lengths[k] for k in which],
        sounds=[encoded.sounds[k] for k in which],
        states=encoded.states[mx.array(list(which))],
    )


def languages(model: Model, encoded: Encoded) -> list[dict[str, float]]:
    """Language -> probability, for each window."""
    _, chances = model.whisper.detect_language(encoded.states, model.tokenizer("en"))
    return [{language: float(chance) for language, chance in window.items()} for window in chances]


def hear(
    job: StageJob,
    model: Model,
    encoded: Encoded,
    language: str,
    *,
    temperature: float = 0.0,
    prompt: bool = True,
    terms: str = "",
    doing: str | None = None,
) -> list[Hearing]:
    """The words of each window; the arguments are those of :func:`slim.hear`."""
    import mlx.core as mx
    from mlx_whisper.decoding import DecodingOptions

    mx.random.seed(SEED)
    task = doing or instructions.task(job)
    options = DecodingOptions(
        task=task,
        language=language,
        temperature=temperature,
        best_of=SAMPLES if temperature else None,
        prompt=model.prompt(instructions.before(job, language, terms)) if prompt else None,
        without_timestamps=True,
        fp16=model.half,
    )
    tokenizer = model.tokenizer(language, task)
    return [
        Hearing(
            words=word_times(model, tokenizer, states, list(result.tokens), seconds),
            likelihood=0.0 if math.isnan(result.avg_logprob) else float(result.avg_logprob),
            silence=0.0 if math.isnan(result.no_speech_prob) else float(result.no_speech_prob),
        )
        for result, states, seconds in zip(
            model.whisper.decode(encoded.states, options), encoded.states, encoded.lengths, strict=True
        )
    ]


def word_times(model: Model, tokenizer: Any, states: Any, tokens: list[int], seconds: float) -> list[dict[str, Any]]:
    """Words with times from the decoder's attention to the sound.

    Args:
        states: the window's encoding, [1500, dimensions]; the library would encode its spectrogram a second time.
        tokens: of the text.
        seconds: of the window.
    """
    from mlx_whisper.timing import add_word_timestamps

    if not tokens or seconds * RATE < SHORTEST:
        return []

    def attended(encoded: Any, text: Any) -> tuple[Any, Any]:
        logits, _, attention = model.whisper.decoder(text, encoded)
        return logits, attention

    segment: dict[str, Any] = {"tokens": tokens, "start": 0.0, "end": seconds, "seek": 0, "words": []}
    add_word_timestamps(
        segments=[segment],
        model=SimpleNamespace(alignment_heads=model.whisper.alignment_heads, forward_with_cross_qk=attended),
        tokenizer=tokenizer,
        mel=states,
        num_frames=int(seconds * FRAMES),
        prepend_punctuations=PREPENDED,
        append_punctuations=APPENDED,
        last_speech_timestamp=0.0,
    )
    return list(segment["words"])
