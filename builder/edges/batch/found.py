"""The recordings that the words of ``batch plan`` mean: folders walked, lists read. Nothing of a recording is opened."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from builder.core.batch.batch_file import NAME
from builder.edges.jobs import sources
from builder.edges.system import files
from builder.errors import InputError, UsageError
from builder.node.items import MOST_ITEMS
from builder.program import command

LARGEST_LIST = 1 << 30
"""Bytes of a list."""

CONTROL = re.compile(rb"[\x01-\x08\x0e-\x1f]")
"""What no list of paths has, and what every recording has."""


class FoundFile(NamedTuple):
    """A file that may be a recording."""

    path: str
    """From the root; what is not UTF-8 in it is written as ``\\xff``."""
    size: int
    mtime_ns: int
    unreadable: str
    """Why it can't be read; empty: nothing speaks against it so far."""


def named(words: Sequence[str], out: Path) -> list[str]:
    """Absolute paths of what the words mean, in order, each once.

    Args:
        words: folders, which are walked, or lists of paths; ``-``: a list that comes through standard input.
        out: the batch's own folder, which is not walked.

    Raises:
        InputError: a word is nothing there, a folder can't be read, or there is no recording.
        UsageError: a word is a file and no list.
    """
    found: set[str] = set()
    for word in words:
        path = files.expanded(word)
        if word != sources.STDIN and path.is_dir():
            found.update(_walked(Path(os.path.abspath(path)), out))  # noqa: PTH100 - ".." goes, links stay
        else:
            found.update(os.path.abspath(name) for name in _listed(word, path))  # noqa: PTH100
        if len(found) > MOST_ITEMS:
            raise UsageError(f"more than {MOST_ITEMS:,} recordings", where=word, hint="plan several batches")
    if not found:
        raise InputError(
            "no recordings there",
            where=" ".join(words),
            hint=command("batch plan FOLDER --out B") + ", or a file with a path on each line in place of FOLDER",
        )
    return sorted(found)


def _walked(folder: Path, out: Path) -> Iterator[str]:
    """The files of a folder and of those in it that may be recordings; no batch's and no job's."""
    own = os.path.abspath(out)  # noqa: PTH100
    for path in sources.files_in(folder, recursive=True, passed=("job.yaml", NAME)):
        if sources.may_be_recording(path.name) and not str(path).startswith(f"{own}{os.sep}"):
            yield str(path)


def _listed(word: str, path: Path) -> list[str]:
    """The paths in a list: a line each, or with NULs between them."""
    if word == sources.STDIN:
        if sys.stdin is None or sys.stdin.isatty():
            raise UsageError("nothing comes through standard input", where=word, hint="find … -print0 | …")
        data = sys.stdin.buffer.read(LARGEST_LIST + 1)
    else:
        if not os.path.exists(path):  # noqa: PTH110 - a name that is too long is nothing, too
            raise InputError("no such folder, and no such list", where=word, hint="check the path")
        data = files.read_file(path, limit=LARGEST_LIST, follow=True) or b""
    if len(data) > LARGEST_LIST or CONTROL.search(data[:1_000_000]):
        raise UsageError(
            "this is not a list of recordings",
            where=word,
            expected="a folder, or a text with a path on each line",
            hint=command("run", path) + " transcribes one recording",
        )
    if b"\0" in data:
        return [os.fsdecode(name) for name in data.split(b"\0") if name]
    lines = (line.removesuffix(b"\r") for line in data.split(b"\n"))
    return [os.fsdecode(line) for line in lines if line.strip() and not line.startswith(b"#")]


def root_of(words: Sequence[str], paths: Iterable[str]) -> str:
    """The folder that all recordings are below: the folders themselves, and what lists have in common.

    Raises:
        UsageError: its name can't be written.
    """
    folders = [os.path.abspath(files.expanded(w)) for w in words if w != "-" and files.expanded(w).is_dir()]  # noqa: PTH100
    root = ""
    for folder in folders:
        root = os.path.commonpath([root, folder]) if root else folder
    for path in paths:
        if not root:
            root = os.path.dirname(path)  # noqa: PTH120
        elif not _below(path, root):
            root = os.path.commonpath([root, path])
    try:
        root.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            "the folder's name is not UTF-8", where=os.fsencode(root).decode("utf-8", "replace")
        ) from error
    return root


def _below(path: str, root: str) -> bool:
    return path.startswith(root if root.endswith("/") else f"{root}/")


def looked(paths: Sequence[str], root: str, tell: Callable[[int], None]) -> list[FoundFile]:
    """What the file system says of each path, by their names from the root in order.

    Args:
        tell: hears how many were looked at.

    Raises:
        UsageError: one is not below the root.
    """
    found = []
    begin = len(root) if root.endswith("/") else len(root) + 1
    for number, path in enumerate(paths):
        if not _below(path, root):
            raise UsageError(
                "not below the batch's folder of recordings",
                where=path,
                expected=f"a path below {root}",
                hint="plan it into another folder",
            )
        found.append(_looked(path, path[begin:]))
        if number % 1000 == 999:
            tell(number + 1)
    found.sort()
    # A name of bytes that are no text, and one that looks like what is written for it: the one that is there is last.
    return [
        entry for entry, after in zip(found, [*found[1:], None], strict=True) if not after or after.path != entry.path
    ]


def _looked(path: str, name: str) -> FoundFile:
    try:
        name.encode()
    except UnicodeEncodeError:
        plain = os.fsencode(name).decode("utf-8", "backslashreplace")
        return FoundFile(plain, 0, 0, "its name is not UTF-8: rename it")
    if len(name.encode()) > 4096:
        return FoundFile(name[:1000], 0, 0, "its path is too long")
    try:
        status = os.stat(path)  # noqa: PTH116 - a hundred thousand of them
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError)
        reason = "no such file" if missing else str(getattr(error, "strerror", None) or error)
        return FoundFile(name, 0, 0, reason)
    reason = ""
    if stat.S_ISDIR(status.st_mode):
        reason = "this is a folder"
    elif not stat.S_ISREG(status.st_mode):
        reason = "this is not a regular file"
    elif status.st_size == 0:
        reason = "the file is empty (zero bytes)"
    elif not os.access(path, os.R_OK):
        reason = "the file can't be read: check its permissions"
    return FoundFile(name, status.st_size, status.st_mtime_ns, reason)


def is_there(root: str, name: str, size: int) -> bool:
    """Whether a recording lies below the root, with as many bytes as it had."""
    try:
        return os.stat(f"{root}/{name}").st_size == size  # noqa: PTH116 - a hundred thousand of them
    except (OSError, ValueError):
        return False
