"""What a finished job heard in its recording; and what files beside a recording say is true of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from builder.core.compare import reference as truths
from builder.core.compare.heard import Heard, cost_of, said_in, turns_in
from builder.core.compare.reference import Reference
from builder.core.compare.speakers import turns_of_rttm
from builder.core.config.types import Config
from builder.core.jobs.job import Job
from builder.core.jobs.timeline import history
from builder.edges.jobs import folder as jobs
from builder.edges.jobs import outcome
from builder.edges.system import files
from builder.errors import ConfigError, InputError
from builder.receiver.jobs.untrusted import json_below, size_below

Read = TypeVar("Read")


def of_job(config: Config, job: Job) -> Heard:
    """What a job heard: what its models say, whatever a person changed in the results afterwards.

    Raises:
        ConfigError: a result is missing or not what its stage wrote.
    """
    folder, [entry] = jobs.folder(config, job), job.inputs
    manifests = outcome.said(job, folder)
    text = next((f"work/{stage}/{entry.id}.json" for stage in ("align", "asr") if stage in manifests), None)
    if text is None:
        raise ConfigError("the job has no transcript", where=str(folder))
    words, language, duration = said_in(json_below(folder, text), str(folder / text))
    who = f"work/diarize/{entry.id}.json"
    apart = "diarize" in manifests and size_below(folder, who) is not None
    return Heard(
        words=words,
        language=language,
        duration=duration,
        turns=turns_in(json_below(folder, who), str(folder / who)) if apart else None,
        cost=cost_of(history(job, list(jobs.events(folder)), manifests, sound=None, now=None), manifests),
    )


def beside(recording: Path, language: str | None) -> Reference:
    """What is true of a recording, as files beside it say (docs/compare.md).

    Args:
        language: that is spoken, where it is known.

    Raises:
        InputError: a reference is not what its name says.
        UsageError: it can't be read, or is too large.
    """
    results = (recording.parent / f"{recording.stem}.{truths.RESULTS}").is_file()
    words = _first(recording, truths.TEXTS, results, lambda text, suffix: truths.words_of_file(text, suffix, language))
    turns = _first(recording, (truths.TURNS,), results, lambda text, _: turns_of_rttm(text))
    return Reference(
        words=words[1] if words else None,
        words_file=words[0] if words else None,
        turns=turns[1] if turns else None,
        turns_file=turns[0] if turns else None,
    )


def _first(
    recording: Path, suffixes: tuple[str, ...], results: bool, read: Callable[[str, str], Read]
) -> tuple[str, Read] | None:
    """The name of the first reference that is there, and what it says."""
    for name in truths.names_for(recording.stem, suffixes=suffixes, results=results):
        path = recording.parent / name
        data = files.read_file(path, limit=truths.LARGEST, follow=True)
        if data is None or path.samefile(recording):
            continue
        try:
            return name, read(_text(data, path), path.suffix[1:])
        except ValueError as error:
            raise InputError(f"this is not a reference: {error}", where=str(path)) from error
    return None


def _text(data: bytes, path: Path) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError("this is not text in UTF-8", where=str(path), hint="save it as UTF-8, or move it") from error
