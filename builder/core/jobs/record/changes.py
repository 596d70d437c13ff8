"""What stages changed in a text of their own accord, as their results list it: read as what may be anything. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

MOST_CHANGES = 10_000
"""Changes that are kept of a result."""

LONGEST_CHANGED = 500
"""Characters that are kept of a text."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """A text that took another's place; times in seconds, as the results have them."""

    recording: str
    """Its name."""
    language: str
    """Of a translation; empty: of what is said."""
    start: float
    end: float
    before: str
    after: str
    why: str
    by: str
    """The backend whose text it is, where several could be; else empty."""


class _Shape(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    start: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
    end: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
    before: str
    after: str
    why: str | list[str]
    backend: str = ""


def of_translations(result: Any, recording: str) -> tuple[Change, ...]:
    """Of a result of the stage translate: what its second pass replaced.

    Args:
        result: its JSON.
        recording: the recording's name.
    """
    translations = result.get("translations") if isinstance(result, dict) else None
    if not isinstance(translations, dict):
        return ()
    found: list[Change] = []
    for language, entry in translations.items():
        listed = entry.get("changes") if isinstance(entry, dict) else None
        found += _changes(listed, recording, str(language)[:LONGEST_CHANGED], MOST_CHANGES - len(found))
    return tuple(found)


def of_corrections(corrected: Any, recording_id: str, recording: str) -> tuple[Change, ...]:
    """What a language model corrected in a recording's translations; what it translated itself had no text before.

    Args:
        corrected: the job's input/corrected.json.
        recording_id: the recording's number in it.
        recording: its name.
    """
    mine = corrected.get(recording_id) if isinstance(corrected, dict) else None
    found: list[Change] = []
    for language, entry in mine.items() if isinstance(mine, dict) else ():
        if isinstance(entry, dict) and isinstance(entry.get("lines"), list) and not entry.get("translated"):
            model = str(entry.get("model"))
            listed = [
                line | {"why": "corrected", "backend": model} for line in entry["lines"] if isinstance(line, dict)
            ]
            found += _changes(listed, recording, str(language)[:LONGEST_CHANGED], MOST_CHANGES - len(found))
    return tuple(found)


def of_transcript(result: Any, recording: str) -> tuple[Change, ...]:
    """Of a recognition's result: words that a glossary's terms took the place of."""
    listed = result.get("corrections") if isinstance(result, dict) else None
    return tuple(_changes(listed, recording, "", MOST_CHANGES))


def of_words(result: Any, recording: str) -> tuple[Change, ...]:
    """Of a result of the stage names, words that are spelt as a list has them; of subtitles, lyrics that are left out."""
    listed = result.get("changes") if isinstance(result, dict) else None
    return tuple(_changes(listed, recording, "", MOST_CHANGES))


def _changes(listed: Any, recording: str, language: str, most: int) -> Iterator[Change]:
    """The entries of a list that are what a stage of ours writes."""
    for entry in listed[:most] if isinstance(listed, list) else ():
        try:
            shape = _Shape.model_validate(entry)
        except ValidationError:
            continue
        why = shape.why if isinstance(shape.why, str) else ", ".join(shape.why[:10])
        yield Change(
            recording=recording,
            language=language,
            start=shape.start,
            end=shape.end,
            before=shape.before[:LONGEST_CHANGED],
            after=shape.after[:LONGEST_CHANGED],
            why=why[:LONGEST_CHANGED],
            by=shape.backend[:LONGEST_CHANGED],
        )
