"""Forced alignment with a wav2vec2 model as ONNX, for languages whose letters its alphabet has."""

from __future__ import annotations

import json
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contract import RATE, ModelFault, Recording, StageJob
from rules import adopt
from trellis import aligned, letters, with_wild_card

PAD = 0.3
"""Seconds of sound around words that the model hears too: Whisper's times are that inexact."""

LONGEST = 8.0
"""Seconds of words at once: the model's memory grows with the square of them."""

HOP = 320
"""Samples of a frame: 20 ms."""

LEAST = 400
"""Samples from which there is a frame."""

BLANKS = ("<blank>", "<pad>", "[PAD]")


@dataclass
class Aligner:
    """A loaded model."""

    session: Any
    vocabulary: dict[str, int]
    """Its letters."""
    blank: int
    boundary: int | None
    """What stands between words; None: nothing."""


def load(job: StageJob, language: str) -> Aligner:
    """The model of the job's folder.

    Raises:
        ModelFault: it can't be loaded, here or at all.
    """
    folder, name = job.model("alignment"), job.uses["alignment"]["id"]
    with job.timed("imports"):
        try:
            import onnxruntime
        except ImportError as error:
            raise ModelFault("this image has no ONNX Runtime: it was built for another model") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = job.settings["threads"], 1
    # Kept memory, plans for each length, and a second copy of the weights: 980 MB in place of 650, and no faster.
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.log_severity_level = 3
    with job.timed("load"):
        try:
            (file,) = folder.glob("**/*.onnx")
            session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
            told = session.get_modelmeta().custom_metadata_map.get("vocabulary")  # in one that this project has made
            return described(session, json.loads(told or (folder / "vocab.json").read_bytes()))
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise ModelFault(f"model {name} can't be loaded: {error}") from error


def described(session: Any, labels: dict[str, int]) -> Aligner:
    """A model with the numbers of its labels. Raises StopIteration without a blank."""
    blank = labels[next(label for label in BLANKS if label in labels)]
    vocabulary = {label: number for label, number in labels.items() if len(label) == 1 and label != "|"}
    return Aligner(session, vocabulary, blank, labels.get("|"))


def refine(job: StageJob, recording: Recording, aligner: Aligner, result: dict[str, Any], path: Path) -> None:
    """Give the words of ``result`` the times of their letters where :func:`rules.adopt` trusts them.

    Args:
        path: the sound that they were heard in.
    """
    import numpy as np

    with wave.open(str(path), "rb") as wav:
        for segment in result["segments"]:
            words, found = segment["words"], {}
            for first, end in parts(words):
                start = round(max(words[first]["start"] - PAD, 0.0) * RATE)
                wav.setpos(min(start, wav.getnframes()))
                pcm = wav.readframes(round((min(words[end - 1]["end"], result["duration"]) + PAD) * RATE) - start)
                sound = np.frombuffer(pcm, dtype="<i2").astype(np.float32)
                if len(sound) >= LEAST:
                    some = times(aligner, sound, words[first:end])
                    found |= {first + k: (start / RATE + a, start / RATE + b) for k, (a, b) in some.items()}
            adopt(words, found, result["duration"])
            if words:
                segment["start"], segment["end"] = words[0]["start"], words[-1]["end"]
            job.progress(recording, segment["end"], result["duration"])
    job.progress(recording, result["duration"], result["duration"])


def parts(words: list[dict[str, Any]]) -> Iterator[tuple[int, int]]:
    """Words that are aligned at once, by the first and one after the last; a word that is longer stays out."""
    first = 0
    for k, word in enumerate(words):
        if word["end"] - words[first]["start"] > LONGEST:
            if k > first:
                yield first, k
            first = k + 1 if word["end"] - word["start"] > LONGEST else k
        if first <= k == len(words) - 1:
            yield first, k + 1


def times(aligner: Aligner, sound: Any, words: list[dict[str, Any]]) -> dict[int, tuple[float, float]]:
    """Start and end in seconds, by position in ``words``, of the words that the alphabet can write.

    Args:
        sound: float32 samples of at most :data:`LONGEST` seconds and twice :data:`PAD`.
    """
    sound = (sound - sound.mean()) / (sound.std() + 1e-7)
    (given,) = aligner.session.get_inputs()
    scores = with_wild_card(aligner.session.run(None, {given.name: sound[None]})[0][0], aligner.blank)
    wild = scores.shape[1] - 1
    # A word that the alphabet can't write is the wild card; one more on either side stands for the words around.
    spelled = [letters(word["word"], aligner.vocabulary) for word in words]
    targets, places = [wild], []
    for some in spelled:
        if aligner.boundary is not None and places:
            targets.append(aligner.boundary)
        places.append(len(targets))
        targets += some or [wild]
    spans = aligned(scores, [*targets, wild], aligner.blank)
    if spans is None:
        return {}
    return {
        k: (spans[at][0] * HOP / RATE, spans[at + len(some) - 1][1] * HOP / RATE)
        for k, (at, some) in enumerate(zip(places, spelled, strict=True))
        if some
    }
