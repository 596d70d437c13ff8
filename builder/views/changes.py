"""What stages changed in a text of their own accord, in the views of jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from typing_extensions import NotRequired, TypedDict

from builder.core.text import visible

if TYPE_CHECKING:
    from builder.core.jobs.record.changes import Change

CHANGES_SHOWN = 20
"""Changes of a job that a person is shown."""

LONGEST_SHOWN = 80
"""Characters of a text, in a line for a person."""


class ChangeJson(TypedDict):
    """A text that a stage put in another's place."""

    recording: str
    """Its name."""
    language: NotRequired[str]
    """Of a translation; absent: of what is said."""
    start: float
    """Seconds."""
    end: float
    """Seconds."""
    before: str
    """What stood there."""
    after: str
    """What stands there."""
    why: str
    """Such as repeats itself, not translated, sounds like the term."""
    by: NotRequired[str]
    """The backend whose text it is, where there are several."""


def changes_data(changes: Sequence[Change]) -> list[ChangeJson]:
    """As JSON."""
    return [_data(change) for change in changes]


def _data(change: Change) -> ChangeJson:
    data: ChangeJson = {
        "recording": change.recording,
        "start": change.start,
        "end": change.end,
        "before": change.before,
        "after": change.after,
        "why": change.why,
    }
    if change.language:
        data["language"] = change.language
    if change.by:
        data["by"] = change.by
    return data


def changes_text(changes: Sequence[Change]) -> list[str]:
    """A line for each, of the first ones, and how many more there are."""
    lines = []
    for change in changes[:CHANGES_SHOWN]:
        tenths = round(change.start * 10)
        at = f"{tenths // 600}:{tenths // 10 % 60:02}.{tenths % 10}"
        of = " ".join(filter(None, (_one_line(change.recording), at, _one_line(change.language))))
        why = ", ".join(filter(None, (_one_line(change.why), _one_line(change.by))))
        lines.append(f"changed: {of}: “{_one_line(change.before)}” → “{_one_line(change.after)}” ({why})")
    more = len(changes) - CHANGES_SHOWN
    return lines + ([f"  and {more} more: --json"] if more > 0 else [])


def _one_line(text: str) -> str:
    text = visible(" ".join(text.split()))
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 1]}…"
