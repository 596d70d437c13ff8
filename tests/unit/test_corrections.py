"""A glossary in asr: which terms the model is told of, and which take the place of words."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import stage_module

corrections = stage_module("asr", "corrections")
instructions = stage_module("asr", "instructions")
Term = corrections.Term

GLOSSARY = (
    Term(text="Ada Lovelace", translate={}),
    Term(text="Kubernetes", heard=("cooper netties",), translate={"es": "Kubernetes"}),
    Term(text="May", translate={}),
    Term(text="Corvannis", translate={}),
    Term(text="fire brigade", translate={"es": "bomberos"}),
)


def words(*texts: str, probability: float = 0.3) -> list[dict[str, Any]]:
    """Words of a second each; one with a tilde is sure."""
    return [
        {
            "word": f" {text.strip('~')}",
            "start": float(k),
            "end": k + 1.0,
            "probability": 0.95 if text.startswith("~") else probability,
            "language": "en",
        }
        for k, text in enumerate(texts)
    ]


def corrected(*texts: str, language: str = "en", **how: Any) -> tuple[str, list[dict[str, Any]]]:
    index = corrections.Index.of(GLOSSARY, language)
    new, changes = corrections.corrected(words(*texts, **how), index, 0.8)
    assert [w["start"] for w in new] == sorted(w["start"] for w in new)
    assert all(w["start"] < w["end"] and w["language"] == "en" for w in new)
    return "".join(w["word"] for w in new).strip(), [change.data() for change in changes]


def test_doubtful_words_that_sound_like_a_term_become_it_with_their_marks_and_time() -> None:
    text, changes = corrected("~I", "~met", '"Aida', "Loveless's,\"", "~yesterday.")
    assert text == 'I met "Ada Lovelace\'s," yesterday.'
    assert [(c["start"], c["end"], c["before"], c["why"]) for c in changes] == [
        (2.0, 4.0, '"Aida Loveless\'s,"', corrections.LIKE)
    ]


@pytest.mark.parametrize(
    ("texts", "after", "why"),
    [
        (("~cooper", "~netties", "~runs"), "Kubernetes runs", "NAMED"),  # what the user says is heard, however sure
        (("kuber", "netties"), "Kubernetes", "LIKE"),  # a name in pieces
        (("~ada", "~lovelace!"), "Ada Lovelace!", "SPELLED"),
        (("may",), "May", "SPELLED"),
        (("~Ada's", "Corvani's"), "Ada's Corvannis", "LIKE"),  # the end of the name, and no genitive
        (("Lovelase's",), "Lovelace's", "LIKE"),  # nobody said Ada
        (("kubernete's",), "Kubernetes", "SPELLED"),
        (("corvanis",), "Corvannis", "LIKE"),  # so much like it that small letters don't matter
    ],
)
def test_why_a_term_took_the_place(texts: tuple[str, ...], after: str, why: str) -> None:
    text, [change] = corrected(*texts)
    assert (text, change["why"]) == (after, getattr(corrections, why))


@pytest.mark.parametrize(
    "texts",
    [
        ("~Aida", "~Loveless"),  # the model is sure
        ("kuber", "~netties"),  # of a part of it
        ("the", "weather", "was", "bad"),
        ("~you", "~may", "~go"),  # a common word that differs by its capital
        ("Ada", "Lovelace"),  # right already
        ("a", "I", "?"),
        ("lovely",),  # a common word, which has no capital
        ("add", "a", "love"),  # several of them
    ],
)
def test_what_stays(texts: tuple[str, ...]) -> None:
    assert corrected(*texts) == (" ".join(texts).replace("~", ""), [])


def test_a_term_is_written_as_the_spoken_language_writes_it() -> None:
    assert corrected("los", "bonberos", language="es")[0] == "los bomberos"


@pytest.mark.parametrize(
    ("sure", "after", "why"), [(0.3, "Ulmgard", ["taken for the term before"]), (0.9, "Ongard", [])]
)
def test_what_was_taken_for_a_term_before_is_taken_again_where_the_model_is_in_doubt(
    sure: float, after: str, why: list[str]
) -> None:
    terms = (Term(text="Ulmgard", doubtful=("Ongard",), translate={}),)
    new, changes = corrections.corrected(words("Ongard", probability=sure), corrections.Index.of(terms, "en"), 0.8)
    assert (new[0]["word"].strip(), [change.why for change in changes]) == (after, why)


def test_never_below_a_probability_of_nothing() -> None:
    assert corrections.corrected(words("Aida", "Loveless"), corrections.Index.of(GLOSSARY, "en"), 0.0)[1] == []


def test_scripts_without_capitals_are_compared_by_their_letters() -> None:
    index = corrections.Index.of((Term(text="Чайковский", translate={}),), "ru")
    new, _ = corrections.corrected(words("Чайковски,"), index, 0.8)
    assert new[0]["word"] == " Чайковский,"


class Tokenizer:
    """A token for each letter."""

    def encode(self, text: str, **_: Any) -> Any:
        return SimpleNamespace(ids=list(text))


def job(**settings: Any) -> Any:
    return SimpleNamespace(settings=settings)


def test_terms_fill_what_hotwords_and_prompt_leave_of_the_model_s_room() -> None:
    model = SimpleNamespace(max_length=50, hf_tokenizer=Tokenizer())
    told = job(hotwords="ACME", initial_prompt="A film.")
    assert instructions.listed(told, model, ["abc", "defg", "hij"], "en") == ("abc, defg", 2)
    assert instructions.before(told, "en", "abc, defg") == "ACME abc, defg A film."
    assert instructions.listed(job(), model, ["abc", "defg", "hij"], "en") == ("abc, defg, hij", 3)
    assert instructions.before(job(), "en") is None
    assert instructions.before(job(), "zh", "北京").startswith("北京 以下")


def test_a_window_that_may_have_a_term_beyond_the_model_s_room_is_heard_again_with_it() -> None:
    hearing = stage_module("asr", "hearing")
    asked: list[str] = []

    def part(model: Any, encoded: Any, which: list[int]) -> Any:
        return [encoded[k] for k in which]

    def hear(job: Any, model: Any, encoded: Any, language: str, terms: str = "") -> list[Any]:
        asked.append(terms)
        told = "Lovelace" in terms
        text = {
            "a": "fine",
            "b": "Lovelace," if told else "Lovelase,",
            "c": "Lofty" if told else "Lovelast",
            "d": "abcdefgk",
        }
        return [SimpleNamespace(words=words(text[one]), likelihood=-0.3) for one in encoded]

    notes: list[str] = []
    told = job(correct_below=0.8, beam_size=1)
    told.inputs, told.note = ["r"], lambda _, text: notes.append(text)
    terms = tuple(hearing.Term(text=text, translate={}) for text in ("abcdefgh", "ijklmnop", "Lovelace"))
    model = SimpleNamespace(max_length=50, hf_tokenizer=Tokenizer())
    ear = hearing.Ear(job=told, backend=SimpleNamespace(part=part, hear=hear), model=model, terms=terms)
    found = ear.nearer([*"abcd"], ["en"] * 4, ear.hear([*"abcd"], ["en"] * 4))
    assert [one.words[0]["word"] for one in found] == [" fine", " Lovelace,", " Lovelast", " abcdefgk"]
    assert asked == ["abcdefgh, ijklmnop", *["Lovelace, abcdefgh"] * 2]
    assert len(notes) == 1
    names = [f"Lovelac{letter}" for letter in "abcdefghijklmnopqrst"]
    model.max_length = 4
    terms = tuple(hearing.Term(text=name, translate={}) for name in names)
    ear = hearing.Ear(job=told, backend=ear.backend, model=model, terms=terms)
    ear.hear(["a"], ["en"])
    assert ear.hints.beyond("en", words(*names)) == names[:12]


def test_a_large_glossary_is_searched_by_how_words_begin() -> None:
    many = [Term(text=f"Zz{chr(97 + k % 26)}{chr(97 + k // 26)}orba", translate={}) for k in range(600)]
    index = corrections.Index.of([*many, *GLOSSARY], "en")
    assert corrections.corrected(words("Loveles"), index, 0.8)[0][0]["word"] == " Lovelace"


def test_of_many_terms_more_likeness_is_asked_for() -> None:
    """Chance finds one of them sooner."""
    many = [Term(text=f"Zz{chr(97 + k % 26)}{chr(97 + k // 26)}orba", translate={}) for k in range(100)]
    alike = corrections.likeness(corrections.sounds("Corbanik"), corrections.sounds("Corvannis"))
    assert corrections.ALIKE < alike < corrections.ALIKE_OF_MANY
    for terms, after in ((GLOSSARY, " Corvannis"), ([*many, *GLOSSARY], " Corbanik")):
        new, _ = corrections.corrected(words("Corbanik"), corrections.Index.of(terms, "en"), 0.8)
        assert new[0]["word"] == after


def test_what_is_heard_in_a_term_s_place_counts_before_a_word_s_genitive() -> None:
    terms = (Term(text="May", translate={}), Term(text="Maize", heard=("mays",), translate={}))
    new, _ = corrections.corrected(words("~May's"), corrections.Index.of(terms, "en"), 0.8)
    assert new[0]["word"] == " Maize"


def test_text_and_english_beside_it_have_terms_as_their_languages_write_them_and_one_is_told_of() -> None:
    main = stage_module("asr")
    terms = (main.glossary.Term(text="fire brigade", translate={"es": "bomberos"}),)
    right = main.Corrector(job(task="transcribe", correct_below=0.8), terms)
    spoken = [w | {"language": "es"} for w in words("bonberos")]
    assert right(spoken, {"channel": 1})[0]["word"] == " bomberos"
    assert "".join(w["word"] for w in right(words("fire", "brigate"), None)) == " fire brigade"
    assert [(c["after"], c["channel"]) for c in right.data()["corrections"]] == [("bomberos", 1)]
    assert main.Corrector(job(), ()).data() == {}
