"""Words and their differences: what counts as a word, and that the edits are the fewest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.core.compare.words import Agreement, WordErrors, agreement_of, edits_between, errors_of, words_of


@pytest.mark.parametrize(
    ("text", "language", "keys"),
    [
        ("Hello, World! ", "en", ["hello", "world"]),
        ("It’s 20 o'clock - 'tis", "en", ["it's", "twenty", "o'clock", "tis"]),
        ("20 ans d'été", "fr", ["20", "ans", "d'été"]),
        ("twenty-one", None, ["twenty", "one"]),
        ("cafe\u0301 STRASSE Straße", "de", ["café", "strasse", "strasse"]),
        ("今天20度。", "zh", ["今", "天", "20", "度"]),
        ("नमस्ते दुनिया।", "hi", ["नमस्ते", "दुनिया"]),
        ("ที่นี่", "th", ["ที่", "นี่"]),
        ("a_b", None, ["a", "b"]),
        (" … ?! ", None, []),
        ("", None, []),
    ],
)
def test_what_a_word_is(text: str, language: str | None, keys: list[str]) -> None:
    """Without case and punctuation; with its apostrophe and its vowels' marks; a character each where nobody writes spaces."""
    assert [word.key for word in words_of(text, language)] == keys


@given(st.text(alphabet="aB 'é́.,-今のก\u0301\n1’", min_size=1))
def test_words_are_the_whole_text(text: str) -> None:
    """What is shown of them is all that was there, but for the space around it."""
    import unicodedata

    found = words_of(text, start=1.5)
    assert all(word.start == 1.5 and word.key for word in found)
    if found:
        assert "".join(word.shown for word in found).strip() == unicodedata.normalize("NFC", text).strip()


some = st.lists(st.sampled_from(["a", "b", "c", "d e"]), max_size=12)
"""A word can have a space in it: NFKC writes the sign of a whole Arabic sentence out."""


@given(some, some)
def test_the_edits_are_the_fewest(left: list[str], right: list[str]) -> None:
    """No more than the distance of Levenshtein; each word once, in order, and equal ones are equal."""
    edits = edits_between(left, right)
    assert [e.left for e in edits if e.left is not None] == list(range(len(left)))
    assert [e.right for e in edits if e.right is not None] == list(range(len(right)))
    for edit in edits:
        if edit.left is not None and edit.right is not None:
            assert (left[edit.left] == right[edit.right]) == (edit.kind == "equal")
        else:
            assert edit.kind == ("inserted" if edit.left is None else "deleted")
    found = errors_of(edits)
    assert found.total == len(left)
    assert found.substituted + found.inserted + found.deleted == _distance(left, right)


def _distance(left: list[str], right: list[str]) -> int:
    row = list(range(len(right) + 1))
    for number, word in enumerate(left, 1):
        before, row = row, [number]
        for k, other in enumerate(right, 1):
            row.append(min(before[k] + 1, row[-1] + 1, before[k - 1] + (word != other)))
    return row[-1]


def test_the_words_of_one_sign_are_one_word() -> None:
    """So that a word of the text stands for each that is compared."""
    [sign, word] = words_of("\ufdfa قال", "ar")
    assert sign.key.count(" ") == 3
    assert errors_of(edits_between([sign.key, word.key], [word.key])) == WordErrors(deleted=1, total=2)


@given(some, some)
def test_agreement_is_the_same_both_ways(left: list[str], right: list[str]) -> None:
    """And all of it with oneself."""
    assert agreement_of(edits_between(left, left)).rate in (1.0, None)
    both = agreement_of(edits_between(left, right))
    assert both.words == len(left) + len(right)
    assert both.rate is None or 0 <= both.rate <= 1


def test_rates() -> None:
    """By hand; nothing is divided by nothing."""
    found = errors_of(edits_between(list("abcd"), list("axcde")))
    assert found == WordErrors(substituted=1, inserted=1, deleted=0, total=4)
    assert found.rate == 0.5
    assert (found + found).rate == 0.5
    assert WordErrors(inserted=2).rate is None
    agreed = agreement_of(edits_between(list("abcd"), list("axcde")))
    assert agreed == Agreement(shared=3, words=9)
    assert agreed.rate == pytest.approx(2 / 3)
    assert Agreement().rate is None
