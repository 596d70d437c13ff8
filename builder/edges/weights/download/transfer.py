"""One file over HTTP, in parallel ranges: resumed after any death, hashed in order while it arrives.

Written by hand because huggingface_hub.snapshot_download took six times as long (make bench-fetch), and resumes less.

Bytes are written first, then noted (:mod:`ranges`): after kill -9, at most one write of each connection comes twice. What is
hashed is read back from the file just behind the writers, while it is still in memory.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from builder.edges.system import files, http
from builder.edges.weights.download.link import Broken, Link
from builder.edges.weights.download.ranges import Ranges, forget
from builder.errors import IntegrityError, Interrupted, SourceError

WRITE = 512 << 10
"""Bytes that one connection collects before it writes."""

RUN = 4
"""Chunks that one request asks for at most: few requests, and yet all connections end at about the same time."""


def download(link: Link, target: Path, *, size: int, sha256: str, on_bytes: Callable[[int], None]) -> str:
    """Download a file to ``target``, or the rest of it when a part has arrived; the hex sha256 of the whole.

    Args:
        size: bytes it must have; more are never written.
        sha256: what it should be. If bytes from an earlier run spoil it, they are dropped and all is fetched once more.
        on_bytes: called with the number of bytes that have arrived, from several threads.

    Raises:
        Refused: an answer without the file.
        SourceError: it broke off too often, or nobody answered. What has arrived is kept.
        IntegrityError: it is longer or shorter than ``size``. Nothing is kept.
        Interrupted: the fetch is being cancelled. What has arrived is kept.
    """
    resumed = target.exists()
    try:
        digest = _Transfer(link, target, size, on_bytes).run()
        if resumed and digest != sha256:
            forget(target)
            digest = _Transfer(link, target, size, on_bytes).run()
    except IntegrityError:
        forget(target)
        raise
    return digest


class _Transfer:
    """One file's connections, and the thread that hashes behind them."""

    def __init__(self, link: Link, target: Path, size: int, on_bytes: Callable[[int], None]) -> None:
        self.link = link
        self.traffic = link.traffic
        self.size = size
        self.on_bytes = on_bytes
        self.ranges = Ranges(target, size, self.traffic.limits.chunk)
        self.file = os.open(target, os.O_RDWR | os.O_CREAT, 0o644)
        self.changed = threading.Condition()
        self.failure: BaseException | None = None
        self.over = False
        """True when nothing may be written any more: a late connection must not touch what another run continues."""
        self.free = [i for i in range(len(self.ranges.done)) if not self.ranges.whole(i)]
        """Chunks that no connection fetches, ascending."""
        self.arrived = sum(self.ranges.done)
        self.connections = 0
        self.parallel = False
        """True when the server has shown that it serves ranges, and didn't refuse the last extra connection."""

    def run(self) -> str:
        digest, hashed = hashlib.sha256(), 0
        self.on_bytes(self.arrived)
        try:
            if self.free:
                self._connect(self._main)
            while hashed < self.size:
                edge = self._beyond(hashed)
                while hashed < edge:
                    self.traffic.check_stopped()
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
        """Wait until more bytes than ``hashed`` have arrived in order, with as many connections as are allowed."""
        with self.changed:
            while True:
                if self.failure is not None:
                    raise self.failure
                self.traffic.check_stopped()
                self._add_connections()
                if (edge := self.ranges.edge()) > hashed:
                    return edge
                self.changed.wait(0.2)

    def _add_connections(self) -> None:
        """Start extra connections for chunks that no connection fetches."""
        limits = self.traffic.limits
        while self.parallel and self.free and self.connections < limits.per_file:
            if not self.traffic.spare.acquire(blocking=False):
                return
            self._connect(self._extra)

    def _connect(self, work: Callable[[], None]) -> None:
        self.connections += 1
        threading.Thread(target=work, daemon=True).start()

    def _main(self) -> None:
        """The file's first connection: it stays until all has arrived, and decides when to give up."""
        failures = 0
        try:
            while not self.over and self.arrived < self.size:
                before = self.arrived
                chunks = self._next_chunks()
                if not chunks:
                    with self.changed:  # extra connections fetch the rest; one that fails leaves it to this one
                        self.changed.wait(0.2)
                    continue
                try:
                    self._fill(chunks)
                    failures = 0
                except Broken as error:
                    failures = 1 if self.arrived - before >= self.traffic.limits.least else failures + 1
                    if failures >= self.traffic.limits.attempts:
                        kept = f"; {self.arrived} of {self.size} bytes are kept" if self.arrived else ""
                        raise SourceError(f"{error.what}, {failures} times in a row{kept}") from error
                    if failures > 1 or not error.at_once:
                        self.traffic.back_off(failures)
        except BaseException as error:  # noqa: BLE001 - the thread that hashes raises it again
            self._failed(error)

    def _extra(self) -> None:
        """A connection for speed: at its first failure, it leaves the rest to the file's first one."""
        try:
            while chunks := self._next_chunks():
                self._fill(chunks, extra=True)
        except Broken:
            self.parallel = False
        except BaseException as error:  # noqa: BLE001 - the thread that hashes raises it again
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

    def _next_chunks(self) -> list[int]:
        """The next neighbouring chunks that no connection fetches: several while much is left, one at the end."""
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
        """Fetch the rest of some neighbouring chunks."""
        ranges = self.ranges
        try:
            start = chunks[0] * ranges.chunk + ranges.done[chunks[0]]
            stop = min((chunks[-1] + 1) * ranges.chunk, self.size)
            with self.link.open(start, stop) as (answer, begins):
                if answer.status_code == 200 and stop - start < self.size:
                    if extra:
                        raise Broken("it no longer serves ranges")
                    stop = self.size  # a server without ranges: all of it, from the start
                elif answer.status_code == 206:
                    self.parallel = True
                self._read(answer, begins, stop)
        finally:
            with self.changed:
                self.free = sorted({*self.free, *(i for i in chunks if not ranges.whole(i))})
                self.changed.notify_all()

    def _read(self, answer: Any, at: int, stop: int) -> None:
        """Write an answer's body to the file, from offset ``at``.

        Raises:
            Broken: it ends before ``stop``.
            IntegrityError: it continues past the end of the file.
        """
        import httpx

        held: list[bytes] = []
        size = 0
        try:
            for piece in answer.iter_raw():
                if at + size + len(piece) > stop:
                    if stop == self.size:
                        raise IntegrityError(f"it is longer than the {self.size} bytes of models.lock")
                    held.append(piece[: stop - at - size])  # more than was asked for: another connection's bytes
                    size = stop - at
                    break
                held.append(piece)
                size += len(piece)
                if size >= WRITE:
                    self._write(held, at)
                    held, at, size = [], at + size, 0
        except httpx.HTTPError as error:
            raise Broken(http.short(error), at_once=True) from error
        finally:
            # What came before a break, too: it isn't asked for again.
            self._write(held, at)
            at += size
        if at < stop:
            raise Broken("it broke off", at_once=True)

    def _write(self, pieces: Sequence[bytes], at: int) -> None:
        """Write bytes to the file. What is noted as arrived, and may be hashed, is never written again."""
        data = memoryview(b"".join(pieces))
        with self.changed:
            if self.over or self.traffic.stopped.is_set():
                raise Interrupted("interrupted")
            for start, stop in self.ranges.lacking(at, at + len(data)):
                offset = start
                while offset < stop:  # on a nearly full disk, a part of it may fit
                    offset += os.pwrite(self.file, data[offset - at : stop - at], offset)
                self.ranges.add(stop)
                self.arrived += stop - start
            self.changed.notify_all()
        self.on_bytes(self.arrived)


def side_by_side(tasks: Sequence[Callable[[], Any]], stopped: threading.Event | None = None) -> list[Any]:
    """Run each in a thread of its own; what they returned, or raised, in the order of ``tasks``.

    Args:
        stopped: set on Ctrl-C; the threads then have two seconds to end. They are daemons: none outlives the process.
    """
    outcomes: list[Any] = [None] * len(tasks)
    # Not Thread.join: once Ctrl-C interrupts it, it takes the thread for ended (seen on Python 3.11).
    ended = [threading.Event() for _ in tasks]

    def run(index: int) -> None:
        try:
            outcomes[index] = tasks[index]()
        except BaseException as error:  # noqa: BLE001 - the caller gets it in place of a result
            outcomes[index] = error
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
    return outcomes
