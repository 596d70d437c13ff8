"""Known voices: speakers are compared with the people whose voices the job was given, and the likeliest get names."""

from __future__ import annotations

import json
import math
import wave
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from contract import RATE, ModelFault, Recording, StageJob
from loading import carried

FILE = "voices.json"
"""Beside the recordings."""

LARGEST = 4 << 20
"""Bytes of it."""

MOST = 500
"""Voices of it."""

LONGEST_NAME = 60
"""Characters of a name."""

SPAN = 2 * RATE
"""Samples that one vector hears (2 s)."""

SOUND = 60 * RATE
"""Samples of one speaker that are heard at most."""

LEAST = 3.0
"""Seconds of speech below which a speaker is not compared with anybody."""

DIMENSIONS = 192
"""Of CAM++'s vectors."""

Span = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Known:
    """The people that a job was told of."""

    names: list[str]
    vectors: Any
    """float32 [n, 192], of unit length."""
    threshold: float
    """Cosine similarity from which a speaker is one of them."""


def described(job: StageJob, recording: Recording, result: dict[str, Any]) -> dict[str, Any]:
    """A recording's result, with the speakers that are known: ``{"known": [{"speaker", "name", "similarity"}]}``.

    Where the job asks for it, the voice of the one who speaks most is written down.
    """
    people = told(job, recording) if job.settings.get("voices") else None
    if not result["turns"] or not (people or job.settings.get("enrol")):
        return result
    encoder = carried(job, "known", lambda: Encoder(job))
    if job.settings.get("enrol"):
        write(job, recording, result["turns"], encoder)
    if people is None:
        return result
    voices = heard(job, recording, result["turns"], encoder)
    found = matched({who: vector for who, (vector, seconds) in voices.items() if seconds >= LEAST}, people)
    for entry in found:
        job.note(recording, f"{entry['name']} is known by the voice (similarity {entry['similarity']:.2f})")
    return result | {"known": found}


def told(job: StageJob, recording: Recording) -> Known | None:
    """The people that the job was made with; None, and a note, where its file is another."""
    data = job.beside(FILE)
    if data is None or len(data) > LARGEST or sha256(data).hexdigest() != job.settings["voices"]:
        job.note(
            recording, "nobody is known by the voice: the file of voices is not the one that this job was made with"
        )
        return None
    try:
        return parsed(data)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        job.note(recording, "nobody is known by the voice: the file of voices is damaged")
        return None


def parsed(data: bytes) -> Known:
    """People of JSON, which may be anybody's.

    Raises:
        ValueError, KeyError, TypeError, AttributeError, RecursionError: it is not what the builder writes.
    """
    import numpy as np

    whole = json.loads(data)
    if whole["schema"] != 1 or not 0 < len(whole["voices"]) <= MOST:
        raise ValueError("another schema, nobody, or too many")
    names = [str(entry["name"]) for entry in whole["voices"]]
    vectors = np.array([[float(x) for x in entry["vector"]] for entry in whole["voices"]], dtype=np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    threshold = float(whole["threshold"])
    if vectors.shape[1:] != (DIMENSIONS,) or not (np.isfinite(lengths).all() and lengths.min() > 0.5):
        raise ValueError("no embeddings")
    if not 0 < threshold < 1 or not all(0 < len(name) <= LONGEST_NAME for name in names):
        raise ValueError("no threshold, or no names")
    return Known(names=names, vectors=vectors / lengths, threshold=threshold)


def matched(voices: dict[str, Any], people: Known) -> list[dict[str, Any]]:
    """Who is whom: the likeliest pair first, each speaker and each person once.

    Args:
        voices: speaker -> vector of unit length.
    """
    pairs = [
        (round(float(chance), 3), speaker, person)
        for speaker, vector in voices.items()
        for person, chance in enumerate(people.vectors @ vector)
        if math.isfinite(chance)
    ]
    found: dict[str, dict[str, Any]] = {}
    taken: set[int] = set()
    for chance, speaker, person in sorted(pairs, key=lambda pair: (-pair[0], len(pair[1]), pair[1], pair[2])):
        if chance >= people.threshold and speaker not in found and person not in taken:
            found[speaker] = {"speaker": speaker, "name": people.names[person], "similarity": chance}
            taken.add(person)
    return sorted(found.values(), key=lambda entry: (len(entry["speaker"]), entry["speaker"]))


class Encoder:
    """CAM++ on one thread: the same vectors on every machine."""

    def __init__(self, job: StageJob) -> None:
        """
        Raises:
            ModelFault: the job's embedding is missing, broken or another.
        """
        import onnxruntime

        path = next(job.model("embedding").glob("*.onnx"), None)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        name = job.uses["embedding"]["id"]
        if path is None:
            raise ModelFault(f"model {name}: no .onnx file in its folder")
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise ModelFault(f"model {name} can't be loaded: {error}") from error
        if [i.name for i in self.session.get_inputs()] != ["feats"]:
            raise ModelFault(f"model {name} can't know voices: --preset starter has one that can")

    def vector(self, sound: Any) -> Any:
        """The mean vector of float32 samples, of unit length: of each 2 s one, at least one.

        Raises:
            ValueError: there are too few samples.
        """
        import kaldi
        import numpy as np

        parts = [sound[at : at + SPAN] for at in range(0, len(sound) - SPAN + 1, SPAN)] or [sound]
        total = np.zeros(DIMENSIONS, dtype=np.float64)
        for part in parts:  # one by one: a batch can round in another way
            frames = kaldi.framed(part)
            if not len(frames):
                raise ValueError("less than a frame")
            bank = kaldi.filterbank(frames)
            (out,) = self.session.run(None, {"feats": (bank - bank.mean(axis=0))[None].astype(np.float32)})[0]
            total += out / max(float(np.linalg.norm(out)), 1e-9)
        return (total / max(float(np.linalg.norm(total)), 1e-9)).astype(np.float32)


def heard(
    job: StageJob, recording: Recording, turns: list[dict[str, Any]], encoder: Encoder
) -> dict[str, tuple[Any, float]]:
    """Speaker -> vector, and the seconds that were heard of what this speaker says alone."""
    sounds = job.sounds(recording)
    voices: dict[str, tuple[Any, float]] = {}
    for speaker, spans in alone(turns, apart=len(sounds) > 1).items():
        path = sounds[int(speaker[1:]) - 1] if len(sounds) > 1 else sounds[0]
        sound = read(path, spans)
        if len(sound) >= RATE // 4:
            voices[speaker] = encoder.vector(sound), len(sound) / RATE
    return voices


def alone(turns: list[dict[str, Any]], *, apart: bool = False) -> dict[str, list[Span]]:
    """Speaker -> where nobody else speaks, in seconds, sorted.

    Args:
        apart: each speaker has a channel, where others are not heard.
    """
    edges: dict[float, dict[str, int]] = {}
    for turn in turns:
        for at, step in ((turn["start"], 1), (turn["end"], -1)):
            edges.setdefault(at, {}).setdefault(turn["speaker"], 0)
            edges[at][turn["speaker"]] += step
    found: dict[str, list[Span]] = {turn["speaker"]: [] for turn in turns}
    active: dict[str, int] = {}
    before = 0.0
    for at in sorted(edges):
        for speaker in active if apart or len(active) == 1 else ():
            found[speaker].append((before, at))
        for speaker, step in edges[at].items():
            active[speaker] = active.get(speaker, 0) + step
            if not active[speaker]:
                del active[speaker]
        before = at
    return found


def read(path: Path, spans: Iterable[Span]) -> Any:
    """Float32 samples of the longest spans of a WAV file, at most ``SOUND`` of them, one behind the other."""
    import numpy as np

    left, parts = SOUND, []
    with wave.open(str(path), "rb") as wav:
        for start, end in sorted(spans, key=lambda span: (span[0] - span[1], span[0])):
            count = min(left, round((end - start) * RATE))
            if count <= 0:
                break
            wav.setpos(min(round(start * RATE), wav.getnframes()))
            parts.append(np.frombuffer(wav.readframes(count), dtype="<i2"))
            left -= count
    return np.concatenate(parts).astype(np.float32) / 32768.0 if parts else np.zeros(0, dtype=np.float32)


def write(job: StageJob, recording: Recording, turns: list[dict[str, Any]], encoder: Encoder) -> None:
    """Write down the voice of whoever speaks most, and what part of the speech that is."""
    spoken: dict[str, float] = {}
    for turn in turns:
        spoken[turn["speaker"]] = spoken.get(turn["speaker"], 0.0) + turn["end"] - turn["start"]
    most = max(spoken, key=lambda who: (spoken[who], who))
    voices = heard(job, recording, [turn for turn in turns if turn["speaker"] == most], encoder)
    vector, seconds = voices.get(most, (None, 0.0))
    whole = {
        "alone": round(spoken[most] / sum(spoken.values()), 3),
        "seconds": round(seconds, 3),
        "vector": [] if vector is None else [round(float(x), 5) for x in vector],
    }
    job.write(f"{recording.id}.voice.json", json.dumps(whole, sort_keys=True) + "\n")
