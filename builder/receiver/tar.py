"""Tar headers that hold nothing of a machine: the only place that writes them, for layers, loads and bundles."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator

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


LONGEST_PATH = 4096
"""Bytes of a path in a header of its own."""


def regular_files(read: Callable[[int], bytes]) -> Iterator[tuple[str, int]]:
    """Path and size of each file of a tar; whoever iterates reads the file's bytes, and their padding, before the next.

    tarfile would also take sparse files, which are as large as they say, and headers of any size.

    Args:
        read: the next bytes of the tar, fewer only at its end.

    Raises:
        ValueError: it is not a tar, or has anything but files and folders in it.
    """
    long = ""
    while (block := read(BLOCK)) and block != bytes(BLOCK):
        try:
            info = tarfile.TarInfo.frombuf(
                block, "utf-8", "surrogateescape"
            )  # a long name's beginning may end in a letter
        except tarfile.HeaderError as error:
            raise ValueError(f"not a tar ({error})") from None
        if info.type == tarfile.GNUTYPE_LONGNAME:
            if not 0 < info.size <= LONGEST_PATH:
                raise ValueError("not a tar (a name of no length that a name has)")
            long = read(info.size + padding(info.size))[: info.size].rstrip(b"\0").decode()
            continue
        name, long = long or info.name.encode("utf-8", "surrogateescape").decode(), ""
        if info.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and info.size >= 0:
            yield name, info.size
        elif info.type != tarfile.DIRTYPE or info.size:
            raise ValueError(f"{name!r} is neither a file nor a folder")
