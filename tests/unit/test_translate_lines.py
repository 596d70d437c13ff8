"""What is translated at a time, and how a translation that was heard gets the spans of what it translates."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import stage_module

lines = stage_module("translate", "lines")
fitting = stage_module("translate", "fitting")
Line = fitting.Line


def segment(text: str, start: float, pace: float = 0.5, **more: Any) -> dict[str, Any]:
    """A segment whose words come one after the other."""
    words = [
        {"word": f" {word}", "start": start + k * pace, "end": start + (k + 1) * pace}
        for k, word in enumerate(text.split())
    ]
    return {"start": start, "end": start + len(words) * pace, "words": words} | more


def test_another_speaker_begins_a_line_and_one_stray_word_does_not() -> None:
    turns = [{"start": 0.0, "end": 2.1, "speaker": "S1"}, {"start": 2.1, "end": 9.0, "speaker": "S2"}]
    found = lines.cut([segment("who are you I am Ada", 0.5)], turns)
    assert [(x.text, x.speaker) for x in found] == [("who are you", "S1"), ("I am Ada", "S2")]
    late = [{"start": 0.0, "end": 3.3, "speaker": "S1"}, {"start": 3.3, "end": 9.0, "speaker": "S2"}]
    assert [x.text for x in lines.cut([segment("who are you I am Ada", 0.5)], late)] == ["who are you I am Ada"]


def test_channels_are_apart_and_turns_do_not_cut_them() -> None:
    turns = [{"start": 0.0, "end": 1.0, "speaker": "S1"}, {"start": 1.0, "end": 9.0, "speaker": "S2"}]
    found = lines.cut([segment("one two three four", 0.0, channel=2)], turns)
    assert [(x.text, x.channel, x.speaker) for x in found] == [("one two three four", 2, None)]


def test_what_would_break_a_line_is_a_space() -> None:
    found = lines.cut(
        [{"start": 0.0, "end": 1.0, "words": [{"word": " a\n\x1b[2Jb\u2028c", "start": 0.0, "end": 1.0}]}], None
    )
    assert [x.text for x in found] == ["a [2Jb c"]


def line(start: float, end: float, text: str, **more: Any) -> Any:
    return Line(start=start, end=end, text=text, **more)


def test_each_sentence_gets_the_span_of_its_source() -> None:
    """However inexact the translation's own times are; two that were heard as one keep both spans."""
    said = [line(0, 2, "Buenos días a todos."), line(2.2, 5, "Hoy hablamos del puerto viejo."), line(6, 7, "Gracias.")]
    told = [
        line(0.4, 1.6, "Good morning all."),
        line(2.9, 5.9, "Today we talk about the old port."),
        line(6.3, 7.5, "Thanks."),
    ]
    assert [(x.start, x.end, x.text) for x in fitting.fitted(said, told)] == [
        (0, 2, "Good morning all."),
        (2.2, 5, "Today we talk about the old port."),
        (6, 7, "Thanks."),
    ]
    one = [line(0.2, 4.9, "Good morning all, today we talk about the old port."), told[2]]
    assert [(x.start, x.end) for x in fitting.fitted(said, one)] == [(0, 5), (6, 7)]


def test_texts_stay_in_their_order_where_nothing_was_said_for_one() -> None:
    said = [line(0, 1, "ab" * 12), line(8, 9, "abab")]
    told = [line(2, 3, "abab"), line(3, 5, "ab" * 5), line(6, 9, "ab" * 12)]
    assert [x.text for x in fitting.fitted(said, told)] == ["abab", "ab" * 5 + " " + "ab" * 12]


def test_times_out_of_order_leave_the_translation_s_own() -> None:
    said = [line(start, start + 1, "uno") for start in (200, 150, 100, 50, 0)]
    told = [line(start, start + 1, "one") for start in (25, 75, 125, 175)]
    assert fitting.fitted(said, told) == told


spans = st.lists(
    st.tuples(
        st.floats(0, 3), st.floats(0.2, 4), st.text("abc ", min_size=1, max_size=40), st.sampled_from([None, 1, 2])
    ),
    max_size=12,
)


def placed(parts: list[tuple[float, float, str, int | None]], offset: float) -> list[Any]:
    """Lines one after the other."""
    found, at = [], offset
    for pause, seconds, text, channel in parts:
        found.append(line(at + pause, at + pause + seconds, text, channel=channel))
        at += pause + seconds
    return found


@given(spans, spans, st.floats(0, 40))
def test_no_text_is_lost_or_twice_and_each_channel_keeps_its_own(a: Any, b: Any, offset: float) -> None:
    said, told = placed(a, 0), placed(b, offset)
    found = fitting.fitted(said, told)
    for channel in (None, 1, 2):
        mine = [x.text for x in told if x.channel == channel]
        assert " ".join(x.text for x in found if x.channel == channel) == " ".join(mine)
    assert [x.start for x in found] == sorted(x.start for x in found)
    assert all(x.start <= x.end for x in found)
