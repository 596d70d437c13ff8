"""What others left in a job's folder: no link is followed, no FIFO is waited for, nothing is read without a bound.

In a container links lead nowhere else. A native stage may read what a container left, and there they lead to this machine.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

LARGEST = 64 << 20
"""Bytes of a file that is read whole; the words of ten hours take a fifth of it."""

VARIANTS = ("slim", "full")
"""Backends of a stage: without PyTorch, and with it."""

UNLINKED = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Flags to open what may be anything: a link is an error, and a FIFO isn't waited for."""


class InputFault(Exception):
    """The recording can't be used; exit code 2. The user reads the text."""


def _opened(root: Path, relative: str) -> int:
    """The descriptor of a regular file below a folder, each folder on the way opened relative to its parent."""
    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    *folders, name = relative.split("/")
    for part, kind in (*((folder, os.O_DIRECTORY) for folder in folders), (name, 0)):
        try:
            inner = os.open(part, os.O_RDONLY | UNLINKED | kind, dir_fd=handle)
        finally:
            os.close(handle)
        handle = inner
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise FileNotFoundError
    return handle


def file(root: Path, relative: str) -> Path:
    """A regular file below a folder.

    Raises:
        FileNotFoundError: there is none, or something else stands in its place.
    """
    try:
        os.close(_opened(root, relative))
    except OSError as error:
        raise FileNotFoundError(2, "there is no such file", relative) from error
    return root / relative


def is_there(root: Path, relative: str) -> bool:
    """Whether there is such a file."""
    try:
        return bool(file(root, relative))
    except FileNotFoundError:
        return False


def read(root: Path, relative: str, most: int = LARGEST) -> bytes:
    """The bytes of a file below a folder.

    Raises:
        OSError: there is no regular file of that name, or it can't be read.
        ValueError: it has more than ``most`` bytes.
    """
    with os.fdopen(_opened(root, relative), "rb") as source:
        data = source.read(most + 1)
    if len(data) > most:
        raise ValueError(f"{relative} has more than {most >> 20} MiB")
    return data


def load(root: Path, relative: str) -> Any:
    """The JSON of a file below a folder; raises as :func:`read`, and ValueError where it isn't JSON."""
    try:
        return json.loads(read(root, relative))
    except RecursionError:
        raise ValueError(f"{relative} is nested too deeply") from None


def dump(value: Any) -> str:
    """JSON that is the same every time: sorted keys, non-ASCII characters unescaped."""
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def specified(root: Path) -> dict[str, Any]:
    """What job.yaml says; raises InputFault."""
    try:
        text = read(root, "job.yaml").decode()
    except OSError as error:
        raise InputFault(f"no job in this folder: {error.strerror}") from error
    except ValueError as error:
        raise InputFault(f"job.yaml is damaged: {one_line(error)}") from error
    try:
        spec = None
        if text.startswith("{"):  # JSON is YAML, and read in a hundredth of the time
            with suppress(ValueError, RecursionError):
                spec = json.loads(text)
        if spec is None:
            spec = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        if spec["schema"] != 1:
            raise InputFault(f"job.yaml has schema {spec['schema']}; these stages read schema 1")
        if spec["variant"] not in VARIANTS:
            raise InputFault(f"job.yaml names the variant {spec['variant']!r}, not {' or '.join(VARIANTS)}")
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise InputFault(f"job.yaml is damaged: {one_line(error)}") from error
    return dict(spec)


def is_due(spec: dict[str, Any], root: Path, stage: str) -> bool:
    """Whether a stage can work on a job: it is part of it, and those before it that the job can't do without are done."""
    try:
        for entry in spec["stages"]:
            if entry["name"] == stage:
                return True
            done = is_there(root, f"work/{entry['name']}/manifest.json")
            if not done and not entry.get("optional"):
                return False
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputFault(f"job.yaml is damaged: {one_line(error)}") from error
    return False


def has_results(root: Path, manifest: dict[str, Any]) -> bool:
    """Whether a stage has done a job already: it left a manifest of this code, of these settings and models.

    Args:
        manifest: what the stage would write.
    """
    try:
        found = load(root, f"work/{manifest['stage']}/manifest.json")
        return all(found[name] == manifest[name] for name in ("schema", "stage", "code", "settings", "models"))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def make_room(root: Path, stage: str) -> None:
    """An empty ``work/<stage>``, and no temporary file of the stage in ``output``."""
    folder = root / "work" / stage
    shutil.rmtree(folder, ignore_errors=True)  # results of an earlier run that wrote no manifest
    with suppress(OSError):
        folder.unlink()  # a link or a file in its place: a recording took over some stage
    folder.mkdir(parents=True)
    for leftover in (root / "output").glob(f".{stage}-*.tmp*"):  # of a run that was killed
        leftover.unlink()


def one_line(error: Exception) -> str:
    """An error's text on one line."""
    return " ".join(str(error).split())
