"""work/demux/*.wav and work/separate/*.wav: what a job heard, 115 MB an hour each.

It may be removed, and is made again when a stage has to hear it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from builder.core.jobs.record.manifest import Manifest
from builder.receiver.jobs.untrusted import names_below, remove_below, status_below

READERS = {"separate": frozenset({"asr"}), "demux": frozenset({"separate", "music", "vad", "asr", "align", "diarize"})}
"""Stages that make it, the later first, and those that hear what they made; their other results are small, and stay."""

GONE = "the sound was removed (jobs remove --sound), and is needed again"
"""Why a stage runs again."""

_NAME = re.compile(r"[0-9]+(\.c[0-9]+)?\.wav")


def sizes(job_folder: Path) -> dict[str, int]:
    """Path in the job's folder -> bytes."""
    found = {
        f"work/{stage}/{name}": status_below(job_folder, f"work/{stage}/{name}")
        for stage in READERS
        for name in names_below(job_folder, f"work/{stage}")
        if _NAME.fullmatch(name)
    }
    return {path: status.st_size for path, status in found.items() if status is not None}


def remove(job_folder: Path) -> None:
    """Free its room.

    Raises:
        OSError: it can't be removed.
    """
    for path in sizes(job_folder):
        remove_below(job_folder, path)


def removed(job_folder: Path, made: Manifest | None) -> dict[str, str]:
    """The sound that is no longer there: path -> digest. Something else in its place, such as a link, is not a removed sound.

    Args:
        made: manifest of one of :data:`READERS`.
    """
    if made is None:
        return {}
    return {
        path: digest
        for path, digest in made.outputs.items()
        if _NAME.fullmatch(path.rpartition("/")[2]) and not os.path.lexists(job_folder / path)
    }
