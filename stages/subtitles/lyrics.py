"""Words that are sung: which they are, by what the stage music heard, and what they look like. Pure; times in seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sentences import Sentence, Word
from speakers import Floor

if TYPE_CHECKING:
    from clock import Clock

NOTE = "♪"

COLUMNS = 4
"""Those of a line that are kept for notes: one and a space on each side."""

MOSTLY = 0.8
"""The part of a sentence's time that has to be singing: one that begins or ends in speech is nobody's lyrics."""

WHY = "sung, and lyrics are left out"

KEEP, DROP = "keep", "drop"


@dataclass(frozen=True, kw_only=True)
class Lyrics:
    """What becomes of words that are sung."""

    mode: str
    """The setting ``lyrics`` of the stage music."""
    singing: Mapping[int | None, Floor]
    """Channel (None: all together) -> where somebody sings, on the film's own clock."""

    def sung(self, sentence: Sentence) -> bool:
        """Whether most of a sentence is singing."""
        floor = self.singing.get(sentence.words[0].channel) or self.singing.get(None)
        length = max(sentence.end - sentence.start, 0.001)
        return floor is not None and floor.common(sentence.start, sentence.start + length) >= MOSTLY * length

    def marked(self, said: Iterable[Sentence]) -> list[Sentence]:
        """The sentences; the words of those that are sung say so."""
        return [replace(s, words=tuple(replace(w, sung=True) for w in s.words)) if self.sung(s) else s for s in said]


def read(result: dict[str, Any], mode: str, clock: Clock) -> Lyrics:
    """What a result of the stage music says.

    Args:
        clock: from the sound's times to the film's.
    """
    lanes = dict(enumerate(result.get("channels") or [], 1)) or {None: result}
    singing = {
        channel: Floor([(clock.at(start), clock.at(end)) for start, end in lane["singing"]])
        for channel, lane in lanes.items()
    }
    return Lyrics(mode=mode, singing=singing)


def spoken(said: Iterable[Sentence]) -> list[Sentence]:
    """The sentences that aren't sung."""
    return [s for s in said if not s.sung]


def changes(said: Iterable[Sentence], clock: Clock) -> list[dict[str, Any]]:
    """What is left out, as a job lists what was changed; on the sound's clock.

    Args:
        clock: from the sound's times to the film's.
    """
    back = clock.back()
    return [
        {"start": back.at(s.start), "end": back.at(s.end), "before": s.text, "after": "", "why": WHY}
        for s in said
        if s.sung
    ]


def noted(words: Sequence[Word]) -> list[Word]:
    """Words between notes."""
    found = list(words)
    first = found[0].text
    space = first[: len(first) - len(first.lstrip())]
    found[0] = replace(found[0], text=f"{space}{NOTE} {first.lstrip()}")
    found[-1] = replace(found[-1], text=f"{found[-1].text.rstrip()} {NOTE}")
    return found


def shown(said: Iterable[Sentence]) -> list[Sentence]:
    """Sentences as text without markup has them: those that are sung between notes."""
    return [replace(s, words=tuple(noted(s.words))) if s.sung else s for s in said]
