"""NeMo's transducers (Parakeet TDT) on ONNX Runtime, as files that are made for the library onnx-asr."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from contract import RATE, InputFault, StageJob
from slim import LONGEST, SHORTEST, Encoded, Hearing

FRAME = 0.08
"""Seconds of a frame of the encoder."""

MOST = 10
"""Tokens of one frame, where a model loops."""

FILES = ("nemo128.onnx", "encoder-model.int8.onnx", "decoder_joint-model.int8.onnx")
STATES = ("input_states_1", "input_states_2")
BLANK = "<blk>"


def mine(folder: Path) -> bool:
    """Whether a model's folder is one for this backend."""
    return (folder / FILES[2]).is_file()


@dataclass
class Transducer:
    """A loaded model; ``model`` says what others ask of Whisper."""

    parts: list[Any]
    tokens: list[str]
    supported_languages: tuple[str, ...]
    model: Any


def load(job: StageJob, folder: Path) -> Transducer:
    """The model with the weights in ``folder``; raises RuntimeError, ValueError or OSError where it can't be loaded."""
    with job.timed("imports"):
        try:
            import onnxruntime
        except ImportError as error:
            raise RuntimeError("this image has no ONNX Runtime: it was built for another model") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = job.settings["threads"], 1
    options.log_severity_level = 3
    with job.timed("load"):
        try:
            providers = ["CPUExecutionProvider"]
            parts = [onnxruntime.InferenceSession(str(folder / name), options, providers=providers) for name in FILES]
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise RuntimeError(str(error)) from error
        lines = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    tokens = [line.rpartition(" ")[0].replace("\u2581", " ") for line in lines]
    tokens.index(BLANK)
    known = tuple(job.uses["asr"].get("languages") or ("en",))
    return Transducer(parts, tokens, known, SimpleNamespace(is_multilingual=False))


def look(job: StageJob, model: Transducer) -> None:
    """Say what the model makes of its instructions; raises InputFault where it can't do what is asked."""
    name, asked, known = job.uses["asr"]["id"], job.settings["language"], model.supported_languages
    if job.settings.get("task") == "translate":
        raise InputFault(f"model {name} can't translate")
    if asked not in known and (asked is not None or len(known) > 1):
        why = f"does not know the language {asked!r}" if asked else "can't tell which language is spoken"
        raise InputFault(f"model {name} {why}: --language {', '.join(known)}")
    if len(known) > 1:
        job.note(job.inputs[0], f"model {name} writes the language that it hears: {asked} can't be forced")
    if job.settings.get("hotwords") or job.settings.get("initial_prompt"):
        job.note(job.inputs[0], f"model {name} takes neither hotwords nor a prompt")


def encode(model: Transducer, sounds: Sequence[Any]) -> Encoded:
    """Windows of at most 30 s, which are encoded one by one when they are heard: memory doesn't grow with their number."""
    kept = [sound[:LONGEST] for sound in sounds]
    return Encoded(lengths=[len(sound) / RATE for sound in kept], sounds=kept, states=None)


def part(model: Transducer, encoded: Encoded, which: Sequence[int]) -> Encoded:
    """Some of a batch's windows."""
    return encode(model, [encoded.sounds[k] for k in which])


def hear(
    job: StageJob, model: Transducer, encoded: Encoded, language: str, *, temperature: float = 0.0, prompt: bool = True
) -> list[Hearing]:
    """The words of each window; none for a ``temperature``, since the search has no second answer."""
    return [Hearing() if temperature or len(s) < SHORTEST else _window(model, s) for s in encoded.sounds]


def _window(model: Transducer, sound: Any) -> Hearing:
    import numpy as np

    energies, encoder, _ = model.parts
    waves = {"waveforms": np.asarray(sound, np.float32)[None], "waveforms_lens": np.array([len(sound)], np.int64)}
    features, length = energies.run(["features", "features_lens"], waves)
    frames, count = encoder.run(["outputs", "encoded_lengths"], {"audio_signal": features, "length": length})
    found = search(model, frames[0].T[: int(count[0])])
    words: list[dict[str, Any]] = []
    for token, frame, step, chance in found:
        text, edges = model.tokens[token], [min((frame + k) * FRAME, len(sound) / RATE) for k in (0, max(step, 1))]
        if not words or text.startswith(" "):
            words.append({"word": f" {text.lstrip()}", "start": edges[0], "chances": []})
        else:
            words[-1]["word"] += text
        words[-1]["end"] = edges[1]
        words[-1]["chances"].append(chance)
    for word in words:
        chances = word.pop("chances")
        word["probability"] = math.exp(sum(chances) / len(chances))
    return Hearing(words=words, likelihood=sum(chance for *_, chance in found) / max(len(found), 1))


def search(model: Transducer, frames: Any) -> list[tuple[int, int, int, float]]:
    """(token, its frame, the frames that it lasts, logarithm of its probability): always the likeliest.

    Xu et al. 2023, "Efficient Sequence Transduction by Jointly Predicting Tokens and Durations".
    """
    import numpy as np

    joint, blank, size = model.parts[2], model.tokens.index(BLANK), len(model.tokens)
    shapes = {each.name: [d if isinstance(d, int) else 1 for d in each.shape] for each in joint.get_inputs()}
    states = [np.zeros(shapes[name], np.float32) for name in STATES]
    found: list[tuple[int, int, int, float]] = []
    last, at, here = blank, 0, 0
    while at < len(frames):
        asked = {
            "encoder_outputs": frames[at][None, :, None],
            "targets": np.array([[last]], np.int32),
            "target_length": np.array([1], np.int32),
        }
        outputs = ["outputs", "output_states_1", "output_states_2"]
        logits, *after = joint.run(outputs, asked | dict(zip(STATES, states, strict=True)))
        scores = logits.reshape(-1)
        token, step = int(scores[:size].argmax()), int(scores[size:].argmax())
        if token != blank:
            found.append((token, at, step, -math.log(float(np.exp(scores[:size] - scores[token]).sum()))))
            last, states, here = token, after, here + 1
        if step or token == blank or here >= MOST:
            at, here = at + max(step, 1), 0
    return found
