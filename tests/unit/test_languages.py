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
        ("Deutsch", "de"),
        ("français", "fr"),
        ("FRANC\u0327AIS", "fr"),
        ("francais", "fr"),
        ("Español", "es"),
        ("espanol", "es"),
        ("日本語", "ja"),
        ("中文", "zh"),
        ("普通话", "zh"),
        ("한국어", "ko"),
        ("Русский", "ru"),
        ("русский", "ru"),
        ("العربية", "ar"),
        ("हिन्दी", "hi"),
        ("Tiếng Việt", "vi"),
        ("Türkçe", "tr"),
        ("TÜRKÇE", "tr"),
        ("Norsk bokmål", "no"),
        ("Brazilian Portuguese", "pt"),
        ("Chinese (Simplified)", "zh"),
        ("Simplified Chinese", "zh"),
        ("British English", "en"),
        ("English (US)", "en"),
        ("ｅｎ", "en"),
        ("auto", None),
        ("auto-segments", "auto-segments"),
        (" Auto-Segments", "auto-segments"),
        ("", None),
    ],
)
def test_what_is_meant_is_taken(typed: str, code: str | None) -> None:
    """Codes, regions, locales, names, and the usual slips."""
    assert known.code_of(typed) == code


@pytest.mark.parametrize(
    "typed",
    ["klingon", "xx", "en us", "english-US", "../en", "e", "purple english", "(english)", "é", "e" * 10_000, "\u0327"],
)
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


def test_every_language_has_its_own_name_once() -> None:
    """A name that stands for two languages would be taken for the later one."""
    owners: dict[str, set[str]] = {}
    for table in (known.TABLE, known.OWN_NAMES):
        for entry in table.replace("\n", "|").strip("|").split("|"):
            code, _, names = entry.partition(" ")
            for name in names.split(", "):
                owners.setdefault(name.lower(), set()).add(code)
    assert {name: codes for name, codes in owners.items() if len(codes) > 1} == {}
    for entry in known.OWN_NAMES.replace("\n", "|").strip("|").split("|"):
        code, _, names = entry.partition(" ")
        assert {known.code_of(name) for name in names.split(", ")} == {code}
