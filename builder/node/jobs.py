"""The jobs of a shard: a folder for each recording, with a copy that is compared with what was planned."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from builder.node.faults import MACHINE, OF_MACHINE, WRONG, NodeFault, free_bytes, of_disk
from builder.node.items import Item, from_line, to_line
from builder.node.results.folder import FailedItem
from builder.node.scratch import WHAT, Scratch, shared
from builder.node.shard import ShardBatch
from builder.node.signals import Stopping
from builder.receiver.jobs import places
from builder.receiver.jobs.naming import input_suffix, output_stem
from builder.receiver.jobs.untrusted import open_below, parse_json

CHANGED = "the recording changed after the plan; plan again"
GONE = "the recording is gone; plan again"

SOUND = 3 * 32_000
"""Bytes a second of what stages write for each other: 16 kHz sound, twice, and what they make of it."""

SPARE = 64 << 20
"""Bytes that stay free beside what a shard takes."""

CHUNK = 1 << 20

FICLONE = 0x40049409
"""ioctl of Linux: a copy that shares the bytes until one of them is changed; see ioctl_ficlone(2)."""

INPUT = "01"
"""Id of a job's only recording."""


@dataclass(frozen=True)
class BegunItem:
    """A recording whose job is there."""

    item: Item
    sha256: str
    """Hex, of the copy that the stages read."""

    @property
    def input(self) -> str:
        """The copy's path in the job's folder."""
        return f"input/{INPUT}{input_suffix(self.item.name)}"


def job_text(batch: ShardBatch, begun: BegunItem) -> str:
    """job.yaml of a recording: JSON, which is YAML too."""
    item = begun.item
    one = {
        "id": INPUT,
        "name": item.name,
        "path": begun.input,
        "sha256": begun.sha256,
        "size": item.size,
        "output": output_stem(item.name, set()),
        "clip": None,
        "duration": item.seconds,
    }
    data = {
        "schema": 1,
        "id": item.key,
        "created": batch.created,
        **{name: batch.job.get(name) for name in ("workflow", "mode", "variant", "preset")},
        "key": item.key,
        "inputs": [one],
        "stages": batch.job["stages"],
    }
    text = json.dumps(data, indent=1, ensure_ascii=False)
    # YAML has no pairs of surrogates, and reads some characters only where they are escaped.
    lines = text.split("\n")
    return "\n".join(line if line.isprintable() else "".join(map(_escaped, line)) for line in lines) + "\n"


def _escaped(character: str) -> str:
    return character if character.isprintable() or ord(character) > 0xFFFF else f"\\u{ord(character):04x}"


def begin(
    batch: ShardBatch,
    items: Sequence[Item],
    root: Path,
    scratch: Scratch,
    stopping: Stopping,
    on_copied: Callable[[int], None] = lambda done: None,
) -> tuple[list[BegunItem], dict[str, FailedItem]]:
    """Make the jobs of a shard.

    Args:
        root: the recordings' folder here.
        on_copied: called with how many recordings were looked at.

    Returns:
        What was made; and why recordings can't be used, by key.

    Raises:
        NodeFault: the disk has no room for the shard, or fails; the recordings' folder isn't here.
        NodeStopped: a signal came.
    """
    _require_root(root)
    _require_room(items, scratch)
    beside = _read_beside(batch)
    begun: list[BegunItem] = []
    failed: dict[str, FailedItem] = {}
    try:
        for count, item in enumerate(items, 1):
            stopping.check()
            made = _make(batch, item, root, scratch, beside, stopping)
            if isinstance(made, FailedItem):
                places.remove_tree(scratch.jobs / item.key)
                failed[item.key] = made
            else:
                begun.append(made)
            on_copied(count)
        write_list(scratch, [one.item.key for one in begun])
        lines = [{"item": json.loads(to_line(one.item)), "sha256": one.sha256} for one in begun]
        _put(scratch.began, json.dumps({"schema": 1, "items": lines}).encode())
    except OSError as error:
        raise of_disk(error, scratch.folder, WHAT) from error
    return begun, failed


def read_begun(scratch: Scratch) -> list[BegunItem]:
    """What ``begin`` made, in another process.

    Raises:
        NodeFault: it didn't run here.
    """
    try:
        data = parse_json(scratch.began.read_bytes())
        return [BegunItem(from_line(json.dumps(one["item"]).encode()), str(one["sha256"])) for one in data["items"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NodeFault(MACHINE, f"nothing was begun in {scratch.folder}", "begin comes first") from error


def write_list(scratch: Scratch, keys: Iterable[str]) -> None:
    """The list of jobs that a stage works through, in place of what a stage may have left there."""
    _put(scratch.list, "".join(f"{key}\n" for key in keys).encode())


def clear(path: Path) -> None:
    """Remove what has a name, whatever a stage left there; where there is nothing, nothing."""
    if path.is_dir() and not path.is_symlink():
        places.remove_tree(path)
    else:
        path.unlink(missing_ok=True)


def _put(file: Path, data: bytes) -> None:
    """A file anew, whatever has its name."""
    clear(file)
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(handle, "wb") as out:
        out.write(data)
    shared(file, 0o640)


def _require_root(root: Path) -> None:
    """A folder that isn't mounted here would make every recording a failed one."""
    what = f"the recordings' folder {root}"
    try:
        with os.scandir(root) as entries:
            if next(entries, None) is not None:
                return
    except OSError as error:
        raise NodeFault(MACHINE, f"{what} can't be read here: {error.strerror}", "mount it, or --input DIR") from error
    raise NodeFault(MACHINE, f"{what} is empty here", "mount it, or --input DIR")


def _require_room(items: Sequence[Item], scratch: Scratch) -> None:
    need = sum(item.size + int(SOUND * item.seconds) for item in items) + SPARE
    have = free_bytes(scratch.folder)
    if have < need:
        what = f"{scratch.folder} has {have / 1e6:.0f} MB free, and the shard takes {need / 1e6:.0f} MB"
        raise NodeFault(MACHINE, what, "--scratch DIR on a larger disk; or plan with smaller --shard-minutes")


def _read_beside(batch: ShardBatch) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for name, digest in batch.beside.items():
        try:
            with open_below(batch.folder, f"beside/{name}") as source:
                found[name] = source.read()
        except OSError as error:
            raise NodeFault(
                WRONG, f"beside/{name} of the batch can't be read: {error.strerror}", "plan again"
            ) from error
        if hashlib.sha256(found[name]).hexdigest() != digest:
            raise NodeFault(WRONG, f"beside/{name} of the batch was changed", "plan the batch again")
    return found


def _make(
    batch: ShardBatch, item: Item, root: Path, scratch: Scratch, beside: dict[str, bytes], stopping: Stopping
) -> BegunItem | FailedItem:
    folder = scratch.jobs / item.key
    folder.mkdir(mode=0o700)
    for part in ("input", "work", "output"):
        (folder / part).mkdir(mode=0o700)
        shared(folder / part, 0o770)
    copy = folder / BegunItem(item, "").input
    # A recording that an engine brought has a new time; whoever collects looks at the time of the one that it brought.
    expected = item._replace(mtime_ns=None) if batch.transferred else item
    sha256 = _copied(root / item.path, copy, expected, stopping)
    if isinstance(sha256, FailedItem):
        return sha256
    shared(copy, 0o640)
    for name, data in beside.items():
        _put(folder / "input" / name, data)
    begun = BegunItem(item, sha256)
    _put(folder / "job.yaml", job_text(batch, begun).encode())
    _put(folder / "events.jsonl", b"")
    shared(folder / "events.jsonl", 0o660)
    shared(folder, 0o770)
    return begun


def _copied(source: Path, target: Path, item: Item, stopping: Stopping) -> str | FailedItem:
    """Copy a recording; its hex sha256, or why it isn't the one that was planned.

    Raises:
        OSError: the copy can't be written.
        NodeFault: the disk or the network that it comes from fails.
    """
    try:
        handle = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return _unreadable(source, error)
    with os.fdopen(handle, "rb") as inlet, target.open("xb") as out:
        before = os.fstat(handle)
        if not _is_planned(before, item):
            return FailedItem("recording", "", CHANGED)
        if _shares(inlet, out):  # a moment of it, which nobody changes any more
            out.flush()
            with target.open("rb") as copy:
                digest = _hashed(copy, None, source, stopping)
        else:
            digest = _hashed(inlet, out, source, stopping)
        after = os.fstat(handle)
    if isinstance(digest, FailedItem):
        return digest
    same = _is_planned(after, item) and after.st_mtime_ns == before.st_mtime_ns
    if not same or target.stat().st_size != item.size or (item.sha256 is not None and digest != item.sha256):
        return FailedItem("recording", "", CHANGED)
    return digest


def _is_planned(found: os.stat_result, item: Item) -> bool:
    same_time = item.mtime_ns is None or found.st_mtime_ns == item.mtime_ns
    return stat.S_ISREG(found.st_mode) and found.st_size == item.size and same_time


def _shares(inlet: Any, out: Any) -> bool:
    with contextlib.suppress(OSError):
        fcntl.ioctl(out.fileno(), FICLONE, inlet.fileno())
        return True
    return False


def _hashed(inlet: Any, out: Any, source: Path, stopping: Stopping) -> str | FailedItem:
    digest = hashlib.sha256()
    while True:
        stopping.check()
        try:
            chunk = inlet.read(CHUNK)
        except OSError as error:
            return _unreadable(source, error)
        if not chunk:
            return digest.hexdigest()
        digest.update(chunk)
        if out is not None:
            out.write(chunk)


def _unreadable(source: Path, error: OSError) -> FailedItem:
    if error.errno in OF_MACHINE:
        raise NodeFault(
            MACHINE, f"{source} can't be read: {error.strerror}", "look into this machine's disks and mounts"
        )
    gone = isinstance(error, (FileNotFoundError, NotADirectoryError))
    reason = GONE if gone else f"the recording can't be read: {error.strerror}"
    return FailedItem("recording", "", reason)
