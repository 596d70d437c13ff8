"""asr: speech to text with word times, by the variant's backend."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import contract
from contract import InputFault, ModelFault, Recording, StageJob
from windows import pieces, read, samples, windows, within

SURE = 0.5
"""Probability below which a language is a guess: faster-whisper's own threshold."""


def work(job: StageJob) -> None:
    heard = {r.id: job.load("vad", r) for r in job.inputs}
    backend = importlib.import_module(job.variant)
    model: Any = None
    for recording in job.inputs:
        speech, duration = heard[recording.id]["speech"], heard[recording.id]["duration"]
        path = job.work("demux", f"{recording.id}.wav")
        if not speech:
            job.note(recording, "no speech found: nothing to transcribe")
            job.save(recording, result(job.settings["language"], 0.0, duration, []))
            continue
        if model is None:
            folder = job.model("asr")
            # Without this file faster-whisper would ask the hub for it.
            if not (folder / "tokenizer.json").is_file():
                raise ModelFault(f"model {job.uses['asr']['id']}: no tokenizer.json in its folder")
            try:
                model = backend.load(job, folder)
            except (RuntimeError, ValueError, OSError) as error:
                raise ModelFault(f"model {job.uses['asr']['id']} can't be loaded: {error}") from error
        with job.timed("work"):
            job.save(recording, transcribe(job, recording, backend, model, path, speech, duration))


def transcribe(
    job: StageJob,
    recording: Recording,
    backend: ModuleType,
    model: Any,
    path: Path,
    speech: list[list[float]],
    duration: float,
) -> dict[str, Any]:
    """The result of one recording.

    Args:
        model: what ``backend.load`` returned.
        path: the recording's sound.
        speech: regions ``[start, end]`` in seconds.
        duration: of the recording, in seconds.

    Raises:
        InputFault: the model doesn't know the language that was asked for.
    """
    language = job.settings["language"]
    if language is not None and language not in model.supported_languages:
        raise InputFault(
            f"model {job.uses['asr']['id']} does not know the language {language!r}; "
            f"it knows {', '.join(sorted(model.supported_languages)[:12])}…"
            if len(model.supported_languages) > 1
            else f"model {job.uses['asr']['id']} knows English only, not {language!r}"
        )
    chance = 1.0
    if language is None:
        language, chance = spoken_language(model, path, speech)
        if chance < SURE:
            job.note(recording, f"the language is a guess: {language} ({chance:.0%}); --language sets it")
    segments: list[dict[str, Any]] = []
    for piece in pieces(windows(speech, duration)):
        offset = piece[0][0]
        sound = read(path, offset, piece[-1][1])
        for segment in backend.recognise(job, model, sound, within(piece, len(sound)), language):
            if not segment.text.strip():
                continue
            segments.append(described(len(segments), segment, offset, duration))
            job.progress(recording, offset + segment.end, duration)
        job.progress(recording, piece[-1][1], duration)
    job.progress(recording, duration, duration)
    return result(language, chance, duration, segments)


def spoken_language(model: Any, path: Path, speech: list[list[float]]) -> tuple[str, float]:
    """The language of a recording and its probability, from speech only.

    The model hears half a minute of speech, and more while it is unsure; probabilities are averaged. (faster-whisper's
    own detection hears the start, which may be silence or music.)
    """
    if not model.model.is_multilingual:
        return "en", 1.0
    import numpy as np

    total: dict[str, float] = {}
    for count, spans in enumerate(samples(speech), 1):
        sound = np.concatenate([read(path, a, b) for a, b in spans])
        _, _, chances = model.detect_language(audio=sound)
        for language, chance in chances:
            total[language] = total.get(language, 0.0) + float(chance)
        best = max(total, key=lambda name: (total[name], name))
        if total[best] / count >= SURE:
            break
    return best, total[best] / count


def described(number: int, segment: Any, offset: float, duration: float) -> dict[str, Any]:
    """A segment as plain data on the recording's timeline."""

    def at(seconds: float) -> float:
        return round(min(max(offset + seconds, 0.0), duration), 3)

    return {
        "id": number,
        "start": at(segment.start),
        "end": at(segment.end),
        "text": segment.text,
        "words": [
            {"word": w.word, "start": at(w.start), "end": at(w.end), "probability": round(float(w.probability), 3)}
            for w in segment.words or []
        ],
    }


def result(language: str | None, chance: float, duration: float, segments: list[dict[str, Any]]) -> dict[str, Any]:
    """``work/asr/<in>.json`` (docs/job-format.md)."""
    return {
        "language": language,
        "language_probability": round(float(chance), 3),
        "duration": duration,
        "segments": segments,
    }


if __name__ == "__main__":
    contract.main("asr", work)
