"""work/demux/*.wav: what a job heard, 115 MB an hour. It may be removed, and is made again when a stage has to hear it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from builder.core.jobs.record.manifest import Manifest
from builder.receiver.jobs.untrusted import names_below, remove_below, status_below

STAGE = "demux"
"""The stage that makes it."""

READERS = frozenset({"vad", "asr", "align", "diarize"})
"""The stages that hear it; the others of :data:`STAGE`'s results are small, and stay."""

GONE = "the sound was removed (jobs remove --sound), and is needed again"
"""Why a stage runs again."""

_NAME = re.compile(r"[0-9]+(\.c[0-9]+)?\.wav")


def sizes(job_folder: Path) -> dict[str, int]:
    """Path in the job's folder -> bytes."""
    names = [name for name in names_below(job_folder, f"work/{STAGE}") if _NAME.fullmatch(name)]
    found = {f"work/{STAGE}/{name}": status_below(job_folder, f"work/{STAGE}/{name}") for name in names}
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
        made: manifest of :data:`STAGE`.
    """
    if made is None:
        return {}
    return {
        path: digest
        for path, digest in made.outputs.items()
        if _NAME.fullmatch(path.removeprefix(f"work/{STAGE}/")) and not os.path.lexists(job_folder / path)
    }
