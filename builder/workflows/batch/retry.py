"""``batch retry``: a new round of shards for the recordings that have no result."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from builder import __version__
from builder.core.batch import batch_file
from builder.core.batch.batch_file import Round
from builder.core.batch.rounds import waiting, with_round
from builder.core.batch.tally import DONE, FAILED, BatchTally
from builder.edges.system import files
from builder.node.items import Item


@dataclass(frozen=True, kw_only=True)
class BatchRetried:
    """Shards of what is left of a batch."""

    folder: Path
    round: Round | None
    """The shards; None: nothing is left."""
    missing: int
    """Recordings in them that nobody finished."""
    again: int
    """Recordings in them that failed before."""
    done: int
    """Recordings that have a result."""
    failed: int
    """Recordings that failed, and are left out."""
    running: int
    """Recordings that are left out because their shard runs at this moment."""
    unreadable: int
    """Recordings that can't be read."""
    seconds: float
    """Of sound, in the new shards."""
    written: bool
    """False after ``--dry-run``, where nothing is left, and where what is left has the shards of the last round already."""
    dry_run: bool
    """Nothing was to be written."""


def retry(batch: Path, *, failed: bool, dry_run: bool) -> BatchRetried:
    """Make shards of the recordings that have no result; what a shard works on at this moment stays in it.

    Args:
        batch: the batch's folder.
        failed: take up those that failed, too.
        dry_run: only say what would be done.

    Raises:
        UsageError: there is no batch, another version planned it, or another process plans it.
        ConfigError: its files are damaged.
        MissingError: the folder can't be written.
    """
    from builder.edges.batch import folder as batches

    folder = files.expanded(batch).absolute()
    batch_file.require_version(batches.read(folder), __version__, str(folder))
    if dry_run:
        return _retried(folder, failed=failed, dry_run=True)
    with batches.planning(folder):
        return _retried(folder, failed=failed, dry_run=False)


def _retried(folder: Path, *, failed: bool, dry_run: bool) -> BatchRetried:
    from builder.edges.batch import folder as batches
    from builder.edges.batch.following import BatchFollower

    before = batches.read(folder)
    items = list(batches.items(folder))
    tally = BatchFollower(folder).looked()
    busy = tally.running(time.time())
    states = [_state(item, tally, busy) for item in items]
    wanted = {"missing", "failed"} if failed else {"missing"}
    for at, (item, state) in enumerate(zip(items, states, strict=True)):
        if failed and state == "failed":
            items[at] = item._replace(again=tally.tries_of(item.key) + 1)
    left = {item.key for item, state in zip(items, states, strict=True) if state in wanted}
    planned = with_round(before, items, lambda item: item.key in left)
    made, write = planned.round, not dry_run
    if not (failed and "failed" in states) and waiting(before, items, left):
        made, write = before.rounds[-1], False  # their shards are those of the last round, of which nothing was begun
    if write and made is not None:
        batches.write(folder, planned.batch, planned.items)
    return BatchRetried(
        folder=folder,
        round=made,
        missing=states.count("missing"),
        again=states.count("failed") if failed else 0,
        done=states.count("done"),
        failed=0 if failed else states.count("failed"),
        running=states.count("running"),
        unreadable=states.count("unreadable"),
        seconds=sum(item.seconds for item in items if item.key in left),
        written=write and made is not None,
        dry_run=dry_run,
    )


def _state(item: Item, tally: BatchTally, busy: set[int]) -> str:
    if item.unreadable:
        return "unreadable"
    known = {DONE: "done", FAILED: "failed"}.get(tally.state_of(item.key))
    return known or ("running" if item.shard in busy else "missing")
