"""What this machine has of earlier bundles: its inventory, the log of what was loaded when, and which is older."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from builder.receiver.display import say, shown
from builder.receiver.engine import EngineSocket
from builder.receiver.inventory import (
    INVENTORY,
    LARGEST_INVENTORY,
    Inventory,
    LoaderError,
    check_inventory,
    open_file,
    read_file,
)
from builder.receiver.parts import Bundle
from builder.receiver.writing import write_whole

LOG = "loaded.jsonl"
"""File in the receiver's folder: a JSON object for each time that a bundle went in."""

LONGEST_LOG, KEPT_LINES = 1 << 20, 1000
"""Bytes at which the log is cut down to its last lines, and how many these are."""


def own_inventory(target: Path) -> Inventory | None:
    """What an earlier run wrote; None when there is nothing that can be read, which is said where something is."""
    try:
        return check_inventory(read_file(target / INVENTORY, LARGEST_INVENTORY))
    except LoaderError as error:
        if os.path.lexists(target / INVENTORY):
            say(f"warning: {target / INVENTORY} doesn't say what was loaded before: {error.what}")
        return None


def merged(
    engine: EngineSocket | None,
    bundle: Bundle,
    before: Inventory | None,
    images: list[dict[str, Any]],
    files: list[dict[str, Any]],
    *,
    signed: bool,
) -> Inventory:
    """This machine's inventory: what was loaded, and what earlier bundles brought that the engine still names.

    Args:
        signed: the bundle has a signature, whether or not it was checked.
        engine: None where only what native runs need was unpacked: then nothing is known of images.
    """
    inventory, old = bundle.inventory, dict(before or {})
    names, paths = {i["name"] for i in images}, {f["path"] for f in files}
    others = [i for i in old.get("images", ()) if i["name"] not in names and (not engine or engine.image(i["name"]))]
    layers = {**(old.get("layers") or {}), **inventory["layers"]}
    used = {x for i in [*images, *others] for x in i["layers"]}
    about = {"platform": inventory["engine"]["platform"]}
    if engine:
        about = {"store": engine.store, "version": engine.version, "platform": engine.platform}
    return {
        "schema": 1,
        "kind": "receiver",
        "content": "complete",
        "made_by": inventory["made_by"],
        "made": inventory.get("made"),
        "known": [],
        "base": bundle.fingerprint,
        "signed": signed or bool(old.get("signed")),
        "engine": about if engine else old.get("engine", about),
        "images": [*images, *others],
        "layers": {x: layers[x] for x in sorted(used)},
        "models": inventory["models"],
        "files": sorted([*files, *(f for f in old.get("files", ()) if f["path"] not in paths)], key=_path_of),
        "parts": [],
        "memory": {**old.get("memory", {}), **inventory.get("memory", {})},
        "acceptance": inventory["acceptance"] or old.get("acceptance"),
    }


def _path_of(entry: Mapping[str, Any]) -> str:
    return str(entry["path"])


def write_inventory(mine: Inventory, target: Path) -> None:
    write_whole(target / INVENTORY, inventory_bytes(mine))


def inventory_bytes(mine: Inventory) -> bytes:
    """A receiver's inventory.json: the same inventory has the same bytes."""
    return f"{json.dumps(mine, indent=1, sort_keys=True, ensure_ascii=False)}\n".encode()


def fingerprint_of(mine: Inventory) -> str:
    """``sha256:…`` of a receiver's inventory.json, by which a bundle names what it is the difference to."""
    return f"sha256:{hashlib.sha256(inventory_bytes(mine)).hexdigest()}"


def about(inventory: Mapping[str, Any]) -> str:
    """Who made a bundle, when, and from which code."""
    made = inventory.get("made") or {}
    commit = f" (commit {made['commit'][:12]})" if made.get("commit") else ""
    return shown(f"made by {inventory['made_by']}{commit}" + (f" on {made['created']}" if made else ""))


def older(bundle: Bundle, before: Inventory | None, newest: str) -> str:
    """Why a bundle is older than what is here, or an empty text.

    The times are those of the senders' clocks; the signature covers them.

    Args:
        newest: when the newest bundle of the same sender was made, in whichever folder it is; empty: none was.
    """
    mine, its = ((inventory or {}).get("made") or {} for inventory in (before, bundle.inventory))
    if newest and its and its["created"] < newest and not mine:
        return f"this bundle was made on {its['created']}, another of this sender's that was loaded on {newest}"
    if not mine or (before or {}).get("base") == bundle.fingerprint:
        return ""
    if not its:
        return f"this bundle has no date; what is loaded was made on {mine['created']}"
    if its["created"] < mine["created"]:
        return f"this bundle was made on {its['created']}, what is loaded on {mine['created']}"
    return ""


def note(target: Path, bundle: Bundle, event: str, **facts: Any) -> None:
    """Append a line about a bundle to the log.

    Args:
        event: ``loaded``, ``unpacked`` (for native runs alone) or ``refused``.
    """
    inventory = bundle.inventory
    row = {"bundle": bundle.fingerprint, "content": inventory["content"], "from": str(bundle.folder), **facts}
    _append(target, {"event": event, "made_by": inventory["made_by"], "made": inventory.get("made"), **row})


def note_version(target: Path, mine: Inventory, event: str, at: str) -> None:
    """Append a line about a version of this machine's to the log, once.

    Args:
        event: ``restored``.
        at: ISO 8601 in UTC, which tells it from others.
    """
    made = {"made_by": mine["made_by"], "made": mine.get("made"), "images": len(mine["images"])}
    row = {"event": event, "bundle": mine["base"], "content": mine["content"], **made, "at": at}
    if json.dumps(row, sort_keys=True) not in log_lines_of(target)[-1:]:
        _append(target, row)


def _append(target: Path, row: Mapping[str, Any]) -> None:
    log = target / LOG
    line = json.dumps({"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **row}, sort_keys=True)
    handle = os.open(log, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o644)
    try:
        size = os.fstat(handle).st_size
        cut_short = size and os.pread(handle, 1, size - 1) != b"\n"  # by a kill
        os.write(handle, f"{chr(10) if cut_short else ''}{line}\n".encode())
    finally:
        os.close(handle)
    if size > LONGEST_LOG:
        write_whole(log, "".join(f"{line}\n" for line in log_lines_of(target)[-KEPT_LINES:]).encode())


def log_lines_of(target: Path) -> list[str]:
    """The lines of the log; none where nothing was loaded."""
    try:
        with open_file(target / LOG) as source:
            return source.read(4 * LONGEST_LOG).decode("utf-8", "replace").splitlines()  # type: ignore[no-any-return]
    except OSError:
        return []


def log_text(target: Path) -> str:
    """The log for a person: a line for each bundle, the last one below."""
    rows = []
    for line in log_lines_of(target):
        try:
            row = json.loads(line)
            made = row["made"] or {}
            rows.append(
                f"{row['at']}  {row['event']:8}  {row['bundle'][:16]}  {row['content']:10}  {row['made_by']}"
                f"  {(made.get('commit') or '')[:12]:12}  {made.get('created', '')}"
            )
        except (ValueError, KeyError, TypeError, AttributeError):  # cut short by a kill
            continue
    return "\n".join(map(shown, rows))
