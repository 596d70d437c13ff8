"""Translation models of CTranslate2: families, tags, tokens, parts of long texts, and models that don't fit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.receiver.jobs.languages import LANGUAGES
from tests.conftest import stage_module

vocabulary = stage_module("translate", "vocabulary")
nmt = stage_module("translate", "nmt")

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]


def model(
    folder: Path, *tokens: str, name: str = "shared_vocabulary.json", files: Sequence[str] = (), **config: Any
) -> Any:
    """The family of a model with these tokens."""
    text = "\n".join([*SPECIAL, *tokens]) if name.endswith(".txt") else json.dumps([*SPECIAL, *tokens])
    (folder / name).write_text(text)
    (folder / "config.json").write_text(json.dumps({"add_source_eos": False, **config}))
    for file in files:
        (folder / file).write_bytes(b"")
    return vocabulary.family(folder)


def test_every_language_of_the_project_has_a_tag() -> None:
    tags = vocabulary.flores()
    assert set(tags) == set(LANGUAGES) - {"br", "haw", "la"}  # NLLB-200 has none of these
    assert (tags["en"], tags["zh"], tags["hi"], tags["sr"]) == ("eng_Latn", "zho_Hans", "hin_Deva", "srp_Cyrl")
    assert all(len(tag.split("_")[0]) == 3 and tag.split("_")[1][0].isupper() for tag in tags.values())


def test_nllb_says_both_languages(tmp_path: Path) -> None:
    """As NllbTokenizer of Transformers 4.57 does: 48 of 48 sentences had the same tokens."""
    family = model(tmp_path, "▁a", "eng_Latn", "spa_Latn")
    assert family.source(["▁a", "▁?"], "en", "es") == ["eng_Latn", "▁a", "<unk>", "</s>"]
    assert family.prefix("es") == ["spa_Latn"]
    assert family.text(["spa_Latn", "▁b", "<unk>", "eng_Latn", "</s>"]) == ["▁b"]
    with pytest.raises(vocabulary.InputFault, match="has no fr; it has en, es"):
        family.prefix("fr")


def test_m2m_says_both_languages(tmp_path: Path) -> None:
    family = model(tmp_path, "▁a", "__en__", "__jv__", name="shared_vocabulary.txt")
    assert family.source(["▁a"], "en", "jw") == ["__en__", "▁a", "</s>"]
    assert family.prefix("jw") == ["__jv__"]


def test_opus_mt_says_the_target_where_it_has_several(tmp_path: Path) -> None:
    family = model(tmp_path, "▁a", files=["source.spm"], add_source_eos=True)
    assert (family.source(["▁a"], "en", "es"), family.prefix("es")) == (["▁a"], [])
    family = model(tmp_path, "▁a", ">>spa<<", files=["source.spm"])
    assert family.source(["▁a"], "en", "es") == [">>spa<<", "▁a", "</s>"]
    with pytest.raises(vocabulary.InputFault, match="has no fr; it has es"):
        family.source(["▁a"], "en", "fr")


@pytest.mark.parametrize("text", [None, "{", "{}", "[1]", "[]", '["x"]'])
def test_what_is_no_model_is_refused(tmp_path: Path, text: str | None) -> None:
    (tmp_path / "config.json").write_text("{}")
    if text is not None:
        (tmp_path / "shared_vocabulary.json").write_text(text)
    with pytest.raises(vocabulary.ModelFault, match=tmp_path.name):
        vocabulary.family(tmp_path)


def test_a_sentencepiece_model_of_another_model_is_refused(tmp_path: Path) -> None:
    pieces = [f"▁{k}" for k in range(100)]
    vocabulary.require_fit(tmp_path, pieces, set(pieces[:90]))
    with pytest.raises(vocabulary.ModelFault, match="89 of its 100 pieces"):
        vocabulary.require_fit(tmp_path, pieces, set(pieces[:89]))


@given(st.text("ab.,! ", max_size=200), st.integers(1, 20))
def test_a_long_text_is_cut_into_parts_without_loss(text: str, longest: int) -> None:
    parts = vocabulary.parts(text, list, longest)
    assert "".join("".join(parts).split()) == "".join(text.split())
    assert all(len(part) <= max(longest, 1) for part in parts)


@dataclass
class Letters:
    """SentencePiece whose pieces are letters."""

    def encode(self, text: str, out_type: type) -> list[str]:
        return list(text)

    def decode(self, pieces: list[str]) -> str:
        return "".join(pieces)


class Echo:
    """CTranslate2's translator that repeats in capitals."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def translate_batch(self, tokens: list[list[str]], *, target_prefix: list[list[str]], **how: Any) -> list[Any]:
        self.asked.append(len(tokens) * max(map(len, tokens)))
        assert how["max_decoding_length"] <= 2 * max(map(len, tokens)) + 20
        return [
            SimpleNamespace(hypotheses=[[*prefix, *(t.upper() for t in line[1:-1]), "</s>"]])
            for line, prefix in zip(tokens, target_prefix, strict=True)
        ]


@given(st.lists(st.text("abc. ", max_size=400), max_size=12))
def test_lines_come_back_one_by_one_in_their_order(lines: list[str]) -> None:
    family = vocabulary.Family(name="nllb", tags={"en": "eng_Latn", "es": "spa_Latn"}, known=frozenset("abc. "))
    echo = Echo()
    loaded = nmt.Nmt(family=family, translator=echo, reads=Letters(), writes=Letters(), beam=4)
    made = loaded.translate(lines, source="en", target="es")
    assert ["".join(text.split()) for text in made] == ["".join(line.upper().split()) for line in lines]
    assert all(tokens <= nmt.BATCH for tokens in echo.asked)


def test_a_placeholder_that_the_model_loses_is_kept_all_the_same() -> None:
    family = vocabulary.Family(name="nllb", tags={"en": "eng_Latn", "es": "spa_Latn"}, known=frozenset("abc .Xqbx"))
    loaded = nmt.Nmt(family=family, translator=Echo(), reads=Letters(), writes=Letters(), beam=4)
    assert loaded.translate(["ab \ue000 c."], source="en", target="es") == ["AB \ue000 C."]
    lossy = vocabulary.Family(name="nllb", tags=family.tags, known=frozenset("abc ."))
    loaded = nmt.Nmt(family=lossy, translator=Echo(), reads=Letters(), writes=Letters(), beam=4)
    made = loaded.translate(["ab \ue000 c.", "a", "\ue001\ue002"], source="en", target="es")
    assert made == ["AB \ue000 C.", "A", "\ue001\ue002"]
