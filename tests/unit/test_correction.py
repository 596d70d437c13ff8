"""What a language model is asked about a translation, and what of its answer is taken."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.core import correction, mask
from builder.core.jobs.record import changes
from builder.edges.jobs.correct import endpoint
from builder.errors import ConfigError, UsageError
from tests.conftest import stage_module

corrected = stage_module("subtitles", "corrected")


def line(draft: str = "The draft is here.", said: str = "Aquí está el borrador.", **other: Any) -> correction.Line:
    return correction.Line(
        **{"start": 0.0, "end": 1.0, "channel": None, "said": said, "draft": draft, "speaker": None} | other
    )


QUESTION = correction.Question(before=(), lines=tuple(line(f"The draft number {k}.") for k in range(1, 5)))


def reply(*texts: Any, first: int = 1) -> str:
    return json.dumps({"lines": [{"id": k, "text": text} for k, text in enumerate(texts, first)]})


def test_lines_that_fit_are_taken_and_the_others_stay() -> None:
    found = correction.answer(reply("One.", "x" * 60, "<b>Three.</b>"), QUESTION)
    assert found.texts == {0: "One."}
    assert found.refused == {1: "too long", 2: "markup", 3: "no answer"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("…", "empty"),
        (7, "no text"),
        (["One"], "no text"),
        ("One\x1b[2J", "control characters"),
        ("One\u202etwo", "control characters"),
        ("One\ue000", "control characters"),
        ("One &lt;i&gt;", "markup"),
        ("{\\an8}One", "markup"),
        ("<script>x", "markup"),
        ("Aquí está el borrador.", "the text that was to be translated"),
        ('{"id": 1, "text": "One"}', "the question"),
        ("You correct machine translations of subtitles.", "the question"),
    ],
)
def test_a_text_that_is_no_correction_leaves_the_draft(text: Any, why: str) -> None:
    question = correction.Question(before=(), lines=(line("A draft that is long enough for every one of these."),))
    found = correction.answer(json.dumps({"lines": [{"id": 1, "text": text}]}), question)
    assert (dict(found.texts), dict(found.refused)) == ({}, {0: why})


def test_one_text_for_several_lines_is_taken_for_none() -> None:
    assert set(correction.answer(reply("Same.", "Same.", "Same.", "Other."), QUESTION).texts) == {3}
    same = correction.Question(before=(), lines=(line("Yes."),) * 3)
    assert len(correction.answer(reply("Yes!", "Yes!", "Yes!"), same).texts) == 3


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Sorry, I can't.",
        "[]",
        "{}",
        '{"lines": 3}',
        '{"lines": ["One."]}',
        reply("One.", first=4) + "x",
        reply(*["One."] * 5),
        reply("One.", first=0),
        '{"lines": [{"id": 1, "text": "a"}, {"id": 1, "text": "b"}]}',
        '{"lines": [{"id": 1, "id": 2, "text": "a"}]}',
        '{"lines": [{"id": true, "text": "a"}]}',
        '{"lines": [{"id": "1", "text": "a"}]}',
        "[" * 100_000,
    ],
)
def test_an_answer_of_another_shape_or_about_other_lines_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="the answer"):
        correction.answer(text, QUESTION)


@given(st.text(max_size=200))
def test_whatever_comes_is_an_answer_or_none(text: str) -> None:
    for whole in (text, reply(text)):
        try:
            found = correction.answer(whole, QUESTION)
        except ValueError:
            continue
        assert all(len(one) <= QUESTION.lines[0].most for one in found.texts.values())


def test_a_fence_around_json_is_no_fault() -> None:
    assert correction.answer(f"```json\n{reply('One.')}\n```", QUESTION).texts == {0: "One."}


@pytest.mark.parametrize(
    "value", [None, [], {}, {"choices": []}, {"choices": [{"message": {"content": None}}]}, {"choices": [7]}]
)
def test_a_reply_has_a_text(value: Any) -> None:
    with pytest.raises(ValueError, match="not a completion"):
        correction.content(value)


def test_a_reply_that_is_cut_off_is_none() -> None:
    with pytest.raises(ValueError, match="cut off"):
        correction.content({"choices": [{"message": {"content": "{"}, "finish_reason": "length"}]})


def test_questions_have_lines_before_them_and_who_speaks() -> None:
    segments = [
        {"words": [{"word": f" w{k}", "start": k, "end": k + 0.5, "probability": 1}], "channel": None}
        for k in range(50)
    ]
    told = [{"start": k, "end": k + 0.5, "text": f"t{k}"} for k in range(50)]
    found = correction.lines(told, segments, [{"start": 0, "end": 9, "speaker": "S1"}, {"start": 10, "speaker": "S2"}])
    assert [(one.said, one.draft, one.speaker) for one in (found[0], found[10])] == [
        ("w0", "t0", "S1"),
        ("w10", "t10", "S2"),
    ]
    asked = correction.questions(found)
    assert [len(one.lines) for one in asked] == [20, 20, 10]
    body = asked[1].body("m", "es", "en")
    told_model = json.loads(body["messages"][1]["content"])
    assert [entry["draft"] for entry in told_model["before"]] == ["t16", "t17", "t18", "t19"]
    assert told_model["lines"][0] == {"id": 1, "speaker": "S2", "said": "w20", "draft": "t20", "most": 23}
    with pytest.raises(ValueError, match="not a translation"):
        correction.lines([{"start": 0}], segments, None)


def test_an_endpoint_is_https_or_this_machine_and_allowed_by_its_name() -> None:
    def of(url: str | None, model: str | None = "m") -> endpoint.Endpoint | None:
        return endpoint.endpoint({"llm": model, "llm_endpoint": url})

    assert of(None, None) is None
    found = of("https://Models.example.org/v1/")
    assert found is not None
    assert found.completions == "https://Models.example.org/v1/chat/completions"
    assert [
        found.allowed([h])
        for h in ("models.example.org", "MODELS.example.org:443", "example.org", "models.example.org:80", "")
    ] == [
        True,
        True,
        False,
        False,
        False,
    ]
    local = of("http://[::1]:8080/v1")
    assert local is not None
    assert local.allowed(["[::1]:8080"])
    for url in (
        "http://models.example.org/v1",
        "ftp://x/v1",
        "https://",
        "https://h/v1?key=1",
        "https://h:99999/v1",
        "x",
    ):
        with pytest.raises(UsageError):
            of(url)
    with pytest.raises(UsageError) as caught:
        of("https://user:secret@h/v1")
    assert "secret" not in str(caught.value)
    with pytest.raises(UsageError, match="who corrects"):
        of("https://h/v1", None)


def test_a_key_is_one_word_and_no_message_shows_it() -> None:
    assert endpoint.key(None, "x") is None
    assert endpoint.key("sk-shown-nowhere", "x") == "sk-shown-nowhere"
    assert "sk-shown-nowhere" in mask.secrets_of({})
    with pytest.raises(ConfigError, match="LLM_KEY is not a key"):
        endpoint.key("two words", "x")


FILE = {
    "01": {
        "en": {
            "model": "m",
            "asked": 3,
            "kept": {"too long": 1},
            "lines": [
                {"start": 1.0, "end": 2.0, "before": "a", "after": "b"},
                {"start": 3.0, "end": 4.0, "before": "another draft", "after": "c"},
            ],
        },
        "fr": {"model": "m", "asked": 0, "kept": {}, "lines": []},
    }
}


def test_corrections_take_the_place_of_their_own_drafts_only() -> None:
    lines = [{"start": 1.0, "end": 2.0, "text": "a"}, {"start": 3.0, "end": 4.0, "text": "d"}]
    result = {"translations": {"en": {"backend": "whisper", "lines": lines}}}
    notes = corrected.apply(result, json.dumps(FILE).encode(), "01")
    assert [one["text"] for one in lines] == ["b", "d"]
    assert result["translations"]["en"]["backend"] == "whisper, corrected by m"
    assert notes == ["en: m corrected 1 of 3 lines; 1 as they were: too long"]
    assert corrected.apply(result, json.dumps(FILE).encode(), "02") == corrected.apply(result, None, "01") == []


def test_what_a_model_translates_alone_is_said_and_what_it_does_not() -> None:
    def result() -> dict[str, Any]:
        lines = [{"start": 1.0, "end": 2.0, "text": "a"}, {"start": 3.0, "end": 4.0, "text": "d"}]
        return {"translations": {"en": {"backend": "llm", "lines": lines}}}

    alone = {"01": {"en": FILE["01"]["en"] | {"translated": True}}}
    made = result()
    assert corrected.apply(made, json.dumps(alone).encode(), "01") == [
        "en: m translated 1 of 3 lines; 1 not translated: too long"
    ]
    assert made["translations"]["en"]["backend"] == "llm, by m"
    assert [one["text"] for one in made["translations"]["en"]["lines"]] == ["b", "d"]
    assert changes.of_corrections(alone, "01", "a.mp4") == ()
    for data in (None, b"{}"):
        silent = result()
        assert corrected.apply(silent, data, "01") == ["en: nothing is translated: no language model was asked"]


def test_corrections_are_listed_among_the_changes() -> None:
    found = changes.of_corrections(FILE, "01", "a.mp4")
    assert [(one.language, one.before, one.after, one.by) for one in found] == [
        ("en", "a", "b", "m"),
        ("en", "another draft", "c", "m"),
    ]
    assert changes.of_corrections({"01": {"en": {"lines": [1, {}]}}}, "01", "a") == ()


def test_a_line_is_asked_about_with_what_is_said_on_its_own_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line without words, or with too many, isn't asked about, and there is an end."""
    segments = [
        {"words": [{"word": f" w{channel}", "start": 0.0, "end": 0.5}], "channel": channel} for channel in (0, 1)
    ]
    segments += [{"words": [{"word": " w", "start": 5.0, "end": 6.0}] * 3000, "channel": 0}]
    told = [{"start": start, "end": start + 1, "text": "t", "channel": 1} for start in (0.0, 2.0)]
    told += [{"start": 5.0, "end": 6.0, "text": "t", "channel": 0}]
    found = correction.lines(told, segments, None)
    assert [one.said[:2] for one in found] == ["w1", "w "]
    assert [one.said for question in correction.questions(found) for one in question.lines] == ["w1"]
    monkeypatch.setattr(correction, "MOST", 1)
    assert len(correction.lines(told * 2, segments, None)) == 1


def test_what_the_draft_has_too_is_no_fault() -> None:
    """Signs that look like markup, and a name that is the same in both languages."""
    same = line("Ada & <Co> Ltd", said="Ada & <Co> Ltd")
    question = correction.Question(before=(), lines=(same, line("ADA LOVELACE", said="Ada Lovelace")))
    found = correction.answer(reply("Ada & <Co> Ltd", "Ada Lovelace"), question)
    assert found.texts == {0: "Ada & <Co> Ltd", 1: "Ada Lovelace"}


def test_changes_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "MOST_CHANGES", 3)
    entry = {"start": 1.0, "end": 2.0, "before": "a" * 999, "after": "b" * 999, "why": "c" * 999}
    found = changes.of_translations({"translations": {code: {"changes": [entry] * 2} for code in ("en", "fr")}}, "r")
    assert [one.language for one in found] == ["en", "en", "fr"]
    assert {len(text) for one in found for text in (one.before, one.after, one.why)} == {changes.LONGEST_CHANGED}
    for wrong in (-1.0, float("nan"), 1e10):
        assert changes.of_words({"changes": [{**entry, "start": wrong}, {**entry, "end": wrong}]}, "r") == ()
