"""What is translated at a time: what one person says in one go, at most a segment of the recognition. Pure."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

LEAST = 2
"""Words that another speaker says at least before a segment is cut at a turn: turns begin a little early or late."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A text with its span in seconds of the sound."""

    start: float
    end: float
    text: str
    channel: int | None = None
    """The channel that it was heard on, from 1 on, where channels are heard apart."""
    language: str | None = None
    """Its own, where each window of the recording was asked for its language."""
    speaker: str | None = None

    def told(self, text: str) -> Line:
        """The same span with another text, in whatever language."""
        return replace(self, text=clean(text), language=None)

    def data(self) -> dict[str, Any]:
        """As ``work/translate/<in>.json`` has it."""
        found = {"start": round(self.start, 3), "end": round(self.end, 3), "text": self.text}
        return found if self.channel is None else found | {"channel": self.channel}


def clean(text: str) -> str:
    """A text on one line, without control characters."""
    return " ".join("".join(" " if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in text).split())


def cut(segments: Sequence[dict[str, Any]], turns: Sequence[dict[str, Any]] | None) -> list[Line]:
    """The lines of a result, in the order of time.

    Args:
        segments: of asr or align, sorted by their starts.
        turns: of diarize, which end a line where another speaks on; None without it, and where channels are apart.
    """
    who = None if not turns else _Turns(turns)
    found = []
    for segment in segments:
        words = [word for word in segment["words"] if word["word"].strip()]
        for group, speaker in _parts(words, who if segment.get("channel") is None else None):
            text = clean("".join(word["word"] for word in group))
            if text:
                found.append(
                    Line(
                        start=min(word["start"] for word in group),
                        end=max(word["end"] for word in group),
                        text=text,
                        channel=segment.get("channel"),
                        language=segment.get("language"),
                        speaker=speaker,
                    )
                )
    return found


class _Turns:
    """Who speaks at a time."""

    def __init__(self, turns: Sequence[dict[str, Any]]) -> None:
        ordered = sorted(turns, key=lambda t: (t["start"], t["end"]))
        self.starts = [turn["start"] for turn in ordered]
        self.names = [str(turn["speaker"]) for turn in ordered]

    def at(self, time: float) -> str:
        return self.names[max(bisect_right(self.starts, time) - 1, 0)]


def _parts(words: list[dict[str, Any]], turns: _Turns | None) -> Iterator[tuple[list[dict[str, Any]], str | None]]:
    """Words of a segment by speaker; a few words of another belong to those around them."""
    if not words:
        return
    if turns is None:
        yield words, None
        return
    runs: list[tuple[str, list[dict[str, Any]]]] = []
    for word in words:
        name = turns.at((word["start"] + word["end"]) / 2)
        if runs and runs[-1][0] == name:
            runs[-1][1].append(word)
        else:
            runs.append((name, [word]))
    whole: list[tuple[str, list[dict[str, Any]]]] = []
    for name, run in runs:
        if whole and (len(run) < LEAST or whole[-1][0] == name):
            whole[-1][1].extend(run)
        elif len(whole) == 1 and len(whole[0][1]) < LEAST:
            whole[0] = name, [*whole[0][1], *run]
        else:
            whole.append((name, run))
    for name, run in whole:
        yield run, name
