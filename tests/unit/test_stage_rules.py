"""The pure parts of vad, asr and align: times never overlap, words keep their order, windows fit the model."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import stage_module

vad, asr, rules = stage_module("vad"), stage_module("asr", "windows"), stage_module("align", "rules")
guards, joining = stage_module("asr", "guards"), stage_module("asr", "words")


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


@given(SPEECH, st.sampled_from([(29.0, math.inf), (12.0, 0.6)]))
def test_windows_cover_all_speech_and_fit_the_model(
    steps: list[tuple[float, float]], limits: tuple[float, float]
) -> None:
    """Nothing that was said is left out, of no window are more than 30 s heard, and they overlap little."""
    speech, at = [], 0.0
    for length, gap in steps:
        speech.append([at + gap, at + gap + length])
        at += gap + length
    longest, bridge = limits
    made = asr.windows(speech, at + 1.0, longest=longest, bridge=bridge)
    spans = [(w.start, w.end) for w in made]
    assert all(0 <= a < b <= at + 1.0 for a, b in spans)
    assert all(sum(b - a for a, b in w.parts) <= longest + 2 * asr.PAD + 1e-2 for w in made)
    for first, second in pairwise(spans):
        shared = first[1] - second[0]
        assert shared <= 2 * asr.OVERLAP + 2e-3
        assert first[0] <= second[0] + 2e-3
        assert first[1] <= second[1] + 2e-3
    for first, third in zip(spans, spans[2:], strict=False):
        assert first[1] <= third[0] + 2 * asr.OVERLAP + 2e-3
    joined = joining.merged([part for w in made for part in w.parts])
    for start, end in speech:
        assert joining.common(joined, start, end) == pytest.approx(end - start, abs=0.01 * len(spans))


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
    room = asr.WINDOW - 2 * asr.OVERLAP
    assert all(b - a <= room + 1e-6 for a, b in pairwise(edges))
    assert len(found) == 0 if length <= room else len(found) <= 3 * length / room
    evenly = asr.cuts(start, start + length, [])
    assert len(evenly) == max(0, -int(-length // room) - 1)


def test_a_cut_is_where_there_is_least_speech() -> None:
    """The doubt nearest to an even share, not one in the middle of a word."""
    assert asr.cuts(0.0, 50.0, [3.0, 24.0, 26.5, 48.0]) == [24.0]
    assert asr.cuts(0.0, 50.0, [3.0]) == [25.0]


def spoken(texts: list[str], start: float = 0.0, pace: float = 0.4) -> list[dict[str, Any]]:
    """Words one after the other."""
    return [
        {"word": text, "start": start + k * pace, "end": start + (k + 1) * pace, "probability": 0.9}
        for k, text in enumerate(texts)
    ]


@pytest.mark.parametrize(
    ("words", "seconds", "why"),
    [
        (["Y"] * 200, 0.8, guards.QUICK),
        (["thank", "you"] * 40, 30.0, guards.REPEATS),
        (["no"] * 12, 6.0, None),
        (["all", "work", "and", "no", "play", "makes", "jack", "a", "dull", "boy"] * 5, 20.0, None),
        (["word"] * 9, 0.02, None),
        ([f"w{k}" for k in range(120)], 28.0, None),
        ([f"w{k}" for k in range(120)], 12.0, guards.QUICK),
    ],
)
def test_what_nobody_can_say_is_told_from_what_somebody_repeats(
    words: list[str], seconds: float, why: str | None
) -> None:
    """C13: a model that loops writes words by the hundred; people say a thing a few times over."""
    assert guards.impossible(spoken([f" {w}" for w in words], 1.0, seconds / len(words))) == why


def test_a_letter_is_no_word() -> None:
    """Models have one entry for a letter of Thai or Burmese, of which a quick speaker says twenty a second."""
    letters = [c for c in "สวัสดีครับวันนี้อากาศดีมากผมไปตลาดกับแม่" if c not in "ัีิี้่"]
    assert guards.impossible(spoken(letters, pace=1 / 20)) is None
    assert guards.impossible(spoken(letters, pace=1 / 40)) == guards.QUICK


def test_a_window_that_loops_is_heard_again() -> None:
    """Also where the loop is only its end, or the model itself is in doubt."""
    lively = [f" {w}" for w in ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "and", "runs"]]
    assert guards.suspicious(spoken(lively), -0.3) is None
    assert guards.suspicious(spoken(lively), -1.2) == guards.CONFIDENCE
    assert guards.suspicious(spoken([*lively, *[" and so it goes"] * 20]), -0.3) == guards.REPEATS
    assert guards.suspicious([], -9.0) is None


def test_a_phrase_that_models_invent_needs_the_sound_s_support() -> None:
    """People say it, too: what is probable and lies in speech stays."""
    said = spoken([" Thank", " you", " for", " watching."], 5.0)
    assert not guards.phantom(said, [[4.5, 7.0]])
    assert guards.phantom(said, [[0.0, 5.1]])
    assert guards.phantom([w | {"probability": 0.3} for w in said], [[4.5, 7.0]])
    assert not guards.phantom(spoken([" Good", " morning."]), [])


def test_words_without_support_are_told() -> None:
    """A word outside of speech; all words of an improbable segment."""
    said = spoken([" one", " two", " three"], 5.0, 1.0)
    assert guards.unsupported(said, [[5.0, 6.5]]) == [False, False, True]
    assert guards.unsupported([w | {"probability": 0.1} for w in said], [[0.0, 9.0]]) == [True] * 3


def test_windows_that_overlap_give_each_word_once() -> None:
    """They go over into each other at a word that both have; half a word at a window's edge is left out."""
    text = [f" w{k}" for k in range(20)]
    left, right = spoken(text[:11]), spoken(text[7:], 7 * 0.4 + 0.15)
    left[-1] = left[-1] | {"word": " w"}
    right[0] = right[0] | {"word": " x7"}
    both = joining.joined(left, right, 2.8, 4.4)
    assert [w["word"] for w in both] == text
    assert [w["word"] for w in joining.joined(spoken([" a", " b"]), spoken([" b", " c"], 0.7), 0.6, 0.9)] == [
        " a",
        " b",
        " c",
    ]


def test_speech_that_no_word_covers_is_found() -> None:
    """Between words, behind the last, and under a word that is stretched over it."""
    speech = [[0.0, 4.0], [6.0, 16.0]]
    assert joining.uncovered(spoken([" a"] * 10), speech, 1.2) == [(6.0, 16.0)]
    stuck = [*spoken([" a"] * 10), {"word": " b", "start": 6.0, "end": 12.0, "probability": 0.9}]
    assert joining.uncovered(stuck, speech, 1.2) == [(6.0, 16.0)]
    slow = [*spoken([" a"] * 10), {"word": " b", "start": 3.9, "end": 6.2, "probability": 0.9}]
    assert joining.uncovered(slow, speech, 1.2) == [(6.5, 16.0)]


def test_what_is_heard_again_fills_the_hole_and_nothing_else() -> None:
    """Words around it stay as they were; a stretched word gives way; what heard less changes nothing."""
    words = [*spoken([" a", " b"]), *spoken([" c", " d"], 4.0)]
    again = [*spoken([" b"], 0.45), *spoken([" x", " y", " z"], 1.3), *spoken([" c"], 4.1)]
    assert [w["word"] for w in joining.filled(words, again, (1.1, 3.7), 2.0)] == [
        " a",
        " b",
        " x",
        " y",
        " z",
        " c",
        " d",
    ]
    stuck = [*spoken([" a"]), {"word": " b", "start": 0.4, "end": 3.9, "probability": 0.9}, *spoken([" c"], 4.0)]
    assert [w["word"] for w in joining.filled(stuck, again, (0.7, 3.7), 2.0)] == [" a", " b", " x", " y", " z", " c"]
    assert joining.filled(words, spoken([" b"], 0.45), (1.1, 3.7), 2.0) == words


WORDS = st.lists(st.tuples(st.text("ab c.?! ’", min_size=1, max_size=6), st.floats(0, 3), st.floats(0, 3)), max_size=30)


@given(WORDS)
def test_segments_keep_every_word(words: list[tuple[str, float, float]]) -> None:
    """All words, in order."""
    heard, at = [], 0.0
    for text, pause, long in words:
        heard.append({"word": text, "start": at + pause, "end": at + pause + long, "probability": 0.5})
        at += pause + long
    groups = list(joining.segments(heard))
    assert [w for group in groups for w in group] == heard
    assert all(groups)


def test_a_segment_ends_with_its_sentence() -> None:
    """Also when a quotation mark follows; not at a comma or within a number."""
    texts = [" So,", " “Yes!”", " At", " 10.", "30", " then"]
    assert ["".join(w["word"] for w in g) for g in joining.segments(spoken(texts))] == [" So, “Yes!”", " At 10.30 then"]


def test_windows_end_at_clear_pauses_or_overlap() -> None:
    """As many windows either way: a clear pause is the better place."""
    spans = asr.windows([[0.0, 10.0], [10.2, 21.0], [21.7, 27.0], [27.2, 40.0]], 41.0)
    assert [(w.start, w.end) for w in spans] == [(0.0, 21.2), (21.5, 40.2)]
    spans = asr.windows([[0.0, 14.0], [14.2, 27.0], [27.2, 40.0]], 41.0)
    assert [(w.start, w.end) for w in spans] == [(0.0, 15.0), (13.2, 40.2)]


def test_windows_are_few() -> None:
    """Each costs a run of the encoder: a clear pause isn't worth one more, a cut without one is avoided where it costs none."""
    clear = [[10.0 * k, 10.0 * k + 9.0] for k in range(6)]
    assert [(w.start, w.end) for w in asr.windows(clear, 60.0)] == [(0.0, 29.2), (29.8, 59.2)]
    near = [[0.0, 9.0], [9.1, 18.0], [18.8, 27.0], [27.1, 36.0], [36.1, 46.0]]
    assert [w.end for w in asr.windows(near, 47.0)] == [18.2, 46.2]
    breath = [[0.0, 8.0], [8.1, 16.0], [16.5, 24.0], [24.1, 32.0], [32.1, 40.0]]
    assert [w.end for w in asr.windows(breath, 41.0)] == [17.0, 40.2]


def test_long_silence_is_never_shown_to_the_model() -> None:
    """Whisper invents text for it: a window leaves it out, and its words are told where they are in the recording."""
    (window,) = asr.windows([[0.0, 2.0], [60.0, 62.0]], 62.0)
    assert window.parts == [(0.0, 2.5), (59.5, 62.0)]
    assert window.span(1.5, 2.0) == (1.5, 2.0)
    assert window.span(3.0, 4.0) == (60.0, 61.0)
    assert window.span(2.2, 3.4) == (59.5, 60.4)
    assert window.span(1.9, 2.7) == (1.9, 2.5)
    assert window.span(4.0, 9.0) == (61.0, 62.0)
    assert len(asr.windows([[0.0, 2.0], [60.0, 62.0]], 62.0, bridge=0.6)) == 2


@given(SPEECH, st.floats(0, 40), st.floats(0, 3))
def test_a_word_of_a_window_is_in_what_was_heard(steps: list[tuple[float, float]], start: float, length: float) -> None:
    """Never in a silence that the model didn't hear, and in the order in which the model wrote it."""
    speech, at = [], 0.0
    for said, gap in steps:
        speech.append([at + gap, at + gap + said])
        at += gap + said
    for window in asr.windows(speech, at + 1.0):
        a, b = window.span(start, start + length)
        assert any(x - 1e-3 <= a <= b <= y + 1e-3 for x, y in window.parts)
        assert a <= window.span(start + length, start + 2 * length)[0] + 2e-3


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


SPOKEN = st.lists(
    st.tuples(st.floats(0, 9), st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.booleans()), max_size=4)),
    max_size=6,
)


@given(SPOKEN, st.lists(st.sampled_from([1, 2]), min_size=6, max_size=6))
def test_words_of_neighbouring_segments_never_overlap(
    segments: list[tuple[float, list[tuple[float, float, bool]]]], channels: list[int]
) -> None:
    """Each channel by itself; a segment lasts from its first word to its last."""
    said: list[dict[str, Any]] = []
    for (start, entries), channel in zip(sorted(segments, key=lambda s: s[0]), channels, strict=False):
        mine, at = [], start
        for gap, length, measured in entries:
            source = "acoustic" if measured else "whisper"
            mine.append({"word": " w", "start": at + gap, "end": at + gap + length, "source": source})
            at += gap + length
        said.append({"channel": channel, "start": start, "end": start, "words": mine})
    rules.apart(said, 10.0)
    for channel in (1, 2):
        mine = [w for s in said if s["channel"] == channel for w in s["words"]]
        assert all(w["start"] <= w["end"] <= 10.0 for w in mine)
        assert all(a["end"] <= b["start"] for a, b in pairwise(mine))
    assert all((s["start"], s["end"]) == (s["words"][0]["start"], s["words"][-1]["end"]) for s in said if s["words"])


def test_a_measured_time_stays_where_an_estimated_one_overlaps_it() -> None:
    """0.44 s of overlap between neighbouring segments were found on real speech."""
    first, second = words((1.0, 1.9)), words((1.5, 2.2))
    first[0]["source"] = "acoustic"
    rules.apart([{"words": first}, {"words": second}], 10.0)
    assert (first[0]["end"], second[0]["start"]) == (1.9, 1.9)
    first, second = words((1.0, 1.9)), words((1.5, 2.2))
    rules.apart([{"words": first}, {"words": second}], 10.0)
    assert (first[0]["end"], second[0]["start"]) == (1.5, 1.5)
