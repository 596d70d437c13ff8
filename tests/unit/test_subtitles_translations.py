"""Translations as sentences: who says them, and how words of scripts without spaces begin."""

from __future__ import annotations

from typing import Any

from tests.conftest import stage_module

translations = stage_module("subtitles", "translations")
sentences = stage_module("subtitles", "sentences")
Clock = translations.Clock


def read(text: str, **other: Any) -> Any:
    """A line's sentence, beside S2, who says most of what is said at its time."""
    words = [{"word": " x", "start": s, "end": e, "probability": 1.0} for s, e in ((0.0, 1.2), (1.2, 4.0))]
    said = [
        translations.Sentence(
            words=tuple(sentences.read_words([{"start": w["start"], "end": w["end"], "text": "x", "words": [w]}], 9.0)),
            speaker=f"S{k}",
        )
        for k, w in enumerate(words, 1)
    ]
    line = {"start": 1.0, "end": 3.0, "text": text} | other
    result = {"duration": 9.0, "translations": {"en": {"backend": "b", "lines": [line]}}}
    ((sentence,),) = [each.said for each in translations.read(result, said, Clock([]))]
    return sentence


def test_who_says_most_of_it_says_it_and_a_channel_is_its_own_speaker() -> None:
    assert read("Good morning").speaker == "S2"
    assert read("Good morning", channel=1).speaker == "S1"
    assert read("Good morning", start=5.0, end=6.0).speaker is None


def test_a_script_without_spaces_begins_without_one() -> None:
    assert read("早上好").words[0].text[0] == "早"
