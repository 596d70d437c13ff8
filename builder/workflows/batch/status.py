"""``batch status``: how far a batch is, by its plan and by what its shards' runs say of themselves."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from builder.core.batch.tally import DONE, FAILED, OPEN, UNREADABLE, BatchTally, MissingResult, ShardJournal, latest
from builder.edges.batch.following import BatchFollower

FEW_SHARDS = 40
"""Shards that are listed one by one; of a batch with more only their sum is told."""

REASONS = 50
"""Reasons that are told, the most frequent ones."""


@dataclass(frozen=True, kw_only=True)
class ShardStatus:
    """One shard of the plan."""

    number: int
    state: str
    """``waiting``, ``running``, ``begun`` (its stages run where nothing is heard of them), ``done`` (no item is left), ``ended``
    (items are left), or ``lost``: it said no end."""
    code: int | None
    """With what its last run ended; None where it hasn't."""
    host: str
    """Where it ran last."""
    items: int
    done: int
    failed: int
    seconds: float
    """Of sound."""


@dataclass(frozen=True, kw_only=True)
class BatchStatus:
    """How far a batch is. An item is done, failed, unreadable, in a shard that runs, or missing."""

    batch: Path
    items: int
    done: int
    failed: int
    unreadable: int
    running: int
    """Items without a result in shards that run."""
    missing: int
    running_shards: int
    shards: int
    sound_done: float
    """Seconds."""
    sound_left: float
    """Seconds of what runs or is missing."""
    real_time_factor: float | None
    """Seconds of sound for each second that some shard ran; None while nothing was made."""
    failures: tuple[tuple[MissingResult, int], ...]
    """Why items failed, and how many; the most frequent first."""
    unreadables: tuple[tuple[MissingResult, int], ...]
    differing: int
    """Items of which two runs made different results."""
    listed: tuple[ShardStatus, ...]
    """The shards, where they are few."""

    @property
    def hours_left(self) -> float | None:
        """At this pace; None while that isn't known."""
        if not self.sound_left:
            return 0.0
        return None if self.real_time_factor is None else self.sound_left / self.real_time_factor / 3600

    @property
    def over(self) -> bool:
        """Whether nothing runs and nothing is missing."""
        return not self.running and not self.missing


def status(batch: Path) -> BatchStatus:
    """How far a batch is now.

    Raises:
        ConfigError: the folder has no batch of this version's.
    """
    follower = BatchFollower(batch)
    follower.look()
    return of_tally(batch, follower.tally, time.time())


def watch(batch: Path, *, every: float = 2.0) -> Iterator[BatchStatus]:
    """The same whenever it changes, until every item is done, failed or unreadable.

    Args:
        every: seconds between two looks; as long as a look takes, at least.
    """
    follower, last = BatchFollower(batch), None
    while True:
        began = time.monotonic()
        follower.look()
        found = of_tally(batch, follower.tally, time.time())
        if found != last:
            last = found
            yield found
        if found.over:
            return
        time.sleep(max(every, time.monotonic() - began))


def of_tally(batch: Path, tally: BatchTally, now: float) -> BatchStatus:
    """What a tally says at a moment, in seconds since the epoch."""
    shards = tally.running(now)
    running = tally.open_in(shards)
    planned = {shard for shard in tally.shards if shard >= 0}
    return BatchStatus(
        batch=batch,
        items=len(tally.states),
        done=tally.states.count(DONE),
        failed=tally.states.count(FAILED),
        unreadable=tally.states.count(UNREADABLE),
        running=running,
        missing=tally.states.count(OPEN) - running,
        running_shards=len(shards & planned),
        shards=len(planned),
        sound_done=tally.sound(DONE),
        sound_left=tally.sound(OPEN),
        real_time_factor=tally.real_time_factor(),
        failures=tuple(tally.by_reason(FAILED))[:REASONS],
        unreadables=tuple(tally.by_reason(UNREADABLE))[:REASONS],
        differing=len(tally.differing),
        listed=tuple(_listed(tally, shards)) if len(planned) <= FEW_SHARDS else (),
    )


def _ended(run: ShardJournal) -> str:
    if run.begun:
        return "begun"
    return "lost" if run.code is None else "ended"


def _listed(tally: BatchTally, running: set[int]) -> Iterator[ShardStatus]:
    runs: dict[int, list[ShardJournal]] = defaultdict(list)
    for journal in tally.journals.values():
        runs[journal.shard].append(journal)
    for number, count in tally.of_shards().items():
        last = latest(runs[number])
        state = "waiting" if last is None else _ended(last)
        if number in running:
            state = "running"
        elif count.done + count.failed == count.items:
            state = "done"
        yield ShardStatus(
            number=number,
            state=state,
            code=None if last is None else last.code,
            host="" if last is None else last.host,
            items=count.items,
            done=count.done,
            failed=count.failed,
            seconds=count.seconds,
        )
