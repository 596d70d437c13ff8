"""A job's edits on the disk: the present ones beside the recordings, those before them in ``edits/``; and an editor."""

from __future__ import annotations

import json
import os
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
    path = job_folder / spec.FILE
    return spec.from_json(_parsed(path), str(path))


def write(job_folder: Path, edits: Mapping[str, RecordingEdits]) -> None:
    """Replace the present edits; those before stay in the history."""
    before = files.read_file(job_folder / spec.FILE)
    history = job_folder / HISTORY
    history.mkdir(exist_ok=True)
    number = max((int(p.stem) for p in _kept(history)), default=0) + 1
    files.write_atomic(history / f"{number:04}.json", before if before is not None else NONE)
    files.write_atomic(job_folder / spec.FILE, spec.to_json(edits))


def undo(job_folder: Path) -> bool:
    """Go back to the edits before the last change; whether there was one."""
    kept = _kept(job_folder / HISTORY)
    if not kept:
        return False
    before = files.read_file(kept[-1])
    if before is None or before == NONE.encode():
        (job_folder / spec.FILE).unlink(missing_ok=True)
    else:
        files.write_atomic(job_folder / spec.FILE, before)
    kept[-1].unlink()
    return True


def _kept(history: Path) -> list[Path]:
    return sorted((p for p in history.glob("*.json") if p.stem.isdecimal()), key=lambda p: int(p.stem))


def _parsed(path: Path) -> Any:
    data = files.read_file(path)
    if data is None:
        return None
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return ""  # which is not what anybody writes


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
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
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
