"""Words to sentences, each with one speaker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

PAUSE = 1.2
"""Seconds of silence that end a sentence, whatever its punctuation."""

ENDS = (".", "?", "!", "…", "。", "？", "！", "।")
_CLOSERS = "\"'”’»)]}"
_TITLES = {"mr.", "mrs.", "ms.", "dr.", "st.", "prof.", "sr.", "jr.", "vs.", "e.g.", "i.e.", "no."}


@dataclass(frozen=True)
class Word:
    """``text`` keeps the leading space that Whisper writes; times in seconds."""

    text: str
    start: float
    end: float
    probability: float
    source: str


@dataclass(frozen=True)
class Sentence:
    """Words said in one go, by one speaker (None: no diarization, or nobody's turn)."""

    words: tuple[Word, ...]
    speaker: str | None

    @property
    def start(self) -> float:
        return self.words[0].start

    @property
    def end(self) -> float:
        return self.words[-1].end

    @property
    def text(self) -> str:
        return "".join(w.text for w in self.words).strip()


def read_words(segments: list[dict[str, Any]]) -> list[Word]:
    """The words of a result in order; a segment without words (a model without alignment) is one word."""
    found = []
    for segment in segments:
        entries = segment["words"] or [
            {"word": segment["text"], "start": segment["start"], "end": segment["end"], "probability": 0.0}
        ]
        for entry in entries:
            # Line breaks and control characters could end a cue or a line of the result.
            text = "".join(c if c.isprintable() else " " for c in entry["word"])
            if text.strip():
                start = max(entry["start"], found[-1].start if found else 0.0)
                found.append(
                    Word(text, start, max(entry["end"], start), entry["probability"], entry.get("source", "whisper"))
                )
    return found


def sentences(words: list[Word], turns: list[dict[str, Any]] | None) -> list[Sentence]:
    """Cut at punctuation, long pauses and, inside a sentence, nowhere: a vote a word mislabels single words.

    Args:
        turns: of diarization, sorted; None without it.
    """
    groups: list[list[Word]] = []
    for word in words:
        if not groups or _ends(groups[-1][-1].text) or word.start - groups[-1][-1].end > PAUSE:
            groups.append([])
        groups[-1].append(word)
    return [Sentence(tuple(group), speaker_of(group, turns)) for group in groups]


def speaker_of(words: list[Word], turns: list[dict[str, Any]] | None) -> str | None:
    """Whose turns cover most of the words' time; the nearest turn where none covers any."""
    if not turns:
        return None
    votes: dict[str, float] = {}
    for word in words:
        for turn in turns:
            common = min(word.end, turn["end"]) - max(word.start, turn["start"])
            if common > 0:
                votes[turn["speaker"]] = votes.get(turn["speaker"], 0.0) + common
    if votes:
        return max(sorted(votes), key=lambda name: votes[name])
    middle = (words[0].start + words[-1].end) / 2
    nearest = min(turns, key=lambda t: max(t["start"] - middle, middle - t["end"]))
    return str(nearest["speaker"])


def _ends(text: str) -> bool:
    bare = text.strip()
    return bare.rstrip(_CLOSERS).endswith(ENDS) and bare.lower() not in _TITLES
