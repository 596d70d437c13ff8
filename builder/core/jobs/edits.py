"""What a person changes in a finished transcript: names of speakers, and text in an editor. Pure.

The subtitles stage reads the edits beside the recordings (docs/job-format.md). It finds the times of changed words; here
is only what a person typed.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from builder.core.jobs.job import Job, JobInput
from builder.errors import ConfigError, UsageError, did_you_mean

STAGE = "subtitles"
"""The stage that reads the edits."""

FILE = "input/edits.json"
"""The edits, in a job's folder."""

SPEAKER = re.compile(r"S[0-9]{1,3}")
"""How speakers are called until they have a name."""

PAUSE = 2.5
"""Seconds of silence that begin a new turn of the same speaker."""

LONG = 70
"""Words after which a turn ends with its sentence, so that a monologue is easy to edit."""


@dataclass(frozen=True, kw_only=True)
class EditedTurn:
    """What one speaker says in one go."""

    speaker: str | None
    text: str
    start: float | None
    """Seconds, as the film of the job has them; None for a turn that the person added."""


@dataclass(frozen=True, kw_only=True)
class RecordingEdits:
    """The edits of one recording."""

    names: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Speaker -> what people call them."""
    turns: tuple[EditedTurn, ...] | None = None
    """The whole text; None while nobody changed it."""


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """A recording's transcript as a person edits it."""

    recording: JobInput
    turns: tuple[EditedTurn, ...]
    offset: float
    """Seconds from the film's time to the time that is shown."""
    speakers: tuple[str, ...]
    names: Mapping[str, str]


def spoken(recording: JobInput, transcript: Any, where: str) -> Spoken:
    """Read what the subtitles stage wrote, which may be anything.

    Raises:
        ConfigError: it is not a transcript.
    """
    try:
        offset = _number((transcript.get("clip") or {}).get("offset", 0.0))
        turns = tuple(_turns(transcript["segments"], offset))
        names = {str(who): one_line(str(name)) for who, name in (transcript.get("names") or {}).items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise not_a_transcript(error, where) from error
    speakers = sorted({t.speaker for t in turns if t.speaker}, key=lambda s: (len(s), s))
    return Spoken(recording=recording, turns=turns, offset=offset, speakers=tuple(speakers), names=names)


def not_a_transcript(error: Exception, where: str) -> ConfigError:
    """The error of a result that the subtitles stage did not write like this."""
    return ConfigError(
        f"this is not a transcript: {error!r}",
        where=where,
        expected="what the subtitles stage wrote",
        hint="run the job again",
    )


def _turns(segments: Any, offset: float) -> Iterator[EditedTurn]:
    """Sentences of one speaker that follow each other, up to a pause or some length."""
    texts: list[str] = []
    speaker: str | None = None
    start = end = 0.0
    count = 0
    for segment in segments:
        words = segment["words"]
        who = segment["speaker"]
        if who is not None and not SPEAKER.fullmatch(who):
            raise ValueError(f"speaker {who!r}")
        if not words:
            continue
        begins = _number(words[0]["start"])
        if texts and (who != speaker or count >= LONG or begins - end > PAUSE):
            yield EditedTurn(speaker=speaker, text=one_line("".join(texts)), start=start)
            texts, count = [], 0
        if not texts:
            speaker, start = who, round(begins - offset, 3)
        texts += [str(word["word"]) for word in words]
        count += len(words)
        end = _number(words[-1]["end"])
    if texts:
        yield EditedTurn(speaker=speaker, text=one_line("".join(texts)), start=start)


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def one_line(text: str) -> str:
    """Text on one line, without control characters; joiners and direction marks stay."""
    return " ".join("".join(" " if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in text).split())


def with_turns(
    edits: Mapping[str, RecordingEdits], turns: Mapping[str, tuple[EditedTurn, ...]]
) -> dict[str, RecordingEdits]:
    """Edits with another text of some recordings."""
    return {**edits, **{id_: replace(edits.get(id_, RecordingEdits()), turns=text) for id_, text in turns.items()}}


# Text in an editor

HEAD = """\
# The transcript of job {job}. Change words, join or divide turns, change who speaks.
# A turn begins with its time and its speaker in brackets. A turn that you add has no time: [S2] or, without speakers, [].
# Words that you leave keep their times; others get times between them. Lines of this head are not read.
"""

TITLE = re.compile(r"== ([0-9]+)(?: .*)?")
TURN = re.compile(r"\[\s*([0-9]+:[0-9]{2}:[0-9]{2}\.[0-9]{3})?\s*(S[0-9]{1,3})?\s*\](.*)")


def to_text(job: Job, transcripts: Sequence[Spoken]) -> str:
    """The transcripts for an editor."""
    parts = [HEAD.format(job=job.id)]
    for one in transcripts:
        called = "".join(f"# {who} is {name}.\n" for who, name in one.names.items() if name)
        parts.append(f"== {one.recording.id} {one_line(one.recording.name)}\n{called}")
        for turn in one.turns:
            head = " ".join(filter(None, (_stamp(turn, one.offset), turn.speaker)))
            parts.append(f"[{head}] {turn.text}\n")
    return "\n".join(parts)


def _stamp(turn: EditedTurn, offset: float) -> str:
    if turn.start is None:
        return ""
    whole = max(0, round((turn.start + offset) * 1000))
    return f"{whole // 3_600_000}:{whole // 60_000 % 60:02}:{whole // 1000 % 60:02}.{whole % 1000:03}"


def from_text(text: str, transcripts: Sequence[Spoken], where: str) -> dict[str, tuple[EditedTurn, ...]]:
    """Recording -> its turns, for those that were changed.

    Args:
        where: the file, for errors.

    Raises:
        UsageError: with the line: what stands there is not a turn, a time or a speaker is unknown, or a recording is gone
            or empty.
    """
    known = {one.recording.id: one for one in transcripts}
    found: dict[str, list[EditedTurn]] = {}
    present: Spoken | None = None
    for number, line in enumerate(text.splitlines(), 1):
        place = f"{where}:{number}"
        if not line.strip() or (line.startswith("#") and (present is None or not found[present.recording.id])):
            continue
        if title := TITLE.fullmatch(line.rstrip()):
            present = known.get(title[1])
            if present is None or title[1] in found:
                raise UsageError(f'"{line.strip()}" is not one of the recordings', where=place, expected=_titles(known))
            found[title[1]] = []
        elif present is None:
            raise UsageError("a turn stands before the recording's line", where=place, expected=_titles(known))
        elif turn := TURN.fullmatch(line):
            found[present.recording.id].append(_turn(turn, present, place))
        elif turns := found[present.recording.id]:
            turns[-1] = replace(turns[-1], text=f"{turns[-1].text} {one_line(line)}".strip())
        else:
            raise UsageError("this is not a turn", where=place, expected="[0:00:01.000 S1] and what is said")
    made = {}
    for id_, one in known.items():
        turns = [turn for turn in found.get(id_, ()) if turn.text]
        if not turns:
            raise UsageError(
                f"recording {id_} has no text any more" if id_ in found else f"recording {id_} is gone",
                where=where,
                expected=f"== {id_} and its turns",
                hint="leave the file as it was to change nothing",
            )
        if tuple(turns) != one.turns:
            made[id_] = tuple(turns)
    return made


def _titles(known: Mapping[str, Spoken]) -> str:
    return ", ".join(f"== {id_}" for id_ in known)


def _turn(match: re.Match[str], one: Spoken, place: str) -> EditedTurn:
    """A turn as it was typed.

    Raises:
        UsageError: its time is not one of the transcript's, or it lacks a speaker where turns have one.
    """
    starts = {_stamp(turn, one.offset): turn.start for turn in one.turns}
    if match[1] and match[1] not in starts:
        raise UsageError(
            f"{match[1]} is not a time of this transcript",
            where=place,
            expected="a turn's own time, or none for a turn that is new",
            hint=did_you_mean(match[1], starts),
        )
    if one.speakers and not match[2]:
        raise UsageError("this turn has no speaker", where=place, expected=f"[{one.speakers[0]}]")
    start = starts[match[1]] if match[1] else None
    return EditedTurn(speaker=match[2], text=one_line(match[3]), start=start)


# The file


def to_json(edits: Mapping[str, RecordingEdits]) -> str:
    """What the stage reads."""
    recordings = {
        id_: {
            "names": dict(one.names),
            "turns": None
            if one.turns is None
            else [{"speaker": t.speaker, "start": t.start, "text": t.text} for t in one.turns],
        }
        for id_, one in edits.items()
    }
    return json.dumps({"schema": 1, "recordings": recordings}, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def from_json(data: Any, where: str) -> dict[str, RecordingEdits]:
    """Read it back; None where there is no file.

    Raises:
        ConfigError: it is not what :func:`to_json` writes.
    """
    if data is None:
        return {}
    try:
        if data["schema"] != 1:
            raise ValueError(f"schema {data['schema']}")
        return {
            str(id_): RecordingEdits(
                names={str(who): str(name) for who, name in one["names"].items()},
                turns=None
                if one["turns"] is None
                else tuple(
                    EditedTurn(
                        speaker=None if t["speaker"] is None else str(t["speaker"]),
                        text=str(t["text"]),
                        start=None if t["start"] is None else _number(t["start"]),
                    )
                    for t in one["turns"]
                ),
            )
            for id_, one in data["recordings"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"the edits are damaged: {error!r}", where=where, hint="jobs undo takes the last edit back"
        ) from error
