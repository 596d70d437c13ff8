"""Bundles on disk: written part by part so that a killed run goes on, read, compared, repaired."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from queue import Queue
from typing import Any

from builder.core.bundle import plan as core
from builder.core.bundle.plan import BundlePlan, Entry, Part
from builder.core.progress import OnProgress, Progress
from builder.edges.system import files
from builder.errors import BakeError, IntegrityError, Interrupted, MissingError, StageError, UsageError
from builder.receiver import inventory as checking
from builder.receiver.inventory import INVENTORY, SIGNATURE, Inventory, Stop
from builder.receiver.parts import Bundle

STATE = ".creating.json"
"""In the bundle's folder until it is finished: which plan, and the sha256 of each finished part."""

LOADER = "load.py"

README = """\
A whisperbake bundle: speech transcription for a machine without a network.

    python3 load.py               load it into this machine's container engine (Docker Engine 23.0 or later)
    python3 load.py --key FILE    the same, and refuse what the sender's public key didn't sign
    python3 load.py --check       read everything once, name damaged parts
    python3 load.py --help        all there is

It needs Python 3.9 or later, and sudo where you are not in the docker group.
"""

Open = Callable[[Entry], Iterator[bytes]]
"""The bytes of a file of the bundle."""

CODES: Mapping[int, type[BakeError]] = {2: UsageError, 3: MissingError, 5: IntegrityError, 7: StageError}

WAITING = 16
"""Chunks between the one who reads and the one who writes."""


def loader() -> bytes:
    """load.py as it travels."""
    folder = Path(__file__).parents[2] / "receiver"
    return core.loader({name: (folder / f"{name}.py").read_text(encoding="utf-8") for name in core.LOADER})


@contextlib.contextmanager
def stops(where: Path) -> Iterator[None]:
    """What the loader's own code says is wrong, as our errors."""
    try:
        yield
    except Stop as stop:
        raise CODES.get(stop.code, BakeError)(stop.what, where=str(where), hint=stop.do or None) from None


def read_inventory(path: Path) -> Inventory:
    """An inventory: a receiver's file, a bundle's, or the folder of a bundle.

    Raises:
        IntegrityError: it is none, or contradicts itself.
    """
    path = path / INVENTORY if path.is_dir() else path
    with stops(path):
        return checking.check_inventory(checking.read_file(path, checking.LARGEST_INVENTORY))


def open_bundle(folder: Path) -> Bundle:
    """A bundle; its inventory checked, no part read.

    Raises:
        IntegrityError: it has no inventory, or one that contradicts itself.
    """
    with stops(folder):
        return Bundle(folder)


def damaged(bundle: Bundle, on_progress: OnProgress) -> list[str]:
    """Names of the files of a bundle that are missing or not what its inventory says. Reads everything once."""
    total, done = sum(p["size"] for p in bundle.inventory["parts"]), 0

    def tell(size: int) -> None:
        nonlocal done
        done += size
        on_progress(Progress(what="verify", done=done, total=total, unit="bytes"))

    wrong = bundle.damaged(tell)
    try:
        own = files.sha256(bundle.folder / LOADER) == bundle.inventory["loader"]["sha256"]
    except OSError:
        own = False
    return wrong if own else [LOADER, *wrong]


def is_done(folder: Path, plan: BundlePlan) -> bool:
    """Whether a folder holds just this bundle already; its parts by size."""
    found = files.read_json(folder / INVENTORY)
    if not isinstance(found, dict) or (folder / STATE).exists():
        return False
    try:
        bare = {**found, "parts": [{k: v for k, v in p.items() if k != "sha256"} for p in found["parts"]]}
        if hashlib.sha256(core.dump(bare)).hexdigest() != plan.key:
            return False
        Bundle(folder).require_parts()
    except (Stop, KeyError, TypeError, AttributeError):
        return False
    return True


def create(
    folder: Path,
    plan: BundlePlan,
    open_: Open,
    *,
    texts: Mapping[str, bytes],
    on_progress: OnProgress,
    checked: Callable[[Entry], bool] = lambda _: False,
) -> bytes:
    """Write the parts, then what stands beside them, the inventory last.

    A run that was killed is gone on with: finished parts of the same plan are kept.

    Args:
        texts: load.py and other small files beside the parts.
        checked: whether ``open_`` checks a file's bytes itself, so that they need not be hashed a second time.

    Returns the bytes of inventory.json.

    Raises:
        UsageError: the folder holds something else.
        MissingError: too little room on its disk; or a part is larger than its file system allows.
        IntegrityError: bytes are not those that were planned; nothing of them is in a finished part.
    """
    _require_ours(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with files.locked(folder / ".lock", timeout=0):
        state = files.read_json(folder / STATE)
        known = list(state["parts"]) if isinstance(state, dict) and state.get("key") == plan.key else []
        known = _still(folder, plan.parts, known)
        for left in folder.glob(f"{core.PART_NAME}.*"):
            if left.name not in {p.name for p in plan.parts[: len(known)]}:
                left.unlink()
        _require_space(folder, plan, len(known))
        files.write_json(folder / STATE, {"key": plan.key, "parts": known})
        _write(folder, plan, (open_, checked), known, on_progress)
        for name, data in texts.items():
            files.write_atomic(folder / name, data, mode=0o755 if name == LOADER else 0o644)
        raw = core.finished(plan, known)
        with stops(folder):
            checking.check_inventory(raw)
        files.write_atomic(folder / INVENTORY, raw)
        (folder / STATE).unlink()
    (folder / ".lock").unlink(missing_ok=True)
    return raw


def _require_ours(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UsageError("this is no folder", where=str(folder), hint="name another")
    if (folder / STATE).exists():
        return
    others = [p.name for p in folder.iterdir() if p.name != ".lock"]
    if others:
        what = "another bundle" if INVENTORY in others else "something else"
        raise UsageError(f"this folder holds {what}", where=str(folder), hint="name another folder")


def _still(folder: Path, parts: Sequence[Part], known: Sequence[str]) -> list[str]:
    """Hashes of the parts that a killed run finished and that are still there in full."""
    kept = []
    for part, sha in zip(parts, known, strict=False):
        path = folder / part.name
        if not path.is_file() or path.stat().st_size != part.size:
            break
        kept.append(str(sha))
    return kept


def _require_space(folder: Path, plan: BundlePlan, done: int) -> None:
    need = sum(p.size for p in plan.parts[done:])
    files.require_room({folder: need}, "use another disk, or --base with what the receiver has", reserve=16 << 20)


Giver = tuple[Open, Callable[[Entry], bool]]
"""Who gives the bytes of files, and of which files it checks them."""


def _write(folder: Path, plan: BundlePlan, giver: Giver, known: list[str], on_progress: OnProgress) -> None:
    """Write the parts from the first unfinished one on; ``known`` gets the sha256 of each."""
    begin = plan.parts[len(known)].begin if len(known) < len(plan.parts) else plan.size
    chunks: Queue[bytes | None] = Queue(WAITING)
    failed: list[BaseException] = []
    # Hashing and writing a part takes as long as reading and hashing a blob: one thread each.
    writer = threading.Thread(target=_writer, args=(folder, plan, known, chunks, failed, on_progress), daemon=True)
    writer.start()
    try:
        for chunk in _from(begin, _stream(plan, giver, begin)):
            if failed:
                break
            chunks.put(chunk)
    except BaseException as error:
        failed.append(Stopped())
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted(
                "the bundle is not finished", where=str(folder), hint="the same command goes on"
            ) from None
        raise
    finally:
        chunks.put(None)
        writer.join()
        if failed:
            for left in folder.glob(".*.part"):
                left.unlink(missing_ok=True)
    if failed:
        raise _disk_error(failed[0], folder)


class Stopped(Exception):
    """The one who reads has stopped; the part that is being written is not finished."""


def _disk_error(error: BaseException, folder: Path) -> BaseException:
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return MissingError("a part is larger than this file system allows", where=str(folder), hint="--part-size 4G")
    if isinstance(error, OSError):
        return MissingError(
            f"the bundle can't be written: {error.strerror}", where=str(folder), hint="the same command goes on"
        )
    return error


def _writer(
    folder: Path,
    plan: BundlePlan,
    known: list[str],
    chunks: Queue[bytes | None],
    failed: list[BaseException],
    on_progress: OnProgress,
) -> None:
    try:
        _cut(folder, plan, known, chunks, failed, on_progress)
    except BaseException as error:
        failed.append(error)
        while chunks.get() is not None:  # so that the reader isn't kept waiting
            pass


def _cut(
    folder: Path,
    plan: BundlePlan,
    known: list[str],
    chunks: Queue[bytes | None],
    failed: list[BaseException],
    on_progress: OnProgress,
) -> None:
    """Cut the stream into parts, each hashed, flushed and renamed when it is whole."""
    held = memoryview(b"")
    for part in plan.parts[len(known) :]:
        beside, digest, left = folder / f".{part.name}.part", hashlib.sha256(), part.size
        with beside.open("wb", buffering=0) as out:
            while left:
                if not held:
                    chunk = chunks.get()
                    if chunk is None:
                        if not failed:
                            raise IntegrityError("the bundle ended before its time", where=part.name)
                        return
                    held = memoryview(chunk)
                piece, held = held[:left], held[left:]
                digest.update(piece)
                done = 0
                while done < len(piece):
                    done += out.write(piece[done:])
                left -= len(piece)
                on_progress(Progress(what="bundle", done=part.end - left, total=plan.size, unit="bytes"))
            os.fsync(out.fileno())
        if failed:
            return
        beside.replace(folder / part.name)
        known.append(digest.hexdigest())
        files.write_json(folder / STATE, {"key": plan.key, "parts": known})
    if chunks.get() is not None and not failed:
        raise IntegrityError("the bundle is longer than planned", where=str(folder))


def _from(begin: int, chunks: Iterator[tuple[int, bytes]]) -> Iterator[bytes]:
    """What lies at or behind ``begin``."""
    for at, chunk in chunks:
        if at + len(chunk) > begin:
            yield chunk[max(begin - at, 0) :]


def _stream(plan: BundlePlan, giver: Giver, begin: int) -> Iterator[tuple[int, bytes]]:
    """The tar with positions, from the file on that holds ``begin``; what is hashed is hashed from its first byte."""
    open_, checked = giver
    for entry in plan.entries:
        if entry.at + entry.size + core.padding(entry.size) <= begin:
            continue
        yield entry.at - core.head(entry.path), checking.header(entry.path, entry.size)
        digest, at, known = hashlib.sha256(), entry.at, checked(entry)
        source = iter([plan.small[entry.path]]) if entry.path in plan.small else open_(entry)
        for chunk in source:
            if not known:
                digest.update(chunk)
            if at + len(chunk) > entry.at + entry.size:
                raise IntegrityError(f"{entry.path} is longer than planned", hint="the same command again")
            yield at, chunk
            at += len(chunk)
        if at != entry.at + entry.size or not (known or digest.hexdigest() == entry.sha256):
            raise IntegrityError(
                f"{entry.path} is not what was planned",
                expected=f"{entry.size} bytes, sha256 {entry.sha256}",
                hint="the same command again; models verify --deep if it stays",
            )
        yield at, bytes(core.padding(entry.size))
    yield plan.size - core.END, bytes(core.END)


def repair(folder: Path, source: Path, on_progress: OnProgress) -> list[str]:
    """Bring damaged or missing files of a bundle from another copy of it; the names of what was replaced.

    The source may hold the inventory and the wanted parts alone.

    Raises:
        IntegrityError: the source is another bundle, or what is wanted is damaged there too.
    """
    good = open_bundle(source)
    try:
        mine: Bundle | None = Bundle(folder)
    except Stop:
        mine = None
    if mine is not None and mine.raw != good.raw:
        raise IntegrityError(
            "these are two different bundles",
            where=str(source),
            expected=f"fingerprint {mine.fingerprint[:16]}…",
            hint="bundle inspect shows a bundle's fingerprint",
        )
    beside = [INVENTORY, *([SIGNATURE] if (source / SIGNATURE).is_file() else [])]
    fixed = []
    for name in beside:
        data = (source / name).read_bytes()
        if not (folder / name).is_file() or (folder / name).read_bytes() != data:
            files.write_atomic(folder / name, data)
            fixed.append(name)
    wanted = damaged(open_bundle(folder), on_progress)
    hashes = {p["name"]: p["sha256"] for p in good.inventory["parts"]} | {LOADER: good.inventory["loader"]["sha256"]}
    for name in wanted:
        part = folder / f".{name}.part"
        try:
            found = files.copy_hashed(files.chunks(source / name), part)
        except OSError as error:
            raise MissingError(f"{name} can't be copied: {error.strerror}", where=str(source)) from None
        if found != hashes[name]:
            part.unlink()
            raise IntegrityError(f"{name} is damaged in {source} too", hint="take it from where the bundle was made")
        part.replace(folder / name)
        fixed.append(name)
    return fixed


def summary(inventory: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes of a bundle for people and scripts; bytes."""
    inside = {f["path"]: f["size"] for f in inventory["files"]}
    weights = {d for d, x in inventory["layers"].items() if x["model"] is not None}
    held = {d: x["size"] for d, x in inventory["layers"].items() if f"blobs/sha256/{d[7:]}" in inside}
    return {
        "content": inventory["content"],
        "bytes": sum(p["size"] for p in inventory["parts"]),
        "weights_bytes": sum(size for d, size in held.items() if d in weights),
        "code_bytes": sum(size for d, size in held.items() if d not in weights),
        "other_bytes": sum(size for p, size in inside.items() if not p.startswith("blobs/")),
        "left_out_bytes": sum(x["size"] for d, x in inventory["layers"].items() if d not in held),
    }
