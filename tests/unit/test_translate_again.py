"""The second pass of a translation: what is in doubt, what is tried for it, and that only what is better stays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.core import translation
from builder.core.terms import Mode
from tests.conftest import stage_module

again = stage_module("translate", "again")
doubts = stage_module("translate", "doubts")
Line = stage_module("translate", "lines").Line

GOOD = "I don't know who has sent you this message."
SAID = "No sé quién te ha enviado este mensaje."


@pytest.mark.parametrize(
    ("said", "told", "why"),
    [
        (SAID, GOOD, []),
        (SAID, "", [doubts.NOTHING]),
        ("…", "", []),
        (SAID, "This", [doubts.LENGTH]),
        (SAID, GOOD * 4, [doubts.LENGTH, doubts.REPEATS]),
        (SAID, "I know I know I know I know I know who.", [doubts.REPEATS]),
        ("No, no, no, no, no, no.", "No, no, no, no, no, no.", []),
        (SAID, "No sé who te ha enviado este message.", [doubts.UNTRANSLATED]),
        ("Taxi, por favor.", "Taxi, please.", []),
        ("Yo soy Ana María de la Cruz.", "I am Ana María de la Cruz.", []),
        ("他说的话我听不懂，请再说一遍好吗", "謝謝謝謝謝謝謝謝謝謝謝謝謝", [doubts.REPEATS]),
    ],
)
def test_each_doubt_has_its_name(said: str, told: str, why: list[str]) -> None:
    assert list(doubts.against(said, told)) == why


def test_what_is_usual_in_a_language_is_no_doubt() -> None:
    pairs = [("something that is said here", "短い文です")] * 10
    assert doubts.against(*pairs[0])
    assert not doubts.against(*pairs[0], ratio=doubts.ratio(pairs))
    assert doubts.ratio(pairs[:3]) == 1.0


def test_a_text_translated_back_has_to_be_like_itself() -> None:
    assert not doubts.against(SAID, GOOD, back="No sé quien ha enviado este mensaje.")
    assert list(doubts.against(SAID, GOOD, back="Thank you for watching all of it.")) == [doubts.BACK]


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_has_a_finite_doubt(said: str, told: str) -> None:
    assert 0 <= doubts.total(doubts.against(said, told, back=told)) < 1000
    assert 0 <= doubts.chrf(said, told) <= 1 == doubts.chrf(said, said)


def line(start: float, text: str, end: float | None = None, **other: Any) -> Any:
    return Line(start=start, end=start + 1 if end is None else end, text=text, **other)


def test_lines_are_paired_by_their_spans_and_channels() -> None:
    said = [line(0, "a"), line(1, "b"), line(4, "c"), line(0.5, "d", channel=2)]
    told = [line(0, "AB", 2.0), line(0.5, "D", channel=2), line(9, "E")]
    found = [(cue.source, cue.text) for cue in again.paired(said, told)]
    assert found == [("a b", "AB"), ("d", "D"), ("c", ""), ("", "E")]


class Backend:
    """Pure, and remembers what it was asked for."""

    def __init__(self, **answers: str) -> None:
        self.answers, self.asked = answers, []  # type: ignore[var-annotated]

    def __call__(self, texts: list[str], language: str) -> list[str]:
        self.asked += texts
        return [self.answers.get(text.split()[0].strip("."), text.upper() + " (XX)") for text in texts]


def passed(said: Sequence[Any], told: Sequence[Any], *ways: tuple[str, Backend, bool], **other: Any) -> Any:
    every = [again.Way(name=name, texts=texts, context=context) for name, texts, context in ways]
    second = again.Pass(language=lambda one: one.language or "es", ways=every, **other)
    return second, second.better(said, told)


def test_another_backend_takes_what_is_in_doubt_and_nothing_else() -> None:
    other = Backend(No=GOOD)
    said = [line(0, "Hola a todos, amigos."), line(2, SAID), line(4, SAID)]
    told = [line(0, "Hello to all, friends."), line(2, "I know I know I know I know I know")]
    second, better = passed(said, told, ("apertium", other, False))
    assert [one.text for one in better] == ["Hello to all, friends.", GOOD, GOOD]
    assert other.asked == [SAID, SAID]
    assert second.doubted == 2
    assert [(c["start"], c["before"][:6], c["why"], c["backend"]) for c in second.changes] == [
        (2, "I know", [doubts.REPEATS], "apertium"),
        (4, "", [doubts.NOTHING], "apertium"),
    ]
    assert second.summary() == "2 translations in doubt, 2 replaced by the second pass (apertium)"


def test_each_channel_s_line_has_one_change_whoever_improved_it() -> None:
    said = [line(0, SAID, channel=1), line(0, "Hola a todos, amigos.", channel=2)]
    better, best = Backend(No=f"{GOOD} {GOOD} {GOOD}", Hola="Hello to all, friends."), Backend(No=GOOD)
    second, _ = passed(said, [], ("nmt", better, False), ("apertium", best, False))
    assert [(c["before"], c["after"], c["why"], c["backend"]) for c in second.changes] == [
        ("", GOOD, [doubts.NOTHING], "apertium"),
        ("", "Hello to all, friends.", [doubts.NOTHING], "nmt"),
    ]


def test_what_is_no_better_changes_nothing() -> None:
    told = [line(2, SAID)]
    second, better = passed(
        [line(2, SAID)], told, ("apertium", Backend(No=SAID), False), ("nmt", Backend(No=""), False)
    )
    assert better == told
    assert not second.changes
    assert second.summary() == "1 translation in doubt, and nothing better found"


def test_the_same_backend_gets_a_sentence_s_parts_together() -> None:
    said = [line(0, "No sé quién te ha"), line(1.2, "enviado este mensaje."), line(2.5, "Hola a todos, amigos.")]
    told = [line(0, "No sé quién te ha"), line(1.2, "sent you this message."), line(2.5, "Hello to all, friends.")]
    same = Backend(No=GOOD)
    second, better = passed(said, told, ("apertium", same, True))
    assert same.asked == [SAID]
    assert [(one.start, one.end, one.text) for one in better] == [(0, 2.2, GOOD), (2.5, 3.5, "Hello to all, friends.")]
    assert second.changes[0]["before"] == "No sé quién te ha sent you this message."


def test_a_whole_sentence_is_cut_out_from_between_its_neighbours() -> None:
    said = [line(0, "Hola. Amigos."), line(1.2, SAID), line(2.5, "Adiós.")]
    told = [line(0, "Hello. Friends."), line(1.2, ""), line(2.5, "Bye.")]
    _, better = passed(said, told, ("nmt", Backend(Hola=f"Hi. Friends. {GOOD} Bye!"), True))
    assert [one.text for one in better] == ["Hello. Friends.", GOOD, "Bye."]
    _, better = passed(said, told, ("nmt", Backend(Hola=f"Hi, friends. {GOOD} Bye!"), True))
    assert [one.text for one in better] == ["Hello. Friends.", "", "Bye."]


@pytest.mark.parametrize(
    "other",
    [{"speaker": "S2"}, {"start": 4.0}, {"end": 21.0}, {"language": "fr"}, {"channel": 2}],
    ids=lambda one: next(iter(one)),
)
def test_what_another_says_or_says_later_is_no_context(other: dict[str, Any]) -> None:
    said = [
        line(0, "No sé quién te ha", speaker="S1"),
        line(**{"start": 1.2, "text": "enviado.", "speaker": "S1"} | other),
    ]
    _, better = passed(said, [line(0, "No sé quién te ha")], ("nmt", Backend(), True))
    assert [one.text for one in better] == ["No sé quién te ha"]


def test_all_lines_are_translated_back_where_that_is_asked_for() -> None:
    said, told = [line(2, SAID)], [line(2, "Thanks for watching this film, and goodbye.")]
    ways = ("apertium", Backend(No=GOOD), False)

    def back(texts: list[str], language: str) -> list[str]:
        return [SAID if text == GOOD else "Gracias por mirar la película." for text in texts]

    assert passed(said, told, ways, back=back)[1] == told
    second, better = passed(said, told, ways, back=back, every=True)
    assert better[0].text == GOOD
    assert second.changes[0]["why"] == [doubts.BACK]
    assert passed(said, told, ways, back=lambda texts, language: None, every=True)[1] == told


def test_what_leaves_more_words_is_not_better_for_being_like_itself_translated_back() -> None:
    said, told = [line(2, SAID)], [line(2, "Thanks for watching this film, and goodbye.")]
    literal = ("apertium", Backend(No="I don't know who has enviado this message."), False)

    def back(texts: list[str], language: str) -> list[str]:
        return [SAID if "enviado" in text else "Gracias por mirar la película." for text in texts]

    assert passed(said, told, literal, back=back, every=True)[1] == told


def test_terms_that_a_translation_lost_are_a_doubt() -> None:
    def check(said: str, told: str) -> dict[str, float]:
        return {} if "message" in told else {"a term": 2.0}

    second, better = passed(
        [line(2, SAID)],
        [line(2, "I don't know who sent you that thing.")],
        ("nmt", Backend(No=GOOD), False),
        check=check,
    )
    assert better[0].text == GOOD
    assert second.changes[0]["why"] == ["a term"]


def test_another_backend_has_to_be_ready_and_to_need_no_model() -> None:
    pairs = translation.apertium([("es", "en"), ("en", "es")], Mode.NATIVE)
    assert translation.others("es", {"en": "whisper"}, pairs) == {"en": "apertium"}
    assert translation.others(None, {"en": "whisper"}, pairs) == {"en": "apertium"}
    assert translation.others("es", {"en": "apertium"}, pairs) == {}
    assert translation.others("fr", {"en": "whisper"}, pairs) == {}
    assert translation.others("es", {"en": "whisper"}, translation.apertium([("es", "en")], Mode.DOCKER_CPU)) == {}
    for wish, kept in ((None, "en=apertium"), ("", "")):
        settings: dict[str, dict[str, Any]] = {"asr": {}, "translate": {} if wish is None else {"others": wish}}
        translation.settle(settings, "en", source="es", pairs=(translation.Pair("*", "en", "whisper", why=""), *pairs))
        assert settings["translate"]["others"] == kept, "an empty one says that nobody else is asked"
