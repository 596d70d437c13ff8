"""Who speaks when, against the truth: errors by hand, and properties of the rate."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.core.compare.speakers import (
    MOST_SPEAKERS,
    SpeakerErrors,
    SpeakerTurn,
    speaker_errors,
    turns_of_rttm,
)


def turn(start: float, end: float, speaker: str) -> SpeakerTurn:
    return SpeakerTurn(start=start, end=end, speaker=speaker)


TRUTH = [turn(0, 10, "A"), turn(10, 20, "B"), turn(18, 22, "A")]
"""Both at once from 18 to 20. Outside of the collars: 9.5 s of A, 7.5 of B, 1.5 of both, 1.5 of A: 21.5 of a speaker."""


@pytest.mark.parametrize(
    ("found", "missed", "invented", "confused"),
    [
        (TRUTH, 0, 0, 0),
        ([turn(0, 10, "x"), turn(10, 20, "y"), turn(20, 22, "x")], 1.5, 0, 0),
        ([turn(0, 22, "x")], 1.5, 0, 7.5),
        ([], 21.5, 0, 0),
        ([*TRUTH, turn(30, 31, "C")], 0, 1, 0),
        ([*TRUTH, turn(2, 3, "B")], 0, 1, 0),
        ([turn(0, 10.2, "x"), turn(9.8, 20.1, "y"), turn(18.2, 21.8, "x")], 0, 0, 0),
        ([turn(0, 10, "x"), turn(10, 15, "y"), turn(15, 20, "z"), turn(18, 22, "x")], 0, 0, 4.25),
    ],
)
def test_errors_by_hand(found: list[SpeakerTurn], missed: float, invented: float, confused: float) -> None:
    """A quarter of a second around each true start and end is left out; who speaks at the same time counts twice."""
    errors = speaker_errors(TRUTH, found)
    assert (errors.missed, errors.invented, errors.confused) == pytest.approx((missed, invented, confused))
    assert errors.total == pytest.approx(21.5)


def test_without_a_true_word_there_is_no_rate() -> None:
    """All that is found is invented."""
    assert speaker_errors([], [turn(0, 2, "x")]) == SpeakerErrors(invented=2.0)
    assert SpeakerErrors(invented=2.0).rate is None
    assert speaker_errors([], []) == SpeakerErrors()


times = st.integers(0, 24).map(lambda n: n / 2)
some_turns = st.lists(
    st.builds(
        lambda start, length, who: turn(start, start + length, who),
        times,
        times.map(lambda t: t / 4),
        st.sampled_from("ABC"),
    ),
    max_size=7,
)


@given(some_turns, some_turns)
def test_the_assignment_of_names_is_the_best(truth: list[SpeakerTurn], found: list[SpeakerTurn]) -> None:
    """No way of calling the speakers makes fewer errors; with true names each second of a wrong one is confused."""
    errors = speaker_errors(truth, found)
    by_hand = min(_confused(truth, found, names) for names in itertools.permutations("ABC"))
    assert errors.confused == pytest.approx(by_hand)


def _confused(truth: list[SpeakerTurn], found: list[SpeakerTurn], names: tuple[str, ...]) -> float:
    """Seconds with a wrong name, on a grid that holds every edge and collar, with each found speaker called so."""
    step, wrong = 1 / 8, 0.0
    called = dict(zip("ABC", names, strict=True))
    for k in range(int(16 / step)):
        at = (k + 0.5) * step
        if any(abs(at - edge) < 0.25 for t in truth if t.end > t.start for edge in (t.start, t.end)):
            continue
        real = {t.speaker for t in truth if t.start < at < t.end}
        guessed = {called[t.speaker] for t in found if t.start < at < t.end}
        wrong += step * (min(len(real), len(guessed)) - len(real & guessed))
    return wrong


def test_a_file_of_turns() -> None:
    """Other lines than SPEAKER don't count; a broken one is named by its number."""
    text = "SPKR-INFO x 1\n\nSPEAKER a 1 0.5 2.25 <NA> <NA> S1 <NA> <NA>\nSPEAKER a 1 3 0 <NA> <NA> S2\n"
    assert turns_of_rttm(text) == (turn(0.5, 2.75, "S1"), turn(3, 3, "S2"))
    for line in ("SPEAKER", "SPEAKER a 1 x 1 <NA> <NA> S", "SPEAKER a 1 0 1 <NA> <NA>", "SPEAKER a 1 nan 1 n n S"):
        with pytest.raises(ValueError, match="line 1 "):
            turns_of_rttm(line)
    with pytest.raises(ValueError, match="line 2 has a time that can't be"):
        turns_of_rttm("\nSPEAKER a 1 0 -1 <NA> <NA> S <NA> <NA>")
    many = "\n".join(f"SPEAKER a 1 {k} 1 <NA> <NA> S{k} <NA> <NA>" for k in range(MOST_SPEAKERS + 1))
    with pytest.raises(ValueError, match="more than 200 speakers"):
        turns_of_rttm(many)
