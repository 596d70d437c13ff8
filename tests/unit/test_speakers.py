"""Words to speakers: what diarization gets slightly wrong doesn't cut a sentence, and who really takes over gets every word."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.test_subtitles import results, tokens, turn  # it puts the stage's folder on the path

# isort: split
from breaks import language
from sentences import Word, read_words, sentences
from speakers import Floor, attributed

ENGLISH = language("en")


def said(words: list[str], turns: list[dict[str, Any]], step: float = 0.3) -> list[tuple[str, str | None]]:
    """Sentences and their speakers; a word begins every ``step`` seconds."""
    found = sentences(read_words([tokens(words, step=step)], 60.0), turns, ENGLISH)
    return [(s.text, s.speaker) for s in found]


def test_a_sentence_is_cut_where_another_speaker_takes_over() -> None:
    """Without a full stop and without a pause: small models leave both out."""
    words = ["and", "then", "we", "went", "home", "yes", "that", "is", "what", "I", "heard", "too"]
    turns = [turn(0.0, 1.5, "S1"), turn(1.5, 4.0, "S2")]
    assert said([f" {w}" for w in words], turns) == [
        ("and then we went home", "S1"),
        ("yes that is what I heard too", "S2"),
    ]


@pytest.mark.parametrize("late", [-0.25, -0.1, 0.1, 0.25])
def test_a_turn_that_begins_early_or_late_moves_no_word_over_a_full_stop(late: float) -> None:
    words = [" How", " are", " you?", " I", " am", " fine."]
    assert said(words, [turn(0.0, 0.9 + late, "S1"), turn(0.9 + late, 2.0, "S2")]) == [
        ("How are you?", "S1"),
        ("I am fine.", "S2"),
    ]


def test_a_word_within_anothers_sentence_is_a_slip_of_diarization() -> None:
    words = [f" w{k}" for k in range(12)]
    turns = [turn(0.0, 1.5, "S1"), turn(1.5, 1.8, "S2"), turn(1.8, 4.0, "S1")]
    assert [who for _, who in said(words, turns)] == ["S1"]


def test_where_two_speak_the_turns_of_both_count() -> None:
    """Whoever has the word keeps it while the other's turn lies over theirs, and hands it over where theirs ends."""
    words = [f" w{k}" for k in range(20)]
    turns = [turn(0.0, 3.0, "S1"), turn(1.2, 6.0, "S2")]
    found = said(words, turns)
    assert [who for _, who in found] == ["S1", "S2"]
    assert len(found[0][0].split()) in range(4, 11)
    short = [turn(0.0, 6.0, "S1"), turn(1.2, 1.9, "S2")]
    assert [who for _, who in said(words, short)] == ["S1"]


def test_a_short_answer_between_two_sentences_is_the_others() -> None:
    words = [" Were", " you", " there?", " Yes.", " Good,", " go", " on."]
    turns = [turn(0.0, 0.95, "S1"), turn(0.9, 1.2, "S2"), turn(1.2, 3.0, "S1")]
    assert said(words, turns) == [("Were you there?", "S1"), ("Yes.", "S2"), ("Good, go on.", "S1")]


def test_words_outside_all_turns_are_the_nearest_speakers() -> None:
    words = [Word(text=" far.", start=20.0, end=20.3)]
    assert attributed(words, [turn(0.0, 1.0, "S1"), turn(19.0, 19.5, "S2")], ENGLISH) == ["S2"]
    assert attributed([], [turn(0.0, 1.0, "S1")], ENGLISH) == []


@given(results())
def test_every_word_has_a_speaker_and_the_order_of_turns_is_no_matter(data: tuple[Any, Any, float]) -> None:
    segments, turns, duration = data
    words = read_words(segments, duration)
    if not turns:
        return
    found = attributed(words, turns, ENGLISH)
    assert len(found) == len(words)
    assert set(found) <= {t["speaker"] for t in turns}
    assert attributed(words, turns[::-1], ENGLISH) == found
    cut = sentences(words, turns, ENGLISH)
    assert [w for s in cut for w in s.words] == words


@given(
    st.lists(st.tuples(st.floats(0, 50), st.floats(0, 5)), min_size=1, max_size=12), st.floats(0, 50), st.floats(0, 5)
)
def test_time_in_turns_is_what_a_plain_count_finds(spans: list[tuple[float, float]], at: float, length: float) -> None:
    """The index of turns against each hundredth of a second on its own."""
    turns = [(a, a + n) for a, n in spans]
    floor = Floor(turns)
    assert all(a[1] < b[0] for a, b in itertools.pairwise(floor.turns))
    step = 0.01
    count = sum(any(a <= at + (k + 0.5) * step < b for a, b in turns) for k in range(int(length / step)))
    assert floor.common(at, at + length) == pytest.approx(count * step, abs=0.02 * (len(turns) + 1))


def test_hours_of_words_and_turns_are_quick() -> None:
    """The cost is linear: 30 000 words and 6000 turns of eight speakers."""
    words = [Word(text=f" w{k}", start=k * 0.4, end=k * 0.4 + 0.3) for k in range(30_000)]
    turns = [turn(k * 2.0, k * 2.0 + 2.2, f"S{k % 8}") for k in range(6000)]
    assert len(set(attributed(words, turns, ENGLISH))) == 8
