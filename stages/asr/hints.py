"""Which of a glossary's terms the model is told of: all, or those that a window needs where its prompt hasn't room for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from contract import StageJob
from corrections import Index, near
from glossary import Term
from instructions import listed, text_language

MOST = 12
"""Terms beyond the model's room that a window is heard again with."""


class Hints:
    """The terms of a job."""

    def __init__(self, job: StageJob, model: Any, terms: Sequence[Term]) -> None:
        self.job, self.model = job, model
        self.terms = terms if hasattr(model, "hf_tokenizer") else ()
        self.below = float(job.settings.get("correct_below", 0.0))
        self._texts: dict[str, str] = {}
        self._beyond: dict[str, Index] = {}

    def text(self, language: str) -> str:
        """What every window in ``language`` is heard with: the terms in their order, as many as there is room for."""
        if language not in self._texts:
            written = text_language(self.job, language)
            terms = list(dict.fromkeys(term.said(written) for term in self.terms))
            self._texts[language], count = listed(self.job, self.model, terms, language)
            left = set(terms[count:])
            self._beyond[language] = Index.of([t for t in self.terms if t.said(written) in left], written)
            if count < len(terms):
                self.job.note(
                    self.job.inputs[0],
                    f"the model has room for {count} of the glossary's {len(terms)} terms: the first ones, and where "
                    "something sounds like another, that one",
                )
        return self._texts[language]

    def beyond(self, language: str, words: Sequence[dict[str, Any]]) -> list[str]:
        """Terms without room that something in a window's text may be, the likeliest first."""
        index = self._beyond.get(language)
        return near(words, index, self.below)[:MOST] if index and index.forms else []

    def with_(self, language: str, wanted: Sequence[str]) -> str:
        """What a window is heard with that needs these: they go before the others."""
        written = text_language(self.job, language)
        terms = [*wanted, *(term.said(written) for term in self.terms)]
        return listed(self.job, self.model, list(dict.fromkeys(terms)), language)[0]
