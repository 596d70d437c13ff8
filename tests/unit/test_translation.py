"""Which languages a job's text becomes, by whom, and what its results are called."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder.core import translation
from builder.core.jobs import naming, page
from builder.core.translation import Pair
from builder.edges.machine import project
from builder.errors import UsageError
from builder.receiver.jobs.translating import ANY

ROOT = Path(__file__).resolve().parents[2]
MODELS = project.load(ROOT, env={}, overrides={}).models
PAIRS = (
    Pair(source=ANY, target="en", backend="whisper", why="base hears any language in English"),
    Pair(source="es", target="en", backend="apertium", why="rules"),
    Pair(source="en", target="es", backend="apertium", why="rules"),
    Pair(source="en", target="fr", backend="nmt", why="nllb isn't here", ready=False),
)


def test_languages_are_taken_as_they_are_meant_and_once() -> None:
    assert translation.targets("English, es,Spanish , de") == ("en", "es", "de")


@pytest.mark.parametrize("text", ["", " , ", "klingon", "auto", "auto-segments", "en,es,fr,de,it,pt,nl,pl,ru,ja,zh"])
def test_what_is_no_language_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        translation.targets(text)


def test_the_better_backend_comes_first_and_a_wish_before_it() -> None:
    assert translation.chosen("es", ["en"], PAIRS, wished={}) == {"en": "whisper"}
    assert translation.chosen("es", ["en"], PAIRS, wished={"en": "apertium"}) == {"en": "apertium"}
    assert translation.chosen(None, ["en"], PAIRS, wished={}) == {"en": "whisper"}


@pytest.mark.parametrize(
    ("source", "target", "what", "expected", "detail"),
    [
        ("en", "fr", "nothing here translates en into fr", "from en: es (apertium)", ["nmt: nllb isn't here"]),
        ("en", "en", "en is what is spoken", "", []),
        (None, "es", "a language that is to be detected into es", "from any language: en (whisper)", []),
    ],
)
def test_a_pair_that_nobody_has_is_refused_with_those_that_there_are(
    source: str | None, target: str, what: str, expected: str, detail: list[str]
) -> None:
    with pytest.raises(UsageError, match=what) as caught:
        translation.chosen(source, [target], PAIRS, wished={})
    assert expected in (caught.value.expected or "")
    assert list(caught.value.detail) == detail


@pytest.mark.parametrize("text", ["whisper", "en", "en=", "en=rm -rf", "klingon=whisper"])
def test_a_wish_names_a_language_and_a_backend(text: str) -> None:
    with pytest.raises(UsageError):
        translation.wishes(text)


@pytest.mark.parametrize(("model", "ready"), [("base", True), ("tiny.en", False), ("turbo", False)])
def test_models_that_were_not_trained_for_it_do_not_translate(model: str, ready: bool) -> None:
    """A model for English, and turbo, answer with something; it isn't a translation."""
    assert [pair.ready for pair in translation.heard(MODELS[model])] == [ready]


def test_asr_hears_english_only_where_whisper_is_asked() -> None:
    settings: dict[str, dict[str, Any]] = {"asr": {}}
    translation.settle(settings, "en,es", source="de", pairs=(*PAIRS, replace(PAIRS[1], source="de", target="es")))
    assert settings["translate"] == {"to": "en,es", "backends": "en=whisper,es=apertium"}
    assert settings["asr"]["english"] is True
    settings = {"asr": {}}
    translation.settle(settings, "es", source="en", pairs=PAIRS)
    assert settings["asr"]["english"] is False
    with pytest.raises(UsageError, match="English already"):
        translation.settle({"asr": {"task": "translate"}}, "es", source="en", pairs=PAIRS)


def test_results_of_several_languages_are_told_apart() -> None:
    kinds = naming.expected("srt,json,rttm", speakers=True, film=True, languages=("es", "en"))
    assert kinds == ("es.srt", "en.srt", "es.json", "en.json", "rttm", *naming.FILMS)
    assert naming.kind("a.es.srt", "a") == "es.srt"
    assert naming.kind("a.words.vtt", "a") == "words.vtt"
    assert naming.kind("a.es.words.vtt", "a") == "es.words.vtt"
    for name in ("a.es.mkv", "a.xxxx.srt", "a.E2.srt", "b.es.srt", "a.es.exe"):
        assert naming.kind(name, "a") is None
    fields = {"stem": "a", "language": "es", "preset": "p", "date": "d"}
    assert naming.file_name(None, "en.srt", fields) == "a.en.srt"
    assert naming.file_name("{stem}-{language}.{ext}", "en.srt", fields) == "a-en.srt"


def test_each_paragraph_of_the_page_has_its_own_lines() -> None:
    text = page.TranslatedText(
        language="en", backend="whisper", lines=((0.0, 1.0, "one"), (1.9, 3.0, "two"), (2.9, 4.0, "three"))
    )
    starts = [page.Paragraph(speaker=None, words=(page.Word(start=s, end=s + 1, text="x"),)) for s in (0.2, 2.0, 9.0)]
    assert text.beside(starts) == ("one", "two three", "")
    assert text.beside([]) == ()


@pytest.mark.parametrize("language", ["../x", "EN", "english", "e\x1b"])
def test_the_page_takes_no_language_that_is_no_code(language: str) -> None:
    assert page.translations({"translations": [{"language": language, "backend": "b", "segments": []}]}) == ()
