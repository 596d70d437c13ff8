"""Diarization error rate, exact in time, as pyannote.metrics computes it (``DiarizationErrorRate``, overlap scored).

A package that computes it would bring a training framework's friends; tests/unit/test_speech_der.py compares with its figures.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from metrics import Turn

Span = tuple[float, float]


@dataclass(frozen=True)
class Errors:
    """Seconds of each kind of error, and of true speech (overlap counts for each who speaks)."""

    missed: float
    alarm: float
    confused: float
    total: float

    @property
    def rate(self) -> float:
        """All errors / true speech; without true speech 0, or 1 when something was found."""
        wrong = self.missed + self.alarm + self.confused
        return wrong / self.total if self.total else float(wrong > 0)


def merged(turns: Sequence[Turn]) -> list[Turn]:
    """Turns of one speaker that touch or overlap as one."""
    found: list[Turn] = []
    for who in sorted({t.speaker for t in turns}):
        start = end = None
        for turn in sorted((t for t in turns if t.speaker == who and t.end > t.start), key=lambda t: t.start):
            if end is None or start is None or turn.start > end:
                if start is not None and end is not None:
                    found.append(Turn(start, end, who))
                start, end = turn.start, turn.end
            else:
                end = max(end, turn.end)
        if start is not None and end is not None:
            found.append(Turn(start, end, who))
    return found


def scored(truth: Sequence[Turn], found: Sequence[Turn], collar: float) -> list[Span]:
    """What counts: from the first to the last instant of both, without ``collar`` seconds beside every true boundary."""
    everything = [*truth, *found]
    first, last = min(t.start for t in everything), max(t.end for t in everything)
    out = sorted((edge - collar, edge + collar) for t in truth for edge in (t.start, t.end)) if collar else []
    spans: list[Span] = []
    at = first
    for a, b in out:
        if a > at:
            spans.append((at, min(a, last)))
        at = max(at, b)
    if at < last:
        spans.append((at, last))
    return spans


def pieces(truth: Sequence[Turn], found: Sequence[Turn], collar: float) -> list[tuple[float, set[str], set[str]]]:
    """Stretches in which nothing changes: seconds, who speaks in truth, who was found."""
    spans = scored(truth, found, collar)
    edges = sorted({e for t in [*truth, *found] for e in (t.start, t.end)} | {e for s in spans for e in s})
    sides: list[list[set[str]]] = [[set() for _ in edges] for _ in range(2)]
    for side, turns in zip(sides, (truth, found), strict=True):
        for turn in turns:
            for k in range(bisect.bisect_left(edges, turn.start), bisect.bisect_left(edges, turn.end)):
                side[k].add(turn.speaker)
    inside: list[bool] = [False] * len(edges)
    for a, b in spans:
        for k in range(bisect.bisect_left(edges, a), bisect.bisect_left(edges, b)):
            inside[k] = True
    return [
        (edges[k + 1] - edges[k], sides[0][k], sides[1][k])
        for k in range(len(edges) - 1)
        if inside[k] and (sides[0][k] or sides[1][k])
    ]


def mapping(together: dict[tuple[str, str], float]) -> dict[str, str]:
    """Found speaker -> true speaker, one to one, so that they speak together for the longest time.

    The assignment problem by successive shortest paths (Jonker and Volgenant's form of the Hungarian method).
    """
    rows = sorted({a for a, _ in together})
    columns = sorted({b for _, b in together})
    size = max(len(rows), len(columns))
    cost = [[0.0] * size for _ in range(size)]
    for (a, b), seconds in together.items():
        cost[rows.index(a)][columns.index(b)] = -seconds
    chosen = assign(cost)
    pairs = [(rows[r], columns[c]) for r, c in enumerate(chosen) if r < len(rows) and c < len(columns)]
    return {b: a for a, b in pairs if together.get((a, b), 0.0) > 0}


def assign(cost: list[list[float]]) -> list[int]:
    """The column of each row of a square matrix, so that the sum is least."""
    size = len(cost)
    by_row, by_column = [0.0] * (size + 1), [0.0] * (size + 1)
    owner, way = [0] * (size + 1), [0] * (size + 1)
    for row in range(1, size + 1):
        owner[0], column = row, 0
        least, used = [float("inf")] * (size + 1), [False] * (size + 1)
        while owner[column]:
            used[column] = True
            r, step, nearest = owner[column], float("inf"), 0
            for c in range(1, size + 1):
                if used[c]:
                    continue
                gap = cost[r - 1][c - 1] - by_row[r] - by_column[c]
                if gap < least[c]:
                    least[c], way[c] = gap, column
                if least[c] < step:
                    step, nearest = least[c], c
            for c in range(size + 1):
                if used[c]:
                    by_row[owner[c]] += step
                    by_column[c] -= step
                else:
                    least[c] -= step
            column = nearest
        while column:
            owner[column] = owner[way[column]]
            column = way[column]
    found = [0] * size
    for column in range(1, size + 1):
        found[owner[column] - 1] = column - 1
    return found


def errors(truth: Sequence[Turn], found: Sequence[Turn], *, collar: float = 0.25) -> Errors:
    """Compare who spoke when with what was found.

    Args:
        truth: may overlap.
        collar: seconds on each side of every true boundary that don't count (pyannote.metrics' ``collar`` is twice that).
    """
    truth, found = merged(truth), merged(found)
    if not truth and not found:
        return Errors(0.0, 0.0, 0.0, 0.0)
    parts = pieces(truth, found, collar)
    together: dict[tuple[str, str], float] = {}
    for seconds, real, guess in parts:
        for a in real:
            for b in guess:
                together[a, b] = together.get((a, b), 0.0) + seconds
    same = mapping(together)
    missed = alarm = confused = total = 0.0
    for seconds, real, guess in parts:
        right = len(real & {same[g] for g in guess if g in same})
        total += seconds * len(real)
        missed += seconds * max(0, len(real) - len(guess))
        alarm += seconds * max(0, len(guess) - len(real))
        confused += seconds * (min(len(real), len(guess)) - right)
    return Errors(missed, alarm, confused, total)
