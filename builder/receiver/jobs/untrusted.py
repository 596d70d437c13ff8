"""The one door to what stages, containers and strangers left in a folder: no link is followed, nothing is read without a bound.

Whoever wrote there may have left links, FIFOs, devices and holes of terabytes, and may change them at this moment. So each
folder is opened relative to its parent, and only regular files count: what else stands in their place is not there.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

LARGEST_JSON = 64 << 20
"""Bytes of a file that is parsed."""

DEEPEST_JSON = 64
"""Levels of lists and objects in each other; ours have seven."""

LONGEST_NUMBER = 40
"""Characters: more are no number of ours, and take long to read."""

DEEPEST_PATH = 8
"""Parts of a path below a folder."""

MOST_NAMES = 100_000
"""Entries of a folder that are listed."""

UNTRUSTED_CHUNK = 1 << 20
"""Bytes read at a time where a whole file goes through."""

_UNLINKED = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Flags to open what may be anything: a link is an error, and a FIFO isn't waited for."""


def open_below(folder: Path, name: str) -> Any:
    """A regular file below a folder, open for reading.

    Args:
        name: its path from there; never one that leads out.

    Raises:
        OSError: there is no regular file of that name, or it can't be read.
    """
    with _named_below(folder, name) as (parent, last):
        # Not even opened otherwise: opening a device can have effects.
        _require_regular(os.stat(last, dir_fd=parent, follow_symlinks=False))
        return os.fdopen(_opened_regular(last, os.O_RDONLY, parent), "rb")


def append_below(folder: Path, name: str) -> int:
    """The descriptor of a regular file below a folder, open for reading and for writing at its end; made where it is missing.

    Raises:
        OSError: something else has its name, or it can't be written.
    """
    with _named_below(folder, name) as (parent, last):
        with contextlib.suppress(FileNotFoundError):
            _require_regular(os.stat(last, dir_fd=parent, follow_symlinks=False))
        return _opened_regular(last, os.O_RDWR | os.O_CREAT | os.O_APPEND, parent)


def remove_below(folder: Path, name: str) -> None:
    """Remove a regular file below a folder; where there is none, nothing.

    Raises:
        OSError: it can't be removed.
    """
    with contextlib.suppress(FileNotFoundError), _named_below(folder, name) as (parent, last):
        _require_regular(os.stat(last, dir_fd=parent, follow_symlinks=False))
        os.unlink(last, dir_fd=parent)


def replace_below(folder: Path, name: str, pieces: Iterable[bytes], mode: int = 0o644) -> int:
    """Write a file below a folder and give it its name when it is whole; what has that name is replaced. Its bytes.

    Nobody else writes it meanwhile: what a killed writer left beside it goes, too.

    Raises:
        OSError: its folder isn't there, or it can't be written.
    """
    size = 0
    with _named_below(folder, name) as (parent, last):
        beside = f".{last[:200]}.tmp"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside, dir_fd=parent)
        try:
            handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _UNLINKED, mode, dir_fd=parent)
            with os.fdopen(handle, "wb") as out:
                for piece in pieces:
                    size += out.write(piece)
            os.rename(beside, last, src_dir_fd=parent, dst_dir_fd=parent)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(beside, dir_fd=parent)
            raise
    return size


@contextlib.contextmanager
def _named_below(folder: Path, name: str) -> Iterator[tuple[int, str]]:
    """The open folder that a file is in, and what the file is called there; errors name the whole path."""
    parts = name.split("/")
    handle = -1
    try:
        if not 0 < len(parts) <= DEEPEST_PATH or "\0" in name or {"", ".", ".."} & set(parts):
            raise OSError(errno.ENOENT, "no path inside the folder")
        handle = _opened_folder(folder, None)
        for part in parts[:-1]:
            inner = _opened_folder(part, handle)
            os.close(handle)
            handle = inner
        yield handle, parts[-1]
    except OSError as error:
        error.filename = f"{folder}/{name}"
        raise
    finally:
        if handle >= 0:
            os.close(handle)


def _opened_folder(name: str | Path, parent: int | None) -> int:
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | _UNLINKED, dir_fd=parent)


def _opened_regular(name: str, flags: int, parent: int) -> int:
    handle = os.open(name, flags | _UNLINKED, 0o644, dir_fd=parent)
    try:
        _require_regular(os.fstat(handle))  # another file may have taken its place
    except BaseException:
        os.close(handle)
        raise
    return handle


def _require_regular(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.ENOENT, "no regular file")


def size_below(folder: Path, name: str) -> int | None:
    """Bytes of a regular file below a folder; None where there is none."""
    found = status_below(folder, name)
    return None if found is None else found.st_size


def status_below(folder: Path, name: str) -> os.stat_result | None:
    """What the file system says of a regular file below a folder; None where there is none."""
    with contextlib.suppress(OSError), _named_below(folder, name) as (parent, last):
        found = os.stat(last, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISREG(found.st_mode):
            return found
    return None


def read_below(folder: Path, name: str, most: int) -> bytes | None:
    """The bytes of a regular file below a folder; None where there is none, or it has more than ``most`` bytes."""
    with contextlib.suppress(OSError), open_below(folder, name) as source:
        if os.fstat(source.fileno()).st_size <= most:
            data: bytes = source.read(most + 1)
            return data if len(data) <= most else None
    return None


def slice_below(folder: Path, name: str, begin: int, most: int) -> bytes:
    """At most ``most`` bytes of a regular file from a byte on; empty where there is no such file."""
    with contextlib.suppress(OSError), open_below(folder, name) as source:
        source.seek(begin)
        data: bytes = source.read(most)
        return data
    return b""


def json_below(folder: Path, name: str, most: int = LARGEST_JSON) -> Any:
    """The parsed file below a folder; None where there is none, it is too large, or not JSON as we write it."""
    data = read_below(folder, name, most)
    try:
        return None if data is None else parse_json(data)
    except ValueError:
        return None


def object_below(folder: Path, name: str, most: int = LARGEST_JSON) -> dict[str, Any]:
    """The object in a JSON file; empty when there is none, or something else."""
    value = json_below(folder, name, most)
    return value if isinstance(value, dict) else {}


def sha256_below(folder: Path, name: str, most: int) -> str | None:
    """Hex sha256 of a regular file below a folder; None where there is none, or it has more than ``most`` bytes."""
    digest, left = hashlib.sha256(), most
    with contextlib.suppress(OSError), open_below(folder, name) as source:
        if os.fstat(source.fileno()).st_size > most:
            return None
        while chunk := source.read(UNTRUSTED_CHUNK):
            left -= len(chunk)
            if left < 0:  # it grows
                return None
            digest.update(chunk)
        return digest.hexdigest()
    return None


def names_below(folder: Path, name: str = "") -> list[str]:
    """Names of the entries of a folder, or of one below it, in order; none where it isn't a folder.

    Of more than :data:`MOST_NAMES` entries the others are left out.
    """
    with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
        handle, _ = stack.enter_context(_named_below(folder, f"{name}/x" if name else "x"))
        entries = stack.enter_context(os.scandir(handle))
        return sorted(entry.name for entry in itertools.islice(entries, MOST_NAMES))
    return []


def parse_json(data: bytes) -> Any:
    """JSON that is what it seems: UTF-8, shallow, each name once, every number finite, every text one that can be written.

    Raises:
        ValueError: it is something else.
    """
    try:
        value = _STRICT_JSON.decode(data.decode("utf-8"))
        if b"\\u" in data:  # half of a surrogate pair can't be encoded again
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > DEEPEST_JSON:
            raise ValueError("it is nested too deeply")
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
    return value


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _short(number: Callable[[str], Any]) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        value = number(text) if len(text) <= LONGEST_NUMBER else None
        if value is None or value - value != 0:  # infinite
            raise ValueError("a number is too large")
        return value

    return read


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


_STRICT_JSON = json.JSONDecoder(
    object_pairs_hook=_each_once, parse_float=_short(float), parse_int=_short(int), parse_constant=_no_constant
)
