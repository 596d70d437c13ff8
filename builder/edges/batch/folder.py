"""A batch's folder: batch.yaml and items.jsonl read as a stranger's, written whole, one planner at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from builder.core.batch import batch_file
from builder.core.batch.batch_file import ITEMS, NAME, Batch
from builder.edges.system import files
from builder.errors import ConfigError, UsageError
from builder.node.items import LONGEST_ITEM, Item, from_lines
from builder.program import command
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
        OSError: nothing can be written there.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(files.locked(folder / ".lock", timeout=0))
        except TimeoutError as error:
            raise UsageError("another process plans this batch", where=str(folder), hint="wait for it") from error
        yield
