"""Names that a person gives to the speakers of a job: typed, or saved by its page. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from builder.core.jobs.edits import SPEAKER, RecordingEdits, Spoken, one_line
from builder.core.jobs.job import Job
from builder.errors import UsageError, did_you_mean

LONGEST_NAME = 60
"""Characters of a speaker's name."""


def names_of(words: Sequence[str], job: Job, transcripts: Sequence[Spoken]) -> dict[str, dict[str, str]]:
    """Recording -> speaker -> name, from words such as ``S1=Ada Lovelace`` or, of several recordings, ``02:S1=Ada``.

    Raises:
        UsageError: a word is none of that, or there is no such recording or speaker.
    """
    found: dict[str, dict[str, str]] = {}
    only = job.inputs[0].id if len(job.inputs) == 1 else None
    for word in words:
        match = re.fullmatch(r"(?:([0-9]+):)?(S[0-9]+)=(.*)", word, re.DOTALL)
        if match is None:
            raise UsageError(
                f'"{word}" names nobody',
                expected='a speaker and a name, such as S1="Ada Lovelace"',
                hint="S1= takes a name away",
            )
        recording = match[1] or only
        if recording is None:
            raise UsageError(
                f"this job has {len(job.inputs)} recordings, each with its own speakers",
                expected=f"{job.inputs[0].id}:{word}",
                hint=f"jobs show {job.id} lists them",
            )
        found.setdefault(recording, {})[match[2]] = match[3]
    return checked_names(found, transcripts)


def names_in(data: Any, job: Job, transcripts: Sequence[Spoken], where: str) -> dict[str, dict[str, str]]:
    """As :func:`names_of`, from the file that a job's page saves.

    Raises:
        UsageError: it is not such a file, or that of another job.
    """
    if not isinstance(data, dict) or data.get("schema") != 1 or not isinstance(data.get("names"), dict):
        raise UsageError(
            "this is not a file of names",
            where=where,
            expected="what the page of a job saves: Save names",
            hint=f"jobs report {job.id}",
        )
    if data.get("job") != job.id:
        raise UsageError(f"these names are of job {str(data.get('job'))[:60]!r}", where=where, hint="name that job")
    names = data["names"]
    if not all(isinstance(of, dict) and all(isinstance(n, str) for n in of.values()) for of in names.values()):
        raise UsageError("names are text", where=where)
    return checked_names(names, transcripts)


def checked_names(names: Mapping[str, Mapping[str, str]], transcripts: Sequence[Spoken]) -> dict[str, dict[str, str]]:
    """The names as they will be written; an empty one takes a name away.

    Raises:
        UsageError: no such recording or speaker, or a name that can't be one.
    """
    known = {spoken.recording.id: spoken for spoken in transcripts}
    made: dict[str, dict[str, str]] = {}
    for recording, given in names.items():
        if recording not in known:
            raise UsageError(f'there is no recording "{recording}"', expected=", ".join(known))
        speakers = known[recording].speakers
        for speaker, text in given.items():
            if speaker not in speakers:
                raise UsageError(
                    f'nobody is called "{speaker}" in {known[recording].recording.name}',
                    expected=", ".join(speakers) or "a recording with speakers",
                    hint=did_you_mean(speaker, speakers),
                )
            name = one_line(text)
            if len(name) > LONGEST_NAME or SPEAKER.fullmatch(name):
                raise UsageError(
                    f'"{name[:LONGEST_NAME]}" can\'t be a name',
                    expected=f"up to {LONGEST_NAME} characters, and not S1, S2 …",
                )
            made.setdefault(recording, {})[speaker] = name
    return made


def with_names(
    edits: Mapping[str, RecordingEdits], names: Mapping[str, Mapping[str, str]]
) -> dict[str, RecordingEdits]:
    """Edits with more names."""
    made = dict(edits)
    for recording, given in names.items():
        before = made.get(recording, RecordingEdits())
        merged = {who: name for who, name in {**before.names, **given}.items() if name}
        made[recording] = replace(before, names=merged)
    return made
