"""Word error rate and diarization error rate, as benchmarks print them.

Words are compared by jiwer. The diarization error is the product's own (builder/core/compare/speakers.py).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import jiwer

from builder.core.compare.speakers import COLLAR, SpeakerTurn, speaker_errors, turns_of_rttm

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


def read_rttm(path: Path) -> tuple[SpeakerTurn, ...]:
    """The SPEAKER lines of an RTTM file."""
    return turns_of_rttm(path.read_text())


def diarization_error(truth: Sequence[SpeakerTurn], found: Sequence[SpeakerTurn], *, collar: float = COLLAR) -> float:
    """(missed + false alarm + confused) / true speech time, with the best mapping of speakers; 1 where nobody speaks and
    somebody was found."""
    errors = speaker_errors(truth, found, collar=collar)
    return float(errors.invented > 0) if errors.rate is None else errors.rate
