"""Error rates that benchmarks print, against cases computed by hand."""

from __future__ import annotations

import pytest
from metrics import diarization_error, word_errors

from builder.core.compare.speakers import SpeakerTurn


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


TRUTH = [SpeakerTurn(start=0, end=10, speaker="A"), SpeakerTurn(start=10, end=20, speaker="B")]


@pytest.mark.parametrize(
    ("found", "rate"),
    [
        ([SpeakerTurn(start=0, end=10, speaker="x"), SpeakerTurn(start=10, end=20, speaker="y")], 0.0),
        (
            [SpeakerTurn(start=0, end=10.2, speaker="x"), SpeakerTurn(start=10.2, end=20, speaker="y")],
            0.0,
        ),  # inside the collar
        ([SpeakerTurn(start=0, end=20, speaker="x")], 9.5 / 19),  # everything of B confused
        ([SpeakerTurn(start=0, end=10, speaker="x")], 9.5 / 19),  # everything of B missed
        ([], 1.0),
        (
            [
                SpeakerTurn(start=0, end=10, speaker="y"),
                SpeakerTurn(start=10, end=15, speaker="x"),
                SpeakerTurn(start=15, end=20, speaker="z"),
            ],
            4.75 / 19,
        ),
    ],
)
def test_diarization_error_counts_missed_false_and_confused_time(found: list[SpeakerTurn], rate: float) -> None:
    """With the best mapping of speakers, and a quarter of a second around each true boundary left out."""
    assert diarization_error(TRUTH, found) == pytest.approx(rate, abs=0.02)


def test_names_of_speakers_do_not_matter() -> None:
    """Only who speaks when."""
    swapped = [SpeakerTurn(start=0, end=10, speaker="B"), SpeakerTurn(start=10, end=20, speaker="A")]
    assert diarization_error(TRUTH, swapped) == 0.0
