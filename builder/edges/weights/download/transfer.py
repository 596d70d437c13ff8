"""One file over HTTP, in parallel ranges: resumed after any death, hashed in order while it arrives.

    <sha256>.part      the bytes, each at its place; holes where a range has not arrived
    <sha256>.ranges    how far each chunk has come; without it, the part file is a plain beginning

Bytes are written first, then how far they go: after kill -9 at most one write a connection comes twice. What is hashed
is read back from the file just behind the writers, while it is still in memory.
"""

from __future__ import annotations

import hashlib
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from builder.edges.system import files, http
from builder.edges.weights.download import link as web
from builder.errors import IntegrityError, Interrupted, SourceError

WRITE = 512 << 10
"""Bytes that one connection collects before it writes."""

RUN = 4
"""Chunks that one request asks for, at most: fewer requests, and still an even end."""

HEADER = struct.Struct("<8sQQ")
MAGIC = b"ranges 1"


def download(link: web.Link, target: Path, *, size: int, sha256: str, tell: Callable[[int], None]) -> str:
    """Bring a file to ``target``, going on from what is there; the hex sha256 of what is there then.

    Args:
        size: bytes it must have; more are never written.
        sha256: what it should be. If bytes from an earlier run spoil it, they are dropped and all is fetched once more.
        tell: called with the number of bytes that are there, from several threads.

    Raises:
        Refused: an answer without the file.
        SourceError: it broke off too often, or nobody answered. What has arrived is kept.
        IntegrityError: it is longer or shorter than ``size``. Nothing is kept.
        Interrupted: the fetch is to end. What has arrived is kept.
    """
    resumed = target.exists()
    try:
        found = _Transfer(link, target, size, tell).run()
        if resumed and found != sha256:
            forget(target)
            found = _Transfer(link, target, size, tell).run()
    except IntegrityError:
        forget(target)
        raise
    return found


def forget(target: Path) -> None:
    """Drop what has arrived of a file. Whatever writes to ``target`` by another way does so first."""
    target.unlink(missing_ok=True)
    target.with_suffix(".ranges").unlink(missing_ok=True)


class Ranges:
    """How far each chunk of a part file has come, kept in a file beside it that a killed process leaves right.

    The file: ``ranges 1``, the size and the chunk's size as uint64, then one uint64 a chunk; little-endian.
    """

    def __init__(self, target: Path, size: int, chunk: int) -> None:
        self.size = size
        self.chunk = chunk
        self.path = target.with_suffix(".ranges")
        begun = target.stat().st_size if target.exists() else 0
        there = self._read(begun)
        if there is None and (begun > size or self.path.exists()):  # not of this file, or cut short
            forget(target)
            begun = 0
        self.done = there or [min(max(begun - start, 0), self._length(start)) for start in range(0, size, self.chunk)]
        self._first = 0
        self._file: int | None = None
        if len(self.done) > 1:
            if there is None:
                self._write()
            self._file = os.open(self.path, os.O_WRONLY)

    def _length(self, start: int) -> int:
        return min(self.chunk, self.size - start)

    def _read(self, begun: int) -> list[int] | None:
        """What an earlier run noted, with the size of chunks that it had; None if that is nothing of use."""
        try:
            raw = self.path.read_bytes()
            magic, size, chunk = HEADER.unpack_from(raw)
            count = -(-size // chunk)
            marks = struct.unpack_from(f"<{count}Q", raw, HEADER.size)
        except (OSError, struct.error, ZeroDivisionError):
            return None
        if magic != MAGIC or size != self.size or len(raw) != HEADER.size + 8 * count:
            return None
        self.chunk = chunk
        # Never more than the file holds: it may have been cut behind our back.
        return [min(m, self._length(i * chunk), max(begun - i * chunk, 0)) for i, m in enumerate(marks)]

    def _write(self) -> None:
        temporary = self.path.with_suffix(".ranges-new")
        temporary.write_bytes(
            HEADER.pack(MAGIC, self.size, self.chunk) + struct.pack(f"<{len(self.done)}Q", *self.done)
        )
        temporary.replace(self.path)

    def whole(self, index: int) -> bool:
        return self.done[index] == self._length(index * self.chunk)

    def lacking(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """The parts of ``start`` to ``stop`` that go on where their chunk has come to: what may be written."""
        for base in range(start // self.chunk * self.chunk, stop, self.chunk):
            at, end = base + self.done[base // self.chunk], min(stop, base + self._length(base))
            if start <= at < end:
                yield at, end

    def add(self, stop: int) -> None:
        """Note that the chunk which holds the byte before ``stop`` is written up to there."""
        index = (stop - 1) // self.chunk
        self.done[index] = stop - index * self.chunk
        if self._file is not None:
            os.pwrite(self._file, struct.pack("<Q", self.done[index]), HEADER.size + 8 * index)

    def edge(self) -> int:
        """Bytes from the start that are there without a hole."""
        while self._first < len(self.done) and self.whole(self._first):
            self._first += 1
        return self.size if self._first == len(self.done) else self._first * self.chunk + self.done[self._first]

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


class _Transfer:
    """The connections of one file, and the one who hashes behind them."""

    def __init__(self, link: web.Link, target: Path, size: int, tell: Callable[[int], None]) -> None:
        self.link = link
        self.traffic = link.traffic
        self.size = size
        self.tell = tell
        self.ranges = Ranges(target, size, self.traffic.limits.chunk)
        self.file = os.open(target, os.O_RDWR | os.O_CREAT, 0o644)
        self.changed = threading.Condition()
        self.failure: BaseException | None = None
        self.over = False
        """Nothing is written any more: late connections must not touch what others go on with."""
        self.free = [i for i in range(len(self.ranges.done)) if not self.ranges.whole(i)]
        """Chunks that nobody is at, ascending."""
        self.there = sum(self.ranges.done)
        self.connections = 0
        self.parallel = False
        """The server has shown that it serves ranges, and did not turn the last extra connection away."""

    def run(self) -> str:
        digest, hashed = hashlib.sha256(), 0
        self.tell(self.there)
        try:
            if self.free:
                self._connect(self._main)
            while hashed < self.size:
                edge = self._beyond(hashed)
                while hashed < edge:
                    self.traffic.go_on()
                    piece = os.pread(self.file, min(files.CHUNK, edge - hashed), hashed)
                    if not piece:
                        raise SourceError("another program cut what had arrived")
                    digest.update(piece)
                    hashed += len(piece)
            os.fsync(self.file)
        finally:
            with self.changed:
                self.over = True
                self.changed.notify_all()
            os.close(self.file)
            self.ranges.close()
        self.ranges.path.unlink(missing_ok=True)
        return digest.hexdigest()

    def _beyond(self, hashed: int) -> int:
        """Wait for more bytes in order than ``hashed``, with as many connections as there is room for."""
        with self.changed:
            while True:
                if self.failure is not None:
                    raise self.failure
                self.traffic.go_on()
                self._more()
                if (edge := self.ranges.edge()) > hashed:
                    return edge
                self.changed.wait(0.2)

    def _more(self) -> None:
        """Extra connections for chunks that nobody is at."""
        limits = self.traffic.limits
        while self.parallel and self.free and self.connections < limits.per_file:
            if not self.traffic.spare.acquire(blocking=False):
                return
            self._connect(self._extra)

    def _connect(self, work: Callable[[], None]) -> None:
        self.connections += 1
        threading.Thread(target=work, daemon=True).start()

    def _main(self) -> None:
        """The file's own connection: it stays until all is there, and decides when to give up."""
        failures = 0
        try:
            while not self.over and self.there < self.size:
                before = self.there
                chunks = self._take()
                if not chunks:
                    with self.changed:  # extra connections are at the rest; one that fails leaves it to us
                        self.changed.wait(0.2)
                    continue
                try:
                    self._fill(chunks)
                    failures = 0
                except web.Broken as error:
                    failures = 1 if self.there - before >= self.traffic.limits.least else failures + 1
                    if failures >= self.traffic.limits.attempts:
                        kept = f"; {self.there} of {self.size} bytes are kept" if self.there else ""
                        raise SourceError(f"{error.what}, {failures} times in a row{kept}") from error
                    if failures > 1 or not error.at_once:
                        self.traffic.back_off(failures)
        except BaseException as error:
            self._failed(error)

    def _extra(self) -> None:
        """A connection that makes it faster: at its first failure it leaves the rest to the file's own."""
        try:
            while chunks := self._take():
                self._fill(chunks, extra=True)
        except web.Broken:
            self.parallel = False
        except BaseException as error:
            self._failed(error)
        finally:
            self.traffic.spare.release()
            with self.changed:
                self.connections -= 1
                self.changed.notify_all()

    def _failed(self, error: BaseException) -> None:
        with self.changed:
            if not self.over and self.failure is None:
                self.failure = error
            self.changed.notify_all()

    def _take(self) -> list[int]:
        """The next chunks that nobody is at, side by side: many while there is much to do, one at the end."""
        with self.changed:
            if self.over or not self.free:
                return []
            most = max(1, min(RUN, len(self.free) // (2 * self.traffic.limits.per_file)))
            taken = [self.free.pop(0)]
            while (
                self.free and len(taken) < most and self.free[0] == taken[-1] + 1 and not self.ranges.done[self.free[0]]
            ):
                taken.append(self.free.pop(0))
            return taken

    def _fill(self, chunks: Sequence[int], *, extra: bool = False) -> None:
        """Fetch the rest of some chunks that lie side by side."""
        ranges = self.ranges
        try:
            start = chunks[0] * ranges.chunk + ranges.done[chunks[0]]
            stop = min((chunks[-1] + 1) * ranges.chunk, self.size)
            with self.link.open(start, stop) as (answer, begins):
                if answer.status_code == 200 and stop - start < self.size:
                    if extra:
                        raise web.Broken("it served ranges, and does no more")
                    stop = self.size  # a server without ranges: all of it, from the start
                elif answer.status_code == 206:
                    self.parallel = True
                self._read(answer, begins, stop)
        finally:
            with self.changed:
                self.free = sorted({*self.free, *(i for i in chunks if not ranges.whole(i))})
                self.changed.notify_all()

    def _read(self, answer: Any, at: int, stop: int) -> None:
        """Write an answer's body to its place.

        Raises:
            Broken: it ends before ``stop``.
            IntegrityError: it goes on beyond the end of the file.
        """
        from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined] # its client's, whichever that is

        held: list[bytes] = []
        size = 0
        try:
            for piece in answer.iter_raw():
                if at + size + len(piece) > stop:
                    if stop == self.size:
                        raise IntegrityError(f"it is longer than the {self.size} bytes of models.lock")
                    held.append(piece[: stop - at - size])  # more than it was asked for: the rest is another's
                    size = stop - at
                    break
                held.append(piece)
                size += len(piece)
                if size >= WRITE:
                    self._write(held, at)
                    held, at, size = [], at + size, 0
        except HTTPError as error:
            raise web.Broken(http.short(error), at_once=True) from error
        finally:
            # Also what came before a break: it is not asked for again.
            self._write(held, at)
            at += size
        if at < stop:
            raise web.Broken("it broke off", at_once=True)

    def _write(self, pieces: Sequence[bytes], at: int) -> None:
        """Put bytes to their place. What is noted as there, and may be hashed, is never written again."""
        data = memoryview(b"".join(pieces))
        with self.changed:
            if self.over or self.traffic.stopped.is_set():
                raise Interrupted("interrupted")
            for start, stop in self.ranges.lacking(at, at + len(data)):
                place = start
                while place < stop:  # on a nearly full disk a part of it may fit
                    place += os.pwrite(self.file, data[place - at : stop - at], place)
                self.ranges.add(stop)
                self.there += stop - start
            self.changed.notify_all()
        self.tell(self.there)


def side_by_side(tasks: Sequence[Callable[[], Any]], stopped: threading.Event | None = None) -> list[Any]:
    """Run each in a thread of its own; what they returned, or raised, in their order.

    Args:
        stopped: set on Ctrl-C; the threads then have two seconds to end. They are daemons: none outlives the process.
    """
    found: list[Any] = [None] * len(tasks)
    # Not Thread.join: one that Ctrl-C interrupts takes the thread for ended ever after (seen on Python 3.11).
    ended = [threading.Event() for _ in tasks]

    def run(index: int) -> None:
        try:
            found[index] = tasks[index]()
        except BaseException as error:
            found[index] = error
        finally:
            ended[index].set()

    try:
        for index in range(len(tasks)):
            threading.Thread(target=run, args=(index,), daemon=True).start()
        for event in ended:
            event.wait()
    except KeyboardInterrupt:
        if stopped is not None:
            stopped.set()
            end = time.monotonic() + 2.0
            for event in ended:
                event.wait(max(0.0, end - time.monotonic()))
        raise
    return found
