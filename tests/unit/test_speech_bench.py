"""The pure parts of bench/speech: what they take for the diarization error, mixes by seed, the section of bench/results.md."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import numpy as np
import pytest
from speech import mixes, product, report, sound
from speech.report import Line
from speech.rows import attribution, ledger, provocations, times, windows

from builder.core.compare.speakers import SpeakerTurn, speaker_errors


def conversation(seed: int, people: int, *, away: float = 0.0) -> list[SpeakerTurn]:
    """Turns by seed, each speaker's own apart; ``away``: how far ends are moved, how often somebody else is named."""
    chance = random.Random(seed)
    other = random.Random(seed + 1000)
    turns = []
    ends: dict[str, float] = {}
    at = 0.0
    for _ in range(30):
        at += chance.uniform(-0.8, 1.0)
        start, length, who = max(0.0, at), chance.uniform(0.3, 6.0), f"s{chance.randrange(people)}"
        at = start + length
        if other.random() < away / 3:
            who = f"s{other.randrange(people + 1)}"
        moved = (other.uniform(-away, away), other.uniform(-away, away))
        start, end = max(0.0, start + moved[0]), start + length + moved[1]
        if end > start > ends.get(who, -1.0) and other.random() >= away / 4:
            ends[who] = end
            turns.append(SpeakerTurn(start=round(start, 3), end=round(end, 3), speaker=who))
    return turns


REFERENCE: dict[tuple[int, int, float], tuple[float, float, float, float]] = {
    (1, 1, 0.2): (8.965, 9.46, 4.103, 57.264),
    (2, 2, 0.1): (3.021, 0.0, 9.725, 68.203),
    (3, 2, 0.6): (25.36, 4.22, 0.025, 72.234),
    (4, 3, 0.3): (20.976, 0.001, 0.019, 76.886),
    (5, 4, 0.6): (10.539, 6.655, 4.133, 64.286),
    (6, 5, 1.0): (14.525, 5.08, 13.273, 70.23),
    (7, 7, 0.4): (13.041, 0.476, 5.01, 78.584),
    (8, 9, 0.8): (18.862, 3.026, 5.795, 72.863),
    (9, 3, 2.0): (29.009, 8.836, 15.562, 70.046),
    (10, 10, 0.5): (19.534, 1.056, 7.536, 77.718),
}
"""Seed, people, away -> missed, invented, confused, total of pyannote.metrics 4.2.0, ``DiarizationErrorRate(collar=0.5)``."""


@pytest.mark.parametrize("case", REFERENCE)
def test_the_diarization_error_is_that_of_pyannote_metrics(case: tuple[int, int, float]) -> None:
    seed, people, away = case
    found = speaker_errors(conversation(seed, people), conversation(seed, people, away=away))
    assert (found.missed, found.invented, found.confused, found.total) == pytest.approx(REFERENCE[case], abs=1e-6)


def tone(seconds: float) -> sound.Samples:
    return np.sin(np.arange(round(seconds * sound.RATE)) * 0.3).astype(np.float32) / 4


def talk(seed: int, overlap: float) -> tuple[list[SpeakerTurn], sound.Samples]:
    chance = np.random.default_rng(seed)
    pools = {who: [tone(1.5), tone(4.0)] for who in "abc"}
    return mixes.conversation(pools, list("abc"), 40.0, overlap, chance)


def test_a_mix_is_the_same_for_the_same_seed() -> None:
    (turns, samples), (again, same) = talk(3, 0.3), talk(3, 0.3)
    assert turns == again
    assert np.array_equal(samples, same)
    assert talk(4, 0.3)[0] != turns


def test_a_mix_has_everybody_and_its_turns_are_where_the_sound_is() -> None:
    turns, samples = talk(5, 0.0)
    assert {t.speaker for t in turns} == set("abc")
    spoken = np.zeros(len(samples), bool)
    for turn in turns:
        spoken[round((turn.start - 0.02) * sound.RATE) : round((turn.end + 0.02) * sound.RATE)] = True
    assert np.abs(samples[~spoken]).max() < 0.01
    assert len({round(t.start, 3) for t in turns}) == len(turns)


def test_nobody_talks_over_himself() -> None:
    turns, _ = talk(6, 0.9)
    for who in "abc":
        own = sorted((t.start, t.end) for t in turns if t.speaker == who)
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(own))


def test_what_is_kept_for_the_final_figure_is_a_third_and_never_in_both() -> None:
    development, final = mixes.seeds(final=False), mixes.seeds(final=True)
    assert sorted(development + final) == list(range(mixes.SEEDS))
    assert len(final) == mixes.SEEDS // 3
    for part in (development, final):
        assert {mixes.plan(seed)[0] for seed in part} >= set(range(1, 11))
        assert {mixes.plan(seed)[1] for seed in part} == set(mixes.KINDS)


def test_jobs_have_at_most_their_portion() -> None:
    groups = list(product.portions([300, 300, 1, 900, 5] + [1] * 50))
    assert [k for group in groups for k in group] == list(range(55))
    assert groups[0] == [0, 1]
    assert max(len(g) for g in groups) <= 40


def test_rows_replace_their_own_and_leave_the_others() -> None:
    before = ["| words: a | 1 |  |  | x |", "| speakers: b | 2 |  |  | x |", "| words: c | 3 |  |  | x |"]
    after = report.section(before, [Line("words", "d", "4", "≤ 5", True), Line("words", "e", "9", "≤ 5", False)], "y")
    assert after == [
        "| words: d | 4 | ≤ 5 |  | y |",
        "| words: e | 9, **missed** | ≤ 5 |  | y |",
        "| speakers: b | 2 |  |  | x |",
    ]


def test_the_section_of_the_results_is_written_in_its_place(tmp_path: Path) -> None:
    results = tmp_path / "results.md"
    results.write_text("# Results\n\n## other\n\nrows\n")
    report.store(results, [Line("words", "a", "1")], "x")
    report.store(results, [Line("alone", "b", "2")], "x")
    report.store(results, [Line("words", "c", "3")], "y")
    text = results.read_text()
    assert text.startswith("# Results\n\n## other\n\nrows\n\n## bench-speech\n")
    assert text.count("## bench-speech") == 1
    assert "| words: c | 3 |  |  | y |\n| alone: b | 2 |  |  | x |" in text
    assert "words: a" not in text


def test_a_word_start_is_as_far_as_the_nearest_word() -> None:
    assert times.distances([1.0, 5.0, 20.0], [5.04, 0.9, 1.3]) == pytest.approx([-0.1, 0.04, -times.FAR])
    assert times.distances([1.0], []) == [times.FAR]


def test_words_that_two_say_or_nobody_says_are_nobodys_mistake() -> None:
    truth = [turn(0, 10, "a"), turn(8, 20, "b")]
    words = [word(1, "x"), word(8.5, "y"), word(12, "y"), word(13, "x"), word(14, None), word(30, "x")]
    errors = attribution.wrong(words, truth)
    assert errors.total == 4
    assert errors.confused == 1
    assert errors.missed == 1


def turn(start: float, end: float, who: str) -> SpeakerTurn:
    return SpeakerTurn(start=start, end=end, speaker=who)


def word(start: float, who: str | None, **more: object) -> dict[str, object]:
    return {"start": start, "end": start + 0.5, "word": " w", "speaker": who, **more}


@pytest.mark.parametrize(
    ("truth", "heard", "lost"),
    [
        ("a b c d e f", "a b c d e f", []),
        ("a b c d e f", "a f", [4]),
        ("a b c d e f", "b d f", [1, 1, 1]),
        ("a b c d e f", "a x f", [3]),
        ("a b c", "", [3]),
        ("a b c", "a b b c", []),
    ],
)
def test_missing_words_are_counted_where_they_are_missing(truth: str, heard: str, lost: list[int]) -> None:
    assert windows.deletions(truth, heard) == lost


def test_words_with_a_mark_or_of_the_sentence_are_not_invented() -> None:
    made = provocations.Provocation("tail", Path("tail.wav"), "tail", after=3.0)
    words = [word(1, None), word(4, None, unsure=True), word(5, None)]
    assert provocations.invented(made, words) == [" w"]


def test_speech_that_nothing_accounts_for_is_found_in_pieces() -> None:
    cues = ledger.cue_spans("1\n00:00:01,000 --> 00:00:03,500\nHi\n\n2\n01:00:00,000 --> 01:00:01,250\nBye\n")
    assert cues == [(1.0, 3.5), (3600.0, 3601.25)]
    assert ledger.beyond([(0.0, 5.0), (3600.2, 3601.0)], cues) == [(0.0, 1.0), (3.5, 5.0)]
    assert ledger.beyond([(0.6, 3.9)], cues) == []
