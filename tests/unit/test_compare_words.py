"""Words and their differences: what counts as a word, and that the edits are the fewest."""

from __future__ import annotations

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.core.compare import words as compare
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


some = st.lists(st.sampled_from("abcd"), max_size=12)


@given(some, some, st.sampled_from([4 << 20, 6]))
def test_the_edits_are_the_fewest(left: list[str], right: list[str], few: int) -> None:
    """As many as jiwer finds, also where the table is divided; each word once, in order, and equal ones are equal."""
    whole = compare.FEW
    compare.FEW = few
    try:
        edits = edits_between(left, right)
    finally:
        compare.FEW = whole
    assert [e.left for e in edits if e.left is not None] == list(range(len(left)))
    assert [e.right for e in edits if e.right is not None] == list(range(len(right)))
    for edit in edits:
        if edit.left is not None and edit.right is not None:
            assert (left[edit.left] == right[edit.right]) == (edit.kind == "equal")
    found = errors_of(edits)
    made = found.substituted + found.inserted + found.deleted
    assert found.total == len(left)
    if left:
        wanted = jiwer.process_words(" ".join(left), " ".join(right))
        assert made == wanted.substitutions + wanted.insertions + wanted.deletions
    else:
        assert made == len(right)


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


def test_memory_is_not_the_product_of_the_lengths() -> None:
    """Two hours of speech against two others: the parts whose tables are kept are small, and none is lost."""
    left, right = [f"a{k % 997}" for k in range(9000)], [f"a{k % 991}" for k in range(9100)]
    parts = list(compare._divided(left, right))
    assert len(parts) > 1
    assert max(len(a) * len(b) for a, b, _, _ in parts) <= compare.FEW
    assert [w for a, _, _, _ in parts for w in a] == left
    assert [w for _, b, _, _ in parts for w in b] == right
