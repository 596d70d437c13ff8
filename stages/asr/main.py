"""asr: speech to text with word times, by the variant's backend."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import contract
import instructions
from contract import InputFault, ModelFault, Recording, StageJob
from windows import pieces, read, samples, windows, within

FEWEST = 10
"""Words below which a segment is never taken for a loop."""

QUICKEST = 14.0
"""Words a second that nobody says; the quickest speakers reach 8."""

LETTERS = 30.0
"""The same where a letter or two are a word to the model, as in Thai and Burmese: a syllable has up to four of them."""

LOOP = 30
"""Words of a segment that may be nothing but repetitions."""

SURE = 0.5
"""Probability below which a language is a guess: faster-whisper's own threshold."""


@dataclass(frozen=True, kw_only=True)
class Sound:
    """What is heard at once: a recording, or one of its channels where they are heard apart."""

    path: Path
    speech: list[list[float]]
    """Regions ``[start, end]`` in seconds."""
    doubts: list[float]
    """Good places to cut a long region, in seconds."""
    channel: int | None = None
    """From 1 on."""


def work(job: StageJob) -> None:
    heard = {r.id: job.load("vad", r) for r in job.inputs}
    backend = importlib.import_module(job.variant)
    model: Any = None
    for recording in job.inputs:
        found = heard[recording.id]
        duration = found["duration"]
        sounds = sounds_of(job.sounds(recording), found)
        if not found["speech"]:
            job.note(recording, "no speech found: nothing to transcribe")
            job.save(recording, result(instructions.text_language(job, job.settings["language"]), 0.0, duration, []))
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
            instructions.look(job, model)
        with job.timed("work"):
            job.save(recording, transcribe(job, recording, backend, model, sounds, duration))


def sounds_of(paths: list[Path], found: dict[str, Any]) -> list[Sound]:
    """The sounds of a recording with what vad found in them."""
    channels = found.get("channels")
    if channels is None:
        return [Sound(path=paths[0], speech=found["speech"], doubts=found.get("doubts", []))]
    return [
        Sound(path=path, speech=channel["speech"], doubts=channel["doubts"], channel=number)
        for number, (path, channel) in enumerate(zip(paths, channels, strict=True), 1)
    ]


def transcribe(
    job: StageJob, recording: Recording, backend: ModuleType, model: Any, sounds: list[Sound], duration: float
) -> dict[str, Any]:
    """The result of one recording, whose channels may be heard one after the other.

    Args:
        model: what ``backend.load`` returned.
        duration: of the recording, in seconds.

    Raises:
        InputFault: the model doesn't know the language that was asked for.
    """
    language = job.settings["language"]
    if language is not None:
        require_language(model, language, job.uses["asr"]["id"])
    chance = 1.0
    if language is None:
        most = max(sounds, key=lambda s: sum(b - a for a, b in s.speech))
        language, chance = spoken_language(model, most.path, most.speech)
        if chance < SURE:
            job.note(recording, f"the language is a guess: {language} ({chance:.0%}); --language sets it")
    segments: list[dict[str, Any]] = []
    unlikely = 0.0
    for number, sound in enumerate(sounds):
        mine = list(recognised(job, recording, backend, model, sound, language, (number, len(sounds)), duration))
        kept = [s for s in mine if sayable(s)]
        unlikely += sum(s["end"] - s["start"] for s in mine if not sayable(s))
        segments += kept if sound.channel is None else [s | {"channel": sound.channel} for s in kept]
    if unlikely:
        why = "it repeats itself without end, or nobody can say it so quickly"
        job.note(recording, f"{unlikely:.1f} s are left out, where the model wrote what can't have been said: {why}")
    segments.sort(key=lambda s: (s["start"], s["end"]))
    job.progress(recording, duration, duration)
    heard = result(
        instructions.text_language(job, language), chance, duration, [s | {"id": k} for k, s in enumerate(segments)]
    )
    return heard if instructions.task(job) == "transcribe" else heard | {"spoken_language": language}


def require_language(model: Any, language: str, name: str) -> None:
    """Refuse a language that a model has no token for, whatever its library's list says.

    Raises:
        InputFault: it has none.
    """
    known = sorted(
        code
        for code in model.supported_languages
        if not model.model.is_multilingual or model.hf_tokenizer.token_to_id(f"<|{code}|>") is not None
    )
    if language not in known:
        raise InputFault(
            f"model {name} does not know the language {language!r}; it knows {', '.join(known[:12])}…"
            if len(known) > 1
            else f"model {name} knows English only, not {language!r}"
        )


def recognised(
    job: StageJob,
    recording: Recording,
    backend: ModuleType,
    model: Any,
    sound: Sound,
    language: str,
    turn: tuple[int, int],
    duration: float,
) -> Iterator[dict[str, Any]]:
    """Segments of one sound.

    Args:
        turn: which of how many sounds this is, for the progress.
    """

    def progress(seconds: float) -> None:
        job.progress(recording, (turn[0] * duration + seconds) / turn[1], duration)

    for piece in pieces(windows(sound.speech, duration, sound.doubts)):
        offset = piece[0][0]
        samples_ = read(sound.path, offset, piece[-1][1])
        for segment in backend.recognise(job, model, samples_, within(piece, len(samples_)), language):
            if segment.text.strip():
                heard = described(0, segment, offset, duration)
                job.text(recording, heard["start"], heard["end"], heard["text"])
                yield heard
                progress(offset + segment.end)
        progress(piece[-1][1])


def sayable(segment: dict[str, Any]) -> bool:
    """Whether somebody can have said a segment in its time: a model that loops writes a hundred words in a second."""
    seconds = max(segment["end"] - segment["start"], 0.02)
    words = segment["words"]
    if len(words) < FEWEST:
        return True
    letters = sum(not (w["word"][:1].isspace() or w["word"].isascii()) for w in words)
    return len(words) / seconds <= (LETTERS if letters > len(words) / 2 else QUICKEST) and not repeats(
        [w["word"].strip().lower() for w in words]
    )


def repeats(words: list[str]) -> bool:
    """Whether a few words fill a long segment over and over: up to four different words, each ten times or more."""
    return len(words) >= LOOP and len(words) >= 10 * len(set(words)) and len(set(words)) <= 4


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
