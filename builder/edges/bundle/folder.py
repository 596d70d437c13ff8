"""Bundles on disk: written part by part so that a killed run resumes, read, checked, repaired."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from builder.core.bundle import contents
from builder.core.bundle import loader as joining
from builder.core.bundle import plan as core
from builder.core.bundle.plan import BundlePlan
from builder.core.jobs import sandbox
from builder.core.progress import OnProgress, Progress
from builder.edges.bundle import part_writer
from builder.edges.bundle.part_writer import STATE, PartSource
from builder.edges.system import files
from builder.errors import BakeError, IntegrityError, MissingError, StageError, UsageError
from builder.receiver import inventory as checking
from builder.receiver.inventory import INVENTORY, SIGNATURE, Inventory, LoaderError
from builder.receiver.parts import Bundle, Fault

LOADER = "load.py"

CODES: Mapping[int, type[BakeError]] = {2: UsageError, 3: MissingError, 5: IntegrityError, 7: StageError}
"""Exit codes of the loader -> errors of the builder."""


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


def faults(bundle: Bundle, on_progress: OnProgress) -> list[Fault]:
    """The files of a bundle that are missing or not what its inventory says. Reads everything once."""
    total, done = sum(p["size"] for p in bundle.inventory["parts"]), 0

    def on_bytes(size: int) -> None:
        nonlocal done
        done += size
        on_progress(Progress(what="verify", done=done, total=total, unit="bytes", finished=done >= total))

    return bundle.faults(on_bytes)


def done(folder: Path, plan: BundlePlan) -> bytes | None:
    """The inventory's bytes, when a folder holds exactly this bundle already, its parts checked by size."""
    if os.path.lexists(folder / STATE) or not os.path.lexists(folder / INVENTORY):
        return None
    try:
        bundle = Bundle(folder)
        if hashlib.sha256(contents.dump(contents.planned(bundle.inventory))).hexdigest() != plan.key:
            return None
        bundle.require_parts()
    except LoaderError:
        return None
    return bundle.raw


def create(
    folder: Path,
    plan: BundlePlan,
    source: PartSource,
    *,
    texts: Mapping[str, bytes],
    on_progress: OnProgress,
) -> bytes:
    """Write the parts, then what stands beside them, the inventory last.

    A killed run is resumed: finished parts of the same plan are kept.

    Args:
        texts: load.py and other small files beside the parts.

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
        hashes = part_writer.finished(folder, plan.parts, state["parts"] if state.get("key") == plan.key else [])
        for left in folder.glob(f"{core.PART_NAME}.*"):
            if left.name not in {p.name for p in plan.parts[: len(hashes)]}:
                left.unlink()
        _require_space(folder, plan, len(hashes))
        files.write_json(folder / STATE, {"key": plan.key, "parts": hashes})
        part_writer.write(folder, plan, source, hashes, on_progress)
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
        return state if all(isinstance(cuts, list) for cuts in state["parts"]) else {}
    except (ValueError, KeyError, TypeError, RecursionError):
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


def _require_space(folder: Path, plan: BundlePlan, done: int) -> None:
    need = sum(p.size for p in plan.parts[done:])
    files.require_room({folder: need}, "use another disk, or --base with what the receiver has", reserve=16 << 20)


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
    for fault in faults(open_bundle(folder), on_progress):
        _replace(folder / fault.part, source / fault.part, good)
        fixed.append(fault.part)
    return fixed


def _small(path: Path) -> bytes | None:
    """A small file of a bundle; None where there is none, or something else."""
    try:
        return checking.read_file(path, checking.LARGEST_INVENTORY)
    except LoaderError:
        return None


def _replace(target: Path, source: Path, good: Bundle) -> None:
    """Copy a file of a bundle; no link is followed on either side, and no more is read than it should have.

    Raises:
        IntegrityError: the source is damaged too.
        MissingError: it can't be copied.
    """
    part = target.with_name(f".{target.name}.part")
    try:
        part.unlink(missing_ok=True)
        with files.open_regular(source) as original, part.open("xb") as out:
            left = good.size_of(target.name) + 1
            while chunk := original.read(min(files.CHUNK, left)):
                left -= len(chunk)
                out.write(chunk)
            out.flush()
            os.fsync(out.fileno())
        if not good.is_right(target.name, part):
            raise IntegrityError(
                f"{target.name} is damaged in {source.parent} too", hint="take it from where the bundle was made"
            )
        part.replace(target)
    except OSError as error:
        raise MissingError(f"{target.name} can't be copied: {error.strerror}", where=str(source.parent)) from None
    finally:
        part.unlink(missing_ok=True)
