"""Where sound belongs on a recording's timeline: what packets' times say, against the samples so far. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from contract import RATE
from media import BACK, BEYOND

GAP = 0.1
"""Seconds. A smaller difference between clock and sound is rounding; a larger one is a hole that silence must fill."""

SLOWEST = 0.05
"""A clock that loses more than this share of the sound is not one to count by."""

NOTED = 1.0
"""Seconds lost by a clock that a user should know of."""

FREE = 1800.0
"""Seconds of silence that any recording may have where there is no sound: half an hour takes 58 MB."""

PER_SOUND = 30.0
"""Seconds of silence more for each second of sound that was decoded before. Voice codecs that send nothing while nobody
speaks still send a twentieth."""

PER_BYTE = 10 / (2 * RATE)
"""And for each byte of the file. A recording that is large for its sound has pictures, or the sound comes later; its
silence takes no more than ten times the file, which is what preflight asks for."""

NAMED = 3
"""Holes that are named one by one, the longest."""


@dataclass(kw_only=True)
class Timeline:
    """Counts the samples of one track; no sound is left out, whatever its clock says.

    The first sample is the container's start, and a time in the sound is the same time in the film: silence stands
    before sound that begins later and in holes between packets. After a jump, times are counted from the sound itself;
    a hole that is longer than the sound and the file's size make likely counts as a jump.
    """

    whole: float
    """Seconds that the container lasts by its header; 0: unknown."""
    size: int = 0
    """Bytes of the file; 0: unknown."""
    joined: bool = False
    """Whether the format's clock may jump forward where two pieces were joined."""
    position: int = 0
    """Samples so far."""
    shift: int = 0
    """Samples by which the clock's times are moved after jumps, and where it runs slow."""
    slow: int = 0
    """The part of ``shift`` that a slow clock made."""
    jumps: list[tuple[float, float]] = field(default_factory=list)
    """Of each jump: where in the sound, and by how much times are moved from then on (seconds)."""
    holes: list[tuple[float, float]] = field(default_factory=list)
    """Of each hole: where in the sound, and how long (seconds)."""
    silence: int = 0
    """Samples of silence that stand where there is no sound."""
    _before: int = 0
    _clock: list[tuple[float, float]] = field(default_factory=lambda: [(0.0, 0.0)])

    def place(self, time: float, *, covered: bool = False) -> int:
        """Samples of silence that belong before the sound at ``time`` (seconds on the clock, from the start).

        Args:
            covered: other streams have packets in what would be a hole.
        """
        lag = round(time * RATE) + self.shift - self.position
        step, self._before = lag - self._before, 0
        if lag > GAP * RATE:
            past_the_end = bool(self.whole) and (self.position + lag) / RATE >= self.whole + BEYOND
            jumped = self.position and self.joined and lag > BEYOND * RATE and not covered
            if past_the_end or jumped or self.silence + lag > self._most():
                self._jump(lag)
                return 0
            if self.position:
                self.holes.append((self.position / RATE, lag / RATE))
            self.silence += lag
            return lag
        if lag < -GAP * RATE:
            if self.position and step < -BACK * RATE:
                self._jump(lag)
            else:
                self.shift -= lag
                self.slow -= lag
                if self._clock[-1][0] == self.position / RATE:  # at the start: sound from before it
                    self._clock.pop()
                self._clock.append((self.position / RATE, (self.position - self.slow) / RATE))
        else:
            self._before = lag
        return 0

    def _most(self) -> float:
        """Samples of silence that the recording may have so far: a few bytes with a damaged clock make no gigabytes."""
        sound = self.position - self.silence
        return (FREE + PER_BYTE * self.size) * RATE + PER_SOUND * sound

    def _jump(self, lag: int) -> None:
        self.shift -= lag
        self.jumps.append((self.position / RATE, (self.shift - self.slow) / RATE))

    @property
    def lost(self) -> float:
        """Seconds by which the clock ran slow."""
        return self.slow / RATE

    def clock(self) -> list[list[float]]:
        """Pairs of seconds in the sound and on the recording's clock, between which both run evenly; [] when they agree.

        Empty, too, for a clock that is so slow that it says nothing.
        """
        if not self.slow or self.slow > SLOWEST * self.position:
            return []
        points = [*self._clock, (self.position / RATE, (self.position - self.slow) / RATE)]
        latest = accumulate((b for _, b in points), max)  # a clock that goes back shows nothing before what it showed
        return [[round(a, 3), round(b, 3)] for (a, _), b in zip(points, latest, strict=True)]

    def notes(self, promised: float | None) -> list[str]:
        """What a user should know of the clock.

        Args:
            promised: seconds of sound that the file announces.
        """
        notes = []
        if self.jumps:
            where = ", ".join(f"{at:.1f} s" for at, _ in self.jumps[:3]) + (" …" if len(self.jumps) > 3 else "")
            notes.append(f"its timestamps jump at {where}: later times are counted from the sound itself")
        if self.lost > NOTED:
            counted = "" if self.clock() else ": times are counted from the sound itself"
            notes.append(f"its clock runs slow: by {self.lost:.1f} s in {self.position / RATE:.1f} s{counted}")
        longest = sorted(self.holes, key=lambda hole: -hole[1])
        for at, length in sorted(longest[:NAMED]):
            notes.append(f"{length:.1f} s of sound are missing at {at:.1f} s: there is silence")
        if more := longest[NAMED:]:
            notes.append(f"{sum(length for _, length in more):.1f} s of sound are missing in {len(more)} more places")
        have = self.position / RATE
        if promised and self.position and not self.jumps and promised - have > max(2.0, 0.02 * promised):
            notes.append(f"the file is cut short: it has {have:.1f} s of {promised:.1f} s of sound")
        return notes


def data(timeline: Timeline) -> dict[str, Any]:
    """What later stages need to know of a track's clock (docs/job-format.md)."""
    return {
        "silence": round(timeline.silence / RATE, 3),
        "clock": timeline.clock(),
        "jumps": [[round(at, 3), round(by, 3)] for at, by in timeline.jumps],
    }
