"""Results of the commands that change a transcript: ``jobs name``, ``jobs edit`` and ``jobs undo``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import TypedDict

from builder.core.text import format_time
from builder.program import command
from builder.views import View

if TYPE_CHECKING:
    from builder.workflows.edits.rendering import TranscriptChanged


class TranscriptChangedJson(TypedDict):
    """A job whose transcript was changed by hand."""

    job: str
    """Its id."""
    changed: bool
    """Whether its files were written again; false when the text came back as it was."""
    names: dict[str, dict[str, str]]
    """Recording -> speaker -> name, all that the job has now."""
    edited: list[str]
    """The recordings whose text is one that a person edited."""
    files: list[str]
    """The results that were written again."""
    text: str | None
    """The file that has the text now, to be edited, where one was asked for."""


def _data(changed: TranscriptChanged) -> TranscriptChangedJson:
    outcome = changed.ran.outcome if changed.ran else None
    return {
        "job": changed.job.id,
        "changed": outcome is not None,
        "names": {recording: dict(names) for recording, names in changed.names.items()},
        "edited": list(changed.edited),
        "files": [str(path) for path in outcome.files] if outcome else [],
        "text": None if changed.text is None else str(changed.text),
    }


def _text(changed: TranscriptChanged) -> list[str]:
    if changed.text is not None:
        following = command(f"jobs edit {changed.job.id} --from", changed.text)
        return [f"the text is in {changed.text}", f"next: {following}"]
    if changed.ran is None:
        return ["nothing was changed"]
    outcome = changed.ran.outcome
    names = [f"{who} is {name}" for names in changed.names.values() for who, name in names.items()]
    lines = [*names, *(f"recording {id_} is as it was edited" for id_ in changed.edited)]
    return [*lines, *map(str, outcome.files), f"written again in {format_time(outcome.seconds)}"]


NAME = View(command="jobs name", shape=TranscriptChangedJson, data=_data, lines=_text)
EDIT = View(command="jobs edit", shape=TranscriptChangedJson, data=_data, lines=_text)
UNDO = View(command="jobs undo", shape=TranscriptChangedJson, data=_data, lines=_text)
