"""A transcript that a person changes: what stays keeps its time, what can't be read is refused with its line."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.core.jobs import edits, names
from builder.core.jobs.edits import EditedTurn, RecordingEdits, Spoken
from builder.core.jobs.job import Job, JobInput, JobStage, rendering
from builder.errors import ConfigError, UsageError
from tests.unit.test_subtitles import results  # it puts the stage's folder on the path

# isort: split
import edits as stage
from sentences import Sentence, Word, clean, read_words, sentences

ONE = JobInput(id="01", name="talk.mp4", path="input/01.mp4", sha256="", size=1, output="talk")
JOB = Job(
    id="20261123-200312-talk-4f2a",
    created="",
    workflow="subtitle",
    variant="slim",
    preset="starter",
    key="k",
    inputs=(ONE,),
    stages=(
        JobStage(name="demux", needs=()),
        JobStage(name="subtitles", needs=("demux",)),
        JobStage(name="mux", needs=("demux", "subtitles")),
    ),
)


def transcript(said: list[Sentence], **more: Any) -> dict[str, Any]:
    """What the stage writes, as far as an edit reads it."""
    segments = [
        {"speaker": s.speaker, "words": [{"word": w.text, "start": w.start, "end": w.end} for w in s.words]}
        for s in said
    ]
    return {"segments": segments, "names": {}, "clip": None, **more}


def say(*turns: tuple[str | None, str]) -> list[Sentence]:
    """A word a second."""
    at, said = 0, []
    for who, text in turns:
        words = [Word(text=f" {t}", start=at + k, end=at + k + 0.5) for k, t in enumerate(text.split())]
        at += len(words)
        said.append(Sentence(words=tuple(words), speaker=who))
    return said


def changed(said: list[Sentence], before: str, after: str, *, duration: float = 100) -> list[Sentence]:
    """A change of the text in the editor, as it comes out of the stage."""
    shown = edits.spoken(ONE, transcript(said), "x")
    text = edits.to_text(JOB, [shown])
    assert before in text
    turns = edits.from_text(text.replace(before, after), [shown], "x")
    data = edits.to_json(edits.with_turns({}, turns)).encode()
    return stage.read(data, "01").said(said, duration=duration)


def times(said: list[Sentence]) -> list[tuple[str, float, float]]:
    return [(w.text.strip(), w.start, w.end) for s in said for w in s.words]


SAID = say(("S1", "Good morning everyone."), ("S2", "Thank you. It is good to be here."), ("S1", "When did you come?"))


def test_a_changed_word_takes_the_time_of_the_one_it_replaces() -> None:
    found = changed(SAID, "is good", "is a great")
    assert times(found)[:7] == times(SAID)[:7]
    assert times(found)[9:] == times(SAID)[8:]
    assert times(found)[7:9] == [("a", 7, 7.083), ("great", 7.083, 7.5)]
    new = [w for s in found for w in s.words][7:9]
    assert [(w.source, w.probability) for w in new] == [("edited", 1.0)] * 2


def test_a_word_that_is_gone_leaves_the_others() -> None:
    assert times(changed(SAID, "Thank you. It", "It")) == [t for t in times(SAID) if t[0] not in ("Thank", "you.")]


def test_a_turn_can_be_divided_joined_and_given_to_another() -> None:
    """A turn that is new has no time of its own; its words have."""
    found = changed(SAID, " It is", "\n[S3] It is")
    assert times(found) == times(SAID)
    assert [s.speaker for s in found] == ["S1", "S2", "S3", "S1"]
    found = changed(SAID, "everyone.\n\n[0:00:03.000 S2] Thank", "everyone. Thank")
    assert times(found) == times(SAID)
    assert {s.speaker for s in found} == {"S1"}
    found = changed(SAID, "\n[0:00:03.000 S2] Thank", "Thank")  # a line without brackets goes on
    assert times(found) == times(SAID)


def test_words_without_a_neighbour_stay_in_the_recording() -> None:
    """Before the first and after the last word, as long as it takes to say them."""
    found = times(changed(SAID, "Good", "Oh well, Good"))
    assert found[:2] == [("Oh", 0, 0), ("well,", 0, 0)]
    assert found[2:] == times(SAID)
    found = times(changed(SAID, "come?", "come? Really?", duration=15.6))
    assert found[-1] == ("Really?", 14.5, pytest.approx(14.99))
    found = times(changed(SAID, "come?", "come? Really?", duration=14.7))
    assert found[-1] == ("Really?", 14.5, 14.7)


def test_letters_keep_their_time_where_words_have_no_spaces() -> None:
    words = (Word(text="今日は", start=0, end=3), Word(text="天気です。", start=3, end=8))
    found = changed([Sentence(words=words)], "天気で", "天候で")
    assert times(found) == [("今日は", 0, 3), ("天", 3, 4), ("候", 4, 5), ("です。", 5, 8)]


@given(results())
def test_what_is_not_changed_is_as_it_was(data: tuple[Any, Any, float]) -> None:
    """Whatever was said: the text goes through the editor, and each word and time comes back."""
    segments, turns, duration = data
    said = sentences(read_words(segments, duration), turns)
    shown = edits.spoken(ONE, transcript(said), "x")
    if not shown.turns:
        return
    assert edits.from_text(edits.to_text(JOB, [shown]), [shown], "x") == {}
    heard = [word for s in said for word in s.words]
    found = stage.realigned(
        heard, [stage.Turn(speaker=t.speaker, text=t.text, start=t.start) for t in shown.turns], duration=duration
    )
    assert [(w.text.strip(), w.start, w.end) for _, words in found for w in words] == times(said)
    assert [who for who, _ in found] == [t.speaker for t in shown.turns]


@given(
    results(),
    st.lists(st.tuples(st.booleans(), st.lists(st.sampled_from(["the", "word", "天気", "é", "river,"]))), max_size=6),
)
def test_a_text_is_never_lost(data: tuple[Any, Any, float], new: list[tuple[bool, list[str]]]) -> None:
    """All that was typed is there, in order, at times within the recording, whatever was heard instead."""
    segments, _, duration = data
    heard = read_words(segments, duration)
    starts = [w.start for w in heard] or [0.0]
    typed = [
        stage.Turn(speaker="S1", text=" ".join(words), start=starts[k % len(starts)] if timed else None)
        for k, (timed, words) in enumerate(new)
    ]
    found = stage.realigned(heard, typed, duration=duration)
    for (_, words), turn in zip(found, typed, strict=True):
        assert "".join("".join(w.text for w in words).split()) == "".join(turn.text.split())
        assert clean("".join(w.text for w in words)) == turn.text or not turn.text.isascii()
        assert all(0 <= w.start <= w.end <= duration + 1e-9 for w in words)


def test_an_hour_is_compared_quickly() -> None:
    """Ten thousand words, a new one in twenty places: turns that stayed keep the comparisons short."""
    said = say(*((f"S{k % 3}", " ".join(f"w{j % 31}" for j in range(k, k + 50)) + ".") for k in range(200)))
    shown = edits.spoken(ONE, transcript(said), "x")
    text = edits.to_text(JOB, [shown]).replace(" w7 w8", " w7 new w8", 20)
    turns = edits.from_text(text, [shown], "x")
    found = stage.read(edits.to_json(edits.with_turns({}, turns)).encode(), "01").said(said, duration=20_000)
    kept = [t for t in times(found) if t[0] != "new"]
    assert kept == times(said)
    assert len(times(found)) > len(kept)


SHOWN = edits.spoken(ONE, transcript(SAID, clip={"offset": 3600.0}), "x")


def test_a_clip_shows_the_recording_s_times_and_keeps_its_own() -> None:
    said = [replace(s, words=tuple(replace(w, start=w.start + 3600, end=w.end + 3600) for w in s.words)) for s in SAID]
    shown = edits.spoken(ONE, transcript(said, clip={"offset": 3600.0}), "x")
    assert [t.start for t in shown.turns] == [0, 3, 11]
    assert "[1:00:03.000 S2] Thank" in edits.to_text(JOB, [shown])


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("", "", "recording 01 is gone"),
        ("== 01\n", "", "has no text any more"),
        ("== 01\n[S1]\n", "", "has no text any more"),
        ("[S1] x\n", ":1", "before the recording's line"),
        ("== 02 other.mp4\n[S1] x\n", ":1", "not one of the recordings"),
        ("== 01\n[S1] x\n== 01\n", ":3", "not one of the recordings"),
        ("== 01\nx\n", ":2", "not a turn"),
        ("== 01\n\n[0:00:09.000 S1] x\n", ":3", "not a time of this transcript"),
        ("== 01\n[] x\n", ":2", "no speaker"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_line(text: str, line: str, why: str) -> None:
    shown = edits.spoken(ONE, transcript(SAID), "x")
    with pytest.raises(UsageError, match=why) as refused:
        edits.from_text(text, [shown], "t.txt")
    assert refused.value.where == f"t.txt{line}"


@pytest.mark.parametrize("broken", [None, [], {}, {"segments": 7}, {"segments": [{"speaker": "x", "words": [{}]}]}])
def test_what_is_not_a_transcript_is_refused(broken: Any) -> None:
    with pytest.raises(ConfigError, match="not a transcript"):
        edits.spoken(ONE, broken, "x")
    endless = transcript(say((None, "a")))
    endless["segments"][0]["words"][0]["start"] = math.nan
    with pytest.raises(ConfigError, match="not a transcript"):
        edits.spoken(ONE, endless, "x")


def test_a_transcript_steers_no_terminal() -> None:
    said = transcript(say((None, "a\x1b[2Jb")), names={"S1": "A\x07"})
    shown = edits.spoken(replace(ONE, name="x\x1b]0;\n.mp4"), said, "x")
    assert not any(ord(c) < 32 and c != "\n" for c in edits.to_text(JOB, [shown]))


# Names


TWO = (SHOWN, Spoken(recording=replace(ONE, id="02"), turns=(), offset=0, speakers=("S1",), names={}))


def test_names_are_given_to_speakers_of_a_recording() -> None:
    assert names.names_of(["S1=Ada  King", "S2="], JOB, [SHOWN]) == {"01": {"S1": "Ada King", "S2": ""}}
    both = replace(JOB, inputs=(ONE, replace(ONE, id="02")))
    assert names.names_of(["02:S1=Ada=x"], both, TWO) == {"02": {"S1": "Ada=x"}}
    with pytest.raises(UsageError, match="2 recordings") as refused:
        names.names_of(["S1=Ada"], both, TWO)
    assert refused.value.expected == "01:S1=Ada"
    after = names.with_names({"01": RecordingEdits(names={"S1": "B", "S2": "C"})}, {"01": {"S1": "Ada", "S2": ""}})
    assert after["01"].names == {"S1": "Ada"}


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("Ada", "names nobody"),
        ("S9=Ada", "nobody is called"),
        ("07:S1=Ada", 'no recording "07"'),
        ("S1=S2", "can't be a name"),
        ("S1=" + "x" * 61, "can't be a name"),
    ],
)
def test_names_that_fit_nobody_are_refused(word: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        names.names_of([word], JOB, [SHOWN])


def test_the_page_s_names_are_those_of_its_job() -> None:
    good = {"schema": 1, "job": JOB.id, "names": {"01": {"S2": "Ada"}}}
    assert names.names_in(good, JOB, [SHOWN], "n.json") == good["names"]
    for bad in (
        [],
        {**good, "schema": 2},
        {**good, "job": "x"},
        {**good, "names": {"01": {"S2": 7}}},
        {**good, "names": {"01": 7}},
    ):
        with pytest.raises(UsageError):
            names.names_in(bad, JOB, [SHOWN], "n.json")


# The file


def test_edits_read_back_on_both_sides() -> None:
    turns = (EditedTurn(speaker="S1", text="a b", start=1.5), EditedTurn(speaker=None, text="c", start=None))
    whole = {"01": RecordingEdits(names={"S1": "Ada"}, turns=turns), "02": RecordingEdits(names={})}
    text = edits.to_json(whole)
    assert edits.from_json(json.loads(text), "x") == whole
    assert edits.from_json(None, "x") == {}
    found = stage.read(text.encode(), "01")
    assert found.names == {"S1": "Ada"}
    assert found.turns == (stage.Turn(speaker="S1", text="a b", start=1.5), stage.Turn(speaker=None, text="c"))
    assert stage.read(None, "01") == stage.read(text.encode(), "03") == stage.Edits()


@pytest.mark.parametrize(
    "text", ["", "7", "{}", '{"schema": 2}', '{"schema": 1, "recordings": {"01": {"names": 7, "turns": 7}}}']
)
def test_damaged_edits_are_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"edits\.json is damaged"):
        stage.read(text.encode(), "01")
    with pytest.raises(ConfigError, match="damaged"):
        edits.from_json(json.loads(text or "[]"), "x")


def test_only_what_follows_from_an_edit_is_written_again() -> None:
    assert rendering(JOB.stages, "subtitles").run == ("subtitles", "mux")
    assert rendering(JOB.stages, "subtitles").trusting
