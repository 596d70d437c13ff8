"""Results of the commands about finished texts: ``jobs name``, ``jobs edit``, ``jobs undo`` and ``subtitles check``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from typing_extensions import NotRequired, TypedDict

from builder.core.text import format_time, table, visible
from builder.program import command
from builder.views import View

if TYPE_CHECKING:
    from builder.core.jobs.record.changes import Change
    from builder.workflows.edits.checking import Breach, FileChecked, SubtitlesChecked
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


class BreachJson(TypedDict):
    """A rule that a subtitle breaks."""

    cue: int
    """The subtitle's place in the file, from 1 on."""
    start: float
    """When it begins, in seconds."""
    end: float
    """When it ends."""
    rule: str
    """Such as line too long, too fast to read, spoken faster than the limit, too close to the next."""
    value: float | str
    """What it has: columns, columns a second, seconds, lines, or the words at a line's end."""
    limit: float | str
    """What the rule allows."""


class FileCheckedJson(TypedDict):
    """One file of subtitles."""

    file: str
    """Its path, as it was given."""
    format: str
    """``srt``, ``vtt`` or ``ttml``."""
    cues: int
    """Its subtitles."""
    breaking: int
    """Those that break a rule."""
    percent: float
    """The same in percent."""
    breached: int
    """How often a rule is broken."""
    breaches: list[BreachJson]
    """The first 10 000 of these, in the order of the file."""


class SubtitlesCheckedJson(TypedDict):
    """Files of subtitles, against one set of rules."""

    profile: str | None
    """The profile whose rules they are; null: those of bake.yaml and the defaults."""
    allowed: float
    """Percent of a file's subtitles that may break a rule."""
    ok: bool
    """Whether no file has more."""
    files: list[FileCheckedJson]
    """In the order of the command."""


def _checked_data(checked: SubtitlesChecked) -> SubtitlesCheckedJson:
    return {
        "profile": checked.profile,
        "allowed": checked.allowed,
        "ok": checked.failure is None,
        "files": [_file_data(one) for one in checked.files],
    }


def _file_data(one: FileChecked) -> FileCheckedJson:
    return {
        "file": one.file,
        "format": one.form,
        "cues": one.cues,
        "breaking": one.breaking,
        "percent": round(one.percent, 2),
        "breached": one.breached,
        "breaches": [_breach_data(breach) for breach in one.breaches],
    }


def _breach_data(breach: Breach) -> BreachJson:
    return {
        "cue": breach.cue,
        "start": breach.start,
        "end": breach.end,
        "rule": breach.rule,
        "value": breach.value,
        "limit": breach.limit,
    }


SHOWN = 200
"""Breaches of one file that a person is shown."""


def _checked_text(checked: SubtitlesChecked) -> list[str]:
    lines = []
    for one in checked.files:
        lines.append(f"{one.file}: {one.breaking} of {one.cues} subtitles break a rule ({one.percent:.1f} %)")
        rows = [(b.cue, _clock(b.start), b.rule, b.value, b.limit) for b in one.breaches[:SHOWN]]
        if rows:
            lines += [f"  {line}" for line in table(("CUE", "AT", "RULE", "IS", "MAY BE"), rows)]
        if one.breached > len(rows):
            lines.append(f"  and {one.breached - len(rows)} more")
    return lines


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds * 1000), 60_000)
    return f"{minutes // 60}:{minutes % 60:02}:{rest / 1000:06.3f}"


CHECK = View(command="subtitles check", shape=SubtitlesCheckedJson, data=_checked_data, lines=_checked_text)


# What stages changed of their own accord, in the views of jobs

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
    return [_change_data(change) for change in changes]


def _change_data(change: Change) -> ChangeJson:
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
