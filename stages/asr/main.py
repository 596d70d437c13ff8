"""asr: speech to text with word times, by the variant's backend."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import contract
import glossary
import guards
import instructions
import onnxasr
import tongues
from contract import ModelFault, Recording, StageJob
from corrections import Index, corrected
from hearing import Ear, Heard, account, batches, first, in_english
from loading import carried
from windows import PAUSE, SHORT, Window, read, windows
from words import segments


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
    ear: Ear | None = None
    terms = glossary.told(job)
    for recording in job.inputs:
        found = heard[recording.id]
        duration = found["duration"]
        sounds = sounds_of(job.sounds(recording, cleaned=True), found)
        if not found["speech"]:
            job.note(recording, "no speech found: nothing to transcribe")
            asked = job.settings["language"]
            spoken = None if asked == tongues.EACH else asked
            job.save(recording, result(instructions.text_language(job, spoken), 0.0, duration, [], []))
            save_english(job, recording, [])
            continue
        if ear is None:
            backend, model = carried(job, "asr", lambda: opened(job))
            getattr(backend, "look", instructions.look)(job, model)
            ear = Ear(job=job, backend=backend, model=model, terms=terms)
        with job.timed("work"):
            job.save(recording, transcribe(ear, recording, sounds, duration))


def opened(job: StageJob) -> tuple[ModuleType, Any]:
    """The module that hears with the job's model, and the model.

    Raises:
        ModelFault: it is missing or can't be loaded.
    """
    folder, backend = job.model("asr"), importlib.import_module(job.variant)
    if onnxasr.kind(folder):
        backend = onnxasr
    elif not (folder / "model.bin").is_file() and (apples := importlib.import_module("mlxwhisper")).kind(folder):
        backend = apples
    # Without this file faster-whisper would ask the hub for it.
    elif not (folder / "tokenizer.json").is_file():
        raise ModelFault(f"model {job.uses['asr']['id']}: no tokenizer.json in its folder")
    try:
        return backend, backend.load(job, folder)
    except (RuntimeError, ValueError, OSError) as error:
        raise ModelFault(f"model {job.uses['asr']['id']} can't be loaded: {error}") from error


def sounds_of(paths: list[Path], found: dict[str, Any]) -> list[Sound]:
    """The sounds of a recording with what vad found in them."""
    channels = found.get("channels")
    if channels is None:
        return [Sound(path=paths[0], speech=found["speech"], doubts=found.get("doubts", []))]
    return [
        Sound(path=path, speech=channel["speech"], doubts=channel["doubts"], channel=number)
        for number, (path, channel) in enumerate(zip(paths, channels, strict=True), 1)
    ]


def transcribe(ear: Ear, recording: Recording, sounds: list[Sound], duration: float) -> dict[str, Any]:
    """The result of one recording, whose channels may be heard one after the other.

    Args:
        duration: of the recording, in seconds.

    Raises:
        InputFault: the model doesn't know the language that was asked for.
    """
    job = ear.job
    asked, each = job.settings["language"], job.settings["language"] == tongues.EACH
    if asked is not None and not each:
        tongues.require_language(ear.model, asked, job.uses["asr"]["id"])
    streams = [Stream(ear, sound, duration, each=each) for sound in sounds]
    language, chance = asked, 1.0
    if asked is None:
        language, chance = max(streams, key=lambda s: s.seconds).language()
        if chance < tongues.SURE:
            job.note(recording, f"the language is a guess: {language} ({chance:.0%}); --language sets it")
    found: list[dict[str, Any]] = []
    unheard: list[dict[str, Any]] = []
    english: list[dict[str, Any]] = []
    right = Corrector(job, ear.terms)
    for number, stream in enumerate(streams):

        def progress(seconds: float, number: int = number) -> None:
            job.progress(recording, (number * duration + seconds) / len(streams), duration)

        heard = list(watched(job, recording, stream.heard(None if each else language), progress))
        whole = account(ear, stream.sound.path, heard, stream.sound.speech)
        mark = {} if stream.sound.channel is None else {"channel": stream.sound.channel}
        found += [described(right(group, mark), each=each) | mark for group in segments(whole.words)]
        unheard += [gap | mark for gap in whole.gaps]
        if job.settings.get("english"):
            told = segments(in_english(heard, stream.sound.speech))
            english += [described(right(group, None), each=False) | mark for group in told]
    if each:
        language, chance = most_spoken(found)
    if instructions.task(job) == "translate":  # whatever is spoken, each segment's text is English
        found = [{name: value for name, value in s.items() if name != "language"} for s in found]
    report(job, recording, unheard)
    save_english(job, recording, english)
    found.sort(key=lambda s: (s["start"], s["end"]))
    unheard.sort(key=lambda gap: (gap["start"], gap["end"]))
    job.progress(recording, duration, duration)
    text = instructions.text_language(job, language)
    whole_ = result(text, chance, duration, [s | {"id": k} for k, s in enumerate(found)], unheard) | right.data()
    return whole_ if instructions.task(job) == "transcribe" else whole_ | {"spoken_language": language}


ENGLISH = "en"
"""The language of what is written down beside the result, for the stage translate."""


class Corrector:
    """Puts the glossary's terms into segments, and remembers what it changed."""

    def __init__(self, job: StageJob, terms: Sequence[glossary.Term]) -> None:
        self.job, self.terms, self.below = job, terms, float(job.settings.get("correct_below", 0.0))
        self.indexes: dict[str | None, Index] = {}
        self.changes: list[dict[str, Any]] = []

    def __call__(self, words: list[dict[str, Any]], mark: dict[str, Any] | None) -> list[dict[str, Any]]:
        """A segment's words with terms in their places.

        Args:
            mark: of the segment; None: it is of the text in English beside the result, and its changes aren't told of.
        """
        if not self.terms or not words:
            return words
        language = instructions.text_language(self.job, words[0]["language"]) if mark is not None else ENGLISH
        if language not in self.indexes:
            self.indexes[language] = Index.of(self.terms, language)
        new, changes = corrected(words, self.indexes[language], self.below)
        if mark is not None:
            self.changes += [change.data() | mark for change in changes]
        return new

    def data(self) -> dict[str, Any]:
        """``{"corrections": […]}`` where there is a glossary."""
        return {"corrections": sorted(self.changes, key=lambda c: (c["start"], c["end"]))} if self.terms else {}


def save_english(job: StageJob, recording: Recording, found: list[dict[str, Any]]) -> None:
    """Write ``work/asr/<in>.english.json``, where it is asked for."""
    if job.settings.get("english"):
        found.sort(key=lambda s: (s["start"], s["end"]))
        job.write(f"{recording.id}.english.json", contract.dump({"segments": found}))


class Stream:
    """One sound's windows, encoded in batches; those that its language was told from aren't encoded again."""

    def __init__(self, ear: Ear, sound: Sound, duration: float, *, each: bool) -> None:
        self.ear, self.sound, self.each = ear, sound, each
        self.seconds = sum(b - a for a, b in sound.speech)
        limits: dict[str, float] = {"longest": SHORT, "bridge": PAUSE} if each else {}
        if not getattr(ear.model, "word_times", True):
            limits["bridge"] = PAUSE  # times that are guessed by letters can't be guessed into a silence
        self.windows = windows(sound.speech, duration, sound.doubts, **limits)
        self.batches = self._encoded()
        self.known: list[tuple[list[Window], Any]] = []

    def _encoded(self) -> Iterator[tuple[list[Window], Any]]:
        for batch in batches(self.windows, self.ear.batch):
            yield batch, self.ear.backend.encode(self.ear.model, [read(self.sound.path, w) for w in batch])

    def language(self) -> tuple[str, float]:
        """The sound's language and its probability, from its first windows, and from more while it is in doubt."""
        if not self.ear.model.model.is_multilingual:
            return self.ear.model.supported_languages[0], 1.0
        chances: list[tuple[float, dict[str, float]]] = []
        for batch in self.batches:
            self.known.append(batch)
            chances += zip(batch[1].lengths, self.ear.backend.languages(self.ear.model, batch[1]), strict=True)
            best = tongues.likeliest(chances)
            if best[1] >= tongues.SURE or len(chances) >= tongues.LISTEN:
                break
        return best

    def heard(self, language: str | None) -> Iterator[Heard]:
        """Each window, heard in ``language``, or in its own where that is None."""

        clear: set[str] = set()

        def ready() -> Iterator[tuple[list[Window], Any]]:
            while self.known:
                yield self.known.pop(0)
            yield from self.batches

        def spoken(encoded: Any) -> list[str]:
            if language is not None or not self.ear.model.model.is_multilingual:
                return [language or self.ear.model.supported_languages[0]] * len(encoded.lengths)
            chances = self.ear.backend.languages(self.ear.model, encoded)
            return tongues.settled(list(zip(encoded.lengths, chances, strict=True)), clear)

        return first(self.ear, ready(), spoken)


def watched(
    job: StageJob, recording: Recording, heard: Iterator[Heard], progress: Callable[[float], None]
) -> Iterator[Heard]:
    """The same windows, told of as they are heard."""
    for one in heard:
        for group in segments(one.words):
            job.text(recording, group[0]["start"], group[-1]["end"], "".join(w["word"] for w in group))
        progress(one.window.end)
        yield one


def report(job: StageJob, recording: Recording, unheard: list[dict[str, Any]]) -> None:
    """Say for how long there are no words, and that the model wrote what nobody said."""
    left = sum(gap["end"] - gap["start"] for gap in unheard if gap["why"] in guards.WRITTEN)
    if left:
        why = "it repeats itself, nobody can say it so quickly, or the sound doesn't support it"
        job.note(recording, f"{left:.1f} s are left out, where the model wrote what can't have been said: {why}")


def most_spoken(found: list[dict[str, Any]]) -> tuple[str | None, float]:
    """The language of most of the segments' time, and its share of it."""
    seconds: dict[str, float] = {}
    for segment in found:
        seconds[segment["language"]] = seconds.get(segment["language"], 0.0) + segment["end"] - segment["start"]
    if not seconds:
        return None, 0.0
    best = max(seconds, key=lambda name: (seconds[name], name))
    return best, seconds[best] / max(sum(seconds.values()), 1e-9)


def described(words: list[dict[str, Any]], *, each: bool) -> dict[str, Any]:
    """A segment as plain data.

    Args:
        each: whether it says its language.
    """
    plain = [{name: value for name, value in w.items() if name != "language"} for w in words]
    segment = {
        "start": words[0]["start"],
        "end": words[-1]["end"],
        "text": "".join(w["word"] for w in words),
        "words": plain,
    }
    return segment | {"language": words[0]["language"]} if each else segment


def result(
    language: str | None, chance: float, duration: float, segments: list[dict[str, Any]], unheard: list[dict[str, Any]]
) -> dict[str, Any]:
    """``work/asr/<in>.json`` (docs/job-format.md)."""
    return {
        "language": language,
        "language_probability": round(float(chance), 3),
        "duration": duration,
        "segments": segments,
        "unheard": unheard,
    }


if __name__ == "__main__":
    contract.main("asr", work)
