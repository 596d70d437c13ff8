"""A glossary's terms in translations: put there by placeholders, and looked for in every result. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import terms
from glossary import Term
from lines import Line
from vocabulary import flores

LACKING = "terms are missing"
"""What is against a translation without a term."""

LISTED = 200
"""Lost terms that a result lists."""


class Enforced:
    """The terms of one target."""

    def __init__(self, glossary: Sequence[Term], target: str, names: Sequence[str] = ()) -> None:
        """Args:
        names: those of people that the recording speaks of. They stay as they are where a backend translates text into
            another language of Latin letters, and nobody looks for them in the result: a model has found them.
        """
        self.glossary, self.target = glossary, target
        known = {text.casefold() for term in glossary for text in (term.text, *term.translate.values())}
        self.names = [n for n in names if n.casefold() not in known] if _latin(target) else []
        self._by_source: dict[str, terms.Terms] = {}
        self._masking: dict[str, terms.Terms] = {}

    def masking(self, source: str) -> terms.Terms:
        """What gets placeholders in a text in ``source``: terms, and names as they are written."""
        if not self.names:
            return self.of(source)
        if source not in self._masking:
            wanted = dict.fromkeys(self.names)
            whole = {name: name for name in wanted} | self.of(source).wanted
            self._masking[source] = terms.Terms(whole, exact=frozenset(wanted))
        return self._masking[source]

    def of(self, source: str) -> terms.Terms:
        """What is looked for in a text in ``source``: a term as it is written, and as it is said there."""
        if source not in self._by_source:
            self._by_source[source] = terms.Terms(
                {
                    text: wanted
                    for term in self.glossary
                    if (wanted := term.wanted(self.target)) is not None
                    for text in (term.text, term.said(source))
                }
            )
        return self._by_source[source]

    def translated(
        self, texts: Sequence[str], source: str, translate: Callable[[list[str]], Sequence[str]]
    ) -> list[str]:
        """The texts by a backend that brings placeholders back, with the terms in their places."""
        masked = [self.masking(source).mask(text) for text in texts]
        made = translate([text for text, _ in masked])
        return [terms.unmask(text, held)[0] for text, (_, held) in zip(made, masked, strict=True)]

    def lacking(self, said: str, told: str, source: str) -> dict[str, float]:
        """``{:data:`LACKING`: weight}`` of a translation that lacks terms of its text; empty where it has all."""
        text, lost = told.casefold(), 0
        for wanted in self.of(source).mask(said)[1]:
            before, found, behind = text.partition(wanted.casefold())
            text, lost = before + behind if found else text, lost + (not found)
        return {LACKING: float(lost)} if lost else {}

    def account(self, said: Sequence[Line], told: Sequence[Line], language: Callable[[Line], str]) -> dict[str, Any]:
        """``{"kept": n, "lost": [{"start", "end", "wanted"}]}``: what became of the terms that are said.

        Args:
            said: what is translated.
            told: the translation, in whatever lines, in the order of their starts.
        """
        kept, lost = 0, []
        rest = [line.text.casefold() for line in told]
        for line, near in _beside(said, told):
            for wanted in self.of(language(line)).mask(line.text)[1]:
                text = wanted.casefold()
                place = next((k for k in near if text in rest[k]), None)
                if place is None:
                    lost.append({"start": round(line.start, 3), "end": round(line.end, 3), "wanted": wanted})
                else:
                    kept += 1
                    rest[place] = rest[place].replace(text, "", 1)
        return {"kept": kept, "lost": lost[:LISTED]}


def _latin(language: str) -> bool:
    """Whether a language has Latin letters. Names in others are left to the backend."""
    return flores().get(language, "Latn").endswith("Latn")


def _beside(said: Sequence[Line], told: Sequence[Line]) -> Iterator[tuple[Line, list[int]]]:
    """Each line with those of ``told`` that share time with it, by their numbers."""
    starts = [line.start for line in told]
    longest = max((line.end - line.start for line in told), default=0.0)
    for line in said:
        first = bisect_left(starts, line.start - longest)
        last = max(bisect_left(starts, line.end), bisect_right(starts, line.start))
        near = (k for k in range(first, last) if told[k].channel == line.channel)
        yield line, [k for k in near if told[k].end > line.start or told[k].end == line.end]
