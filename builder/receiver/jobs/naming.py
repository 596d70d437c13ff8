"""What jobs, their files and their keys are called: one rule for the builder and the loader. Pure."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

NAME_BYTES = 200
"""Longest stem of an output file, in UTF-8 bytes: file systems allow 255 with the suffix."""


def job_id(created: str, first: str, salt: str) -> str:
    """``20261123-200312-dialogue-4f2a``.

    Args:
        created: ISO 8601, UTC.
        first: name of the first recording.
        salt: four hex digits.
    """
    plain = unicodedata.normalize("NFKD", PurePath(first).stem).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:24].strip("-") or "job"
    return f"{re.sub('[-:]', '', created[:10])}-{created[11:19].replace(':', '')}-{slug}-{salt}"


def output_stem(name: str, taken: set[str]) -> str:
    """A safe file stem from a recording's name, not in ``taken`` (case-folded), which it joins."""
    stem = plain_stem(PurePath(name).stem or name)
    while len(stem.encode()) > NAME_BYTES:
        stem = stem[:-1]
    stem = stem.rstrip(". ")
    unique, number = stem, 2
    while unique.casefold() in taken:
        unique, number = f"{stem}-{number}", number + 1
    taken.add(unique.casefold())
    return unique


def plain_stem(stem: str) -> str:
    """A file's stem without what could lead to another folder, hide the file, or be taken for an option."""
    kept = "".join(c if c.isprintable() and c not in "/\\" else "_" for c in stem)
    return kept.rstrip(". ").lstrip("-. ") or "recording"


def input_suffix(name: str) -> str:
    """The recording's own suffix when it is harmless, else ``.bin``."""
    suffix = PurePath(name).suffix.lower()
    return suffix if re.fullmatch(r"\.[a-z0-9]{1,8}", suffix) else ".bin"


def key_of(inputs: Sequence[Sequence[Any]], stages: Sequence[Mapping[str, Any]], workflow: str) -> str:
    """sha256 over what decides the results: the same request has the same key, whenever and wherever it is made.

    Args:
        inputs: name, sha256 and clip (None, or its start and end) of each recording.
        stages: as they stand in job.yaml.
    """
    asked = {"inputs": inputs, "stages": stages, "workflow": workflow}
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
