"""Diarization error rate: who speaks when, against who really did. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

COLLAR = 0.25
"""Seconds on each side of a true turn's start and end that don't count, as in NIST's Rich Transcription evaluations."""

MOST_SPEAKERS = 200
"""Speakers of a reference; the assignment of names takes their number to the third power."""


@dataclass(frozen=True, kw_only=True)
class SpeakerTurn:
    """Somebody speaks: seconds, and who."""

    start: float
    end: float
    speaker: str


@dataclass(frozen=True, kw_only=True)
class SpeakerErrors:
    """Seconds of a speaker's time; where two speak at once, each counts."""

    missed: float = 0.0
    """Nobody was found for them."""
    invented: float = 0.0
    """Somebody was found where nobody speaks: the false alarm."""
    confused: float = 0.0
    """Somebody else was found."""
    total: float = 0.0
    """All that really is spoken."""

    def __add__(self, other: SpeakerErrors) -> SpeakerErrors:
        return SpeakerErrors(
            missed=self.missed + other.missed,
            invented=self.invented + other.invented,
            confused=self.confused + other.confused,
            total=self.total + other.total,
        )

    @property
    def rate(self) -> float | None:
        """The diarization error rate; None where nobody really speaks."""
        return (self.missed + self.invented + self.confused) / self.total if self.total else None


def speaker_errors(
    truth: Sequence[SpeakerTurn], found: Sequence[SpeakerTurn], *, collar: float = COLLAR
) -> SpeakerErrors:
    """The errors with the assignment of names that makes them least; overlapped speech is scored.

    Exact (no frames), so that it is what pyannote.metrics computes with twice this collar. A turn without length is none.

    Args:
        collar: seconds on each side of every true boundary that are left out.
    """
    missed = invented = both = total = 0.0
    together: dict[tuple[str, str], float] = {}
    for seconds, real, guessed in _stretches(truth, found, collar):
        total += seconds * len(real)
        missed += seconds * max(0, len(real) - len(guessed))
        invented += seconds * max(0, len(guessed) - len(real))
        both += seconds * min(len(real), len(guessed))
        for one in real:
            for other in guessed:
                together[one, other] = together.get((one, other), 0.0) + seconds
    return SpeakerErrors(missed=missed, invented=invented, confused=max(0.0, both - _best(together)), total=total)


def _stretches(
    truth: Sequence[SpeakerTurn], found: Sequence[SpeakerTurn], collar: float
) -> Iterator[tuple[float, list[str], list[str]]]:
    """Seconds in which nothing changes, with those who really speak then, and those who were found; no collars."""
    events: list[tuple[float, int, int, str]] = []
    for side, turns in enumerate((truth, found)):
        for turn in turns:
            if turn.end > turn.start:
                events += [(turn.start, side, 1, turn.speaker), (turn.end, side, -1, turn.speaker)]
                if side == 0 and collar > 0:
                    for edge in (turn.start, turn.end):
                        events += [(edge - collar, 2, 1, ""), (edge + collar, 2, -1, "")]
    active: tuple[Counter[str], Counter[str], Counter[str]] = (Counter(), Counter(), Counter())
    before = -math.inf
    for at, side, change, who in sorted(events):
        if at > before > -math.inf and not active[2] and (active[0] or active[1]):
            yield at - before, sorted(active[0]), sorted(active[1])
        before = at
        active[side][who] += change
        if not active[side][who]:
            del active[side][who]


def _best(together: Mapping[tuple[str, str], float]) -> float:
    """The most seconds that right names can have, when each true speaker is called by one found name and no two by the same.

    The Hungarian method with potentials (Kuhn 1955, Munkres 1957), in O(n²·m).
    """
    rows, columns = sorted({a for a, _ in together}), sorted({b for _, b in together})
    if len(rows) > len(columns):
        rows, columns = columns, rows
        together = {(b, a): seconds for (a, b), seconds in together.items()}
    cost = [[-together.get((a, b), 0.0) for b in columns] for a in rows]
    height, width = len(rows), len(columns)
    row_price, column_price = [0.0] * (height + 1), [0.0] * (width + 1)
    owner = [0] * (width + 1)
    """Column -> its row, both from 1 on; 0: none."""
    for row in range(1, height + 1):
        owner[0], column = row, 0
        least, came, seen = [math.inf] * (width + 1), [0] * (width + 1), [False] * (width + 1)
        while True:
            seen[column], here, delta, following = True, owner[column], math.inf, 0
            for j in range(1, width + 1):
                if seen[j]:
                    continue
                price = cost[here - 1][j - 1] - row_price[here] - column_price[j]
                if price < least[j]:
                    least[j], came[j] = price, column
                if least[j] < delta:
                    delta, following = least[j], j
            for j in range(width + 1):
                if seen[j]:
                    row_price[owner[j]] += delta
                    column_price[j] -= delta
                else:
                    least[j] -= delta
            column = following
            if owner[column] == 0:
                break
        while column:
            owner[column] = owner[came[column]]
            column = came[column]
    return -sum(cost[owner[j] - 1][j - 1] for j in range(1, width + 1) if owner[j])


def turns_of_rttm(text: str) -> tuple[SpeakerTurn, ...]:
    """The SPEAKER lines of an RTTM file (NIST Rich Transcription Time Marked); other lines are left out.

    Raises:
        ValueError: a line isn't one, with its number; or there are more than :data:`MOST_SPEAKERS`.
    """
    turns = []
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split()
        if fields[:1] != ["SPEAKER"]:
            continue
        try:
            start, length, speaker = float(fields[3]), float(fields[4]), fields[7]
        except (ValueError, IndexError):
            raise ValueError(f"line {number} is not one of RTTM") from None
        if not (0 <= start < math.inf and 0 <= length < math.inf):
            raise ValueError(f"line {number} has a time that can't be")
        turns.append(SpeakerTurn(start=start, end=start + length, speaker=speaker))
    if len({turn.speaker for turn in turns}) > MOST_SPEAKERS:
        raise ValueError(f"it has more than {MOST_SPEAKERS} speakers")
    return tuple(turns)
