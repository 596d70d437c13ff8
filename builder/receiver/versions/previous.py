"""The version before: its inventory, names that hold its images, and the files of it that a later bundle replaced."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from builder.receiver.engine import EngineSocket
from builder.receiver.inventory import LARGEST_INVENTORY, Inventory, LoaderError, check_inventory, need, read_file
from builder.receiver.writing import FRESH, Incoming, write_whole

PREVIOUS = ".previous"
"""Folder below the receiver's. It has what stands for the version before, and nothing of the one that is loaded."""

VERSIONS, KEPT_FILES = "versions.json", "files"

MOST_VERSIONS = 2
"""Records in the file: while a bundle goes in, that of the version before and that of the one that it will replace."""

HELD = re.compile(r"(.+):previous-([0-9a-f]{8})-[0-9a-f]{12}")
"""A name that holds an image of the version before: of which receiver's folder, and of which image."""


def held_name(repository: str, target: Path, id_: str) -> str:
    """The name that holds an image; other folders have other names for it."""
    return f"{repository}:previous-{_target_mark(target)}-{id_[7:19]}"


def _target_mark(target: Path) -> str:
    return hashlib.sha256(os.fsencode(target.resolve())).hexdigest()[:8]


def previous_of(target: Path, mine: Inventory | None) -> Inventory | None:
    """The version before the one that is loaded; None where none is kept.

    Args:
        mine: this machine's inventory.
    """
    return _records_of(target).get(mine["base"]) if mine else None


def _records_of(target: Path) -> dict[str, Inventory]:
    """Fingerprint of the bundle that is loaded -> the inventory of before; empty where it can't be read."""
    try:
        data = json.loads(read_file(target / PREVIOUS / VERSIONS, 4 * LARGEST_INVENTORY))
        need(data["schema"] == 1, "versions of another make")
        records = {
            str(row["after"]): check_inventory(json.dumps(row["inventory"]).encode()) for row in data["versions"]
        }
        need(all(inventory["kind"] == "receiver" for inventory in records.values()), "no versions")
    except (LoaderError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    return records


def write_records(target: Path, records: Mapping[str, Inventory]) -> None:
    """Write down which version was before which: before the inventory that says which one is loaded.

    Args:
        records: fingerprint of a bundle -> the inventory of before it.
    """
    folder = _kept_folder(target)
    versions = [{"after": after, "inventory": inventory} for after, inventory in records.items()]
    write_whole(folder / VERSIONS, json.dumps({"schema": 1, "versions": versions}).encode() + b"\n")


def _kept_folder(target: Path) -> Path:
    """The folder, made where it isn't there. Raises LoaderError: a link is in its place."""
    folder = target / PREVIOUS
    for path in (folder, folder / KEPT_FILES):
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
        if path.is_symlink() or not path.is_dir():
            raise LoaderError(
                3, f"{path} is a link, or not a folder", f"remove it, or name another than {target}: --to"
            )
    return folder


def hold_images(engine: EngineSocket, target: Path, version: Inventory) -> None:
    """Give the images of a version names that stay when theirs go to others; an image that is gone has none."""
    for image in version["images"]:
        if "id" in image and engine.image(image["id"]):
            engine.tag(image["id"], held_name(image["name"].rpartition(":")[0], target, image["id"]))


def keep_files(target: Path, version: Inventory, other: Inventory) -> Inventory:
    """Keep the files of a version that another has otherwise; the version without those that are not there.

    Args:
        other: an inventory; what its files say of other paths doesn't matter.
    """
    incoming, theirs, gone = Incoming(target), _files_of(other), set()
    folder = _kept_folder(target) / KEPT_FILES
    for path, sha256 in _files_of(version).items():
        if theirs.get(path) == sha256 or os.path.lexists(folder / sha256):
            continue
        with incoming.parent(path) as (parent, name):  # of a folder above, where its own is gone
            if not (os.path.lexists(target / path) and _linked(name, folder / sha256, parent)):
                gone.add(path)
    return {**version, "files": [f for f in version["files"] if f["path"] not in gone]}


def _linked(name: str, kept: Path, parent: int) -> bool:
    """Whether a file has a second name now; a copy where the file system has no second names."""
    try:
        os.link(name, kept, src_dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    except OSError:
        beside = kept.with_name(f".{kept.name}.part")
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()
        try:
            source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        except FileNotFoundError:
            return False
        mode = os.fstat(source).st_mode & 0o777
        with os.fdopen(source, "rb") as original, os.fdopen(os.open(beside, FRESH, mode), "wb") as out:
            shutil.copyfileobj(original, out, 1 << 20)
            out.flush()
            os.fsync(out.fileno())
        beside.replace(kept)
    return True


def restore_files(target: Path, version: Inventory, other: Inventory) -> None:
    """Put the files of a version in the place of another's; those that only the other has go.

    Both have to be kept (:func:`keep_files`); what is done already is done again.
    """
    incoming, mine, theirs = Incoming(target), _files_of(version), _files_of(other)
    folder = _kept_folder(target) / KEPT_FILES
    for path in sorted({*mine, *theirs}):
        if mine.get(path) == theirs.get(path):
            continue
        with incoming.parent(path, make=path in mine) as (parent, name):
            if path in mine:
                beside = f".{name}.part"
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(beside, dir_fd=parent)
                _placed(folder / mine[path], beside, parent)
                os.replace(beside, name, src_dir_fd=parent, dst_dir_fd=parent)
                with contextlib.suppress(FileNotFoundError):  # it stays where both were names of one file
                    os.unlink(beside, dir_fd=parent)
            elif os.path.lexists(target / path):
                os.unlink(name, dir_fd=parent)


def _placed(kept: Path, name: str, parent: int) -> None:
    try:
        os.link(kept, name, dst_dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        raise
    except OSError:
        with kept.open("rb") as source:
            mode = os.fstat(source.fileno()).st_mode & 0o777
            with os.fdopen(os.open(name, FRESH, mode, dir_fd=parent), "wb") as out:
                shutil.copyfileobj(source, out, 1 << 20)
                out.flush()
                os.fsync(out.fileno())


def missing_files(target: Path, version: Inventory, other: Inventory) -> list[str]:
    """Files of a version that another has otherwise and that are not kept."""
    theirs, kept = _files_of(other), target / PREVIOUS / KEPT_FILES
    return [
        path
        for path, sha256 in _files_of(version).items()
        if theirs.get(path) != sha256 and ((kept / sha256).is_symlink() or not (kept / sha256).is_file())
    ]


def _files_of(version: Inventory) -> dict[str, str]:
    return {entry["path"]: entry["sha256"] for entry in version["files"]}


def forget(engine: EngineSocket | None, target: Path, mine: Inventory) -> None:
    """Drop what neither the version that is loaded nor the one before it needs: records, files, names of images.

    Args:
        engine: None where none answers: then names stay for the next time.
    """
    before = previous_of(target, mine)
    folder = target / PREVIOUS
    if folder.is_symlink() or not folder.is_dir():
        return
    write_records(target, {mine["base"]: before} if before else {})
    current = _files_of(mine)
    needed = {sha for path, sha in _files_of(before).items() if current.get(path) != sha} if before else set()
    for kept in (folder / KEPT_FILES).iterdir():
        if kept.name not in needed:
            kept.unlink()
    if engine:
        _release_held(engine, target, mine, before)


def _release_held(engine: EngineSocket, target: Path, mine: Inventory, before: Inventory | None) -> None:
    """Take the names away that hold no image of the version before; an image goes with its last name."""
    loaded, held = (_image_ids(version) for version in (mine, before))
    images: list[Any] = engine.need("GET", "/images/json") or []
    for image in images:
        for tag in image.get("RepoTags") or ():
            match = HELD.fullmatch(tag)
            if match and match[2] == _target_mark(target) and (image["Id"] not in held or image["Id"] in loaded):
                engine.remove(tag)


def _image_ids(version: Inventory | None) -> set[str]:
    return {image["id"] for image in (version or {}).get("images", ()) if "id" in image}
