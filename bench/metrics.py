"""Word error rate and diarization error rate, as benchmarks print them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

STEP = 0.01
"""Seconds a diarization frame lasts."""

_SMALL = dict(
    zip(
        map(str, range(21)),
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
            "twenty",
        ],
        strict=True,
    )
)


def words(text: str) -> list[str]:
    """Lower case, no punctuation, numbers up to twenty as words: what is compared is what was said."""
    return [_SMALL.get(w, w) for w in re.findall(r"[^\W_]+(?:'[^\W_]+)?", text.lower().replace("’", "'"))]


def word_errors(truth: str, heard: str) -> tuple[int, int]:
    """Edits (substituted, inserted, deleted words) and the number of true words."""
    a, b = words(truth), words(heard)
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (left != right))
    return row[-1], len(a)


@dataclass(frozen=True)
class Turn:
    """Seconds, and who."""

    start: float
    end: float
    speaker: str


def read_rttm(path: Path) -> list[Turn]:
    """The SPEAKER lines of an RTTM file."""
    fields = [line.split() for line in path.read_text().splitlines() if line.startswith("SPEAKER")]
    return [Turn(float(f[3]), float(f[3]) + float(f[4]), f[7]) for f in fields]


def diarization_error(truth: Sequence[Turn], found: Sequence[Turn], *, collar: float = 0.25) -> float:
    """(missed + false alarm + confused) / true speech time, with the best mapping of speakers.

    ``collar`` seconds on each side of every true boundary are left out, as NIST's md-eval does. Exact for up to seven
    speakers a side (all mappings are tried).
    """
    length = max([t.end for t in [*truth, *found]], default=0.0)
    frames = round(length / STEP)
    scored = [True] * frames
    for turn in truth:
        for edge in (turn.start, turn.end):
            for k in range(max(0, round((edge - collar) / STEP)), min(frames, round((edge + collar) / STEP))):
                scored[k] = False

    def active(turns: Sequence[Turn]) -> list[set[str]]:
        sets: list[set[str]] = [set() for _ in range(frames)]
        for turn in turns:
            for k in range(round(turn.start / STEP), min(frames, round(turn.end / STEP))):
                sets[k].add(turn.speaker)
        return sets

    real, guess = active(truth), active(found)
    total = wrong = 0
    together: dict[tuple[str, str], int] = {}
    possible = 0
    for k in range(frames):
        if not scored[k]:
            continue
        total += len(real[k])
        wrong += max(len(real[k]), len(guess[k]))
        possible += min(len(real[k]), len(guess[k]))
        for pair in itertools.product(real[k], guess[k]):
            together[pair] = together.get(pair, 0) + 1
    left = sorted({t.speaker for t in truth})
    right = sorted({t.speaker for t in found})
    if len(left) > len(right):
        left, right = right, left
        together = {(b, a): n for (a, b), n in together.items()}
    best = max(
        (
            sum(together.get(pair, 0) for pair in zip(left, chosen, strict=True))
            for chosen in itertools.permutations(right, len(left))
        ),
        default=0,
    )
    return (wrong - best) / total if total else float(wrong > 0)
