"""Terms in a translation: found as whole words, the longest first, and back in whatever a backend does to the words."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import stage_module

terms = stage_module("translate", "terms")


def test_the_longest_term_counts_and_words_are_whole() -> None:
    wanted = {"ada": "Ada", "Ada Lovelace": "Ada L.", "engine": "máquina"}
    text, held = terms.Terms(wanted).mask("Ada Lovelace, ada and the Engines' engine")
    assert (text, held) == ("\ue000, \ue001 and the Engines' \ue002", ["Ada L.", "Ada", "máquina"])
    assert terms.unmask("\ue002 of \ue000", held) == ("máquina of Ada L.", ["Ada"])


def test_the_longest_term_counts_whatever_the_case_of_its_first_letter() -> None:
    wanted = {"Engineers of old": "I", "Engine": "M", "engine room": "S"}
    assert terms.Terms(wanted).mask("the engine room")[1] == ["S"]


def test_a_text_s_own_placeholders_are_taken_out_and_ours_have_an_end() -> None:
    assert terms.Terms({"Ada": "x"}).mask("\ue005 Ada") == (" \ue000", ["x"])
    assert len(terms.Terms({"a": "b"}).mask("a " * (terms.MOST + 9))[1]) == terms.MOST


def test_capitals_alone_are_not_small_letters() -> None:
    assert terms.Terms({"US": "EE. UU."}).mask("US told us") == ("\ue000 told us", ["EE. UU."])


def test_scripts_without_spaces_have_no_words_to_look_for() -> None:
    assert terms.Terms({"北京": "Beijing"}).mask("我在北京大学") == ("我在\ue000大学", ["Beijing"])


def test_signs_at_a_term_s_ends_need_no_word_s_end() -> None:
    assert terms.Terms({"C++": "C++"}).mask("C++11 (C++)")[1] == ["C++", "C++"]


WORDS = st.text(st.characters(categories=["L", "Nd", "P", "Zs"]), min_size=1, max_size=8).filter(str.strip)


@given(st.text(max_size=80), st.dictionaries(WORDS, WORDS, max_size=6))
def test_a_term_s_place_has_what_is_wanted(text: str, wanted: dict[str, str]) -> None:
    clean = terms.HELD.sub("", text)
    masked, held = terms.Terms(wanted).mask(text)
    back, missing = terms.unmask(masked, held)
    assert not missing
    assert len(terms.HELD.sub("", masked)) + sum(map(len, held)) == len(back)
    assert terms.Terms({}).mask(text) == (clean, [])
    if not held:
        assert masked == clean


@given(st.text(max_size=60))
def test_words_for_placeholders_come_back(text: str) -> None:
    coded, held = terms.coded(text)
    assert not terms.HELD.search(coded)
    if not terms.WORD.search(text):
        assert terms.decoded(coded, held) == text
