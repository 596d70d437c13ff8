"""Each format reads back as its own grammar has it, whatever was said and however speakers are called."""

from __future__ import annotations

import csv
import html
import io
import itertools
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.core.jobs.formats import FORMATS, chosen
from builder.edges.jobs.sources import OTHERS
from builder.errors import UsageError
from tests.unit.test_subtitles import HOSTILE, RULES, results  # it puts the stage's folder on the path

# isort: split
import cues as cue
import document
import edits
import formats
import wordwise
import written
from sentences import Sentence, Word, read_words, sentences

NAMES = st.one_of(
    st.sampled_from(["S1", "Ada Lovelace", "=cmd", "a,b", "{\\b1}", "*Default", "<v X>", "O'Hara & Sons", "日本"]),
    HOSTILE,
).map(edits.clean)


@st.composite
def said(draw: st.DrawFn) -> tuple[list[Sentence], list[cue.Cue]]:
    """Sentences of speakers with any name, and their cues."""
    segments, turns, duration = draw(results())
    names = {f"S{k}": draw(NAMES) for k in (1, 2, 3)}
    heard = edits.Edits(names=names).named(sentences(read_words(segments, duration), turns))
    return heard, cue.cues(heard, RULES, duration=duration, label=True)


TIME = r"(\d\d+):([0-5]\d):([0-5]\d)\.(\d{3})"


def seconds(stamp: str) -> float:
    hours, minutes, whole, thousandths = map(int, re.fullmatch(TIME, stamp).groups())  # type: ignore[union-attr]
    return ((hours * 60 + minutes) * 60_000 + whole * 1000 + thousandths) / 1000


@given(said())
def test_word_times_lie_within_their_cue_and_increase(data: tuple[list[Sentence], list[cue.Cue]]) -> None:
    """W3C WebVTT, section 4.2.2: a time stamp is later than the one before and than the cue's start, and before its end."""
    _, shown = data
    blocks = [b for b in wordwise.vtt(shown).removeprefix("WEBVTT\n").split("\n\n") if b.strip()]
    assert len(blocks) == len(shown)
    for block, c in zip(blocks, shown, strict=True):
        times, text = block.strip("\n").split("\n", 1)
        start, end = map(seconds, times.split(" --> "))
        assert (start, end) == (c.start, c.end)
        stamps = [seconds(s) for s in re.findall(f"<({TIME.replace('(', '(?:')})>", text)]
        assert all(a < b for a, b in itertools.pairwise([start, *stamps, end]))
        bare = re.sub(r"</?v(?: [^<>]*)?>|<[\d:.]+>", "", text)
        assert not re.search("[<>]", bare)
        assert html.unescape(bare) == "\n".join(c.lines)


def test_each_word_has_its_time() -> None:
    words = tuple(Word(text=f" w{k}", start=k * 0.5, end=k * 0.5 + 0.4) for k in range(4))
    shown = cue.cues([Sentence(words=words, speaker="Ada")], RULES, duration=9, label=False)
    assert "<v Ada>w0 <00:00:00.500>w1 <00:00:01.000>w2 <00:00:01.500>w3</v>" in wordwise.vtt(shown)
    assert r"{\k50}w0{\k50} w1{\k50} w2{\k40} w3" in wordwise.karaoke(shown, ["Ada"])


@given(said())
def test_karaoke_has_the_length_of_its_cue_and_no_command_of_a_speaker(
    data: tuple[list[Sentence], list[cue.Cue]],
) -> None:
    """The hundredths of a line add up; what is said and what speakers are called is neither command, field nor style."""
    _, shown = data
    speakers = list(dict.fromkeys(c.speaker for c in shown if c.speaker))
    for text in (wordwise.karaoke(shown, speakers), formats.ass(shown, speakers)):
        lines = text.splitlines()
        styles = [line.removeprefix("Style: ").split(",") for line in lines if line.startswith("Style: ")]
        assert [len(s) for s in styles] == [23] * (len(speakers) + 1)
        events = [line.removeprefix("Dialogue: ").split(",", 9) for line in lines if line.startswith("Dialogue: ")]
        assert len(events) == len(shown)
        for event, c in zip(events, shown, strict=True):
            assert event[3] in {s[0] for s in styles}
            spoken = re.sub(r"\{\\k\d+\}|[\u202b\u202c]", "", event[9])
            assert not re.search(r"[{}]|\\(?!N)", spoken)
            assert spoken.replace(r"\N", "\n") == "\n".join(map(formats.ass_text, c.lines))
            if r"{\k" in event[9]:
                assert sum(map(int, re.findall(r"\{\\k(\d+)\}", event[9]))) == round(c.end * 100) - round(c.start * 100)


@given(said(), st.sampled_from(",\t"))
def test_tables_read_back_and_compute_nothing(data: tuple[list[Sentence], Any], separator: str) -> None:
    """RFC 4180; a cell that a spreadsheet would take for a formula begins with an apostrophe."""
    heard, _ = data
    text = formats.table(heard, separator=separator)
    head, *rows = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), delimiter=separator)
    assert tuple(head) == formats.TABLE_HEAD
    assert [len(row) for row in rows] == [len(formats.TABLE_HEAD)] * len(heard)
    for number, (row, sentence) in enumerate(zip(rows, heard, strict=True), 1):
        assert row[0] == str(number)
        assert float(row[1]) == pytest.approx(sentence.start, abs=0.001)
        assert not any(value.lstrip().startswith(("=", "+", "-", "@")) for value in row)
        assert row[4].removeprefix("'") == sentence.text.removeprefix("'")


@pytest.mark.parametrize("text", ["=1+1", "+49", "-x", "@SUM(A1)", "＝1", " =1"])
def test_formulas_are_text(text: str) -> None:
    assert formats.cell(text) == f"'{text}"
    assert formats.cell("x" + text) == "x" + text


def test_documents_hold_what_xml_holds() -> None:
    """Two characters that Unicode has and XML has not; text from right to left is known by its first letter."""
    assert document.clear("a\ufffe\uffff\x00b😀") == "a\ufffd\ufffd\ufffdb😀"
    assert document.right_to_left("12 שלום abc")
    assert not document.right_to_left("abc שלום")
    assert not document.right_to_left("...")


def test_a_speaker_s_name_is_one_field_of_rttm() -> None:
    turns = [{"start": 0.0, "end": 1.0, "speaker": "Ada King, Countess"}]
    fields = "SPEAKER a_b 1 0.000 1.000 <NA> <NA> Ada_King__Countess <NA> <NA>\n"
    assert formats.rttm("a b", turns) == fields


def test_formats_are_those_of_the_stage() -> None:
    """What the command line takes is what the stage writes, and by default the same."""
    assert set(FORMATS) == set(written.WRITERS)
    assert written.chosen(chosen("json, .SRT,docx")) == ["srt", "docx", "json"]
    assert written.chosen(chosen("all")) == list(written.WRITERS)
    with pytest.raises(UsageError, match=r"word\.vtt"):
        chosen("srt,word.vtt")
    with pytest.raises(UsageError, match="no format"):
        chosen(" , ")
    with pytest.raises(ValueError, match="no format"):
        written.chosen("srt,exe")


@pytest.mark.parametrize("end", FORMATS)
def test_what_is_put_beside_a_recording_is_not_taken_for_one(end: str) -> None:
    assert OTHERS.search(f"talk.{end}")
