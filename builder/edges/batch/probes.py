"""Looks into many recordings, several at once; what they said is kept, and a file that is as it was isn't opened again.

The cache is a file of lines that are only appended, so that nothing is lost when a plan is killed:

    {"key":"4f…","seconds":61.2}        how long it is; null: its header doesn't say
    {"key":"90…","unreadable":"it is not media"}
    {"key":"4f…","sha256":"…"}
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from builder.edges.batch.found import FoundFile
from builder.edges.jobs import prepare
from builder.edges.jobs.prepare import Media
from builder.edges.system import files, shell
from builder.errors import BakeError, InputError, MissingError
from builder.node.items import compact
from builder.receiver.jobs.untrusted import parse_json

LARGEST = 128 << 20
"""Bytes of the cache; a larger one begins anew. A line has about 50."""

LONGEST_LINE = 2000
"""Bytes."""

LONGEST_REASON = 300
"""Characters of why a recording can't be read."""

AHEAD = 4
"""Looks that wait for each that runs."""

Thing = TypeVar("Thing")
Answer = TypeVar("Answer")


MOST_AT_ONCE = 32
"""Recordings that one process looks into."""

MediaEach = Callable[[Sequence[Path]], list[shell.Done]]
"""Runs stages/demux/clip.py --probe-each: an answer for each recording, or for the first of them."""


def probe_key(path: str, size: int, mtime_ns: int) -> str:
    """The cache's key of a file as it is: 20 hex digits.

    Args:
        path: absolute.
    """
    return hashlib.sha256(f"{path}\0{size}\0{mtime_ns}".encode("utf-8", "surrogateescape")).hexdigest()[:20]


def file_key(root: str, entry: FoundFile) -> str:
    """The cache's key of a file below a root."""
    return probe_key(f"{root.rstrip('/')}/{entry.path}", entry.size, entry.mtime_ns)


@dataclass
class Probed:
    """What is known of files, by their keys."""

    seconds: dict[str, float | None] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)

    def add(self, line: bytes, wanted: Container[str]) -> None:
        """Take in a line of the cache, of whose end a power cut may have left anything."""
        try:
            data = parse_json(line)
        except ValueError:
            return
        key = data.get("key") if isinstance(data, dict) else None
        if not isinstance(key, str) or key not in wanted:
            return
        seconds, reason, digest = data.get("seconds"), data.get("unreadable"), data.get("sha256")
        if isinstance(seconds, float | int) or ("seconds" in data and seconds is None):
            self.seconds[key] = seconds
        elif isinstance(reason, str) and reason:
            self.unreadable[key] = reason[:LONGEST_REASON]
        elif isinstance(digest, str) and len(digest) == 64:
            self.sha256[key] = digest


class ProbeCache:
    """What looks have said on this machine. Several plans may add to it at once."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, wanted: Container[str]) -> Probed:
        """What is known of these keys."""
        found = Probed()
        with contextlib.suppress(OSError), files.open_regular(self._path) as source:
            for line in iter(lambda: source.readline(LONGEST_LINE), b""):
                found.add(line, wanted)
        return found

    def append(self, lines: Iterable[dict[str, Any]]) -> None:
        """Keep what was learnt; a disk that takes nothing keeps nothing."""
        data = "".join(f"{compact(line)}\n" for line in lines).encode()
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            handle = os.open(self._path, flags, 0o600)
            try:
                size = os.fstat(handle).st_size
                if size > LARGEST:
                    os.ftruncate(handle, 0)
                elif size and os.pread(handle, 1, size - 1) != b"\n":  # of a power cut
                    data = b"\n" + data
                os.write(handle, data)
            finally:
                os.close(handle)


def look(
    found: Sequence[FoundFile],
    *,
    root: str,
    media: Media,
    media_each: MediaEach | None,
    cache: ProbeCache,
    hashed: bool,
    workers: int,
    on_done: Callable[[int, int], None],
) -> Probed:
    """How long recordings are, why they can't be read, and their sha256, by :func:`probe_key`.

    Args:
        found: those that nothing speaks against so far.
        media: looks into one recording.
        media_each: looks into many.
        hashed: their sha256 is wanted, too.
        workers: looks at once.
        on_done: hears how many of how many were looked into.

    Raises:
        BakeError: no look works here, or an engine has gone.
    """
    keys = {file_key(root, entry): entry for entry in found}
    known = cache.read(keys)
    lacking = [
        (key, entry)
        for key, entry in keys.items()
        if key not in known.unreadable and (key not in known.seconds or (hashed and key not in known.sha256))
    ]
    broken: BakeError | None = None
    worked = not lacking

    def answer(chunk: Sequence[tuple[str, FoundFile]]) -> list[tuple[str, list[dict[str, Any]], BakeError | None]]:
        paths = [Path(root, entry.path) for _, entry in chunk]
        said = _said(media_each if any(key not in known.seconds for key, _ in chunk) else None, paths)
        found = []
        for at, ((key, _), path) in enumerate(zip(chunk, paths, strict=True)):
            mine = _repeating(said[at]) if at < len(said) else media
            lines, error = _look(mine, path, hashed=hashed, known=key in known.seconds)
            found.append((key, [{"key": key, **line} for line in lines], error))
        return found

    total, number = len(lacking), 0
    size = max(1, min(MOST_AT_ONCE, total // workers)) if media_each else 1
    chunks = (lacking[at : at + size] for at in range(0, total, size))
    for answers in _in_parallel(answer, chunks, workers):
        cache.append(line for _, lines, error in answers if error is None for line in lines)
        for key, lines, error in answers:
            if error is None:
                worked = True
            else:
                broken = broken or error
                detail = f": {error.detail[-1].strip()}" if error.detail else ""
                known.unreadable[key] = f"{error.what}{detail}"[:LONGEST_REASON]
            for line in lines:
                known.add(compact(line).encode(), keys)
        number += len(answers)
        on_done(number, total)
    if broken is not None and not worked and not known.seconds:  # not the recordings' fault
        raise broken
    return known


def _said(media_each: MediaEach | None, paths: Sequence[Path]) -> list[shell.Done]:
    """What one process says of many recordings; those that it says nothing of are looked into one by one."""
    try:
        return media_each(paths) if media_each and len(paths) > 1 else []
    except OSError:  # one went away meanwhile
        return []


def _repeating(done: shell.Done) -> Media:
    """A look whose answer is known."""
    return lambda options, path, target: done


def _look(media: Media, path: Path, *, hashed: bool, known: bool) -> tuple[list[dict[str, Any]], BakeError | None]:
    """What the cache may keep of one recording, or what went wrong that may go well another time."""
    lines: list[dict[str, Any]] = []
    try:
        if not known:
            lines.append({"seconds": prepare.length(media, path)})
        if hashed:
            lines.append({"sha256": files.sha256(path)})
    except MissingError:
        raise
    except InputError as error:
        if error.what != prepare.TOO_MUCH:
            return [{"unreadable": _plain(error.what)}], None
        return [], error
    except BakeError as error:
        return [], error
    except OSError as error:
        return [], InputError(f"it can't be read ({error.strerror})", where=str(path))
    return lines, None


def _plain(text: str) -> str:
    return text.encode("utf-8", "replace").decode()[:LONGEST_REASON]


def _in_parallel(do: Callable[[Thing], Answer], things: Iterable[Thing], workers: int) -> Iterator[Answer]:
    """The answers in order, with only a few things waiting: there may be a hundred thousand."""
    waiting: deque[Future[Answer]] = deque()
    pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="look")
    try:
        for thing in things:
            waiting.append(pool.submit(do, thing))
            if len(waiting) >= workers * AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
