"""work/demux/<id>.json: what the first stage found in a recording. Read as what may be anything."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from builder.core.jobs.job import JobInput
from builder.receiver.jobs.untrusted import object_below

LARGEST = 16 << 20
"""Bytes."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a page needs of it."""

    duration: float
    """Seconds of sound; 0 while that isn't known."""
    video: bool
    """It has moving pictures."""
    codecs: tuple[str, ...]
    """Of its sound and pictures, as FFmpeg calls them."""
    clock: tuple[tuple[float, float], ...] = ()
    """Pairs of seconds in the sound and on the recording's own clock, rising; between two both run evenly."""

    def moment(self, time: float) -> float:
        """When a moment of the sound is on the recording's own clock, in seconds (stages/subtitles/clock.py)."""
        if len(self.clock) < 2:
            return time
        k = min(max(bisect_right(self.clock, time, key=lambda pair: pair[0]) - 1, 0), len(self.clock) - 2)
        (a, b), (c, d) = self.clock[k], self.clock[k + 1]
        return max(round(b + (time - a) * (d - b) / (c - a), 3), 0.0)


def read(job_folder: Path, entry: JobInput) -> Facts:
    """What is known of a recording of a job."""
    found = object_below(job_folder, f"work/demux/{entry.id}.json", LARGEST)
    duration = found.get("duration")
    return Facts(
        duration=float(duration) if isinstance(duration, (int, float)) and 0 <= duration < 1e9 else 0.0,
        video=bool(found.get("video")),
        codecs=tuple(codec for stream in _list(found.get("streams")) if (codec := _codec(stream)) is not None),
        clock=_clock(found.get("clock")),
    )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _clock(value: Any) -> tuple[tuple[float, float], ...]:
    """The clock that demux found; none where it is of another shape."""
    pairs = [tuple(map(_second, pair)) for pair in _list(value) if isinstance(pair, list) and len(pair) == 2]
    found = [(sound, clock) for sound, clock in pairs if sound is not None and clock is not None]
    rising = all(one[0] < other[0] for one, other in pairwise(found))
    return tuple(found) if rising and len(found) == len(_list(value)) else ()


def _second(value: Any) -> float | None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if number and 0 <= value < 1e9 else None


def _codec(stream: Any) -> str | None:
    """The codec of sound or pictures; None of anything else."""
    if not isinstance(stream, dict) or stream.get("type") not in ("audio", "video"):
        return None
    codec = stream.get("codec")
    return codec if isinstance(codec, str) else ""
