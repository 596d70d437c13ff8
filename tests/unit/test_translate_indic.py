"""IndicTrans2's texts: rules by published examples, what isn't translated, directions, and its folder."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import stage_module

indic = stage_module("translate", "indic")
vocabulary = stage_module("translate", "vocabulary")
nmt = stage_module("translate", "nmt")

PLAIN = [chr(k) for k in range(0x905, 0x93A)]
"""Devanagari without marks that stand behind a letter."""


@pytest.mark.parametrize(
    ("text", "tag", "wanted"),
    [
        # What indic_nlp_library's documentation shows of its tokenizer and of its normaliser.
        ("सुनो, कुछ आवाज़ आ रही है। फोन?", "hin_Deva", "सुनो , कुछ आवाज\u093c आ रही है । फोन ?"),
        ("\u0958 \u0915\u093c", "hin_Deva", "\u0915\u093c \u0915\u093c"),
        # Unicode's parallel blocks: the same word in each script.
        ("ರಾಜಸ್ಥಾನ", "kan_Knda", "राजस्थान"),
        ("రాజస్థాన", "tel_Telu", "राजस्थान"),
        ("রাজস্থান।", "ben_Beng", "राजस्थान ।"),
        ("ਰਾਜਸ੍ਥਾਨ|", "pan_Guru", "राजस्थान ।"),
        ("ന\u0d4d\u200d", "mal_Mlym", "ൻ"),
        ("२५ लोग: “हाँ”", "hin_Deva", '25 लोगः " हाँ "'),
        ("اردو٪ يہ كتاب2", "urd_Arab", "اردو ٪ یہ کتاب 2"),
        # As sacremoses 0.2.0 has them.
        ("Mr. Smith's dog didn't eat 1,000…", "eng_Latn", "Mr. Smith 's dog didn 't eat 1,000 ..."),
        ("Bones, e.g. yesterday.", "eng_Latn", "Bones , e.g. yesterday ."),
        ("(The dogs' owner) said: no.", "eng_Latn", "( The dogs ' owner ) said : no ."),
    ],
)
def test_texts_as_the_model_reads_them(text: str, tag: str, wanted: str) -> None:
    assert indic.prepared(text, tag) == (wanted, [])


@pytest.mark.parametrize(
    ("text", "tag", "wanted"),
    [
        ("राजस्थान", "tam_Taml", "ராஜஸ்தாந"),  # in indic_nlp_library's documentation
        ("राजस्थान , ( दो ) ।", "guj_Gujr", "રાજસ્થાન, (દો)।"),
        ('" हाँ " , 10 / 12 है', "hin_Deva", '"हाँ", 10/12 है'),
        ("یہ ؟", "urd_Arab", "یہ؟"),
        ('He didn \'t say " yes " ( $ 5 ) .', "eng_Latn", 'He didn\'t say "yes" ($5).'),
        ("The dogs ' owner", "eng_Latn", "The dogs' owner"),
    ],
)
def test_translations_as_they_are_read(text: str, tag: str, wanted: str) -> None:
    assert indic.readable(text, tag) == wanted


def test_what_is_not_translated_has_a_name_and_comes_back_by_it() -> None:
    text, held = indic.prepared("Mail a.b@c.org at 12:30, see www.d.org/x, 50% of \ue000 or 12:30", "eng_Latn")
    assert text == "Mail < ID1 > at < ID2 > , see < ID3 > , 50 % of < ID4 > or < ID2 >"
    assert held == ["a.b@c.org", "12:30", "www.d.org/x", "\ue000"]
    written = indic.readable("< ID2 > [ID1] <आईडी 3> आई . डी . 4 < ID5 >", "hin_Deva", held)
    assert written == "12:30 a.b@c.org www.d.org/x \ue000 <ID5>"
    assert indic.prepared("12:30", "eng_Latn", hold=False) == ("12 : 30", [])


@given(st.lists(st.text(PLAIN, min_size=1, max_size=6), max_size=8))
def test_every_script_gives_back_what_it_was(words: list[str]) -> None:
    text = " ".join(words)
    once = indic.prepared(text, "hin_Deva")[0]
    for script in ("Beng", "Guru", "Gujr", "Telu", "Knda", "Mlym"):
        there = indic.into(once, script)
        assert indic._moved(there, indic.BLOCKS[script], indic.DEVANAGARI) == once


@pytest.mark.parametrize(
    "bit", ["a-", "a.", "1", "1.", "~1", "@", "a@", "( ", " )", "' ", '"', "#a", "।", "|", "<ID1>"]
)
def test_a_hostile_text_takes_no_longer_than_its_length(bit: str) -> None:
    for tag in ("eng_Latn", "hin_Deva", "urd_Arab"):
        text, held = indic.prepared(bit * 5_000, tag)
        indic.readable(text, tag, held)


ENGLISH, HINDI = ["▁a", "▁b", *"abcdefg"], ["▁क", "▁ख", *"कखगघ", "।"]


def model(folder: Path, source: list[str], target: list[str], *, under: str = "vocab") -> Any:
    """The family of a folder as IndicTrans2's authors publish it for CTranslate2."""
    special, tags = ["<s>", "<pad>", "</s>", "<unk>"], ["eng_Latn", "hin_Deva", "tam_Taml", "urd_Arab"]
    (folder / under).mkdir(exist_ok=True)
    for side in ("SRC", "TGT"):
        (folder / under / f"model.{side}").write_bytes(b"")
    (folder / "source_vocabulary.json").write_text(json.dumps([*special, *tags, *source]))
    (folder / "target_vocabulary.json").write_text(json.dumps([*special, *target]))
    (folder / "config.json").write_text(json.dumps({"add_source_eos": True, "decoder_start_token": "</s>"}))
    return vocabulary.family(folder)


@pytest.mark.parametrize("under", ["vocab", "."])
def test_both_tags_stand_before_the_text(tmp_path: Path, under: str) -> None:
    family = model(tmp_path, ENGLISH, HINDI, under=under)
    assert family.source(["▁a", "?"], "en", "hi") == ["eng_Latn", "hin_Deva", "▁a", "<unk>"]
    assert family.prefix("hi") == []
    assert family.text(["▁क", "</s>"]) == ["▁क"]


def test_a_folder_tells_which_way_it_translates(tmp_path: Path) -> None:
    out = model(tmp_path, ENGLISH, HINDI)
    assert (sorted(out.tags), sorted(out.writes)) == (["en"], ["hi", "ta", "ur"])
    home = model(tmp_path, HINDI, ENGLISH)
    assert (sorted(home.tags), sorted(home.writes)) == (["hi", "ta", "ur"], ["en"])
    among = model(tmp_path, HINDI, HINDI)
    assert sorted(among.tags) == sorted(among.writes) == ["hi", "ta", "ur"]
    with pytest.raises(vocabulary.InputFault, match="no en; it reads hi, ta, ur"):
        home.source(["▁क"], "en", "en")
    with pytest.raises(vocabulary.InputFault, match="no en; it writes hi, ta, ur"):
        among.source(["▁क"], "hi", "en")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("target_vocabulary.json", "{}"),
        ("source_vocabulary.json", '["▁a"]'),
        ("source_vocabulary.json", '["▁a", "eng_Latn"]'),
        ("source_vocabulary.json", '["▁a", "hin_Deva"]'),
    ],
)
def test_a_damaged_folder_is_refused(tmp_path: Path, file: str, text: str) -> None:
    model(tmp_path, ENGLISH, HINDI)
    (tmp_path / file).write_text(text)
    with pytest.raises(vocabulary.ModelFault, match=tmp_path.name):
        vocabulary.family(tmp_path)


class Words:
    """SentencePiece whose pieces are words."""

    def encode(self, text: str, out_type: type) -> list[str]:
        return [f"▁{word}" for word in text.split()]

    def decode(self, pieces: list[str]) -> str:
        return "".join(pieces).replace("▁", " ").strip()


class Echo:
    """CTranslate2's translator that repeats; it loses names where it is to."""

    def __init__(self, *, loses: bool = False) -> None:
        self.loses = loses

    def translate_batch(self, tokens: list[list[str]], *, target_prefix: None, **how: Any) -> list[Any]:
        return [
            SimpleNamespace(hypotheses=[[t for t in line[2:] if not (self.loses and "ID" in t)]]) for line in tokens
        ]


@pytest.mark.parametrize("loses", [False, True])
def test_what_is_held_comes_back_even_where_the_model_loses_it(loses: bool) -> None:
    said = ["नमस्ते , 12:30 पर \ue000 ।", "a@b.org ।", ""]
    known = frozenset(Words().encode("नमस्ते , पर । < > ID1 ID2 12 : 30 a @ b . org 12:30", str))
    tags = {"hi": "hin_Deva", "kn": "kan_Knda"}
    family = vocabulary.Family(name="indictrans", tags=tags, writes=tags, own_end=True, known=known)
    loaded = nmt.Nmt(family=family, translator=Echo(loses=loses), reads=Words(), writes=Words(), beam=4)
    made = loaded.translate(said, source="hi", target="kn")
    assert "\ue000" in made[0]
    assert made[0].startswith("ನಮಸ್ತೇ,")
    assert made[2] == ""
    if not loses:
        assert made[:2] == ["ನಮಸ್ತೇ, 12:30 ಪರ \ue000।", "a@b.org।"]
