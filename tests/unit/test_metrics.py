"""Error rates that benchmarks print, against cases computed by hand."""

from __future__ import annotations

import pytest
from metrics import Turn, diarization_error, word_errors


@pytest.mark.parametrize(
    ("truth", "heard", "errors", "count"),
    [
        ("a b c", "a b c", 0, 3),
        ("Hello, world!", "hello world", 0, 2),
        ("zero, twenty years", "0 20 years.", 0, 3),
        ("twenty-one", "twenty 1", 0, 2),
        ("a b c d", "a x c", 2, 4),
        ("a b c d", "d a b c", 2, 4),
        ("a", "a b c", 2, 1),
        ("a b", "", 2, 2),
        ("", "a b", 2, 0),
        ("It’s fine", "it's fine", 0, 2),
    ],
)
def test_word_errors_are_edits_of_normalised_words(truth: str, heard: str, errors: int, count: int) -> None:
    """Case, punctuation and the spelling of small numbers don't count."""
    assert word_errors(truth, heard) == (errors, count)


TRUTH = [Turn(0, 10, "A"), Turn(10, 20, "B")]


@pytest.mark.parametrize(
    ("found", "rate"),
    [
        ([Turn(0, 10, "x"), Turn(10, 20, "y")], 0.0),
        ([Turn(0, 10.2, "x"), Turn(10.2, 20, "y")], 0.0),  # inside the collar
        ([Turn(0, 20, "x")], 9.5 / 19),  # everything of B confused
        ([Turn(0, 10, "x")], 9.5 / 19),  # everything of B missed
        ([], 1.0),
        ([Turn(0, 10, "y"), Turn(10, 15, "x"), Turn(15, 20, "z")], 4.75 / 19),
    ],
)
def test_diarization_error_counts_missed_false_and_confused_time(found: list[Turn], rate: float) -> None:
    """With the best mapping of speakers, and a quarter of a second around each true boundary left out."""
    assert diarization_error(TRUTH, found) == pytest.approx(rate, abs=0.02)


def test_names_of_speakers_do_not_matter() -> None:
    """Only who speaks when."""
    swapped = [Turn(0, 10, "B"), Turn(10, 20, "A")]
    assert diarization_error(TRUTH, swapped) == 0.0
