"""The text in other languages as sentences: the words share the time of what they translate. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from clock import Clock
from cues import Cue
from edits import Edits
from sentences import Sentence, clean, read_words, spread, unspaced
from written import Result

BACK = 8
"""Sentences before a line's end that may be what it translates: those of two channels overlap."""


@dataclass(frozen=True, kw_only=True)
class Translation:
    """What was said, in another language."""

    language: str
    backend: str
    """Who translated it."""
    said: list[Sentence]
    cues: list[Cue] = field(default_factory=list)

    def moved(self, clock: Clock) -> Translation:
        """The same at its place on another clock."""
        said = [replace(s, words=tuple(map(clock.word, s.words))) for s in self.said]
        return replace(self, said=said, cues=[clock.cue(cue) for cue in self.cues])

    def of(self, result: dict[str, Any]) -> dict[str, Any]:
        """The recognition's result as one in this language."""
        return result | {"language": self.language, "spoken_language": result["language"]}

    def result(
        self, spoken: Result, edited: Edits, whole: str, recut: Callable[[list[Sentence], int], list[Cue]]
    ) -> Result:
        """What files are made of, from that of what is said."""
        return replace(
            spoken,
            tag=f".{self.language}",
            language=self.language,
            sentences=edited.named(self.said),
            cues=self.cues,
            turns=None,
            whole=whole,
            recut=recut,
        )

    def data(self) -> dict[str, Any]:
        """As the transcript has it."""
        parts = [{"start": s.start, "end": s.end, "speaker": s.speaker, "text": s.text} for s in self.said]
        return {"language": self.language, "backend": self.backend, "segments": parts}


def read(result: dict[str, Any], said: Sequence[Sentence], clock: Clock) -> list[Translation]:
    """The translations of a recording, in the order in which they were asked for.

    Args:
        result: of the stage translate.
        said: what they translate, which says who speaks; on the film's own clock, as the result.
    """
    found = []
    duration = float(result["duration"])
    for language, entry in result["translations"].items():
        lines = [line for line in entry["lines"] if clean(str(line["text"]))]
        sentences = [_sentence(line, said, clock, duration) for line in lines]
        found.append(Translation(language=str(language), backend=str(entry["backend"]), said=sentences))
    return found


def _sentence(line: dict[str, Any], said: Sequence[Sentence], clock: Clock, duration: float) -> Sentence:
    text = clean(str(line["text"]))
    parts = spread(text, line["start"], line["end"])
    if unspaced(text[0]):
        parts[0]["word"] = parts[0]["word"].strip()
    entries = [part | {"source": "translated", "probability": 1.0} for part in parts]
    segment = {
        "start": line["start"],
        "end": line["end"],
        "text": text,
        "words": entries,
        "channel": line.get("channel"),
    }
    words = tuple(clock.word(word) for word in read_words([segment], duration))
    return Sentence(words=words, speaker=_speaker(words[0].start, words[-1].end, line.get("channel"), said))


def _speaker(start: float, end: float, channel: int | None, said: Sequence[Sentence]) -> str | None:
    """Who says most of what is said in a span."""
    if channel is not None:
        return f"S{channel}"
    last = bisect_right(said, end, key=lambda s: s.start)
    seconds: dict[str | None, float] = {}
    for sentence in said[max(last - BACK, 0) : last]:
        common = min(end, sentence.end) - max(start, sentence.start)
        seconds[sentence.speaker] = seconds.get(sentence.speaker, 0.0) + max(common, 0.0)
    best = max(seconds, key=lambda who: seconds[who], default=None)
    return best if best is None or seconds[best] > 0 else None
