"""Where text is broken: ends of sentences by language, lines at syntactic places, and what is one word to the reader."""

from __future__ import annotations

import itertools

import pytest

from tests.unit.test_subtitles import segment, show, tokens  # it puts the stage's folder on the path

# isort: split
import breaks
import cues as cue
from breaks import language
from sentences import read_words, sentences


def parts(text: str, code: str) -> list[str]:
    return [s.text for s in sentences(read_words([segment(" " + text, 0, 6)], 9.0), None, language(code))]


@pytest.mark.parametrize(
    ("code", "sentences_"),
    [
        ("en", ["Dr. J. Smith said... well, nothing.", "Then he left."]),
        ("en", ["Were you there?", "No.", "I was at home."]),
        ("en", ["It is No. 5 of 9.", "Neither did I.", "I went."]),
        ("en", ["They left at 5 p.m. and came back.", "Apples, pears, etc. are here."]),
        ("de", ["Das kostet ca. 5 Euro, z.B. am 3. Mai.", "Gut."]),
        ("fr", ["M. Dupont et Mme. Martin sont là.", "Oui."]),
        ("es", ["La Sra. López y el Dr. Ruiz.", "Sí."]),
        ("it", ["Il Sig. Rossi e la Dott.ssa Verdi.", "Sì."]),
        ("nl", ["Dhr. Jansen komt bijv. morgen.", "Goed."]),
        ("pt", ["O Sr. Silva e a Dra. Costa.", "Sim."]),
        ("ru", ["Это ул. Ленина и т.д. до конца.", "Да."]),
        ("hi", ["नमस्ते।", "धन्यवाद।"]),
        (None, ["Mr. Smith is here.", "Yes."]),
    ],
)
def test_sentences_end_where_they_end(code: str | None, sentences_: list[str]) -> None:
    assert parts(" ".join(sentences_), code or "") == sentences_


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("en", "We walked along the bank of the river until it got dark and the stars came out over the old town"),
        ("en", "I think that this is one of the best things that we have ever had in our house since then"),
        ("de", "Wir gingen am Ufer des Flusses entlang bis es dunkel wurde und die Sterne über der Stadt standen"),
        (
            "fr",
            "Nous avons marché le long de la rivière avant la nuit et les étoiles sur la vieille ville étaient belles",
        ),
        ("es", "Caminamos por la orilla del río hasta que se hizo de noche y las estrellas salieron sobre la ciudad"),
        ("it", "Abbiamo camminato lungo la riva del fiume prima della notte e le stelle sopra la città erano belle"),
        ("nl", "We liepen langs de oever van de rivier tot het donker werd en de sterren boven de oude stad stonden"),
        ("pt", "Caminhamos pela margem do rio até que a noite chegou e as estrelas saíram sobre a cidade velha"),
        ("ru", "Мы шли вдоль берега реки до того как стало темно и звёзды вышли над старым городом у моря"),
    ],
)
@pytest.mark.parametrize("columns", [24, 32, 37, 42])
def test_no_line_ends_with_a_word_that_belongs_to_the_next(code: str, text: str, columns: int) -> None:
    known = language(code)
    said = sentences(read_words([segment(" " + text, 0, 7)], 60.0), None, known)
    shown = cue.cues(
        said, cue.Rules(line_chars=columns, chars_per_second=30), duration=60.0, label=False, language=known
    )
    lines = [line for c in shown for line in c.lines]
    assert " ".join(lines) == text
    bad = [line for line in lines[:-1] if line.split()[-1].lower() in known.clings | known.heads]
    assert len(bad) <= (columns < 37), lines  # short lines don't always leave another place


@pytest.mark.parametrize(
    "bound",
    ["20 km", "5 %", "3 p.m.", "7 million", "1,250 dollars", "Dr. Smith", "Mr. Brown", "No. 7", "10 000"],
)
def test_numbers_units_and_titles_are_never_split(bound: str) -> None:
    """Wherever the line's end would fall."""
    for before in range(2, 9):
        text = " " + " ".join(["some"] * before) + f" {bound} " + " ".join(["more"] * 6)
        known = language("en")
        said = sentences(read_words([segment(text, 0, 5)], 60.0), None, known)
        shown = cue.cues(said, cue.Rules(line_chars=30), duration=60.0, label=False, language=known)
        assert any(bound in line for c in shown for line in c.lines), [c.lines for c in shown]


def test_a_break_before_a_preposition_is_better_than_within_a_phrase() -> None:
    english = language("en")
    order = [
        english.price(" river,", " it", 0.0),
        english.price(" went", " to", 0.0),
        english.price(" old", " town", 0.0),
        english.price(" Ada", " Lovelace", 0.0),
        english.price(" the", " town", 0.0),
        english.price(" 20", " km", 0.0),
    ]
    assert order == sorted(set(order))
    assert english.price(" old", " town", 0.5) == 0.0, "a pause divides"


def lines_of(text: str, columns: int) -> list[str]:
    shown = show([tokens(list(text), step=0.15)], rules=cue.Rules(line_chars=columns, lines=2, by_script=False))
    return [line for c in shown for line in c.lines]


def test_japanese_lines_begin_with_a_phrase() -> None:
    """Particles and endings stay with what stands before them, words of katakana and kanji are whole."""
    text = "私は昨日友達とコンピュータの展示会に行きましたが人が多くて何も見えませんでした"
    lines = lines_of(text, 26)
    assert "".join(lines) == text
    for before, line in itertools.pairwise(lines):
        assert line[0] not in "はがをにでとものへやか", lines
        assert not ("ァ" <= before[-1] <= "ー" and "ァ" <= line[0] <= "ー"), lines


def test_chinese_lines_neither_begin_with_a_particle_nor_part_a_number() -> None:
    text = "我们今天要说的是一个很长很长的故事因为在2023年3月15日发生了一件很重要的事情大家都记得"
    for columns in (16, 20, 24, 32):
        lines = lines_of(text, columns)
        assert "".join(lines) == text
        for before, line in itertools.pairwise(lines):
            assert line[0] not in "的了吗呢吧们" + "年月日", lines
            assert not (before[-1].isdigit() and line[0].isdigit()), lines


def test_thai_lines_break_at_syllables() -> None:
    """Before a vowel that is written before its consonant, where there is one near."""
    thai = language("th")
    assert thai.price("น", "เ", 0.0) < thai.price("น", "ก", 0.0)
    text = "วันนี้เราจะพูดถึงท่าเรือเก่าที่น้ำลึกและกว้างเพราะเป็นเรื่องที่ทุกคนสนใจ"
    lines = lines_of(text, 20)
    assert "".join(lines) == text
    assert sum(line[0] in "เแโใไ" for line in lines[1:]) * 2 >= len(lines) - 1, lines


def test_an_unlisted_language_breaks_at_marks_and_evenly() -> None:
    unknown = language("sw")
    assert unknown.price(" moja,", " mbili", 0.0) == 0.0
    assert unknown.price(" moja", " mbili", 0.0) == breaks.LOOSE


def test_a_pause_after_an_article_doesnt_end_a_line() -> None:
    """People hesitate there; elsewhere a pause divides as well as a mark does."""
    words = language("en")
    assert words.price("in", " the", 0.9) > words.price("Manchester", " in", 0.0)
    assert words.price("Manchester", " said", 0.9) == breaks.FREE
    assert words.price("the,", " end", 0.9) == breaks.FREE
