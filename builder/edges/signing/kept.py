"""Signatures of images that were made here, kept for ``verify``: a registry isn't asked again."""

from __future__ import annotations

import base64
import binascii
import json
from pathlib import Path

from builder.edges.system import files

LARGEST = 4 << 20
"""Bytes of a file: a signature has a few hundred."""

MOST = 1000
"""Signatures of one image."""

Kept = tuple[bytes, bytes]
"""A payload and its signature."""


def keep(folder: Path, digest: str, payload: bytes, signature: bytes) -> None:
    """Add a signature to those of an image.

    Args:
        digest: ``sha256:…`` of its manifest.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with files.locked(folder / ".lock"):
        there = read(folder, digest)
        if (payload, signature) in there:
            return
        rows = [
            {"payload": base64.b64encode(one).decode(), "signature": base64.b64encode(other).decode()}
            for one, other in (*there[1 - MOST :], (payload, signature))
        ]
        files.write_json(_path(folder, digest), {"signatures": rows})


def read(folder: Path, digest: str) -> tuple[Kept, ...]:
    """The signatures of an image that are kept here; a file that is something else has none."""
    raw = files.read_file(_path(folder, digest), limit=LARGEST)
    try:
        rows = json.loads(raw or b"{}")["signatures"][:MOST]
        return tuple((_bytes(row["payload"]), _bytes(row["signature"])) for row in rows)
    except (ValueError, KeyError, TypeError, RecursionError):
        return ()


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None


def _path(folder: Path, digest: str) -> Path:
    return folder / f"{digest.replace(':', '-')}.json"
