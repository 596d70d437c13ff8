"""Result of ``batch retry``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import TypedDict

from builder.program import command
from builder.views import View
from builder.views.batch.plan import counted, next_lines, numbered, sound

if TYPE_CHECKING:
    from builder.workflows.batch.retry import BatchRetried


class BatchRetryJson(TypedDict):
    """Shards of what is left of a batch."""

    batch: str
    """Its folder."""
    written: bool
    """False after ``--dry-run``, where nothing is left, and where what is left has the shards of the last round already."""
    first: int | None
    """Number of the first shard; null: nothing is left."""
    shards: int
    """How many there are."""
    seconds: float
    """Of sound in them."""
    missing: int
    """Recordings in them that nobody finished."""
    again: int
    """Recordings in them that failed before (``--failed``)."""
    done: int
    """Recordings that have a result."""
    failed: int
    """Recordings that failed, and are left out."""
    running: int
    """Recordings that are left out because their shard runs at this moment."""
    unreadable: int
    """Recordings that can't be read."""


def _data(retried: BatchRetried) -> BatchRetryJson:
    return {
        "batch": str(retried.folder),
        "written": retried.written,
        "first": retried.round.first if retried.round else None,
        "shards": retried.round.shards if retried.round else 0,
        "seconds": round(retried.seconds, 3),
        "missing": retried.missing,
        "again": retried.again,
        "done": retried.done,
        "failed": retried.failed,
        "running": retried.running,
        "unreadable": retried.unreadable,
    }


def _text(retried: BatchRetried) -> list[str]:
    out = [
        f"{number:,} {what}"
        for number, what in (
            (retried.done, "done"),
            (retried.running, "running"),
            (retried.failed, "failed"),
            (retried.unreadable, "can't be read"),
        )
        if number
    ]
    left_out = f"; left out: {', '.join(out)}" if out else ""
    folder = str(retried.folder)
    if retried.round is None:
        lines = [f"nothing is left{left_out}"]
        return [*lines, f"next: {command('batch retry', folder)} --failed"] if retried.failed else lines
    number = retried.missing + retried.again
    told = f", {retried.again:,} of which failed before" if retried.again else ""
    lines = [f"{counted(number, 'recording')}{told}, {sound(retried.seconds)}{left_out}"]
    if retried.dry_run:
        return [*lines, f"{numbered(retried.round)} would be theirs"]
    return [*lines, "", *next_lines(folder, retried.round)]


RETRY = View(command="batch retry", shape=BatchRetryJson, data=_data, lines=_text)
