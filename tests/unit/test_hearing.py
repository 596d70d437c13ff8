"""What is heard again, and what the result says of speech that stays without words: pure, with a backend that is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import stage_module

hearing = stage_module("asr", "hearing")
guards, windows = hearing.guards, stage_module("asr", "windows")

SPEECH = [[0.0, 10.0], [12.0, 20.0]]


def words(*texts: str, start: float = 0.0, pace: float = 1.0, probability: float = 0.9) -> list[dict[str, Any]]:
    """Words one after the other."""
    return [
        {"word": f" {text}", "start": start + k * pace, "end": start + (k + 1) * pace, "probability": probability}
        for k, text in enumerate(texts)
    ]


def said(found: list[dict[str, Any]], *, likelihood: float = -0.2, silence: float = 0.0) -> Any:
    """A backend's hearing."""
    return SimpleNamespace(words=found, likelihood=likelihood, silence=silence)


Answer = Callable[[Any, float], Any]
"""A window and a temperature -> what is heard, on the recording's timeline."""


class Backend:
    """Answers by a function; the windows are what is read."""

    BATCH = 2

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[tuple[Any, float, bool]] = []

    def encode(self, model: Any, windows: list[Any]) -> Any:
        return list(windows)

    def part(self, model: Any, encoded: list[Any], which: list[int]) -> list[Any]:
        return [encoded[k] for k in which]

    def hear(
        self, job: Any, model: Any, encoded: list[Any], language: str, *, prompt: bool, temperature: float
    ) -> list[Any]:
        found = []
        for window in encoded:
            self.asked.append((window, temperature, prompt))
            heard = self.answer(window, temperature)
            mine = [w | {"start": w["start"] - window.start, "end": w["end"] - window.start} for w in heard.words]
            inside = [w for w in mine if w["end"] > 0 and w["start"] < window.end - window.start]
            found.append(said(inside, likelihood=heard.likelihood, silence=heard.silence))
        return found


@pytest.fixture(autouse=True)
def _no_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    """The windows themselves stand for their samples."""
    monkeypatch.setattr(hearing, "read", lambda path, window: window)


def account(answer: Answer, first: list[Any], *, likelihood: float = -0.2) -> tuple[Any, Backend]:
    """The account of one window over all speech, and who was asked."""
    backend = Backend(answer)
    ear = hearing.Ear(job=SimpleNamespace(settings={"batch_size": 0}), backend=backend, model=None)
    window = hearing.Window(start=0.0, end=20.2)
    heard = hearing.Heard(
        window=window,
        language="en",
        words=[w | {"language": "en"} for w in first],
        likelihood=likelihood,
        silence=0.0,
    )
    return hearing.account(ear, Path("x"), [heard], SPEECH), backend


def text(found: Any) -> str:
    return "".join(w["word"] for w in found.words).strip()


BEFORE = words(*"abcdefghij")
AFTER = words(*"klmnopqr", start=12.0)


def test_nothing_is_heard_twice_where_words_cover_all_speech() -> None:
    """The second hearing costs an encoder's run."""
    found, backend = account(lambda *_: said([]), BEFORE + AFTER)
    assert backend.asked == []
    assert (text(found), found.gaps) == ("a b c d e f g h i j k l m n o p q r", [])


def test_speech_without_a_word_is_heard_again_alone_and_without_the_prompt() -> None:
    """The model had stopped early: its last word, or nothing, lies over the rest."""
    found, backend = account(lambda *_: said(BEFORE + AFTER), BEFORE)
    assert text(found) == "a b c d e f g h i j k l m n o p q r"
    assert found.gaps == []
    ((window, temperature, prompt),) = backend.asked
    assert (temperature, prompt) == (0.0, False)
    assert 10.0 <= window.start <= 12.0
    assert window.end == pytest.approx(20.2)


def test_what_stays_without_words_is_a_gap_with_its_reason() -> None:
    """Heard twice, at two temperatures; the model's own word for silence isn't asked again."""
    found, backend = account(lambda *_: said([]), BEFORE)
    assert [(g["start"], g["end"], g["why"]) for g in found.gaps] == [(12.0, 20.0, guards.NOTHING)]
    assert [temperature for _, temperature, _ in backend.asked] == [0.0, hearing.TEMPERATURE]
    found, backend = account(lambda *_: said([], silence=0.9), BEFORE)
    assert [g["why"] for g in found.gaps] == [guards.SILENCE]
    assert len(backend.asked) == 1


def test_a_second_try_helps_where_the_first_loops() -> None:
    """And without one, the gap says that the model looped."""
    loop = said(words(*["no"] * 60, start=12.0, pace=0.12))
    found, _ = account(lambda _, temperature: said(AFTER) if temperature else loop, BEFORE)
    assert text(found).endswith("k l m n o p q r")
    found, _ = account(lambda *_: loop, BEFORE)
    assert (text(found), [g["why"] for g in found.gaps]) == ("a b c d e f g h i j", [guards.REPEATS])


@pytest.mark.parametrize(
    ("invented", "why"),
    [
        (words(*["Y"] * 100, start=12.0, pace=0.08), guards.QUICK),
        (words(*["thank", "you"] * 30, start=12.0, pace=0.13), guards.REPEATS),
        (words("Thanks", "for", "watching.", start=12.0, pace=2.5, probability=0.4), guards.INVENTED),
    ],
)
def test_what_is_left_out_leaves_a_gap_that_says_why(invented: list[dict[str, Any]], why: str) -> None:
    """Nothing is dropped in silence; the reason of the segment becomes the gap's."""
    found, _ = account(lambda *_: said([]), BEFORE + invented)
    assert text(found) == "a b c d e f g h i j"
    assert [g["why"] for g in found.gaps] == [why]


def test_a_short_invention_is_named_too() -> None:
    """A tenth of a second with a sentence in it: shorter than what counts as speech without words."""
    burst = words(*["w"] * 12, start=10.0, pace=0.01)
    found, _ = account(lambda *_: said([]), BEFORE + burst + AFTER)
    assert text(found) == "a b c d e f g h i j k l m n o p q r"
    assert [(g["start"], g["end"], g["why"]) for g in found.gaps] == [(10.0, 10.12, guards.QUICK)]


def test_an_improbable_window_is_heard_again_and_the_likelier_text_is_kept() -> None:
    """Also the first."""
    other = words(*"zyxwvutsrq") + AFTER
    found, _ = account(lambda *_: said(other, likelihood=-0.5), BEFORE + AFTER, likelihood=-1.5)
    assert text(found).startswith("z y x")
    found, backend = account(lambda *_: said(other, likelihood=-2.0), BEFORE + AFTER, likelihood=-1.5)
    assert text(found).startswith("a b c")
    assert [temperature for _, temperature, _ in backend.asked] == [hearing.TEMPERATURE]


def test_words_that_nothing_supports_are_marked() -> None:
    """They stay: somebody may have said them."""
    weak = words(*"klmnopqr", start=12.0, probability=0.2)
    found, _ = account(lambda *_: said([]), BEFORE + weak)
    assert [w.get("unsure", False) for w in found.words] == [False] * 10 + [True] * 8


def test_words_of_a_window_that_stays_doubtful_are_marked() -> None:
    """Heard twice, the model itself thinks little of it."""
    found, _ = account(lambda *_: said([], likelihood=-2.0), BEFORE + AFTER, likelihood=-1.5)
    assert all(w["unsure"] for w in found.words)


def test_a_stretch_of_vague_words_is_marked() -> None:
    """Single words are improbable in any text; a language that the model doesn't know is so all along."""
    one = [w | ({"probability": 0.1} if k == 3 else {}) for k, w in enumerate(BEFORE + AFTER)]
    found, _ = account(lambda *_: said([]), one)
    assert not any(w.get("unsure") for w in found.words)
    found, _ = account(lambda *_: said([]), [w | {"probability": 0.6} for w in BEFORE + AFTER])
    assert all(w["unsure"] for w in found.words)


def test_windows_that_overlap_are_joined() -> None:
    """Each word once, whatever the window it is whole in."""
    left = hearing.Heard(
        window=hearing.Window(start=0.0, end=11.0), language="en", words=words(*"abcdefghijk"), likelihood=0, silence=0
    )
    right = hearing.Heard(
        window=hearing.Window(start=9.0, end=20.0),
        language="en",
        words=words(*"jklmno", start=9.0),
        likelihood=0,
        silence=0,
    )
    assert "".join(w["word"] for w in hearing.stitched([left, right])) == " a b c d e f g h i j k l m n o"


def test_english_is_heard_of_windows_in_another_language_and_stands_in_their_place() -> None:
    """Without the job's prompt, and once more where it is suspicious."""
    asked: list[tuple[list[str], str, float]] = []

    def hear(job: Any, model: Any, encoded: list[str], language: str, **how: Any) -> list[Any]:
        assert (how["prompt"], how["doing"]) == (False, "translate")
        asked.append((encoded, language, how.get("temperature", 0.0)))
        twice = "bad" in encoded and "temperature" not in how
        return [said(words(*(["no"] * 40 if twice else ["good", "day"]), pace=0.2)) for _ in encoded]

    backend = SimpleNamespace(hear=hear, part=lambda model, encoded, which: [encoded[k] for k in which])
    ear = hearing.Ear(job=SimpleNamespace(settings={"english": True}), backend=backend, model=None)
    found = ear.english(["a", "b", "bad"], ["de", "en", "fr"])
    assert asked == [(["a"], "de", 0.0), (["bad"], "fr", 0.0), (["bad"], "fr", hearing.TEMPERATURE)]
    assert [None if one is None else len(one.words) for one in found] == [2, None, 2]
    ear.job.settings["english"] = False
    assert ear.english(["a"], ["de"]) == [None]
    windows = [hearing.Window(start=k * 10.0, end=k * 10.0 + 10) for k in range(2)]
    told: list[dict[str, Any]] = [
        {"language": "de", "words": words("guten", "Tag"), "english": words("good", "day")},
        {"language": "en", "words": words("sir", start=10.0)},
    ]
    heard = [
        hearing.Heard(window=window, likelihood=0, silence=0, **one) for window, one in zip(windows, told, strict=True)
    ]
    assert "".join(w["word"] for w in hearing.in_english(heard, [[0.0, 20.0]])) == " good day sir"
