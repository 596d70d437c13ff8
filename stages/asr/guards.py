"""What a model writes that nobody said: loops, words by the hundred, phrases it knows from films' ends. Pure."""

from __future__ import annotations

import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from words import Word, common

FEWEST = 10
"""Words below which nothing is taken for a loop or for too quick."""

QUICKEST = 9.0
"""Words a second that nobody says for long; the quickest speakers reach 8."""

LETTERS = 30.0
"""The same where a letter or two are a word to the model, as in Thai and Burmese: a syllable has up to four of them."""

BURST = 2.5
"""By which factor a few words in a row must be quicker than :data:`QUICKEST` to be left out by themselves: a model that has
nothing to hear writes the rest of its text in no time."""

LOOP = 30
"""Words that may be nothing but repetitions."""

RATIO = 2.4
"""Size by which a text packs, from which it is repetitive: Whisper's own threshold."""

DOUBTFUL = -1.0
"""Mean logarithm of the tokens' probabilities below which a window is heard again: Whisper's own threshold."""

UNSURE = 0.4
"""Mean probability of a segment's words below which nothing supports them but the model's habit."""

AROUND, VAGUE = 8.0, 0.65
"""Seconds before and after a word, and the mean probability of all words there, below which it is unsure. Of speech in a
language that the model doesn't know, 94 % of the words are below it, of reversed speech half, of meetings 4 %, of clear
speech none (tiny.en and base)."""

FIRM = 0.85
"""Mean probability of a segment's words from which what is around it doesn't matter."""

PHANTOM = 0.7
"""The same for :data:`PHRASES`."""

PHRASES = (
    "thank you for watching",
    "thanks for watching",
    "please subscribe",
    "subscribe to my channel",
    "see you in the next video",
    "amara.org",
    "untertitel im auftrag des zdf",
    "untertitelung des zdf",
    "sous-titrage",
    "sottotitoli creati dalla comunità",
    "subtítulos realizados por",
    "продолжение следует",
    "субтитры сделал",
    "ご視聴ありがとうございました",
    "字幕",
    "시청해주셔서 감사합니다",
)
"""What is said at the end of films whose subtitles the model learned from. People say such things too: they count as
invented only where the sound doesn't support them."""

REPEATS = "repeats itself"
QUICK = "too many words a second"
CONFIDENCE = "below confidence"
INVENTED = "a phrase that models invent"
NOTHING = "no words found"
SILENCE = "no speech in it"
FAILED = "decoding failed"

WRITTEN = (REPEATS, QUICK, CONFIDENCE, INVENTED)
"""Reasons that mean: the model wrote something there, and it was left out."""


def impossible(words: Sequence[Word]) -> str | None:
    """Why nobody can have said these consecutive words of a segment; None: somebody can."""
    if len(words) < FEWEST:
        return None
    seconds = max(words[-1]["end"] - words[0]["start"], 0.02)
    if len(words) / seconds > quickest(words):
        return QUICK
    return REPEATS if repeats([w["word"].strip().lower() for w in words]) else None


def quickest(words: Sequence[Word]) -> float:
    """Words, or letters, a second that nobody says."""
    letters = sum(not (w["word"][:1].isspace() or w["word"].isascii()) for w in words)
    return LETTERS if letters > len(words) / 2 else QUICKEST


def bursts(words: Sequence[Word]) -> list[bool]:
    """For each word, whether it is one of :data:`FEWEST` in a row that nobody can have said in their time."""
    quick = [False] * len(words)
    least = FEWEST / (BURST * quickest(words)) if words else 0.0
    for k in range(len(words) - FEWEST + 1):
        if words[k + FEWEST - 1]["end"] - words[k]["start"] < least:
            quick[k : k + FEWEST] = [True] * FEWEST
    return quick


def repeats(words: Sequence[str]) -> bool:
    """Whether a few words fill a long segment over and over: up to four different words, each ten times or more."""
    return len(words) >= LOOP and len(words) >= 10 * len(set(words)) and len(set(words)) <= 4


def suspicious(words: Sequence[Word], likelihood: float) -> str | None:
    """Why a window is better heard again with other settings; None: no reason.

    Args:
        words: of the whole window.
        likelihood: mean logarithm of its tokens' probabilities.
    """
    if why := impossible(words):
        return why
    if packs("".join(w["word"] for w in words)) > RATIO:
        return REPEATS
    return CONFIDENCE if words and likelihood < DOUBTFUL else None


def packs(text: str) -> float:
    """How often smaller a text is when it is compressed: repetitions pack well."""
    data = text.strip().encode()
    return len(data) / len(zlib.compress(data)) if data else 0.0


def confidence(words: Sequence[Word]) -> float:
    """Mean probability of words; 1 without any."""
    return sum(w["probability"] for w in words) / len(words) if words else 1.0


def phantom(words: Sequence[Word], speech: Sequence[Sequence[float]]) -> bool:
    """Whether a segment is a phrase that models invent, and the sound doesn't support it: improbable, or not in speech."""
    text = "".join(w["word"] for w in words).casefold()
    if not any(phrase in text for phrase in PHRASES):
        return False
    start, end = words[0]["start"], words[-1]["end"]
    return confidence(words) < PHANTOM or common(speech, start, end) < 0.5 * (end - start)


def unsupported(words: Sequence[Word], speech: Sequence[Sequence[float]]) -> list[bool]:
    """For each word of a segment, whether nothing supports it: it lies outside of speech, or the segment is improbable."""
    whole = confidence(words) < UNSURE
    return [whole or not common(speech, w["start"] - 0.3, w["end"] + 0.3) for w in words]


def vague(words: Sequence[Word]) -> list[bool]:
    """For each word of a sound, in order, whether it and those around it are improbable together."""
    sums = list(accumulate((w["probability"] for w in words), initial=0.0))
    starts, found = [w["start"] for w in words], []
    for word in words:
        first = bisect_left(starts, word["start"] - AROUND)
        after = bisect_right(starts, word["start"] + AROUND)
        found.append((sums[after] - sums[first]) / (after - first) < VAGUE)
    return found


def better(new: Sequence[Word], old: Sequence[Word], chance: tuple[float, float]) -> bool:
    """Whether what was heard again is to replace what was heard first.

    Args:
        chance: mean logarithms of the tokens' probabilities, new and old.
    """
    if not new:
        return False
    faults: list[Any] = [impossible(mine) or packs("".join(w["word"] for w in mine)) > RATIO for mine in (new, old)]
    if bool(faults[0]) != bool(faults[1]):
        return not faults[0]
    return chance[0] > chance[1]
