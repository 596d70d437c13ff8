"""Word error rate and diarization error rate, as benchmarks print them.

Words are compared by jiwer. The diarization error is computed here: the packages that do it bring a training framework,
and the definition is thirty lines.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jiwer

STEP = 0.01
"""Seconds a diarization frame lasts."""

_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
)


def words(text: str) -> list[str]:
    """Lower case, no punctuation, numbers up to twenty as words: what is compared is what was said."""
    small = {str(n): word for n, word in enumerate(_SMALL.split())}
    return [small.get(w, w) for w in re.findall(r"[^\W_]+(?:'[^\W_]+)?", text.lower().replace("’", "'"))]


def word_errors(truth: str, heard: str) -> tuple[int, int]:
    """Edits (substituted, inserted, deleted words) and the number of true words."""
    compared = jiwer.process_words(" ".join(words(truth)), " ".join(words(heard)))
    return compared.substitutions + compared.insertions + compared.deletions, len(words(truth))


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
