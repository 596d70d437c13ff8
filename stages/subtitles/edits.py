"""What a person changed in a finished transcript: the names of speakers, and words (docs/job-format.md)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

from realign import Turn, realigned
from sentences import Sentence, clean, sentences

FILE = "edits.json"
"""Beside the recordings."""


@dataclass(frozen=True, kw_only=True)
class Edits:
    """The changes to one recording's transcript."""

    names: dict[str, str] = field(default_factory=dict)
    """Speaker -> what people call them."""
    turns: tuple[Turn, ...] | None = None
    """What is said, in place of what was heard; times in the film that the job has. None: as it was heard."""

    def said(self, heard: list[Sentence], *, duration: float) -> list[Sentence]:
        """The sentences as they were edited; ``duration`` of the recording in seconds."""
        if self.turns is None:
            return heard
        turns = realigned([word for s in heard for word in s.words], self.turns, duration=duration)
        return [replace(s, speaker=who) for who, words in turns for s in sentences(words, None)]

    def name(self, speaker: str) -> str:
        """What people call a speaker."""
        return self.names.get(speaker, speaker)

    def named(self, said: list[Sentence]) -> list[Sentence]:
        """Sentences with the names in place of the speakers."""
        return [replace(s, speaker=s.speaker and self.name(s.speaker)) for s in said]


def read(data: bytes | None, recording: str) -> Edits:
    """The edits of one recording.

    Args:
        data: the file; None where there is none.

    Raises:
        ValueError: it is not what the builder writes.
    """
    if data is None:
        return Edits()
    try:
        whole = json.loads(data)
        if whole["schema"] != 1:
            raise ValueError(f"schema {whole['schema']}")
        entry = whole["recordings"].get(recording) or {}
        turns = entry.get("turns")
        return Edits(
            names={str(who): clean(str(name)) for who, name in (entry.get("names") or {}).items() if clean(str(name))},
            turns=None if turns is None else tuple(map(_turn, turns)),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{FILE} is damaged: {error!r}") from error


def _turn(entry: dict[str, Any]) -> Turn:
    start, who = entry["start"], entry["speaker"]
    return Turn(
        speaker=None if who is None else str(who),
        text=str(entry["text"]),
        start=None if start is None else float(start),
    )
