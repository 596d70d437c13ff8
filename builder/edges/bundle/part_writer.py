"""The parts of a bundle while they are written: one thread reads and hashes, one writes, one has the disk begin early.

Every byte of a file is hashed once, on its way out of the store. A part needs no hash of its own, since the inventory has
the sha256 of each file; only a file that is cut between two parts is hashed once more, piece by piece, beside it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue

from builder.core.bundle.plan import BundlePart, BundlePlan, TarEntry
from builder.core.progress import OnProgress, Progress
from builder.edges.system import files
from builder.errors import IntegrityError, Interrupted, MissingError
from builder.receiver.checking.pieces import TarPiece
from builder.receiver.tar import END, header, padding

STATE = ".creating.json"
"""In the bundle's folder until it is finished: the plan's key, and the hashes of each finished part."""

WAITING = 8
"""Chunks that wait between the thread that reads and the thread that writes."""

FLUSHED = 64 << 20
"""Bytes after which the disk is told to begin: at the end of a part little is left to wait for."""

Open = Callable[[TarEntry], Iterator[bytes]]
"""The bytes of a file of the bundle."""

Hashes = list[list[str]]
"""Of each finished part, hex sha256 of the files that it has only in part."""


@dataclass(frozen=True, kw_only=True)
class PartSource:
    """Where the bytes of a bundle's files come from."""

    open: Open
    checked: Callable[[TarEntry], bool] = lambda _: False
    """Whether :attr:`open` checks a file's bytes itself, so that they need not be hashed a second time."""


def write(folder: Path, plan: BundlePlan, source: PartSource, hashes: Hashes, on_progress: OnProgress) -> None:
    """Write the parts from the first unfinished one on.

    Args:
        hashes: of the parts that are finished; grows. It shrinks by those that hold bytes of a file that is now another.

    Raises:
        IntegrityError: bytes are not those that were planned; no finished part holds any of them.
        MissingError: the disk is full or broken, or a part is larger than its file system allows.
        Interrupted: ctrl-C; the same command resumes.
    """
    reader = _Reader(plan=plan, source=source, hashes=hashes)
    writer = _Writer(folder=folder, plan=plan, hashes=hashes, on_progress=on_progress)
    thread = threading.Thread(target=writer.write, daemon=True)
    thread.start()
    doubtful: TarEntry | None = None
    try:
        for chunk in reader.chunks():
            if writer.failed:
                break
            writer.chunks.put(chunk)
    except BaseException as error:
        writer.failed.append(_ReaderStopped())
        doubtful = reader.doubtful if isinstance(error, IntegrityError) else None
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted(
                "the bundle is not finished", where=str(folder), hint="the same command resumes"
            ) from None
        raise
    finally:
        writer.chunks.put(None)
        thread.join()
        if writer.failed:
            for left in folder.glob(".*.part"):
                left.unlink(missing_ok=True)
            _drop(folder, plan, hashes, doubtful)
    if writer.failed:
        raise _disk_error(writer.failed[0], folder)


def _drop(folder: Path, plan: BundlePlan, hashes: Hashes, doubtful: TarEntry | None) -> None:
    """Forget the finished parts that hold bytes of a file that turned out to be something else."""
    if doubtful is None:
        return
    first = next(k for k, part in enumerate(plan.parts) if part.end > doubtful.at)
    if first < len(hashes):
        del hashes[first:]
        files.write_json(folder / STATE, {"key": plan.key, "parts": hashes})


class _ReaderStopped(Exception):
    """The thread that reads has stopped; the part that is being written is not finished."""


def _disk_error(error: BaseException, folder: Path) -> BaseException:
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return MissingError("a part is larger than this file system allows", where=str(folder), hint="--part-size 4G")
    if isinstance(error, OSError):
        return MissingError(
            f"the bundle can't be written: {error.strerror}", where=str(folder), hint="the same command resumes"
        )
    return error


@dataclass(kw_only=True)
class _Reader:
    """The tar from the first unfinished part on."""

    plan: BundlePlan
    source: PartSource
    hashes: Hashes
    doubtful: TarEntry | None = None
    """The file that is being read: nobody knows yet whether its bytes are those that were planned."""

    def chunks(self) -> Iterator[bytes]:
        """The bytes. What follows a file's comes only after they were found to be right."""
        done = len(self.hashes)
        begin = self.plan.parts[done].begin if done < len(self.plan.parts) else self.plan.size
        before = self._before(begin)
        for at, chunk in self._stream(begin):
            if at < begin:
                for piece in before:
                    piece.feed(at, chunk)
            if at + len(chunk) > begin:
                if before and any(not piece.is_right() for piece in before):
                    raise self._other(self.doubtful)
                before = []
                yield chunk[max(begin - at, 0) :]

    def _before(self, begin: int) -> list[_CutHash]:
        """What finished parts hold of a file that ends in a later one: it has to be the same file still."""
        cuts = [
            _CutHash(piece, hexdigest)
            for part, hashed in zip(self.plan.parts, self.hashes, strict=False)
            for piece, hexdigest in zip(self.plan.tar.cuts(part.begin, part.end), hashed, strict=False)
        ]
        return [cut for cut in cuts if cut.reaches(begin)]

    def _stream(self, begin: int) -> Iterator[tuple[int, bytes]]:
        """The tar with positions, from the file that holds ``begin``: a file is hashed from its first byte."""
        for entry in self.plan.entries:
            if entry.at + entry.size + padding(entry.size) <= begin:
                continue
            head = header(entry.path, entry.size)
            yield entry.at - len(head), head
            self.doubtful = entry
            yield from self._bytes(entry)
            self.doubtful = None
            yield entry.at + entry.size, bytes(padding(entry.size))
        yield self.plan.size - END, bytes(END)

    def _bytes(self, entry: TarEntry) -> Iterator[tuple[int, bytes]]:
        digest, at, is_checked = hashlib.sha256(), entry.at, self.source.checked(entry)
        small = self.plan.small
        for chunk in iter([small[entry.path]]) if entry.path in small else self.source.open(entry):
            if not is_checked:
                digest.update(chunk)
            if at + len(chunk) > entry.at + entry.size:
                raise IntegrityError(f"{entry.path} is longer than planned", hint="run the same command again")
            yield at, chunk
            at += len(chunk)
        if at != entry.at + entry.size or not (is_checked or digest.hexdigest() == entry.sha256):
            raise self._other(entry)

    @staticmethod
    def _other(entry: TarEntry | None) -> IntegrityError:
        assert entry is not None
        return IntegrityError(
            f"{entry.path} is not what was planned",
            expected=f"{entry.size} bytes, sha256 {entry.sha256}",
            hint="run the same command again; models verify --deep if it stays",
        )


class _CutHash:
    """The sha256 of a piece of a file, of chunks that come in order and may begin or end elsewhere."""

    def __init__(self, piece: TarPiece, expected: str = "") -> None:
        self.piece, self.expected, self.digest = piece, expected, hashlib.sha256()

    def reaches(self, begin: int) -> bool:
        """Whether its file goes on after ``begin``."""
        entry = self.piece.entry
        return entry is not None and entry["at"] < begin < entry["at"] + entry["size"]

    def feed(self, at: int, chunk: bytes | memoryview) -> None:
        """A chunk, and where it is in the tar."""
        first, after = max(self.piece.begin, at), min(self.piece.end, at + len(chunk))
        if first < after:
            self.digest.update(memoryview(chunk)[first - at : after - at])

    def is_right(self) -> bool:
        """Whether it is what was expected."""
        return self.digest.hexdigest() == self.expected


@dataclass(kw_only=True)
class _Writer:
    """Writes parts in one thread while another reads what is in them."""

    folder: Path
    plan: BundlePlan
    hashes: Hashes
    on_progress: OnProgress
    chunks: Queue[bytes | None] = field(default_factory=lambda: Queue(WAITING))
    """The tar from the first unfinished part on; None ends it."""
    failed: list[BaseException] = field(default_factory=list)
    """Why one of the two threads stopped."""
    held: memoryview = field(default_factory=lambda: memoryview(b""))
    """What came and is not written yet."""
    ended: bool = False

    def write(self) -> None:
        """What the thread does; errors go to :attr:`failed`."""
        try:
            for part in self.plan.parts[len(self.hashes) :]:
                if not self._part(part):
                    return
            if self._more():
                raise IntegrityError("the bundle is longer than planned", where=str(self.folder))
        except BaseException as error:  # noqa: BLE001 (raised again by the thread that reads)
            self.failed.append(error)
            while not self.ended:  # so that the thread that reads need not wait
                self.ended = self.chunks.get() is None

    def _more(self) -> bool:
        """Whether there are bytes to write; waits for them."""
        while not self.held and not self.ended:
            chunk = self.chunks.get()
            self.ended, self.held = chunk is None, memoryview(chunk or b"")
        return bool(self.held)

    def _part(self, part: BundlePart) -> bool:
        """Write a part, flush it, and give it its name when it is whole; whether the threads may go on."""
        beside = unfinished(self.folder, part)
        beside.unlink(missing_ok=True)  # of a killed run; or a link, on a stick of somebody else's
        cuts = [_CutHash(piece) for piece in self.plan.tar.cuts(part.begin, part.end)]
        with beside.open("xb", buffering=0) as out, _flusher(out.fileno()) as wrote:
            at = part.begin
            while at < part.end:
                if not self._more():
                    if not self.failed:
                        raise IntegrityError("the bundle is shorter than planned", where=part.name)
                    return False
                done = out.write(self.held[: part.end - at])
                for cut in cuts:
                    cut.feed(at, self.held[:done])
                at, self.held = at + done, self.held[done:]
                wrote(done)
                whole = at >= self.plan.size
                self.on_progress(Progress(what="bundle", done=at, total=self.plan.size, unit="bytes", finished=whole))
        self._more()  # what follows comes only after the bytes before it were found to be right
        if self.failed:
            return False
        # The hashes first: a part that has its name is in the state, so no kill has it written again.
        self.hashes.append([cut.digest.hexdigest() for cut in cuts])
        files.write_json(self.folder / STATE, {"key": self.plan.key, "parts": self.hashes})
        beside.replace(self.folder / part.name)
        return True


def unfinished(folder: Path, part: BundlePart) -> Path:
    """Where a part is until it is whole, on the disk, and its hashes are in the state."""
    return folder / f".{part.name}.part"


@contextlib.contextmanager
def _flusher(handle: int) -> Iterator[Callable[[int], None]]:
    """Brings a file to the disk while it is written, and all of it at the end; hears the bytes of each write.

    Raises:
        OSError: the disk refused some of it, then or before: an error is told once.
    """
    waiting: Queue[bool] = Queue()
    failed: list[OSError] = []
    written = 0

    def flush() -> None:
        try:
            while waiting.get():
                os.fdatasync(handle) if hasattr(os, "fdatasync") else os.fsync(handle)
        except OSError as error:
            failed.append(error)

    def wrote(size: int) -> None:
        nonlocal written
        written += size
        if written >= FLUSHED and waiting.empty():
            waiting.put(True)
            written = 0

    thread = threading.Thread(target=flush, daemon=True)
    thread.start()
    try:
        yield wrote
    finally:
        waiting.put(False)
        thread.join()
    if failed:
        raise failed[0]
    os.fsync(handle)


def finished(folder: Path, parts: Sequence[BundlePart], hashes: Hashes) -> Hashes:
    """Hashes of the parts that a killed run finished and that still have their size."""
    kept = []
    for part, cuts in zip(parts, hashes, strict=False):
        path, beside = folder / part.name, unfinished(folder, part)
        if not path.exists() and beside.is_file() and beside.stat().st_size == part.size:
            beside.replace(path)  # killed between its hash and its name
        if not path.is_file() or path.stat().st_size != part.size:
            break
        kept.append([str(cut) for cut in cuts])
    return kept
