"""What is known to be true of a recording, from the text of a file beside it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from builder.core.compare.speakers import SpeakerTurn
from builder.core.compare.words import SpokenWord, words_of

TEXTS = ("txt", "srt", "vtt")
"""Suffixes of a reference for the words; the first that is there is read."""

TURNS = "rttm"
"""Suffix of a reference for the speakers."""

OWN = ".reference"
"""What stands before the suffix of a file that is nothing but a reference: ``talk.reference.txt``."""

RESULTS = "json"
"""Suffix of a file that ``run --beside`` puts there with its other results: these are what a model heard."""

LARGEST = 16 << 20
"""Bytes of a reference that is read: a day of speech."""

TIME = r"(?:(\d{1,4}):)?(\d{1,2}):(\d{1,2})[,.](\d{1,3})"
TIMES = re.compile(rf"\s*{TIME}\s*-->\s*{TIME}")
TAG = re.compile(r"<[^<>\n]{0,200}>|\{\\[^{}\n]{0,200}\}")
NAMED = re.compile(r"(?:Speaker \d{1,3}|SPEAKER_\d{1,3}|S\d{1,3}):\s")
ANY_NAME = re.compile(r"[^\W\d_][^:.!?\n]{0,40}:\s")


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What is true of one recording, as far as files beside it say so."""

    words: tuple[SpokenWord, ...] | None = None
    words_file: str | None = None
    """The file's name."""
    turns: tuple[SpeakerTurn, ...] | None = None
    turns_file: str | None = None


NO_REFERENCE = Reference()
"""Nothing is known."""


def names_for(stem: str, *, suffixes: tuple[str, ...], results: bool) -> list[str]:
    """Names of the files that may be a recording's reference, the first that is there wins.

    Args:
        stem: the recording's name without its suffix.
        results: results of an earlier run lie beside it, so only a file that says that it is a reference is one.
    """
    sure = [f"{stem}{OWN}.{suffix}" for suffix in suffixes]
    return sure if results else sure + [f"{stem}.{suffix}" for suffix in suffixes]


def words_of_file(text: str, suffix: str, language: str | None) -> tuple[SpokenWord, ...]:
    """The words of a reference.

    Args:
        suffix: one of :data:`TEXTS`.
    """
    parts = _cues(text) if suffix in ("srt", "vtt") else ((None, line) for line in text.splitlines())
    said = [(start, part.strip()) for start, part in parts if part.strip()]
    name = ANY_NAME if suffix == "txt" and said and all(ANY_NAME.match(part) for _, part in said) else NAMED
    words: list[SpokenWord] = []
    for start, part in said:
        words += words_of(name.sub("", part, count=1) if name.match(part) else part, language, start=start)
    return tuple(words)


def _cues(text: str) -> Iterator[tuple[float | None, str]]:
    """Start and text of each subtitle of SubRip or WebVTT: the lines behind a line of times, up to an empty one."""
    start: float | None = None
    inside = False
    for line in text.splitlines():
        if match := TIMES.match(line):
            hours, minutes, seconds, rest = match.groups()[:4]
            start = int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds) + int(rest.ljust(3, "0")) / 1000
            inside = True
        elif not line.strip():
            inside = False
        elif inside:
            yield start, TAG.sub("", line)
