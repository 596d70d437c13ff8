"""From times in the sound to times on the recording's own clock, where the two drift apart. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from cues import Cue
from sentences import Word


@dataclass(frozen=True)
class Clock:
    """Pairs of seconds in the sound and on the clock, between which both run evenly (docs/job-format.md)."""

    points: Sequence[Sequence[float]]
    """In order; none: they agree."""
    offset: float = 0.0
    """Seconds that are added: where a cut was taken from."""

    def at(self, time: float) -> float:
        """The clock's time of a moment in the sound; both in seconds, rounded to a millisecond."""
        if len(self.points) > 1:
            k = min(max(bisect_right([p[0] for p in self.points], time) - 1, 0), len(self.points) - 2)
            (a, b), (c, d) = self.points[k], self.points[k + 1]
            time = b + (time - a) * ((d - b) / (c - a) if c > a else 1.0)
        return round(max(time + self.offset, 0.0), 3)

    def back(self) -> Clock:
        """From the clock's times to the sound's; without the offset."""
        return Clock([(there, here) for here, there in self.points])

    def word(self, word: Word) -> Word:
        """A word at its place on the clock."""
        return replace(word, start=self.at(word.start), end=self.at(word.end))

    def turn(self, turn: dict[str, Any]) -> dict[str, Any]:
        """A speaker's turn at its place on the clock."""
        return turn | {"start": self.at(turn["start"]), "end": self.at(turn["end"])}

    def cue(self, cue: Cue) -> Cue:
        """A cue at its place on the clock, with its words."""
        return replace(cue, start=self.at(cue.start), end=self.at(cue.end), words=tuple(map(self.word, cue.words)))
