"""A batch's folder: batch.yaml and items.jsonl read as a stranger's, written whole, one planner at a time."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from builder.core.batch import batch_file
from builder.core.batch.batch_file import BESIDE, ITEMS, NAME, Batch
from builder.core.jobs.job import JobStage
from builder.core.jobs.request import Request
from builder.edges.jobs import prepare
from builder.edges.system import files
from builder.errors import ConfigError, MissingError, UsageError
from builder.node.items import LONGEST_ITEM, Item, from_lines, to_line
from builder.program import command, shell_word
from builder.receiver.jobs.untrusted import open_below, read_below


def read(folder: Path) -> Batch:
    """batch.yaml of a batch's folder.

    Raises:
        UsageError: there is no batch.
        ConfigError: it is of another version, or not as a plan writes it.
    """
    data = read_below(folder.resolve(), NAME, batch_file.LONGEST * 4)
    if data is None:
        raise UsageError("no batch here", where=str(folder), hint=command("batch plan FOLDER --out B"))
    try:
        text = data.decode()
    except ValueError as error:
        raise ConfigError("not UTF-8", where=str(folder / NAME)) from error
    return batch_file.from_text(text, str(folder / NAME))


def items(folder: Path) -> Iterator[Item]:
    """The items of a batch, one after the other.

    Raises:
        ConfigError: there is no items.jsonl, or a line is not an item; with its number.
    """
    where = str(folder / ITEMS)
    try:
        with open_below(folder.resolve(), ITEMS) as source:
            yield from from_lines(iter(lambda: source.readline(LONGEST_ITEM + 2), b""))
    except ValueError as error:
        raise ConfigError(str(error), where=where, hint="plan the batch again") from error
    except OSError as error:
        raise ConfigError(f"the items can't be read ({error.strerror})", where=where) from error


@contextlib.contextmanager
def planning(folder: Path) -> Iterator[None]:
    """Hold a batch's plan.

    Raises:
        UsageError: another process plans it.
        MissingError: nothing can be written there.
    """
    with contextlib.ExitStack() as stack:
        try:
            with writing(folder):
                stack.enter_context(files.locked(folder / ".lock", timeout=0))
        except TimeoutError as error:
            raise UsageError("another process plans this batch", where=str(folder), hint="wait for it") from error
        yield


OURS = re.compile(rf"\.lock|{re.escape(ITEMS)}|{BESIDE}|results|\..*\.tmp")
"""What a plan that was killed before its end leaves."""


def before(folder: Path) -> Batch | None:
    """The batch that was planned into a folder; None where there is none yet.

    Raises:
        UsageError: the folder holds something else.
        ConfigError: see :func:`read`.
    """
    if os.path.lexists(folder / NAME):
        return read(folder)
    if folder.is_dir():
        others = [entry.name for entry in folder.iterdir() if not OURS.fullmatch(entry.name)]
        if others:
            raise UsageError(
                "this folder holds something else than a batch",
                where=str(folder),
                expected="a new or an empty folder",
                hint=f"--out another folder; there is {shell_word(min(others))}",
            )
    elif os.path.lexists(folder):
        raise UsageError("this is not a folder", where=str(folder), hint="--out another folder")
    return None


def beside_of(stages: Sequence[JobStage], request: Request) -> dict[str, bytes]:
    """What jobs of these stages read besides recordings: name in a job's ``input`` -> bytes.

    Raises:
        MissingError: fonts are wanted, and this machine has none.
    """
    with tempfile.TemporaryDirectory(prefix="whisperbake-") as scratch:
        inside = Path(scratch) / "input"
        inside.mkdir()
        prepare.put_beside(Path(scratch), stages, request)
        return {path.name: path.read_bytes() for path in sorted(inside.iterdir())}


def sha256s(beside: Mapping[str, bytes]) -> dict[str, str]:
    """Their hex sha256."""
    return {name: hashlib.sha256(data).hexdigest() for name, data in beside.items()}


def write(folder: Path, batch: Batch, items: Iterable[Item], beside: Mapping[str, bytes] | None = None) -> None:
    """Write a batch's files, each whole or not at all; batch.yaml last: without it there is no batch.

    Args:
        beside: files that jobs get; None: they are there.

    Raises:
        MissingError: nothing can be written there, or the disk is full.
    """
    with writing(folder):
        (folder / "results" / "journal").mkdir(parents=True, exist_ok=True)
        for name, data in (beside or {}).items():
            files.write_atomic(folder / BESIDE / name, data, mode=0o600)  # voices are people's own
        files.write_atomic(folder / ITEMS, b"".join(to_line(item).encode() + b"\n" for item in items))
        files.write_atomic(folder / NAME, batch_file.to_text(batch))


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Errors of the disk in the block, as the user meets them.

    Raises:
        MissingError: the folder can't be written, or the disk is full.
    """
    try:
        yield
    except TimeoutError:
        raise  # of a lock
    except OSError as error:
        full = files.disk_full(error)
        what = "the disk is full" if full else f"the batch's folder can't be written ({error.strerror})"
        hint = "free some space, then plan again" if full else "--out a folder that can"
        raise MissingError(what, where=str(folder), hint=hint) from error
