"""What the models of a job heard in one recording, and what it cost. Pure: results of stages are read as what may be anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from builder.core.compare.speakers import MOST_SPEAKERS, SpeakerTurn
from builder.core.compare.words import SpokenWord, words_of
from builder.core.jobs.edits import not_a_transcript
from builder.core.jobs.record.manifest import Manifest
from builder.core.jobs.timeline import StageRun


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a job took."""

    seconds: float
    """From the first stage's start to the last one's end, idle time left out."""
    cpu_seconds: float | None
    """Of all stages and cores; None where a stage doesn't say."""
    peak_bytes: int | None
    """Most memory that one stage held; None where none says."""


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What a job heard in its recording."""

    words: tuple[SpokenWord, ...]
    language: str | None
    duration: float
    """Seconds of sound."""
    turns: tuple[SpeakerTurn, ...] | None
    """Who speaks when; None where nobody was asked."""
    cost: Cost


def cost_of(runs: Sequence[StageRun], manifests: Mapping[str, Manifest]) -> Cost:
    """The cost of a finished job.

    Args:
        runs: the last run of each stage (:func:`builder.core.jobs.timeline.history`).
    """
    begun = [run for run in runs if run.start is not None and run.state == "done"]
    starts = [run.start for run in begun if run.start is not None]
    ends = [run.start + run.seconds for run in begun if run.start is not None]
    spent = [manifest.cpu_seconds for manifest in manifests.values()]
    known = [seconds for seconds in spent if seconds is not None]
    return Cost(
        seconds=round(max(ends) - min(starts), 3) if begun else 0.0,
        cpu_seconds=round(sum(known), 3) if known and len(known) == len(spent) else None,
        peak_bytes=max((m.peak_bytes for m in manifests.values() if m.peak_bytes is not None), default=None),
    )


def said_in(data: Any, where: str) -> tuple[tuple[SpokenWord, ...], str | None, float]:
    """Words, language and seconds of ``work/asr/<id>.json`` or ``work/align/<id>.json``.

    Raises:
        ConfigError: it is not what the stage wrote.
    """
    try:
        language = None if data["language"] is None else str(data["language"])
        words: list[SpokenWord] = []
        for segment in data["segments"]:
            words += words_of(str(segment["text"]), language, start=float(segment["start"]))
        return tuple(words), language, float(data["duration"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise not_a_transcript(error, where) from error


def turns_in(data: Any, where: str) -> tuple[SpeakerTurn, ...]:
    """The turns of ``work/diarize/<id>.json``.

    Raises:
        ConfigError: it is not what the stage wrote.
    """
    try:
        turns = [
            SpeakerTurn(start=float(t["start"]), end=float(t["end"]), speaker=str(t["speaker"])) for t in data["turns"]
        ]
        if len({turn.speaker for turn in turns}) > MOST_SPEAKERS:
            raise ValueError(f"more than {MOST_SPEAKERS} speakers")
        return tuple(turns)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise not_a_transcript(error, where) from error
