"""From words to sentences, each with one speaker."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from breaks import UNKNOWN, Language
from speakers import attributed

PAUSE = 1.2
"""Seconds of silence that end a sentence, whatever its punctuation."""


@dataclass(frozen=True, kw_only=True)
class Word:
    """A word with its times in seconds; ``text`` begins with the space before it, if there is one."""

    text: str
    start: float
    end: float
    probability: float = 0.0
    source: str = "whisper"
    channel: int | None = None
    """The channel that it was heard on, from 1 on, where channels are heard apart."""
    unsure: bool = False
    """Whether nothing that was heard supports it."""
    language: str | None = None
    """Its own, where each window of the recording was asked for its language."""
    sung: bool = False
    """Whether it is of a song."""


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """Consecutive words of one speaker (None: without diarization)."""

    words: tuple[Word, ...]
    speaker: str | None = None

    @property
    def start(self) -> float:
        return self.words[0].start

    @property
    def end(self) -> float:
        return self.words[-1].end

    @property
    def text(self) -> str:
        return "".join(w.text for w in self.words).strip()

    @property
    def sung(self) -> bool:
        """Whether it is of a song, and all of it."""
        return all(w.sung for w in self.words)

    @property
    def language(self) -> str | None:
        """Of its words, but for those that a person wrote; None: the recording's."""
        return next((w.language for w in self.words if w.language), None)


def unspaced(char: str) -> bool:
    """Whether a letter's script has no spaces between words: Chinese, Japanese, Thai, Lao, Burmese, Khmer.

    Korean has spaces, though its letters are as wide as Chinese ones.
    """
    code = ord(char)
    if 0x0E00 <= code <= 0x0EFF or 0x1000 <= code <= 0x109F or 0x1780 <= code <= 0x17FF:
        return True
    if 0x1100 <= code <= 0x11FF or 0x3130 <= code <= 0x318F or 0xA960 <= code <= 0xA97F or 0xAC00 <= code <= 0xD7FF:
        return False
    return unicodedata.east_asian_width(char) in "WF"


def clean(text: str) -> str:
    """A text on one line: control characters and line ends become spaces, and several spaces become one.

    Marks for right-to-left text and joined letters (category Cf) belong to the words and stay.
    """
    return " ".join("".join(" " if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in text).split())


def visible(text: str) -> bool:
    """Whether a character of a text stands for itself: marks need another to stand on."""
    return any(not c.isspace() and not is_mark(c) for c in text)


def is_mark(char: str) -> bool:
    """Whether a character belongs to the one before it: an accent, a vowel sign, a tone mark, a joiner."""
    return unicodedata.category(char) in ("Cf", "Mc", "Me", "Mn")


CLINGS = set("、。，．！？：；」』）】〉》…ー々ぁぃぅぇぉっゃゅょァィゥェォッャュョ,.!?:;)]}”’%ะาำๅๆฯະາຳຯໆ")
"""Characters that must not begin a line: closing punctuation, small kana (the core of the Japanese and Chinese rules),
and the vowels that Thai and Lao write behind a consonant."""

CARRIES = set("เแโใไເແໂໃໄ「『（【〈《“‘([{")
"""Characters that must not end a line: vowels that Thai and Lao write before a consonant, and opening brackets."""

_NUMBER = re.compile(r"[0-9][.,:]?$")


def continues(before: str, text: str, *, same: bool) -> bool:
    """Whether an entry that had no space before it belongs to the word before: models cut words into tokens.

    Args:
        same: both are of one segment; at a segment's start only numbers and marks go on.
    """
    first = text[0]
    if is_mark(first) or first in CLINGS or before[-1] in CARRIES:
        return True
    if unspaced(first) or unspaced(before[-1]):
        return False
    return same or (first.isdigit() and _NUMBER.search(before) is not None)


def read_words(segments: list[dict[str, Any]], duration: float) -> list[Word]:
    """The words of a result, each channel's in order, between 0 and ``duration`` seconds; no character is left out."""
    channels: dict[int | None, list[Word]] = {}
    for segment in segments:
        words = channels.setdefault(segment.get("channel"), [])
        _read_segment(segment, words, duration)
    return sorted(
        (word for words in channels.values() for word in words), key=lambda word: (word.start, word.channel or 0)
    )


def _read_segment(segment: dict[str, Any], words: list[Word], duration: float) -> None:
    """Add a segment's words to those before it on its channel."""
    pending = ""  # marks before the first letter
    for k, entry in enumerate(segment["words"] or spread(segment["text"], segment["start"], segment["end"])):
        text = clean(entry["word"])
        if not text:
            continue
        before = words[-1] if words else None
        space = entry["word"][:1].isspace()
        if not visible(text) and before is None:
            pending += text
            continue
        text, pending = pending + text, ""
        start = min(max(entry["start"], before.start if before else 0.0), duration)
        end = min(max(entry["end"], start), duration)
        if before and (not visible(text) or (not space and continues(before.text, text, same=k > 0))):
            words[-1] = replace(
                before,
                text=before.text + text,
                end=max(before.end, end),
                probability=min(before.probability, entry["probability"]),
                unsure=before.unsure or entry.get("unsure") is True,
            )
            continue
        if space or (k == 0 and words and not unspaced(text[0])):
            text = " " + text
        words.append(
            Word(
                text=text,
                start=start,
                end=end,
                probability=entry["probability"],
                source=entry.get("source", "whisper"),
                channel=segment.get("channel"),
                unsure=entry.get("unsure") is True,
                language=segment.get("language"),
            )
        )


def spread(text: str, start: float, end: float) -> list[dict[str, Any]]:
    """Words of a segment without word times: each gets a share of the time by its length."""
    parts = clean(text).split(" ")
    total = sum(map(len, parts)) or 1
    edges = [start + (end - start) * n / total for n in accumulate(map(len, parts), initial=0)]
    return [
        {"word": f" {part}", "start": round(a, 3), "end": round(b, 3), "probability": 0.0}
        for part, a, b in zip(parts, edges[:-1], edges[1:], strict=True)
    ]


def sentences(words: list[Word], turns: list[dict[str, Any]] | None, language: Language = UNKNOWN) -> list[Sentence]:
    """Cut words at punctuation, long pauses, and where another speaker begins.

    Words that were heard on channels apart keep their channel as their speaker.

    Args:
        turns: of diarization; None without it.
        language: of the words.
    """
    channels = sorted({w.channel for w in words if w.channel is not None})
    if channels:
        said = [
            Sentence(words=tuple(group), speaker=f"S{channel}")
            for channel in channels
            for group, _ in _groups([w for w in words if w.channel == channel], None, language)
        ]
        return sorted(said, key=lambda s: (s.start, s.end))
    who = attributed(words, turns, language) if turns else None
    return [Sentence(words=tuple(group), speaker=speaker) for group, speaker in _groups(words, who, language)]


def _groups(words: list[Word], who: list[str] | None, language: Language) -> list[tuple[list[Word], str | None]]:
    """Sentences with their speakers; ``who`` says each word."""
    groups: list[tuple[list[Word], str | None]] = []
    for k, word in enumerate(words):
        speaker = who[k] if who else None
        before = groups[-1][0][-1] if groups else None
        if (
            before is None
            or speaker != groups[-1][1]
            or (word.language and before.language and word.language != before.language)
            or word.start - before.end > PAUSE
            or language.ends(before.text, word.text)
        ):
            groups.append(([], speaker))
        groups[-1][0].append(word)
    return groups


def with_text(word: Word, text: str, start: float, end: float) -> Word:
    """A part of a word, with its own times in seconds."""
    return replace(word, text=text, start=start, end=end)
