"""The pure parts of vad, asr and align: times never overlap, words keep their order, windows fit the model."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import stage_module

vad, asr, rules = stage_module("vad"), stage_module("asr", "windows"), stage_module("align", "rules")
main = stage_module("asr")


def regions(chances: list[float], **more: float) -> list[list[float]]:
    options = {"threshold": 0.5, "min_speech": 0.1, "min_silence": 0.25, "pad": 0.06, **more}
    speech: list[list[float]] = vad.regions(chances, duration=len(chances) * 0.032, **options)
    return speech


def test_speech_begins_and_ends_with_hysteresis() -> None:
    """A dip above the lower threshold, or a short one, doesn't end speech; a click isn't speech."""
    quiet, speech = [0.0] * 20, [0.9] * 20
    assert len(regions(quiet + speech + [0.4] * 20 + speech + quiet)) == 1
    assert len(regions(quiet + speech + [0.1] * 5 + speech + quiet)) == 1
    assert len(regions(quiet + speech + quiet + speech + quiet)) == 2
    assert regions([*quiet, 0.9, *quiet]) == []
    assert regions(quiet) == []


@given(st.lists(st.floats(0, 1), max_size=400), st.floats(0, 0.5), st.floats(0, 0.5))
def test_regions_are_sorted_inside_the_sound_and_apart(chances: list[float], pad: float, silence: float) -> None:
    """Whatever the model says."""
    speech = regions(chances, pad=pad, min_silence=silence)
    edges = [edge for region in speech for edge in region]
    assert edges == sorted(edges)
    assert all(a < b for a, b in speech)
    assert not edges or (edges[0] >= 0 and edges[-1] <= len(chances) * 0.032 + 1e-3)


SPEECH = st.lists(st.tuples(st.floats(0.01, 70), st.floats(0.05, 20)), max_size=30)


@given(SPEECH)
def test_windows_cover_all_speech_and_fit_the_model(steps: list[tuple[float, float]]) -> None:
    """Nothing that was said is left out, nothing is heard twice, no window is over 30 s."""
    speech, at = [], 0.0
    for length, gap in steps:
        speech.append([at + gap, at + gap + length])
        at += gap + length
    spans = asr.windows(speech, at + 1.0)
    assert all(0 <= a < b <= at + 1.0 and b - a <= 30.0 for a, b in spans)
    assert all(first[1] <= second[0] + 2e-3 for first, second in pairwise(spans))
    for start, end in speech:
        heard = sum(max(0.0, min(end, b) - max(start, a)) for a, b in spans)
        assert heard == pytest.approx(end - start, abs=0.01 * len(spans))
    pieces = list(asr.pieces(spans))
    assert [s for piece in pieces for s in piece] == spans


@given(SPEECH.filter(bool), st.integers(0, 16))
def test_windows_end_where_the_samples_do(steps: list[tuple[float, float]], short: int) -> None:
    """Speech to the last sample, of a length that isn't a whole number of milliseconds: faster-whisper's batches refuse
    windows that are longer than the sound, all together. The test counts as faster-whisper does."""
    speech, at = [], 0.0
    for length, gap in steps:
        speech.append([round(at + gap, 3), round(at + gap + length, 3)])
        at += gap + length
    samples = int(speech[-1][1] * 16_000) - short  # the header's duration is rounded up to a millisecond
    for piece in asr.pieces(asr.windows(speech, round(samples / 16_000, 3))):
        first = min(round(piece[0][0] * 16_000), samples)
        there = max(min(round((piece[-1][1] - piece[0][0]) * 16_000), samples - first), 0)
        spans = asr.within(piece, there)
        assert len(spans) == len(piece)
        edges = [edge for span in spans for edge in span]
        assert edges == sorted(edges)
        assert edges[0] >= 0
        assert sum(int(b * 16_000) - int(a * 16_000) for a, b in spans) <= there
        wide = [(a - piece[0][0], b - piece[0][0]) for a, b in piece]
        assert edges == pytest.approx([edge for span in wide for edge in span], abs=0.003)


@given(
    st.floats(0, 100),
    st.floats(0, 200),
    st.lists(st.floats(0, 400), max_size=30).map(sorted),
)
def test_long_speech_is_cut_at_good_places_into_what_the_model_hears(
    start: float, length: float, doubts: list[float]
) -> None:
    """C19: no part is longer than a window, none is tiny, and nothing is heard twice."""
    found = asr.cuts(start, start + length, doubts)
    edges = [start, *found, start + length]
    assert edges == sorted(edges)
    assert all(b - a <= asr.WINDOW + 1e-6 for a, b in pairwise(edges))
    assert len(found) == 0 if length <= asr.WINDOW else len(found) <= 3 * length / asr.WINDOW
    evenly = asr.cuts(start, start + length, [])
    assert len(evenly) == max(0, -int(-length // asr.WINDOW) - 1)


def test_a_cut_is_where_there_is_least_speech() -> None:
    """The doubt nearest to an even share, not one in the middle of a word."""
    assert asr.cuts(0.0, 50.0, [3.0, 24.0, 26.5, 48.0]) == [24.0]
    assert asr.cuts(0.0, 50.0, [3.0]) == [25.0]


@pytest.mark.parametrize(
    ("words", "seconds", "said"),
    [
        (["Y"] * 200, 0.8, False),
        (["thank", "you"] * 40, 30.0, False),
        (["no"] * 12, 6.0, True),
        (["all", "work", "and", "no", "play", "makes", "jack", "a", "dull", "boy"] * 5, 20.0, True),
        (["word"] * 9, 0.02, True),
        ([f"w{k}" for k in range(120)], 28.0, True),
        ([f"w{k}" for k in range(120)], 5.0, False),
    ],
)
def test_what_nobody_can_say_is_told_from_what_somebody_repeats(words: list[str], seconds: float, said: bool) -> None:
    """C13: a model that loops writes words by the hundred; people say a thing a few times over."""
    segment = {"start": 1.0, "end": 1.0 + seconds, "words": [{"word": f" {w}"} for w in words]}
    assert main.sayable(segment) is said


def test_a_letter_is_no_word() -> None:
    """Models have one entry for a letter of Thai or Burmese, of which a quick speaker says twenty a second."""
    letters = [{"word": c} for c in "สวัสดีครับวันนี้อากาศดีมากผมไปตลาดกับแม่" if c not in "ัีิี้่"]
    assert main.sayable({"start": 0.0, "end": len(letters) / 20, "words": letters})
    assert not main.sayable({"start": 0.0, "end": len(letters) / 40, "words": letters})


def test_long_silence_is_never_shown_to_the_model() -> None:
    """Whisper invents text for it."""
    spans = asr.windows([[0.0, 2.0], [60.0, 62.0]], 62.0)
    assert len(spans) == 2
    assert spans[0][1] < 3.0


@pytest.mark.parametrize(
    ("word", "tidied", "known"),
    [
        (" Hello,", "hello", True),
        (" don’t", "don't", True),
        (" 20", "20", False),
        (" C3PO.", "c3po", False),
        (" “Yes!”", "yes", True),
        (" naïve", "naïve", False),
        (" -", "", False),
    ],
)
def test_words_as_the_dictionary_spells_them(word: str, tidied: str, known: bool) -> None:
    """A digit's pronunciation isn't its spelling."""
    assert rules.tidy(word) == tidied
    assert rules.spellable(word) is known


def words(*times: tuple[float, float]) -> list[dict[str, Any]]:
    return [{"word": " w", "start": a, "end": b, "source": "whisper", "probability": 1.0} for a, b in times]


def test_a_believable_time_is_taken_and_a_far_one_is_not() -> None:
    """A word that would move by more than 0.35 s keeps Whisper's time."""
    said = words((1.0, 1.4), (1.4, 1.9), (2.0, 2.5))
    rules.adopt(said, {0: (1.05, 1.35), 2: (2.5, 2.9)}, 10.0)
    assert [w["source"] for w in said] == ["acoustic", "whisper", "whisper"]
    assert (said[0]["start"], said[0]["end"]) == (1.05, 1.35)
    assert (said[2]["start"], said[2]["end"]) == (2.0, 2.5)


TIMES = st.lists(st.tuples(st.floats(0, 9), st.floats(0, 1)), min_size=1, max_size=12)


@given(TIMES, st.dictionaries(st.integers(0, 11), st.tuples(st.floats(0, 10), st.floats(0, 1)), max_size=12))
def test_words_keep_their_order_and_never_overlap(
    said: list[tuple[float, float]], moved: dict[int, tuple[float, float]]
) -> None:
    """Whatever the aligner says, and however odd Whisper's own times are."""
    entries = words(*((a, a + length) for a, length in said))
    rules.adopt(entries, {k: (a, a + n) for k, (a, n) in moved.items() if k < len(entries)}, 10.0)
    edges = [edge for w in entries for edge in (w["start"], w["end"])]
    assert edges == sorted(edges)
    assert edges[0] >= 0
    assert edges[-1] <= 10.0
