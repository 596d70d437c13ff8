"""The state folder's ``voices``: a file for each known voice, for its owner alone."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.core.voices import known as spec
from builder.core.voices.known import Voice
from builder.edges.system import files
from builder.errors import MissingError
from builder.receiver.jobs.untrusted import json_below, names_below

LARGEST = 64 << 10
"""Bytes of a voice's file."""


@dataclass(frozen=True, kw_only=True)
class KeptVoices:
    """What the folder has."""

    voices: tuple[Voice, ...]
    """In the order of their names."""
    strange: tuple[Path, ...]
    """Files that are no voices."""


def read(folder: Path) -> KeptVoices:
    """The voices of a folder; none where it isn't there."""
    found, strange = [], []
    for name in names_below(folder):
        if not name.endswith(".json"):
            continue
        voice = spec.from_json(json_below(folder, name, LARGEST))
        if voice is None or voice.file != name:
            strange.append(folder / name)
        else:
            found.append(voice)
    return KeptVoices(voices=tuple(spec.ordered(found)), strange=tuple(strange))


def put(folder: Path, voice: Voice) -> Path:
    """Keep a voice, in place of the one of the same name and model.

    Raises:
        MissingError: the folder can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with contextlib.suppress(PermissionError):  # a FAT stick has no modes
            folder.chmod(0o700)
        files.write_atomic(folder / voice.file, spec.to_json(voice), mode=0o600)
    except OSError as error:
        raise MissingError(f"the voice can't be kept: {error.strerror}", where=str(folder)) from error
    return folder / voice.file


def remove(folder: Path, voices: Sequence[Voice]) -> None:
    """Forget voices.

    Raises:
        MissingError: a file can't be removed.
    """
    for voice in voices:
        try:
            (folder / voice.file).unlink(missing_ok=True)
        except OSError as error:
            raise MissingError(
                f"the voice can't be removed: {error.strerror}", where=str(folder / voice.file)
            ) from error
