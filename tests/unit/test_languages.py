"""Languages as people type them, in options, variables and bake.yaml."""

from __future__ import annotations

import languages as of_stages
import pytest

from builder.core import languages
from builder.errors import UsageError
from builder.receiver.jobs import languages as known


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ("en", "en"),
        ("English", "en"),
        (" norwegian   nynorsk ", "nn"),
        ("en-US", "en"),
        ("pt_BR.UTF-8", "pt"),
        ("sr-Latn-RS", "sr"),
        ("zh-Hant-TW", "zh"),
        ("zh-yue", "yue"),
        ("cmn", "zh"),
        ("deu", "de"),
        ("ger", "de"),
        ("jp", "ja"),
        ("iw", "he"),
        ("nb-NO", "no"),
        ("JV", "jw"),
        ("auto", None),
        ("", None),
    ],
)
def test_what_is_meant_is_taken(typed: str, code: str | None) -> None:
    """Codes, regions, locales, names, and the usual slips."""
    assert known.code_of(typed) == code


@pytest.mark.parametrize("typed", ["klingon", "xx", "en us", "english-US", "../en", "e"])
def test_what_nobody_knows_is_refused(typed: str) -> None:
    with pytest.raises(UsageError, match="is not a language that Whisper knows") as caught:
        languages.require(typed, where="--language")
    assert caught.value.where == "--language"


def test_a_slip_has_a_hint() -> None:
    with pytest.raises(UsageError) as caught:
        languages.require("germn", where="--language")
    assert caught.value.hint == 'did you mean "german"?'


def test_builder_and_stages_have_the_same_codes() -> None:
    """The one reads what is typed, the others what tracks say."""
    theirs = {code: own for own, codes in of_stages.SAME.items() for code in codes}
    assert theirs == {code: own for code, own in known.KNOWN.items() if code in theirs}
    assert set(of_stages.SAME) == known.LANGUAGES
