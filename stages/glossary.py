"""The terms that a job was given: how they are written, what is heard in their place, and what translations have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contract import StageJob

FILE = "glossary.json"
"""Beside the recordings; the setting ``glossary`` of a stage that reads it has its digest."""

MOST = 5000
"""Terms of it."""

LONGEST = 100
"""Letters of a term, and of anything that stands for one."""


@dataclass(frozen=True, kw_only=True)
class Term:
    """One entry."""

    text: str
    heard: tuple[str, ...] = ()
    """What a model may write in its place, however sure it is."""
    doubtful: tuple[str, ...] = ()
    """The same, where it is in doubt."""
    translate: Mapping[str, str]
    """Language -> the term in it."""
    keep: bool = False
    """It isn't translated."""

    def wanted(self, language: str) -> str | None:
        """What a translation shall have; None: what the backend makes of it."""
        return self.text if self.keep else self.translate.get(language)

    def said(self, language: str | None) -> str:
        """How it is written where ``language`` is spoken."""
        return self.translate.get(language or "", self.text)


def told(job: StageJob) -> tuple[Term, ...]:
    """The terms that the job was made with; none, and a note, where its file is another."""
    if not job.settings.get("glossary"):
        return ()
    why = "is not the one that this job was made with"
    data = job.beside(FILE)
    if data is not None and sha256(data).hexdigest() == job.settings["glossary"]:
        try:
            return parsed(data)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            why = "is damaged"
    job.note(job.inputs[0], f"no terms are known: the glossary {why}")
    return ()


def parsed(data: bytes) -> tuple[Term, ...]:
    """Terms of JSON, which may be anybody's.

    Raises:
        ValueError, KeyError, TypeError, AttributeError, RecursionError: it is not what the builder writes.
    """
    whole = json.loads(data)
    if whole["schema"] != 1 or not 0 < len(whole["terms"]) <= MOST:
        raise ValueError("another schema, no terms, or too many")
    return tuple(_term(entry) for entry in whole["terms"])


def _term(entry: dict[str, Any]) -> Term:
    heard = tuple(_text(word) for word in entry["heard"])
    doubtful = tuple(_text(word) for word in entry.get("doubtful", ()))
    translations = {str(code): _text(text) for code, text in entry["translate"].items()}
    kept = entry["keep"] is True
    return Term(text=_text(entry["term"]), heard=heard, doubtful=doubtful, translate=translations, keep=kept)


def _text(value: Any) -> str:
    """A text on one line.

    Raises:
        ValueError: it is none, empty, or too long.
    """
    if not isinstance(value, str) or not value.strip() or len(value) > LONGEST or not value.isprintable():
        raise ValueError("no text of a term")
    return value.strip()
