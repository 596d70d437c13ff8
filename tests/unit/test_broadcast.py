"""TTML and SCC read back by the library's own readers, whatever was said."""

from __future__ import annotations

import io
import itertools
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.test_formats import said  # it puts the stage's folder on the path

# isort: split
import broadcast
import check
import cues as cue
import ttconv.imsc.reader
import ttconv.scc.reader
from limits import Rules
from sentences import Sentence, Word
from ttconv import model

RULES = Rules()
DURATION = 600.0


def spoken(*texts: str, each: float = 3.0, speaker: str | None = None) -> list[Sentence]:
    """Sentences, one after another, whose words share their time."""
    found = []
    for k, text in enumerate(texts):
        parts, begin = text.split(), 10 + k * each
        step = (each - 0.5) / len(parts)
        words = [Word(text=f" {p}", start=begin + n * step, end=begin + (n + 1) * step) for n, p in enumerate(parts)]
        found.append(Sentence(words=tuple(words), speaker=speaker))
    return found


def recut(sentences: list[Sentence], columns: int) -> list[cue.Cue]:
    return cue.cues(sentences, replace(RULES, line_chars=columns), duration=DURATION, label=True)


def scc(sentences: list[Sentence]) -> tuple[str | None, list[str]]:
    notes: list[str] = []
    return broadcast.scc(sentences, recut, notes.append, prefix=True), notes


def paragraphs(document: Any) -> list[tuple[float, float, str]]:
    """Begin and end in seconds, and the text of each paragraph."""
    found = []
    for element in document.get_body().dfs_iterator():
        if isinstance(element, model.P):
            text = ""
            for inner in element.dfs_iterator():
                text += (
                    "\n" if isinstance(inner, model.Br) else inner.get_text() if isinstance(inner, model.Text) else ""
                )
            found.append((float(element.get_begin() or 0), float(element.get_end() or 0), text))
    return found


def from_ttml(data: bytes) -> Any:
    return ttconv.imsc.reader.to_model(ElementTree.parse(io.BytesIO(data)))


def from_scc(text: str) -> list[tuple[float, float, str]]:
    return [p for p in paragraphs(ttconv.scc.reader.to_model(text)) if p[2].strip()]


@given(said())
def test_ttml_reads_back_as_it_was_written(data: tuple[list[Sentence], list[cue.Cue]]) -> None:
    """Every cue once, with its times and lines; what is said is never markup."""
    _, shown = data
    found = paragraphs(from_ttml(broadcast.ttml(shown, "en", prefix=True)))
    expected = [(c.start, c.end, broadcast.clear(c.mark + "\n".join(c.lines))) for c in shown]
    assert found == [(pytest.approx(a), pytest.approx(b), text) for a, b, text in expected]


def test_ttml_names_its_profile_its_language_and_the_direction_of_its_text() -> None:
    shown = recut(spoken("שלום לכם, מה שלומכם היום?", "Good morning."), 42)
    text = broadcast.ttml(shown, "he", prefix=False).decode()
    assert 'contentProfiles="http://www.w3.org/ns/ttml/profile/imsc1.1/text"' in text
    assert 'xml:lang="he"' in text
    assert text.count('direction="rtl"') == 1
    assert broadcast.ttml(shown, "he", prefix=False).decode() == text


def test_captions_have_every_word_in_rows_of_32_columns() -> None:
    texts = [
        "Good morning, everybody, and welcome back to the show that never ends.",
        "¿Qué pasa, señor? À la carte, crème brûlée.",
        "He said “fine” and left…",
    ]
    text, notes = scc(spoken(*texts, each=6.0))
    assert text is not None
    found = from_scc(text)
    rows = [row.strip() for _, _, shown in found for row in shown.split("\n")]
    assert all(len(row) <= 32 for row in rows)
    plain = "Good morning, everybody, and welcome back to the show that never ends. "
    assert (
        " ".join(rows).split()
        == (plain + '¿Qué pasa, señor? A la carte, crème brûlée. He said "fine" and left...').split()
    )
    assert notes == [".scc has 1 character otherwise, or not at all: captions (CTA-608) have no such"]  # À
    begins = [shown.start for shown in recut(spoken(*texts, each=6.0), 32)]
    assert [a for a, _, _ in found] == [pytest.approx(b, abs=0.1) for b in begins]


@pytest.mark.parametrize("text", ["Доброе утро, дамы и господа.", "おはようございます。", "صباح الخير"])
def test_other_scripts_make_no_captions(text: str) -> None:
    assert scc(spoken(text)) == (None, ["no .scc: captions (CTA-608) have no letters for this text"])


def test_captions_that_come_too_fast_are_late_and_told() -> None:
    """Two bytes a frame: none is left out, and each is shown after the one before."""
    texts = [f"Number {k} and some more words here." for k in range(40)]
    text, notes = scc(spoken(*texts, each=0.6))
    assert text is not None
    found = from_scc(text)
    assert " ".join(" ".join(shown.split()) for _, _, shown in found) == " ".join(texts)
    assert all(a[1] <= b[0] + 0.001 for a, b in itertools.pairwise(found))
    assert len(notes) == 1
    assert "s late: captions carry two bytes a frame" in notes[0]


def test_a_word_longer_than_four_rows_is_cut_and_told() -> None:
    text, notes = scc(spoken("x" * 200))
    assert text is not None
    assert [len(shown.replace("\n", "")) for _, _, shown in from_scc(text)] == [128]
    assert notes == [".scc has 72 characters otherwise, or not at all: captions (CTA-608) have no such"]


def test_time_codes_end_after_a_day() -> None:
    late = [
        replace(s, words=tuple(replace(w, start=w.start + 86_400, end=w.end + 86_400) for w in s.words))
        for s in spoken("Late.")
    ]
    notes: list[str] = []
    assert (
        broadcast.scc(late, lambda s, n: cue.cues(s, RULES, duration=90_000, label=False), notes.append, prefix=True)
        is None
    )
    assert notes == ["no .scc: its time codes end after 24 hours"]
    assert scc([]) == ("Scenarist_SCC V1.0\n", [])


@given(st.lists(st.tuples(st.floats(0, 20), st.lists(st.text("ab é*", max_size=60), max_size=6)), max_size=12))
def test_captions_leave_each_other_time(pages: list[tuple[float, list[str]]]) -> None:
    made = [
        broadcast._Shown(begin=Fraction(round(at * 30)), end=Fraction(round(at * 30) + 20), lines=tuple(lines))
        for at, lines in sorted(pages)
    ]
    shown, late = broadcast._scheduled(made)
    assert len(shown) == len(late) == len(made)
    ends = [each.end for each in shown if each.end is not None]
    assert len(ends) == len(shown)
    assert all(end <= b.begin for end, b in zip(ends, shown[1:], strict=False))
    assert all(end > each.begin for end, each in zip(ends, shown, strict=True))


@pytest.mark.parametrize("pause", [0.1, 3.0])
def test_parts_of_a_long_recording_are_one_file(pause: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """ttconv is given few captions at once; each is there, and the screen is cleared where there is time for it."""
    said = spoken(*[f"Sentence number {k} of many." for k in range(9)])
    said = [
        replace(s, words=tuple(replace(w, start=w.start + k * pause, end=w.end + k * pause) for w in s.words))
        for k, s in enumerate(said)
    ]
    whole, notes = scc(said)
    monkeypatch.setattr(broadcast, "PART", 2)
    text, again = scc(said)
    assert whole is not None
    assert text is not None
    assert notes == again
    assert [(a, shown) for a, _, shown in from_scc(text)] == [(a, shown) for a, _, shown in from_scc(whole)]
    times = [line.split("\t")[0] for line in text.splitlines() if "\t" in line]
    assert times == sorted(times)
    assert text.count("942c") == whole.count("942c") - (8 if pause < 1 else 0)  # two for each part but the last


@given(said())
def test_the_check_reads_ttml_as_it_was_written(data: tuple[list[Sentence], list[cue.Cue]]) -> None:
    _, shown = data
    form, found = check.timed_text(broadcast.ttml(shown, "en", prefix=False))
    assert form == "ttml"
    assert [(c.start, c.end) for c in found] == [(c.start, c.end) for c in shown]
    assert [len(c.lines) for c in found] == [len(c.lines) for c in shown]


TT = (
    '<tt xmlns="http://www.w3.org/ns/ttml" xmlns:ttp="http://www.w3.org/ns/ttml#parameter" {}>'
    '<body begin="10s"><div>{}</div></body></tt>'
)


@pytest.mark.parametrize(
    ("parameters", "times", "expected"),
    [
        ("", 'begin="00:00:01.5" end="00:00:03"', (11.5, 13.0)),
        ("", 'begin="90m" dur="500ms"', (5410.0, 5410.5)),
        ('ttp:frameRate="25"', 'begin="00:00:01:05" end="50f"', (11.2, 12.0)),
        ('ttp:frameRate="30" ttp:frameRateMultiplier="1000 1001"', 'begin="0f" end="30f"', (10.0, 11.001)),
        ('ttp:tickRate="10000000"', 'begin="20000000t" end="1h"', (12.0, 3610.0)),
        ('ttp:tickRate="0" ttp:frameRate="x"', 'begin="1t" end="60f"', (11.0, 12.0)),
    ],
)
def test_times_of_others_ttml(parameters: str, times: str, expected: tuple[float, float]) -> None:
    """Every kind of TTML 2's time expressions, within a body that begins later."""
    text = TT.format(parameters, f'<p {times}>One <span>two</span>\n <br/>three &amp; four</p><p begin="1s">no end</p>')
    (found,) = check.timed_text(text.encode())[1]
    assert (found.start, found.end) == pytest.approx(expected)
    assert found.lines == ("One two", "three & four")
    assert check.timed_text(text.replace("www.w3.org/ns/ttml", "www.w3.org/2006/10/ttaf1").encode())[1] == [found]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('<!DOCTYPE tt [<!ENTITY a "b">]>' + TT.format("", "&a;"), "a document type"),
        ("<html></html>", "not TTML"),
        ('<?xml version="1.0"?><tt xmlns="x"/>', "not TTML"),
        (TT.format("", "<p>"), "no well-formed XML: mismatched tag"),
        (TT.format("", "<span>" * 200), "more than 100 elements"),
    ],
)
def test_xml_that_isnt_read(text: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "a.ttml").write_text(text if text.startswith("<?xml") else f'<?xml version="1.0"?>\n{text}')
    assert why in check.checked(str(tmp_path / "a.ttml"), RULES, None)["error"]


def test_too_many_subtitles_of_ttml_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "MOST_CUES", 2)
    with pytest.raises(check.NotSubtitles, match="more than 2"):
        check.timed_text(TT.format("", '<p end="1s">x</p>' * 3).encode())


@pytest.mark.parametrize("encoding", ["nothing-like-it", "hex", "gbk", "idna"])
def test_an_encoding_that_expat_cannot_read_is_refused(encoding: str) -> None:
    """Python looks the name up among its own, some of which are no encodings of text."""
    with pytest.raises(check.NotSubtitles):
        check.timed_text(f'<?xml version="1.0" encoding="{encoding}"?>'.encode() + TT.format("", "").encode())


def test_text_that_comes_in_pieces_is_one_line() -> None:
    """expat hands text over in pieces of its buffer's size, and again after each reference."""
    text = "a &amp; b " + "word " * 5000 + "\n"
    (found,) = check.timed_text(TT.format("", f'<p begin="1s" end="2s">{text}</p>').encode())[1]
    assert found.lines == (text.replace("&amp;", "&").strip(),)
