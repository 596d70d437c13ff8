"""The words of a result as running text, so that sentences are whole, and back. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

LONGEST = 150
"""Words of one passage, but for those of its last segment."""

PAUSE = 3.0
"""Seconds without words, after which something else begins."""

ENDS = (".", "?", "!", "…", '."', '?"', '!"')


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """One word, where it stands in the result, and when it is said."""

    segment: int
    word: int
    text: str
    """Without spaces around it."""
    start: float
    """Seconds."""
    end: float
    first: bool
    """It begins a sentence: a capital there says nothing."""


@dataclass
class Passage:
    """Some sentences."""

    text: str = ""
    words: list[Spoken] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    """Where each word begins in :attr:`text`."""

    def add(self, word: Spoken) -> None:
        self.text += " " if self.text else ""
        self.starts.append(len(self.text))
        self.words.append(word)
        self.text += word.text

    def between(self, start: int, end: int) -> list[Spoken]:
        """The words that a part of the text touches."""
        first = max(bisect_right(self.starts, start) - 1, 0)
        return self.words[first : bisect_left(self.starts, end)]


def passages(segments: Sequence[dict[str, Any]]) -> Iterator[Passage]:
    """The passages of a result's segments, in their order."""
    passage, before, ended = Passage(), 0.0, True
    for k, segment in enumerate(segments):
        far = segment["start"] - before > PAUSE
        if passage.words and (far or len(passage.words) >= LONGEST):
            yield passage
            passage, ended = Passage(), True
        for n, word in enumerate(segment["words"]):
            text = " ".join(str(word["word"]).split())
            if text:
                passage.add(Spoken(segment=k, word=n, text=text, start=word["start"], end=word["end"], first=ended))
                ended = text.endswith(ENDS)
        before = segment["end"]
    if passage.words:
        yield passage
