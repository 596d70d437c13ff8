"""Which items a plan keeps, which are new, and the shards of those that have no result. Pure."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace

from builder.core.batch.batch_file import Batch, Round
from builder.core.batch.shards import share
from builder.node.items import Item


@dataclass(frozen=True, kw_only=True)
class RoundPlan:
    """Items with their shards, and the round that was made for those that have no result."""

    batch: Batch
    """With the new round, if there is one."""
    items: Sequence[Item]
    round: Round | None
    """None: nobody needs a shard."""


def with_round(batch: Batch, items: Sequence[Item], left: Callable[[Item], bool]) -> RoundPlan:
    """Give shards of a new round to the items that are left; the others keep theirs.

    Args:
        left: whether a readable item needs a shard.
    """
    chosen = [at for at, item in enumerate(items) if not item.unreadable and left(item)]
    if not chosen:
        return RoundPlan(batch=batch, items=items, round=None)
    # A plan that was killed may have left items in shards that batch.yaml doesn't know.
    first = max(batch.shards, 1 + max((item.shard for item in items if item.shard is not None), default=-1))
    shares = share([(items[at].seconds, items[at].path) for at in chosen], batch.shard_minutes * 60)
    found = list(items)
    for at, shard in zip(chosen, shares, strict=True):
        found[at] = items[at]._replace(shard=first + shard)
    made = Round(first=first, shards=max(shares) + 1)
    return RoundPlan(batch=replace(batch, rounds=(*batch.rounds, made)), items=found, round=made)


def settled(batch: Batch, item: Item) -> bool:
    """Whether an item is in a shard that batch.yaml knows."""
    return item.shard is not None and item.shard < batch.shards


def waiting(batch: Batch, items: Sequence[Item], left: Container[str]) -> bool:
    """Whether the items that are left are those of the last round, all of them: they need no other shards.

    Args:
        left: keys.
    """
    if not batch.rounds:
        return False
    last = range(batch.rounds[-1].first, batch.rounds[-1].first + batch.rounds[-1].shards)
    return all((item.shard in last) == (item.key in left) for item in items if not item.unreadable)
