"""The folder of results, which all runs of a batch share: what is there, and how something comes to be there, whole and once."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.node.faults import of_disk
from builder.node.items import Item
from builder.receiver.jobs import places
from builder.receiver.jobs.untrusted import names_below, object_below

RESULT = "result.json"
"""In an item's folder: its key, name, seconds and digest."""

LARGEST_NOTE = 64 << 10
"""Bytes of result.json and of ``<key>.failed.json``."""

TEMPORARY = re.compile(r"\.tmp-(.+)-([0-9]{1,9})-[0-9a-f]{8}")
"""A run's folder for what isn't published yet: host, process, chance."""

LONGEST_SILENCE = 3600.0
"""Seconds after which a run that gives no sign of life is dead; what is removed of one that isn't is computed again."""

WHAT = "the folder of results"

LONGEST_REASON = 500
"""Characters of why a recording failed."""


@dataclass(frozen=True)
class FailedItem:
    """Why a recording has no result."""

    kind: str
    """``recording`` or ``stage``: whose fault it is."""
    stage: str
    """Where it came up; empty before the first stage."""
    reason: str

    def fields(self) -> dict[str, str]:
        """Its part of a line of a journal."""
        return {"kind": self.kind, "stage": self.stage, "reason": self.reason}


def host_name() -> str:
    """This machine's name, as it can be part of a file's name."""
    return re.sub(r"[^A-Za-z0-9.]+", "_", os.uname().nodename)[:64].strip(".") or "host"


def folder_of(results: Path, key: str) -> Path:
    """Where an item's result is."""
    return results / key[:2] / key


def failed_of(results: Path, key: str) -> Path:
    """Where it stands why an item has none."""
    return results / key[:2] / f"{key}.failed.json"


def published(results: Path, key: str) -> dict[str, Any]:
    """result.json of an item; empty where there is none."""
    return object_below(folder_of(results, key), RESULT, LARGEST_NOTE)


def failed(results: Path, item: Item) -> FailedItem | None:
    """Why an item failed; None where it didn't, or is to be tried again since."""
    found = object_below(results / item.key[:2], f"{item.key}.failed.json", LARGEST_NOTE)
    again, reason = found.get("again", 0), found.get("reason")
    if not isinstance(reason, str) or not isinstance(again, int) or again < item.again:
        return None
    kind = "recording" if found.get("kind") == "recording" else "stage"
    return FailedItem(kind=kind, stage=str(found.get("stage"))[:40], reason=reason[:LONGEST_REASON])


def note_failed(results: Path, temporary: Path, item: Item, why: FailedItem) -> None:
    """Write down why an item failed, whole or not at all.

    Raises:
        OSError: the folder can't be written.
    """
    data: dict[str, Any] = {"key": item.key, "name": item.path, **why.fields()}
    if item.again:
        data["again"] = item.again
    beside = temporary / f"{item.key}.failed.json"
    beside.write_text(json.dumps(data, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    target = failed_of(results, item.key)
    target.parent.mkdir(exist_ok=True)
    os.replace(beside, target)  # noqa: PTH105


def place(made: Path, results: Path, key: str, digest: str) -> str:
    """Publish an item's folder by one rename: ``new``, or ``same`` or ``differs`` where somebody was first.

    Raises:
        OSError: the folder can't be written.
    """
    target = folder_of(results, key)
    target.parent.mkdir(exist_ok=True)
    try:
        os.rename(made, target)  # noqa: PTH104 - a folder with something in it is never replaced
    except OSError:
        first = published(results, key)
        if not first:
            raise
        return "same" if first.get("digest") == digest else "differs"
    with contextlib.suppress(OSError):  # it failed in an earlier shard
        failed_of(results, key).unlink()
    return "new"


def open_results(results: Path) -> Path:
    """A new folder for what this run publishes, in the folder of results; what dead runs left there is removed.

    Raises:
        NodeFault: it can't be written.
    """
    try:
        results.mkdir(exist_ok=True)
        results = results.resolve()  # whoever runs this may have put a link there; nothing is removed behind one
        made = results / f".tmp-{host_name()}-{os.getpid()}-{secrets.token_hex(4)}"
        made.mkdir(mode=0o755)
        _sweep(results, made.stat().st_mtime)
    except OSError as error:
        raise of_disk(error, results, WHAT) from error
    return made


def sign_of_life(made: Path) -> None:
    """Show other machines that the run whose folder this is goes on.

    Raises:
        OSError: the folder is gone, or can't be written.
    """
    os.utime(made)


def _sweep(results: Path, now: float) -> None:
    """Remove the temporary folders of runs that are no more.

    Args:
        now: by the clock of the disk, which isn't that of this machine where others share it.
    """
    for name in names_below(results):
        match = TEMPORARY.fullmatch(name)
        if match and _dead(results / name, host=match[1], pid=int(match[2]), now=now):
            places.remove_if_there(results / name)


def _dead(folder: Path, *, host: str, pid: int, now: float) -> bool:
    if host == host_name() and pid != os.getpid() and not places.alive(pid):
        return True
    try:
        return now - folder.lstat().st_mtime > LONGEST_SILENCE
    except OSError:  # its run ended meanwhile
        return False


def write_result(folder: Path, *, key: str, name: str, seconds: float, digest: str) -> None:
    """result.json of an item, in a folder that is not published yet.

    Raises:
        OSError: it can't be written.
    """
    data: Mapping[str, Any] = {"key": key, "name": name, "seconds": seconds, "digest": digest}
    (folder / RESULT).write_text(json.dumps(data, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
