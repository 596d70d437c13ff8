"""Tar headers that hold nothing of a machine: the only place that writes them, for layers, loads and bundles."""

from __future__ import annotations

import tarfile

BLOCK = 512
"""Bytes of a tar header, and what every file is padded to (POSIX, ustar)."""

END = 2 * BLOCK
"""Zero bytes that end a tar."""


def header(path: str, size: int, mode: int = 0o444) -> bytes:
    """The header of a file: owner root, time 0. GNU tar gives a name over 100 bytes a header and blocks of its own."""
    return _header(path, size, mode, tarfile.REGTYPE)


def folder_header(path: str, mode: int) -> bytes:
    """The header of a folder; ``path`` is without the slash at the end."""
    return _header(f"{path}/", 0, mode, tarfile.DIRTYPE)


def _header(path: str, size: int, mode: int, kind: bytes) -> bytes:
    info = tarfile.TarInfo(path)
    info.size, info.mode, info.type = size, mode, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def padding(size: int) -> int:
    """Zero bytes that follow a file of ``size`` bytes."""
    return -size % BLOCK
