"""When an aligner's time replaces Whisper's: pure, so that tests need no aligner."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

FARTHEST = 0.35
"""Seconds. When an edge moves by more, the alignment is more often wrong than Whisper's time (measured)."""

SHORTEST = 0.02
"""Seconds that a word lasts at least."""

_WORD = re.compile(r"[a-z]+(?:'[a-z]+)*'?")


def tidy(word: str) -> str:
    """A word as pocketsphinx's dictionary spells it: lower case, no punctuation around it, straight apostrophes."""
    return word.strip().lower().replace("’", "'").strip("\"“”.,;:!?…()[]-–—' ")


def spellable(word: str) -> bool:
    """Whether a word has only letters and apostrophes: a digit's pronunciation isn't its spelling."""
    return _WORD.fullmatch(tidy(word)) is not None


def adopt(
    words: list[dict[str, Any]],
    times: Mapping[int, tuple[float, float]],
    duration: float,
    *,
    farthest: float = FARTHEST,
) -> None:
    """Move words to their aligned times where these are believable. All words stay in order and don't overlap.

    Args:
        words: of one segment, in order; changed in place (``start``, ``end`` in seconds, ``source``).
        times: the aligned start and end in seconds, by position in ``words``.
        duration: of the recording, in seconds; no time goes beyond it.
        farthest: seconds that an edge may move.
    """
    for k, (start, end) in times.items():
        word = words[k]
        if abs(start - word["start"]) <= farthest and abs(end - word["end"]) <= farthest:
            word["start"], word["end"] = round(start, 3), round(end, 3)
            word["source"] = "acoustic"
    floor = 0.0
    for k, word in enumerate(words):
        word["start"] = round(min(max(word["start"], floor), duration), 3)
        end = max(word["end"], word["start"] + SHORTEST)
        following = words[k + 1] if k + 1 < len(words) else None
        if following is not None and end > following["start"] and word["source"] == "whisper":
            # A measured time pushes an estimated one, not the other way round.
            end = max(following["start"], word["start"] + SHORTEST)
        word["end"] = round(min(end, duration), 3)
        floor = word["end"]


def apart(segments: Iterable[dict[str, Any]], duration: float) -> None:
    """Make words of neighbouring segments not overlap, on each channel, in place; segments begin and end with their words.

    An estimated time gives way to a measured one; of two of a kind, the word before ends where the next begins.

    Args:
        duration: of the recording, in seconds; no time goes beyond it.
    """
    channels: dict[Any, list[dict[str, Any]]] = {}
    spoken = [segment for segment in segments if segment["words"]]
    for segment in spoken:
        channels.setdefault(segment.get("channel"), []).extend(segment["words"])
    for words in channels.values():
        for word in words:
            word["start"], word["end"] = min(word["start"], duration), min(word["end"], duration)
        for before, word in pairwise(words):
            if before["end"] <= word["start"]:
                continue
            measured = before["source"] != "whisper" and word["source"] == "whisper" and before["end"] < word["end"]
            if not measured and before["start"] + SHORTEST <= word["start"]:
                before["end"] = word["start"]
            else:
                word["start"] = before["end"]
                word["end"] = max(word["end"], word["start"])
    for segment in spoken:
        segment["start"], segment["end"] = segment["words"][0]["start"], segment["words"][-1]["end"]
