"""A job's edits on the disk: the present ones beside the recordings, those before them in ``edits/``; and an editor."""

from __future__ import annotations

import os
import re
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from builder.core.jobs import edits as spec
from builder.core.jobs.edits import RecordingEdits, Spoken
from builder.core.jobs.job import Job
from builder.edges.jobs import listing
from builder.edges.system import files, shell
from builder.errors import MissingError, UsageError
from builder.program import command
from builder.receiver.jobs.untrusted import LARGEST_JSON, json_below, names_below, parse_json, read_below, size_below

HISTORY = "edits"
"""Folder with the edits before each change, numbered."""

NONE = "null\n"
"""In the history: there were no edits."""


def transcripts(job: Job, job_folder: Path) -> tuple[Spoken, ...]:
    """What was said in each recording.

    Raises:
        UsageError: the job has no transcript yet.
        ConfigError: a transcript is not what the stage wrote.
    """
    found = []
    for entry in job.inputs:
        data, path = listing.transcript(job_folder, entry)
        if data is None:
            raise UsageError(f"job {job.id} has no transcript yet", where=str(path), hint=command(f"run {job.id}"))
        found.append(spec.spoken(entry, data, str(path)))
    return tuple(found)


def read(job_folder: Path) -> dict[str, RecordingEdits]:
    """The present edits."""
    return spec.from_json(_parsed(job_folder), str(job_folder / spec.FILE))


def write(job_folder: Path, edits: Mapping[str, RecordingEdits]) -> None:
    """Replace the present edits; those before stay in the history."""
    before = read_below(job_folder, spec.FILE, LARGEST_JSON)
    (job_folder / HISTORY).mkdir(exist_ok=True)
    number = max(_kept(job_folder), default=0) + 1
    files.write_atomic(job_folder / _name(number), before if before is not None else NONE)
    files.write_atomic(job_folder / spec.FILE, spec.to_json(edits))


def undo(job_folder: Path) -> bool:
    """Go back to the edits before the last change; whether there was one."""
    kept = _kept(job_folder)
    if not kept:
        return False
    last = _name(kept[-1])
    before = read_below(job_folder, last, LARGEST_JSON)
    if before is None or before == NONE.encode():
        (job_folder / spec.FILE).unlink(missing_ok=True)
    else:
        files.write_atomic(job_folder / spec.FILE, before)
    (job_folder / last).unlink()
    return True


def _name(number: int) -> str:
    return f"{HISTORY}/{number:04}.json"


def _kept(job_folder: Path) -> list[int]:
    """Numbers of the edits before each change, in order."""
    numbers = (
        int(m[1]) for name in names_below(job_folder, HISTORY) if (m := re.fullmatch(r"([0-9]{4,9})\.json", name))
    )
    sizes = ((number, size_below(job_folder, _name(number))) for number in numbers)
    return sorted(number for number, size in sizes if size is not None and size <= LARGEST_JSON)


def _parsed(job_folder: Path) -> Any:
    if size_below(job_folder, spec.FILE) is None:
        return None
    value = json_below(job_folder, spec.FILE)
    return "" if value is None else value  # which is not what anybody writes


def read_text(path: Path) -> str:
    """A file that a person names.

    Raises:
        UsageError: it can't be read, is too large or is not text.
    """
    try:
        data = files.read_file(files.expanded(path), follow=True)
        if data is None:
            raise UsageError("there is no such file", where=str(path))
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError("this is not text in UTF-8", where=str(path)) from error


def save(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Write a text where a person wants it; raises as :func:`builder.edges.system.files.write_output`."""
    files.write_output(path, text, instead="--to FILE", mode=mode)


def names_file(path: Path) -> Any:
    """A file of names as JSON.

    Raises:
        UsageError: it can't be read, or is not JSON.
    """
    try:
        return parse_json(read_text(path).encode())
    except ValueError as error:
        raise UsageError(
            f"this is not JSON: {error}", where=str(path), expected="what the page of a job saves"
        ) from error


def in_editor(job: Job, text: str, env: Mapping[str, str]) -> Path:
    """Let a person change a text; the file, which the caller removes.

    Raises:
        UsageError: there is no editor, or it ended with an error; the file stays.
    """
    words = editor(env)
    handle, name = tempfile.mkstemp(prefix=f"whisperbake-{job.id}-", suffix=".txt")
    path = Path(name)
    with os.fdopen(handle, "w", encoding="utf-8") as out:
        out.write(text)
    try:
        code = shell.foreground([*words, name])
    except MissingError as error:
        path.unlink()
        raise UsageError(error.what, where="VISUAL or EDITOR", hint="EDITOR=nano, or --from FILE") from error
    if code != 0:
        raise UsageError(
            f"the editor ended with exit code {code}; nothing is changed",
            where=name,
            hint=command(f"jobs edit {job.id} --from", name),
        )
    return path


def editor(env: Mapping[str, str]) -> Sequence[str]:
    """The person's editor, as words.

    Raises:
        UsageError: VISUAL or EDITOR can't be read.
    """
    text = env.get("VISUAL") or env.get("EDITOR") or "vi"
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UsageError(f"this can't be read: {error}", where="VISUAL or EDITOR", expected="a command") from error
