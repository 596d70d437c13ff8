"""The result of ``batch run``: what became of a shard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import TypedDict

from builder.views import View

if TYPE_CHECKING:
    from builder.workflows.batch.run import ShardRan


class ShardRunJson(TypedDict):
    """A shard that was run."""

    batch: str
    """The batch's folder."""
    shard: int
    """Its number."""
    items: int
    """Recordings that it has."""
    done: int
    """Those of them that have a result, of this run or an earlier one."""
    failed: int
    """Those that have a reason instead."""
    differs: list[str]
    """Keys of those of which an earlier run published another result, which stays."""
    left: int
    """Those that have neither: the shard is to be run again."""
    code: int
    """The exit code, also of the node program."""


def _data(ran: ShardRan) -> ShardRunJson:
    worked, tally = ran.worked, ran.worked.tally
    return {
        "batch": str(ran.batch),
        "shard": ran.shard,
        "items": worked.items,
        "done": len(tally.done),
        "failed": len(tally.failed),
        "differs": list(tally.differs),
        "left": worked.left,
        "code": worked.code,
    }


def _lines(ran: ShardRan) -> list[str]:
    worked, tally = ran.worked, ran.worked.tally
    parts = [f"shard {ran.shard}: {len(tally.done)} of {worked.items} recordings have results"]
    parts += [f"{len(tally.failed)} failed"] if tally.failed else []
    parts += [f"{worked.left} are left"] if worked.left else []
    return [", ".join(parts)]


RUN = View(command="batch run", shape=ShardRunJson, data=_data, lines=_lines)
