"""What jobs teach a glossary: what was heard in the place of its terms, and what isn't learnt."""

from __future__ import annotations

import json
from typing import Any

import glossary as stages_glossary  # stages/glossary.py, as every stage finds it
import pytest

from builder.core import glossary
from builder.core.glossary import Term, learned
from builder.core.glossary.learned import HeardText, HeardWord
from builder.core.jobs.record import changes
from builder.receiver.jobs.terms import MOST_HEARD
from builder.views import glossaries as views
from builder.workflows.glossaries.commands import GlossaryLearned

TERMS = (
    Term(text="Ada Lovelace", keep=True, note="the first"),
    Term(text="Corvannis"),
    Term(text="Kubernetes", heard=("cooper netties",)),
    Term(text="fire brigade", translations={"es": "bomberos"}),
)


def transcript(text: str, *corrections: tuple[str, str], edited: str | None = None) -> HeardText:
    """A text of a word a second; each correction is said to be at its place."""
    words = text.split()
    told = []
    for before, after in corrections:
        at = next(k for k in range(len(words)) if " ".join(words[k:]).startswith(after))
        told.append({"start": at, "end": at + len(after.split()), "before": before, "after": after, "why": "alike"})
    return HeardText(
        changes=changes.of_transcript({"corrections": told}, "a.mp4"),
        words=tuple(HeardWord(text=f" {word}", start=float(k), end=k + 1.0) for k, word in enumerate(words)),
        edited=None if edited is None else edited.split(),
    )


def told(*transcripts: HeardText) -> list[tuple[str, str, int, str]]:
    return [(one.heard, one.term, one.times, one.why_not) for one in learned.learned(transcripts, TERMS)]


def test_corrections_and_edits_are_learnt_without_their_marks_the_most_frequent_first() -> None:
    one = transcript("I met Ada Lovelace's, tea.", ("Aida Loveless's,", "Ada Lovelace's,"))
    two = transcript(
        "Call Corvannis. Then Ongard came.", ("Korvanes.", "Corvannis."), edited="Call Corvannis. Then Lovelace came."
    )
    assert told(one, two, one) == [
        ("Aida Loveless", "Ada Lovelace", 2, ""),
        ("Korvanes", "Corvannis", 1, ""),
        ("Ongard", "Lovelace", 1, ""),
    ]


def test_an_edit_in_a_text_with_common_words_is_found_where_it_is() -> None:
    """difflib takes words of a long text that come often for noise, and moves whole sentences."""
    line = "there is a small hotel near Ongard where they still remember"
    found = transcript(" ".join([line] * 40), edited=" ".join([line.replace("Ongard", "Corvannis"), *[line] * 39]))
    assert told(found) == [("Ongard", "Corvannis", 1, learned.ELSEWHERE)]


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (transcript("Corvannis", ("Cor", "Corvannis")), learned.SHORT),
        (transcript("Corvannis", ("cor van is", "Corvannis")), learned.ORDINARY),
        (transcript("Corvannis x Corvan", ("Corvan", "Corvannis")), learned.ELSEWHERE),
        (transcript("Corvannis", ("Corv|an", "Corvannis")), learned.WRITING),
        (transcript("Corvannis came", ("Corvan", "Corvannis"), edited="Corvan came"), learned.BACK),
        (transcript("Corvannis", ("C" * 101, "Corvannis")), learned.WRITING),
    ],
)
def test_what_is_not_learnt_and_why(found: HeardText, why: str) -> None:
    [(_, term, _, said)] = told(found)
    assert (term, said) == ("Corvannis", why)


def test_one_mishearing_of_two_terms_is_learnt_for_neither() -> None:
    both = told(transcript("Corvannis Kubernetes", ("Carbernes", "Corvannis"), ("Carbernes", "Kubernetes")))
    assert {why for *_, why in both} == {learned.SEVERAL}


@pytest.mark.parametrize("after", ["Somebody", "Ada", "corvannis"])
def test_what_no_term_is_can_t_be_brought_in_by_a_job(after: str) -> None:
    assert told(transcript(after, ("Korvanes", after))) == []


def test_a_term_s_translation_is_the_term_and_its_mishearings_have_a_limit() -> None:
    many = [transcript("bomberos", (f"Bonber{k}", "bomberos")) for k in range(52)]
    found = learned.learned(many, TERMS)
    assert {one.term for one in found} == {"fire brigade"}
    assert [one.why_not for one in found].count(learned.FULL) == 2
    assert len(learned.with_learned(TERMS, found)[3].doubtful) == MOST_HEARD


def test_a_long_recording_s_edits_are_not_compared() -> None:
    words = tuple(HeardWord(text="a", start=0.0, end=1.0) for _ in range(learned.MOST_WORDS + 1))
    assert learned.learned([HeardText(changes=(), words=words, edited=["Corvannis"])], TERMS) == ()


def test_the_table_is_read_as_it_was_written_and_the_stage_has_it() -> None:
    found = learned.learned(
        [
            transcript("Lovelace Kubernetes Corvannis", ("Loveless", "Lovelace"), ("Kuber Nets", "Kubernetes")),
            transcript("#MeToo", ("MyTwo", "#MeToo")),
        ],
        TERMS,
    )
    grown = learned.with_learned((*TERMS, Term(text="#MeToo")), found)
    assert [(t.text, t.doubtful, t.keep) for t in grown if t.doubtful] == [
        ("Kubernetes", ("Kuber Nets",), False),
        ("Lovelace", ("Loveless",), True),
    ]
    again = glossary.parse("g.tsv", glossary.table(grown))
    assert glossary.for_job(again) == glossary.for_job(grown)
    assert [t.note for t in again][:1] == ["the first"]
    assert again[4].text == "#MeToo"
    staged = stages_glossary.parsed(glossary.for_job(grown))
    assert [t.doubtful for t in staged] == [t.doubtful for t in grown]
    assert glossary.from_job(json.loads(glossary.for_job(grown)))[2].doubtful == ("Kuber Nets",)
    assert b"doubtful" not in glossary.for_job(TERMS)  # jobs from before stay what they are


@pytest.mark.parametrize(
    "data",
    [None, [], {"terms": 1}, {"terms": [1, {"term": 2}, {"term": ""}, {"term": "a\x07b"}, {"term": "x", "y": 1}]}],
)
def test_a_job_s_file_that_no_builder_wrote_has_no_terms(data: Any) -> None:
    assert glossary.from_job(data) == ()


@pytest.mark.parametrize(
    "result", [None, {}, {"segments": 1}, {"segments": [{"words": [{"word": "a", "start": "x"}]}]}]
)
def test_a_result_that_no_stage_wrote_has_no_words(result: Any) -> None:
    assert learned.words_of(result) is None


def test_what_people_and_scripts_are_told() -> None:
    from pathlib import Path

    found = learned.learned([transcript("Corvannis x", ("Korvanes", "Corvannis"), ("kor", "x"))], TERMS)
    shown = GlossaryLearned(file=Path("g.tsv"), terms=4, mishearings=found)
    assert views.LEARNED.text(shown).splitlines()[1:] == [
        "Korvanes  Corvannis  1",
        "g.tsv: 4 terms, 1 mishearings of them",
    ]
    assert views.LEARNED.data(shown)["mishearings"] == [
        {"heard": "Korvanes", "term": "Corvannis", "times": 1, "why_not": ""}
    ]
