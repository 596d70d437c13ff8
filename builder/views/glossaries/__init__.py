"""Results of the command glossary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import TypedDict

from builder.core.text import table
from builder.views import View

if TYPE_CHECKING:
    from builder.workflows.glossaries.commands import GlossaryLearned

MOST_SHOWN = 40
"""Rows that people are shown."""


class MishearingJson(TypedDict):
    """What was written in the place of a term."""

    heard: str
    """As the model wrote it."""
    term: str
    """As it is to be written."""
    times: int
    """How often, in all recordings."""
    why_not: str
    """Why it isn't in the glossary; empty: it is."""


class GlossaryLearnedJson(TypedDict):
    """A glossary that was written."""

    file: str
    """The table."""
    terms: int
    """Terms in it."""
    mishearings: list[MishearingJson]
    """The most frequent first."""


def _learned_data(found: GlossaryLearned) -> GlossaryLearnedJson:
    listed: list[MishearingJson] = [
        {"heard": one.heard, "term": one.term, "times": one.times, "why_not": one.why_not} for one in found.mishearings
    ]
    return {"file": str(found.file), "terms": found.terms, "mishearings": listed}


def _learned_text(found: GlossaryLearned) -> list[str]:
    learnt = sum(not one.why_not for one in found.mishearings)
    shown = found.mishearings[:MOST_SHOWN]
    rows = [(one.heard, one.term, str(one.times), one.why_not and f"left out: {one.why_not}") for one in shown]
    more = len(found.mishearings) - len(shown)
    return [
        *(table(("HEARD", "TERM", "TIMES", ""), rows) if rows else []),
        *([f"and {more} more: --json"] if more else []),
        f"{found.file}: {found.terms} terms, {learnt} mishearings of them",
    ]


LEARNED = View(command="glossary learn", shape=GlossaryLearnedJson, data=_learned_data, lines=_learned_text)
