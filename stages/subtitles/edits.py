"""What a person changed in a finished transcript: the names of speakers, and words (docs/job-format.md)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

from sentences import Sentence, Word, clean, sentences

FILE = "edits.json"
"""Beside the recordings."""


@dataclass(frozen=True, kw_only=True)
class Edits:
    """The changes to one recording's transcript."""

    names: dict[str, str] = field(default_factory=dict)
    """Speaker -> what people call them."""
    turns: tuple[tuple[str | None, tuple[Word, ...]], ...] | None = None
    """Speaker and words, in place of what was heard; times in the film that the job has. None: as it was heard."""

    def said(self, heard: list[Sentence]) -> list[Sentence]:
        """The sentences as they were edited."""
        if self.turns is None:
            return heard
        return [replace(s, speaker=who) for who, words in self.turns for s in sentences(list(words), None)]

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
            turns=None if turns is None else tuple((t["speaker"], tuple(map(_word, t["words"]))) for t in turns),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{FILE} is damaged: {error!r}") from error


def _word(entry: dict[str, Any]) -> Word:
    text = entry["word"]
    return Word(
        text=(" " if text[:1].isspace() else "") + clean(text),
        start=float(entry["start"]),
        end=float(entry["end"]),
        probability=float(entry["probability"]),
        source=str(entry["source"]),
    )
