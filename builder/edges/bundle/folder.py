"""Bundles on disk: written part by part so that a killed run resumes, read, checked, repaired."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from typing import Any

from builder.core.bundle import contents
from builder.core.bundle import loader as joining
from builder.core.bundle import plan as core
from builder.core.bundle.plan import BundlePart, BundlePlan, TarEntry
from builder.core.jobs import sandbox
from builder.core.progress import OnProgress, Progress
from builder.edges.system import files
from builder.errors import BakeError, IntegrityError, Interrupted, MissingError, StageError, UsageError
from builder.receiver import inventory as checking
from builder.receiver.inventory import INVENTORY, SIGNATURE, Inventory, LoaderError
from builder.receiver.parts import Bundle
from builder.receiver.tar import END, header, padding

STATE = ".creating.json"
"""In the bundle's folder until it is finished: the plan's key, and the sha256 of each finished part."""

LOADER = "load.py"

Open = Callable[[TarEntry], Iterator[bytes]]
"""The bytes of a file of the bundle."""

CODES: Mapping[int, type[BakeError]] = {2: UsageError, 3: MissingError, 5: IntegrityError, 7: StageError}
"""Exit codes of the loader -> errors of the builder."""

WAITING = 16
"""Chunks that wait between the thread that reads and the thread that writes."""


def loader() -> bytes:
    """load.py as it travels."""
    folder = Path(__file__).parents[2] / "receiver"
    sources = {name: (folder / f"{name}.py").read_text(encoding="utf-8") for name in joining.MODULES}
    return joining.loader(sources, sandbox.as_data())


@contextlib.contextmanager
def loader_errors(where: Path) -> Iterator[None]:
    """Raise the errors of the loader's code as the builder's."""
    try:
        yield
    except LoaderError as error:
        raise CODES.get(error.code, BakeError)(
            error.what, where=str(where), hint=error.do or None, detail=error.detail
        ) from None


def read_inventory(path: Path) -> Inventory:
    """The inventory in a file, or of the bundle in a folder.

    Raises:
        IntegrityError: it is not an inventory, or contradicts itself.
    """
    return read_with_fingerprint(path)[1]


def read_with_fingerprint(path: Path) -> tuple[str, Inventory]:
    """The hex sha256 of an inventory's bytes, and the inventory. Raises IntegrityError: see :func:`read_inventory`."""
    path = path / INVENTORY if path.is_dir() else path
    with loader_errors(path):
        raw = checking.read_file(path, checking.LARGEST_INVENTORY)
    return parsed(raw, path)


def parsed(raw: bytes, where: Path) -> tuple[str, Inventory]:
    """The hex sha256 of an inventory's bytes, and the inventory. Raises IntegrityError: see :func:`read_inventory`."""
    with loader_errors(where):
        return hashlib.sha256(raw).hexdigest(), checking.check_inventory(raw)


def open_bundle(folder: Path) -> Bundle:
    """A bundle with its inventory checked; no part is read.

    Raises:
        IntegrityError: the inventory is missing, or contradicts itself.
    """
    with loader_errors(folder):
        return Bundle(folder)


def read_small(folder: Path, path: str) -> bytes | None:
    """A small file that a bundle holds, checked; None where it has none of that name.

    Raises:
        IntegrityError: the bundle is damaged, or the file is larger than an inventory may be.
    """
    bundle = open_bundle(folder)
    entry = bundle.files.get(path)
    if entry is None:
        return None
    if entry["size"] > checking.LARGEST_INVENTORY:
        raise IntegrityError(f"{path} has {entry['size']} bytes", where=str(folder))
    with loader_errors(folder):
        return b"".join(bundle.open(path))


def damaged(bundle: Bundle, on_progress: OnProgress) -> list[str]:
    """Names of the files of a bundle that are missing or not what its inventory says. Reads everything once."""
    total, done = sum(p["size"] for p in bundle.inventory["parts"]), 0

    def on_bytes(size: int) -> None:
        nonlocal done
        done += size
        on_progress(Progress(what="verify", done=done, total=total, unit="bytes", finished=done >= total))

    wrong = bundle.damaged(on_bytes)
    loader_ = _small(bundle.folder / LOADER)
    loader_is_whole = (
        loader_ is not None and hashlib.sha256(loader_).hexdigest() == bundle.inventory["loader"]["sha256"]
    )
    return wrong if loader_is_whole else [LOADER, *wrong]


def done(folder: Path, plan: BundlePlan) -> bytes | None:
    """The inventory's bytes, when a folder holds exactly this bundle already, its parts checked by size."""
    if os.path.lexists(folder / STATE) or not os.path.lexists(folder / INVENTORY):
        return None
    try:
        bundle = Bundle(folder)
        without_hashes = [{k: v for k, v in p.items() if k != "sha256"} for p in bundle.inventory["parts"]]
        bare = {**bundle.inventory, "parts": without_hashes}
        if hashlib.sha256(contents.dump(bare)).hexdigest() != plan.key:
            return None
        bundle.require_parts()
    except LoaderError:
        return None
    return bundle.raw


def create(
    folder: Path,
    plan: BundlePlan,
    open_: Open,
    *,
    texts: Mapping[str, bytes],
    on_progress: OnProgress,
    checked: Callable[[TarEntry], bool] = lambda _: False,
) -> bytes:
    """Write the parts, then what stands beside them, the inventory last.

    A killed run is resumed: finished parts of the same plan are kept.

    Args:
        texts: load.py and other small files beside the parts.
        checked: whether ``open_`` checks a file's bytes itself, so that they need not be hashed a second time.

    Returns:
        The bytes of inventory.json.

    Raises:
        UsageError: the folder holds something else.
        MissingError: too little room on its disk; or a part is larger than its file system allows.
        IntegrityError: bytes are not those that were planned; no finished part holds any of them.
    """
    _require_ours(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with files.locked(folder / ".lock", timeout=0):
        for left in folder.glob(".*.tmp"):  # of a run that was killed while it wrote a small file
            left.unlink()
        state = _state(folder)
        hashes = list(state["parts"]) if state.get("key") == plan.key else []
        hashes = _finished(folder, plan.parts, hashes)
        for left in folder.glob(f"{core.PART_NAME}.*"):
            if left.name not in {p.name for p in plan.parts[: len(hashes)]}:
                left.unlink()
        _require_space(folder, plan, len(hashes))
        files.write_json(folder / STATE, {"key": plan.key, "parts": hashes})
        _write(folder, plan, (open_, checked), hashes, on_progress)
        for name, data in texts.items():
            files.write_atomic(folder / name, data, mode=0o755 if name == LOADER else 0o644)
        raw = core.finished(plan, hashes)
        with loader_errors(folder):
            checking.check_inventory(raw)
        files.write_atomic(folder / INVENTORY, raw)
        (folder / STATE).unlink()
    (folder / ".lock").unlink(missing_ok=True)
    return raw


def _state(folder: Path) -> dict[str, Any]:
    """What a killed run noted; empty where there is nothing of it."""
    try:
        state = json.loads(_small(folder / STATE) or b"{}")
        return state if isinstance(state, dict) and isinstance(state.get("parts"), list) else {}
    except (ValueError, RecursionError):
        return {}


def _require_ours(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UsageError("this is not a folder", where=str(folder), hint="name another")
    if (folder / STATE).exists():
        return
    others = [p.name for p in folder.iterdir() if p.name != ".lock" and not p.name.startswith(f".{STATE}.")]
    if others:
        what = "another bundle" if INVENTORY in others else "something else"
        raise UsageError(f"this folder holds {what}", where=str(folder), hint="name another folder")


def _finished(folder: Path, parts: Sequence[BundlePart], hashes: Sequence[str]) -> list[str]:
    """Hashes of the parts that a killed run finished and that still have their size."""
    kept = []
    for part, sha in zip(parts, hashes, strict=False):
        path, beside = folder / part.name, _unfinished(folder, part)
        if not path.exists() and beside.is_file() and beside.stat().st_size == part.size:
            beside.replace(path)  # killed between its hash and its name
        if not path.is_file() or path.stat().st_size != part.size:
            break
        kept.append(str(sha))
    return kept


def _unfinished(folder: Path, part: BundlePart) -> Path:
    """Where a part is until it is whole, on the disk, and its hash is in the state."""
    return folder / f".{part.name}.part"


def _require_space(folder: Path, plan: BundlePlan, done: int) -> None:
    need = sum(p.size for p in plan.parts[done:])
    files.require_room({folder: need}, "use another disk, or --base with what the receiver has", reserve=16 << 20)


Source = tuple[Open, Callable[[TarEntry], bool]]
"""What opens a file of the bundle, and whether it checks the bytes itself."""


def _write(folder: Path, plan: BundlePlan, source: Source, hashes: list[str], on_progress: OnProgress) -> None:
    """Write the parts from the first unfinished one on; ``hashes`` gets the sha256 of each."""
    begin = plan.parts[len(hashes)].begin if len(hashes) < len(plan.parts) else plan.size
    parts = _PartWriter(folder=folder, plan=plan, hashes=hashes, on_progress=on_progress)
    # Hashing and writing a part takes as long as reading and hashing a blob: one thread each.
    thread = threading.Thread(target=parts.write, daemon=True)
    thread.start()
    try:
        for chunk in _from(begin, _stream(plan, source, begin)):
            if parts.failed:
                break
            parts.chunks.put(chunk)
    except BaseException as error:
        parts.failed.append(_ReaderStopped())
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted(
                "the bundle is not finished", where=str(folder), hint="the same command resumes"
            ) from None
        raise
    finally:
        parts.chunks.put(None)
        thread.join()
        if parts.failed:
            for left in folder.glob(".*.part"):
                left.unlink(missing_ok=True)
    if parts.failed:
        raise _disk_error(parts.failed[0], folder)


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
class _PartWriter:
    """Writes parts in one thread while another reads what is in them."""

    folder: Path
    plan: BundlePlan
    hashes: list[str]
    """sha256 of each finished part; grows."""
    on_progress: OnProgress
    chunks: Queue[bytes | None] = field(default_factory=lambda: Queue(WAITING))
    """The tar from the first unfinished part on; None ends it."""
    failed: list[BaseException] = field(default_factory=list)
    """Why one of the two threads stopped."""

    def write(self) -> None:
        """What the thread does; errors go to :attr:`failed`."""
        try:
            self._cut()
        except BaseException as error:  # noqa: BLE001 (raised again by the thread that reads)
            self.failed.append(error)
            while self.chunks.get() is not None:  # so that the thread that reads need not wait
                pass

    def _cut(self) -> None:
        """Cut the stream into parts; each is hashed, flushed, and renamed when it is whole."""
        held = memoryview(b"")
        for part in self.plan.parts[len(self.hashes) :]:
            beside, digest, left = _unfinished(self.folder, part), hashlib.sha256(), part.size
            beside.unlink(missing_ok=True)  # of a killed run; or a link, on a stick of somebody else's
            with beside.open("xb", buffering=0) as out:
                while left:
                    if not held:
                        chunk = self.chunks.get()
                        if chunk is None:
                            if not self.failed:
                                raise IntegrityError("the bundle is shorter than planned", where=part.name)
                            return
                        held = memoryview(chunk)
                    piece, held = held[:left], held[left:]
                    digest.update(piece)
                    done = 0
                    while done < len(piece):
                        done += out.write(piece[done:])
                    left -= len(piece)
                    done_bytes = part.end - left
                    whole = done_bytes >= self.plan.size
                    self.on_progress(
                        Progress(what="bundle", done=done_bytes, total=self.plan.size, unit="bytes", finished=whole)
                    )
                os.fsync(out.fileno())
            if self.failed:
                return
            # The hash first: a part that has its name is in the state, so no kill has it written again.
            self.hashes.append(digest.hexdigest())
            files.write_json(self.folder / STATE, {"key": self.plan.key, "parts": self.hashes})
            beside.replace(self.folder / part.name)
        if self.chunks.get() is not None and not self.failed:
            raise IntegrityError("the bundle is longer than planned", where=str(self.folder))


def _from(begin: int, chunks: Iterator[tuple[int, bytes]]) -> Iterator[bytes]:
    """The bytes at and after ``begin``."""
    for at, chunk in chunks:
        if at + len(chunk) > begin:
            yield chunk[max(begin - at, 0) :]


def _stream(plan: BundlePlan, source: Source, begin: int) -> Iterator[tuple[int, bytes]]:
    """The tar with positions, from the file that holds ``begin``: a file is hashed from its first byte."""
    open_, checked = source
    for entry in plan.entries:
        if entry.at + entry.size + padding(entry.size) <= begin:
            continue
        head = header(entry.path, entry.size)
        yield entry.at - len(head), head
        digest, at, is_checked = hashlib.sha256(), entry.at, checked(entry)
        chunks = iter([plan.small[entry.path]]) if entry.path in plan.small else open_(entry)
        for chunk in chunks:
            if not is_checked:
                digest.update(chunk)
            if at + len(chunk) > entry.at + entry.size:
                raise IntegrityError(f"{entry.path} is longer than planned", hint="run the same command again")
            yield at, chunk
            at += len(chunk)
        if at != entry.at + entry.size or not (is_checked or digest.hexdigest() == entry.sha256):
            raise IntegrityError(
                f"{entry.path} is not what was planned",
                expected=f"{entry.size} bytes, sha256 {entry.sha256}",
                hint="run the same command again; models verify --deep if it stays",
            )
        yield at, bytes(padding(entry.size))
    yield plan.size - END, bytes(END)


def repair(folder: Path, source: Path, on_progress: OnProgress) -> list[str]:
    """Replace damaged or missing files of a bundle by those of another copy; the names of what was replaced.

    The source needs no more than the inventory and the files to replace.

    Raises:
        IntegrityError: the source is another bundle, or its file is damaged too.
        MissingError: a file can't be copied.
    """
    good = open_bundle(source)
    try:
        mine: Bundle | None = Bundle(folder)
    except LoaderError:
        mine = None
    if mine is not None and mine.raw != good.raw:
        raise IntegrityError(
            "these are two different bundles",
            where=str(source),
            expected=f"fingerprint {mine.fingerprint[:16]}…",
            hint="bundle inspect shows a bundle's fingerprint",
        )
    fixed = []
    for name, data in ((INVENTORY, good.raw), (SIGNATURE, _small(source / SIGNATURE))):
        if data is not None and _small(folder / name) != data:
            files.write_atomic(folder / name, data)
            fixed.append(name)
    broken = damaged(open_bundle(folder), on_progress)
    parts = {p["name"]: (p["sha256"], p["size"]) for p in good.inventory["parts"]}
    loader_ = good.inventory["loader"]
    parts[LOADER] = (loader_["sha256"], loader_["size"])
    for name in broken:
        _replace(folder / name, source / name, *parts[name])
        fixed.append(name)
    return fixed


def _small(path: Path) -> bytes | None:
    """A small file of a bundle; None where there is none, or something else."""
    try:
        return checking.read_file(path, checking.LARGEST_INVENTORY)
    except LoaderError:
        return None


def _replace(target: Path, source: Path, sha256: str, size: int) -> None:
    """Copy a file of a bundle; no link is followed on either side, and no more is read than it should have.

    Raises:
        IntegrityError: the source is damaged too.
        MissingError: it can't be copied.
    """
    part = target.with_name(f".{target.name}.part")
    digest, left = hashlib.sha256(), size + 1
    try:
        part.unlink(missing_ok=True)
        with files.open_regular(source) as good, part.open("xb") as out:
            while chunk := good.read(min(files.CHUNK, left)):
                digest.update(chunk)
                left -= len(chunk)
                out.write(chunk)
            out.flush()
            os.fsync(out.fileno())
        if digest.hexdigest() != sha256:
            raise IntegrityError(
                f"{target.name} is damaged in {source.parent} too", hint="take it from where the bundle was made"
            )
        part.replace(target)
    except OSError as error:
        raise MissingError(f"{target.name} can't be copied: {error.strerror}", where=str(source.parent)) from None
    finally:
        part.unlink(missing_ok=True)
