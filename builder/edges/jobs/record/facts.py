"""work/demux/<id>.json: what the first stage found in a recording. Read as what may be anything."""

from __future__ import annotations

from dataclasses import dataclass
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


def read(job_folder: Path, entry: JobInput) -> Facts:
    """What is known of a recording of a job."""
    found = object_below(job_folder, f"work/demux/{entry.id}.json", LARGEST)
    duration = found.get("duration")
    return Facts(
        duration=float(duration) if isinstance(duration, (int, float)) and 0 <= duration < 1e9 else 0.0,
        video=bool(found.get("video")),
        codecs=tuple(codec for stream in _list(found.get("streams")) if (codec := _codec(stream)) is not None),
    )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _codec(stream: Any) -> str | None:
    """The codec of sound or pictures; None of anything else."""
    if not isinstance(stream, dict) or stream.get("type") not in ("audio", "video"):
        return None
    codec = stream.get("codec")
    return codec if isinstance(codec, str) else ""
