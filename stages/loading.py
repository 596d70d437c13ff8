"""What a stage loads: libraries, with stand-ins for what they import in vain; weights that are whole; each once a process."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import sys
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from unchanged import sha256

if TYPE_CHECKING:
    from contract import StageJob

LISTS = ".baked"
"""Folder below the models root of an image that has one list of files for each model in the image."""

T = TypeVar("T")

_carried: dict[str, tuple[Any, Any]] = {}
"""What this process has loaded, by its part, with its key."""


def carried(job: StageJob, part: str, load: Callable[[], T], *also: Any) -> T:
    """What ``load`` returns, loaded once for the jobs that this process does, one after the other.

    Args:
        job: its variant, settings and models decide what is loaded.
        part: what it is to the stage; of each part one is kept, and the last goes before another is loaded.
        also: what else decides it.
    """
    key = (job.variant, job.settings, job.uses, also)
    if part in _carried and _carried[part][0] == key:
        loaded: T = _carried[part][1]
        return loaded
    _carried.pop(part, None)
    new = load()
    _carried[part] = key, new
    return new


def lacking(root: Path, uses: Iterable[dict[str, Any]], *, deep: bool = False) -> list[str]:
    """What is wrong with the weights that a job's stage loads and with those in an image: a sentence for each fault.

    An image's own lists (``.baked/<id>.json``) say which files its models have. Comparing the sizes takes a millisecond
    or two. A mounted tree has no lists. The builder has checked it, and silence needs no model, so a missing model is
    reported only when a stage asks for it.

    Args:
        root: the models root.
        uses: models of the job's stage.
        deep: also read every file and compare its sha256.
    """
    faults = []
    lists = {}
    for path in sorted((root / LISTS).glob("*.json")):
        entry = json.loads(path.read_bytes())
        lists[entry["id"]] = entry["digest"]
        for file in entry["files"]:
            name = f"model {entry['id']}: {Path(file['path']).name}"
            try:
                size = (root / file["path"]).stat().st_size
            except OSError:
                faults.append(f"{name} is missing")
                continue
            if size != file["size"]:
                faults.append(f"{name} has {size} bytes, not {file['size']}")
            elif deep and sha256(root / file["path"]) != f"sha256:{file['sha256']}":
                faults.append(f"{name} has a different sha256 than its list")
    for use in uses:
        if lists and not (root / use["path"]).is_dir():
            faults.append(f"model {use['id']} is not in the tree of weights: {use['path']}")
        elif use["id"] in lists and lists[use["id"]] != use["digest"]:
            faults.append(f"this image's model {use['id']} is not the one that the job names: {lists[use['id']][:19]}…")
    return faults


def verify(root: Path) -> int:
    """``--verify``: read an image's weights and print what is wrong, or the models' names. Returns the exit code."""
    lists = sorted((root / LISTS).glob("*.json"))
    faults = lacking(root, (), deep=True)
    for line in faults or [f"{path.stem}: intact" for path in lists] or ["this image carries no weights"]:
        print(line, file=sys.stderr if faults else sys.stdout)
    return 5 if faults else 0


def stand_in(*names: str, **attributes: Any) -> None:
    """Put empty modules in the place of those that a library imports and never needs here, where they aren't installed.

    Args:
        names: modules.
        attributes: what the library imports from them. With any, an installed module is replaced too.
    """
    for name in names:
        if attributes or importlib.util.find_spec(name) is None:
            sys.modules[name] = types.ModuleType(name)
            # Some libraries find out by the specification whether another is installed.
            vars(sys.modules[name]).update(attributes, __spec__=importlib.machinery.ModuleSpec(name, None))
