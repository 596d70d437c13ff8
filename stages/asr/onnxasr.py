"""NeMo's and Salute's models on ONNX Runtime by the library onnx-asr: Parakeet, Canary, GigaAM."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from contract import RATE, InputFault, StageJob
from instructions import task
from slim import LONGEST, SHORTEST, Encoded, Hearing

BRIEF, LASTS = 0.04, 0.32
"""Seconds that a token lasts at least and at most: the library says when it begins, and it lasts until the next. A frame of
GigaAM's, and four of Parakeet's, the longest that Parakeet TDT gives a token."""

TRANSDUCER = ("encoder-model.int8.onnx", "decoder_joint-model.int8.onnx", "vocab.txt")
ENCODER_DECODER = "nemo-conformer-aed"
KINDS = {
    "nemo-conformer-tdt": TRANSDUCER,
    "nemo-conformer-rnnt": TRANSDUCER,
    "nemo-conformer-ctc": ("model.int8.onnx", "vocab.txt"),
    ENCODER_DECODER: ("encoder-model.int8.onnx", "decoder-model.int8.onnx", "vocab.txt"),
    "gigaam-v3-e2e-ctc": ("v3_e2e_ctc.int8.onnx", "v3_e2e_ctc_vocab.txt"),
    "gigaam-v3-e2e-rnnt": (
        *(f"v3_e2e_rnnt_{part}.int8.onnx" for part in ("encoder", "decoder", "joint")),
        "v3_e2e_rnnt_vocab.txt",
    ),
}
"""The library's name of a kind -> what it loads of a folder beside config.json."""


def kind(folder: Path) -> str | None:
    """The library's name for the model in a folder; None for one of another backend.

    config.json says it, but for GigaAM, whose repository has several models that share one.
    """
    try:
        said = json.loads((folder / "config.json").read_bytes()).get("model_type")
    except (OSError, ValueError, AttributeError):
        return None
    if said == "gigaam":
        own = (name for name, files in KINDS.items() if name.startswith("gigaam") and (folder / files[0]).is_file())
        return next(own, None)
    return said if said in KINDS else None


@dataclass(kw_only=True)
class Model:
    """A loaded model; ``model`` says what others ask of Whisper."""

    recogniser: Any
    """onnx-asr's, with times and probabilities of tokens."""
    kind: str
    supported_languages: tuple[str, ...]
    model: Any

    @property
    def word_times(self) -> bool:
        """Whether it says when its words are spoken."""
        return self.kind != ENCODER_DECODER


def load(job: StageJob, folder: Path) -> Model:
    """The model with the weights in ``folder``; raises RuntimeError, ValueError or OSError where it can't be loaded."""
    with job.timed("imports"):
        try:
            import onnx_asr
            import onnxruntime
        except ImportError as error:
            raise RuntimeError("this image has no onnx-asr: it was built for another model") from error

    def options(threads: int) -> Any:
        made = onnxruntime.SessionOptions()
        made.intra_op_num_threads, made.inter_op_num_threads, made.log_severity_level = threads, 1, 3
        return made

    name = str(kind(folder))
    on = {"providers": ["CPUExecutionProvider"]}
    with job.timed("load"):
        try:
            found = onnx_asr.load_model(
                name,
                folder,  # a folder that is there: the library never asks the hub
                quantization="int8",
                sess_options=options(job.settings["threads"]),
                # It makes seven graphs for other sampling rates, which are never run: they need no threads.
                resampler_config={"sess_options": options(1), **on},
                **on,
            )
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise RuntimeError(str(error)) from error
    known = tuple(job.uses["asr"].get("languages") or ("en",))
    told = SimpleNamespace(is_multilingual=False)
    return Model(recogniser=found.with_timestamps(), kind=name, supported_languages=known, model=told)


def look(job: StageJob, model: Model) -> None:
    """Say what the model makes of its instructions; raises InputFault where it can't do what is asked."""
    name, asked, known = job.uses["asr"]["id"], job.settings["language"], model.supported_languages
    if task(job) == "translate" and model.word_times:
        raise InputFault(f"model {name} can't translate")
    if asked not in known and (asked is not None or len(known) > 1):
        why = f"does not know the language {asked!r}" if asked else "can't tell which language is spoken"
        raise InputFault(f"model {name} {why}: --language {', '.join(known)}")
    if not model.word_times:
        job.note(job.inputs[0], f"model {name} doesn't say when a word is spoken: times are guessed by its letters")
    elif len(known) > 1:
        job.note(job.inputs[0], f"model {name} writes the language that it hears: {asked} can't be forced")
    if job.settings.get("hotwords") or job.settings.get("initial_prompt"):
        job.note(job.inputs[0], f"model {name} takes neither hotwords nor a prompt")


def encode(model: Model, sounds: Sequence[Any]) -> Encoded:
    """Windows of at most 30 s, which are encoded one by one when they are heard: memory doesn't grow with their number."""
    kept = [sound[:LONGEST] for sound in sounds]
    return Encoded(lengths=[len(sound) / RATE for sound in kept], sounds=kept, states=None)


def part(model: Model, encoded: Encoded, which: Sequence[int]) -> Encoded:
    """Some of a batch's windows."""
    return encode(model, [encoded.sounds[k] for k in which])


def hear(
    job: StageJob, model: Model, encoded: Encoded, language: str, *, temperature: float = 0.0, prompt: bool = True
) -> list[Hearing]:
    """The words of each window; none for a ``temperature``, since the search has no second answer."""
    how: dict[str, Any] = {}
    if model.kind == ENCODER_DECODER:
        how = {"language": language, "target_language": "en" if task(job) == "translate" else language}
    try:
        return [Hearing() if temperature or len(s) < SHORTEST else _window(model, s, how) for s in encoded.sounds]
    except KeyError as error:
        raise InputFault(f"model {job.uses['asr']['id']} has no token {error}, whatever the catalogue says") from error


def _window(model: Model, sound: Any, how: dict[str, Any]) -> Hearing:
    import numpy as np

    result = model.recogniser.recognize(np.asarray(sound, np.float32), sample_rate=RATE, **how)
    tokens, scores, seconds = result.tokens or [], result.logprobs or [], len(sound) / RATE
    mean = min(sum(scores) / len(scores), 0.0) if scores else 0.0
    if len(scores) != len(tokens):  # the library leaves Canary's marks out of the tokens alone
        scores = [mean] * len(tokens)
    return Hearing(words=spoken(tokens, scores, result.timestamps, seconds), likelihood=mean)


def spoken(
    tokens: Sequence[str], scores: Sequence[float], times: Sequence[float] | None, seconds: float
) -> list[dict[str, Any]]:
    """Words out of tokens, of which a space begins one.

    Args:
        scores: the tokens' logarithmic probabilities.
        times: when each token begins, in seconds; None: each word gets the share of the window that its letters have.
        seconds: of the window.
    """
    words: list[dict[str, Any]] = []
    for k, (token, score) in enumerate(zip(tokens, scores, strict=True)):
        if not words or token.startswith(" "):
            words.append({"word": " ", "scores": []})
        word = words[-1]
        if times is not None:
            if not word["word"].strip():
                word["start"] = min(times[k], seconds)
            following = times[k + 1] if k + 1 < len(times) else seconds
            word["end"] = min(max(following, times[k] + BRIEF), times[k] + LASTS, seconds)
        word["word"] += token.lstrip() if not word["word"].strip() else token
        word["scores"].append(score)
    words = [word for word in words if word["word"].strip()]
    if times is None:
        _spread(words, seconds)
    for word in words:
        own = word.pop("scores")
        word["probability"] = min(math.exp(sum(own) / len(own)), 1.0)
    return words


def _spread(words: Sequence[dict[str, Any]], seconds: float) -> None:
    """Times by letters, from the window's start to its end."""
    total, at = sum(len(word["word"]) for word in words), 0
    for word in words:
        word["start"] = seconds * at / total
        at += len(word["word"])
        word["end"] = seconds * at / total
