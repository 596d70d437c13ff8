"""French words as the dictionary of the acoustic model has them; what it lacks is spelled aloud."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import stage_module

french, slim = stage_module("align", "french"), stage_module("align", "slim")

ENTRIES = {"l'", "qu'", "est", "-ce", "a", "-t", "-il", "aujourd'hui", "oeuf", "appel", "grand"}
PHONES = {
    *("aa", "ai", "an", "au", "bb", "ch", "dd", "ee", "ei", "eu", "ff", "gg", "gn", "ii", "in", "jj", "kk", "ll"),
    *("mm", "nn", "oe", "on", "oo", "ou", "pp", "rr", "ss", "tt", "un", "uu", "uy", "vv", "ww", "yy", "zz"),
}


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("l'appel", ["l'", "appel"]),
        ("qu'est-ce", ["qu'", "est", "-ce"]),
        ("a-t-il", ["a", "-t", "-il"]),
        ("aujourd'hui", ["aujourd'hui"]),
        ("œuf", ["oeuf"]),
        ("grand-place", ["grand", "place"]),
        ("inouï", ["inouï"]),
        ("25", []),
        ("abc3", []),
        ("", []),
        ("слово", []),
        ("a" * 41, []),
    ],
)
def test_a_word_is_said_by_its_parts(word: str, parts: list[str]) -> None:
    """A figure's spelling isn't how it is said."""
    assert french.pieces(word, ENTRIES.__contains__) == parts


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("appuyez", "aa pp uy ii yy ei"),
        ("dièse", "dd yy ai zz"),
        ("veuillez", "vv oe yy ei"),
        ("chantaient", "ch an tt ai"),
        ("question", "kk ai ss tt yy on"),
        ("moins", "mm ww in"),
        ("gauche", "gg au ch"),
        ("cerise", "ss ee rr ii zz"),
    ],
)
def test_spelling_aloud(word: str, said: str) -> None:
    assert french.sounds(word) == said


@given(st.text(st.characters(max_codepoint=0x180), max_size=45))
def test_whatever_is_spelled_has_sounds_that_the_model_knows(word: str) -> None:
    """Whisper writes anything; pocketsphinx ends the job for a sound that it doesn't know."""
    for piece in french.pieces(word, lambda entry: False):
        assert set(french.sounds(piece).split()) <= PHONES


class Dictionary:
    """What a decoder of pocketsphinx has of a dictionary."""

    def __init__(self) -> None:
        self.words = {"l'": "ll", "appel": "aa pp ai ll"}

    def lookup_word(self, word: str) -> str | None:
        return self.words.get(word)

    def add_word(self, word: str, phones: str, update: bool) -> None:
        assert update
        assert phones
        self.words[word] = phones


def test_what_the_dictionary_lacks_is_added() -> None:
    """A word that is left out moves its neighbours' edges; one without a sound can't be aligned."""
    job, aligner = SimpleNamespace(root=Path("job")), slim.Aligner(Dictionary(), slim.french_entries)
    assert slim.french_entries(job, aligner, " L’appel,") == ["l'", "appel"]
    assert slim.french_entries(job, aligner, " dièse.") == ["dièse"]
    assert aligner.decoder.words["dièse"] == "dd yy ai zz"
    assert slim.french_entries(job, aligner, " h") == []


def test_what_was_added_for_one_job_is_not_there_for_the_next() -> None:
    """How a word is cut into entries depends on those that are known: by itself a job gets the same."""
    aligner = slim.Aligner(Dictionary(), slim.french_entries)
    first, second = (SimpleNamespace(root=Path(name)) for name in ("first", "second"))
    assert slim.french_entries(first, aligner, " dièse.") == ["dièse"]
    assert aligner.knows(first, "dièse")
    assert not aligner.knows(second, "dièse")
    assert aligner.knows(second, "appel")
    assert slim.french_entries(second, aligner, " dièse.") == ["dièse"]
    assert aligner.knows(second, "dièse")


def test_english_words_that_the_dictionary_lacks_are_left_out() -> None:
    decoder = SimpleNamespace(lookup_word={"call": "K AO L"}.get)
    job, aligner = SimpleNamespace(root=Path("job")), slim.Aligner(decoder, slim.english_entries)
    assert slim.english_entries(job, aligner, " Call!") == ["call"]
    assert slim.english_entries(job, aligner, " xyzzy") == []
    assert slim.english_entries(job, aligner, " 7") == []


def test_a_word_lasts_from_its_first_part_to_its_last() -> None:
    entries: list[list[str]] = [["l'", "appel"], [], ["est"]]
    times: list[Any] = [(0.0, 0.1), (0.1, 0.5), (0.6, 0.8)]
    assert slim.whole(entries, times) == {0: (0.0, 0.5), 2: (0.6, 0.8)}
