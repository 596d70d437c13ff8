"""Who speaks when, against the truth: errors by hand, and properties of the rate."""

from __future__ import annotations

import itertools
import random

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


@pytest.mark.parametrize(
    ("seed", "people", "names", "missed", "invented", "confused", "total"),
    [
        (0, 1, 1, 0.2705, 0.3170, 0.0, 19.3139),
        (1, 1, 3, 0.2877, 0.1635, 5.8854, 19.1701),
        (2, 2, 2, 6.5268, 0.1461, 0.0, 27.0620),
        (3, 3, 2, 8.7201, 0.2019, 1.9428, 24.3340),
        (4, 4, 6, 2.4925, 0.2347, 3.3482, 27.3900),
        (5, 6, 4, 12.1144, 0.3068, 8.2293, 44.2003),
        (6, 9, 9, 2.4903, 0.0921, 0.7665, 37.8201),
    ],
)
def test_errors_are_those_of_pyannote(
    seed: int, people: int, names: int, missed: float, invented: float, confused: float, total: float
) -> None:
    """Seconds that pyannote.metrics 4.2.0 finds with ``collar=0.5``, the width of both sides, in 40 s of people who overlap."""
    truth, found = _people(seed, people, names)
    errors = speaker_errors(truth, found)
    measured = (errors.missed, errors.invented, errors.confused, errors.total)
    assert measured == pytest.approx((missed, invented, confused, total), abs=1e-4)


def _people(seed: int, people: int, names: int) -> tuple[list[SpeakerTurn], list[SpeakerTurn]]:
    """True turns, and found ones with other edges; some are missing, some have another's name."""
    chance = random.Random(seed).random
    truth: list[SpeakerTurn] = []
    for number in range(people):
        at = chance() * 4
        while at < 40:
            truth.append(turn(at, at + 0.2 + chance() * 6, f"S{number}"))
            at = truth[-1].end + 0.1 + chance() * people * 4
    found: list[SpeakerTurn] = []
    free = [0.0] * names
    for one in sorted(truth, key=lambda t: (t.start, t.end)):
        name = int(one.speaker[1:]) % names if chance() < 0.85 else int(chance() * names)
        begin, end = max(free[name], one.start + chance() * 0.8 - 0.4), one.end + chance() * 0.8 - 0.4
        if chance() < 0.9 and begin < end:
            found.append(turn(begin, end, f"x{name}"))
            free[name] = end
    return truth, found


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
