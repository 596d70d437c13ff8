"""Result of ``batch plan``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from typing_extensions import TypedDict

from builder.core.text import format_clock, table
from builder.program import command
from builder.views import View

if TYPE_CHECKING:
    from builder.core.batch.batch_file import Round
    from builder.workflows.batch.plan import BatchPlanned

MOST_SHOWN = 10
"""Unreadable recordings that people are shown."""

MOST_TOLD = 1000
"""Unreadable recordings that scripts are told of; items.jsonl has all of them."""


class UnreadableJson(TypedDict):
    """A recording that can't be read."""

    path: str
    """From the root."""
    reason: str
    """Why."""


class BatchPlanJson(TypedDict):
    """A batch that was planned, or planned again."""

    batch: str
    """Its folder."""
    root: str
    """The folder that all recordings are below."""
    items: int
    """Recordings, those that can't be read too."""
    seconds: float
    """Of sound, of all that can be read."""
    done: int
    """Recordings that have a result."""
    failed: int
    """Recordings that failed; ``batch retry --failed`` takes them up again."""
    new: int
    """Readable recordings that the batch did not have before, or that changed."""
    gone: int
    """Recordings without a result that are no longer there, and left the batch."""
    first: int | None
    """Number of the first shard that was made; null: nothing was new, and no shard was."""
    shards: int
    """Shards that were made now."""
    unreadable: int
    """Recordings that can't be read."""
    reasons: list[UnreadableJson]
    """The first thousand of them, and why."""


def _data(planned: BatchPlanned) -> BatchPlanJson:
    unreadable = planned.unreadable
    return {
        "batch": str(planned.folder),
        "root": planned.batch.root,
        "items": len(planned.items),
        "seconds": round(planned.seconds, 3),
        "done": planned.done,
        "failed": planned.failed,
        "new": planned.new,
        "gone": planned.gone,
        "first": planned.round.first if planned.round else None,
        "shards": planned.round.shards if planned.round else 0,
        "unreadable": len(unreadable),
        "reasons": [{"path": item.path, "reason": item.unreadable} for item in unreadable[:MOST_TOLD]],
    }


def _text(planned: BatchPlanned) -> list[str]:
    unreadable = planned.unreadable
    counts = [(planned.new, "new"), (planned.done, "done"), (planned.failed, "failed"), (planned.gone, "gone")]
    told = ", ".join(f"{number:,} {word}" for number, word in counts if number)
    lines = [f"{counted(len(planned.items), 'recording')}, {sound(planned.seconds)}: {told or 'nothing new'}"]
    if unreadable:
        lines += ["", f"{len(unreadable):,} can't be read:"]
        lines += table(("RECORDING", "WHY"), [(item.path, item.unreadable) for item in unreadable[:MOST_SHOWN]])
        if len(unreadable) > MOST_SHOWN:
            lines.append(f"… and {len(unreadable) - MOST_SHOWN:,} more, in {planned.folder / 'items.jsonl'}")
    return [*lines, "", *next_lines(str(planned.folder), planned.round)]


def sound(seconds: float) -> str:
    """``1:02:03 of sound``, ``15,240 hours of sound``."""
    return f"{seconds / 3600:,.0f} hours of sound" if seconds >= 360_000 else f"{format_clock(seconds)} of sound"


def counted(number: int, word: str) -> str:
    """``1 recording``, ``2,000 recordings``."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def numbered(made: Round) -> str:
    """``shard 3``, ``shards 3 to 9``."""
    return f"shard {made.first}" if made.shards == 1 else f"shards {made.first} to {made.first + made.shards - 1}"


def next_lines(folder: str, made: Round | None) -> Sequence[str]:
    """What to type now, for a round of shards."""
    if made is None:
        return ["no new shards", f"next: {command('batch status', folder)}"]
    last, later = made.first + made.shards - 1, f" --first {made.first}" if made.first else ""
    return [
        f"{numbered(made)}, by one of:",
        f"  {command('batch run', folder)} --shard {made.first}" + ("" if made.shards == 1 else f"   (to {last})"),
        *(
            f"  {command('batch render', folder)} --for {engine}{later}"
            for engine in ("slurm", "htcondor", "kubernetes")
        ),
    ]


PLAN = View(command="batch plan", shape=BatchPlanJson, data=_data, lines=_text)
