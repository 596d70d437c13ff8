"""From words to sentences, each with one speaker."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

PAUSE = 1.2
"""Seconds of silence that end a sentence, whatever its punctuation."""

BREATH = 0.3
"""Seconds of silence at which another speaker may take over within a sentence."""

OWN_TIME, OWN_WORDS = 1.5, 4
"""Seconds and words that each speaker must have for a sentence to be divided: less is often a mistake of diarization."""

ENDS = (".", "?", "!", "…", "。", "？", "！", "।", "؟", "۔")
_CLOSERS = "\"'”’»)]}」』）"
_TITLES = {"mr.", "mrs.", "ms.", "dr.", "st.", "prof.", "sr.", "jr.", "vs.", "e.g.", "i.e.", "no."}


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


def sentences(words: list[Word], turns: list[dict[str, Any]] | None) -> list[Sentence]:
    """Cut words at punctuation and long pauses. Speakers get whole sentences: word by word, single ones would be wrong.

    Words that were heard on channels apart keep their channel as their speaker.

    Args:
        turns: of diarization; None without it.
    """
    channels = sorted({w.channel for w in words if w.channel is not None})
    if channels:
        said = [
            Sentence(words=tuple(group), speaker=f"S{channel}")
            for channel in channels
            for group in _groups([w for w in words if w.channel == channel])
        ]
        return sorted(said, key=lambda s: (s.start, s.end))
    groups = _groups(words)
    if not turns:
        return [Sentence(words=tuple(group)) for group in groups]
    floor = Floor(turns)
    return [Sentence(words=tuple(part), speaker=who) for group in groups for part, who in _takeovers(group, floor)]


def _groups(words: list[Word]) -> list[list[Word]]:
    groups: list[list[Word]] = []
    for word in words:
        if not groups or word.start - groups[-1][-1].end > PAUSE or _ends(groups[-1][-1].text, word.text):
            groups.append([])
        groups[-1].append(word)
    return groups


class Floor:
    """Who speaks when: turns with an index, since a long recording has thousands."""

    def __init__(self, turns: list[dict[str, Any]]) -> None:
        self.turns = sorted(turns, key=lambda t: (t["start"], t["end"]))
        self.starts = [t["start"] for t in self.turns]
        # Turns may overlap, so this is the latest end so far: a search by it misses none.
        self.ends = list(accumulate((t["end"] for t in self.turns), max))

    def speaker(self, words: list[Word]) -> str:
        """The speaker whose turns cover most of the words' time, or the nearest turn's when none covers any."""
        votes: dict[str, float] = {}
        for word in words:
            for turn in self.turns[bisect_right(self.ends, word.start) : bisect_left(self.starts, word.end)]:
                common = min(word.end, turn["end"]) - max(word.start, turn["start"])
                if common > 0:
                    votes[turn["speaker"]] = votes.get(turn["speaker"], 0.0) + common
        if votes:
            return max(sorted(votes), key=lambda name: votes[name])
        middle = (words[0].start + words[-1].end) / 2
        return str(min(self.turns, key=lambda t: max(t["start"] - middle, middle - t["end"]))["speaker"])


def _takeovers(group: list[Word], floor: Floor) -> list[tuple[list[Word], str]]:
    """The sentence, or its parts where another speaker clearly takes over at a pause without a full stop."""
    chunks: list[list[Word]] = [[group[0]]]
    for before, word in pairwise(group):
        if word.start - before.end >= BREATH:
            chunks.append([])
        chunks[-1].append(word)
    parts: list[tuple[list[Word], str]] = []
    for chunk in chunks:
        who = floor.speaker(chunk)
        if parts and parts[-1][1] == who:
            parts[-1][0].extend(chunk)
        else:
            parts.append((list(chunk), who))
    if all(len(p) >= OWN_WORDS and p[-1].end - p[0].start >= OWN_TIME for p, _ in parts):
        return parts
    return [(group, floor.speaker(group))]


def with_text(word: Word, text: str, start: float, end: float) -> Word:
    """A part of a word, with its own times in seconds."""
    return replace(word, text=text, start=start, end=end)


def _ends(text: str, following: str) -> bool:
    """Whether a sentence ends with the word ``text``."""
    bare = text.strip().rstrip(_CLOSERS)
    if not bare.endswith(ENDS) or bare.lower() in _TITLES:
        return False
    if len(bare) == 2 and bare[0].isupper() and bare[1] == ".":  # the initial of a name
        return False
    # "Well... maybe" has a pause, not an end.
    return not (bare.endswith(("...", "…")) and following.strip()[:1].islower())
