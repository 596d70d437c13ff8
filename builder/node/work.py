"""A shard from its beginning to its end: the jobs are made, the stages run over all of them, the results are published."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Callable

from builder.node import scratch as scratches
from builder.node.faults import BUG, DIFFERS, DONE, PARTLY, NodeFault, NodeStopped
from builder.node.items import Item
from builder.node.jobs import BegunItem, begin, read_begun
from builder.node.results.folder import open_results
from builder.node.results.pack import pack
from builder.node.results.publish import Publisher, ShardTally
from builder.node.results.record import RunJournal
from builder.node.scratch import Scratch
from builder.node.shard import ITEMS, RESULTS, NodeSteps, read_batch, read_items, require_same, require_shard
from builder.node.signals import Stopping, heard
from builder.node.steps import EndedJob, StageEnds, StageRunner
from builder.receiver.jobs import places

OnShard = Callable[[str, int, int], None]
"""Called with a stage (or ``copying``, ``publishing``), and how many recordings of how many it has done."""


@dataclass(frozen=True)
class ShardOptions:
    """What a shard is run with."""

    batch: Path
    shard: int
    steps: NodeSteps
    input: Path | None = None
    """The recordings' folder; None: where they were when the batch was planned."""
    results: Path | None = None
    items: Path | None = None
    scratch: Path | None = None
    pack: Path | None = None
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))


@dataclass(frozen=True)
class ShardWorked:
    """What came out of a run of a shard."""

    code: int
    tally: ShardTally
    items: int
    """Recordings of the shard."""
    left: int = 0
    """Recordings that have neither a result nor a reason: the shard is to be run again."""
    fault: NodeFault | None = None
    """Why the run broke off."""


class ShardWork:
    """One run of a shard, or of its first or last part."""

    def __init__(self, options: ShardOptions, on_progress: OnShard) -> None:
        """
        Raises:
            NodeFault: there is no such batch or shard, or not for these stages.
        """
        self._options, self._on_progress = options, on_progress
        self._batch = replace(read_batch(options.batch), transferred=options.pack is not None)
        require_same(self._batch, options.steps)
        require_shard(self._batch, options.shard)
        self._items = read_items(options.items or options.batch / ITEMS, options.shard)
        self._stopping = Stopping()
        self._ends: dict[str, dict[str, EndedJob]] = {}
        self._begun: list[BegunItem] = []

    def run(self) -> ShardWorked:
        """All of it.

        Raises:
            NodeFault: the results or the scratch folder can't be used.
        """
        with heard(self._stopping), scratches.opened(self._options.scratch, self._end_left) as scratch:
            return self._published(scratch, lambda publisher: self._work(scratch, publisher))

    def begin(self) -> ShardWorked:
        """Make the jobs in the scratch folder itself, for stages that somebody else starts."""
        scratch = self._shared_scratch()
        with heard(self._stopping):
            scratch.make()
            return self._published(scratch, lambda publisher: self._begin(scratch, publisher), whole=False)

    def publish(self) -> ShardWorked:
        """Publish what stages made of what ``begin`` left in the scratch folder."""
        scratch = self._shared_scratch()
        for stage in self._batch.job["stages"]:
            ends = StageEnds(scratch, stage["name"], frozenset(item.key for item in self._items))
            ends.update()
            self._ends[stage["name"]] = ends.jobs
        with heard(self._stopping):
            return self._published(scratch, lambda publisher: self._take_up(scratch, publisher))

    def _shared_scratch(self) -> Scratch:
        folder = self._options.scratch or scratches.usual()
        return Scratch(folder, "batch")

    def _published(self, scratch: Scratch, work: Callable[[Publisher], None], *, whole: bool = True) -> ShardWorked:
        """Do the work, and publish what it finished, however it ended.

        Args:
            whole: the run ends with it; else stages follow, and what failed so far doesn't fail the run.
        """
        results = self._options.results or self._options.batch / RESULTS
        if self._options.pack is not None and self._options.results is None:
            results = scratch.folder / RESULTS
        with _temporary(results) as temporary:
            journal = RunJournal(results, self._options.shard, temporary)
            publisher = Publisher(self._batch, scratch, results, temporary, journal, self._stopping)
            worked = ShardWorked(BUG, publisher.tally, len(self._items))
            try:
                journal.begin(len(self._items))
                worked = self._worked(publisher, work, whole=whole)
            finally:
                journal.end(worked.code if whole or worked.code else None)
                if self._options.pack is not None:
                    made, shard = publisher.tally.made, self._options.shard
                    pack(self._options.pack, results, made, journal.path, shard=shard, code=worked.code)
        return worked

    def _worked(self, publisher: Publisher, work: Callable[[Publisher], None], *, whole: bool) -> ShardWorked:
        fault: NodeFault | None = None
        try:
            work(publisher)
        except NodeFault as error:
            fault = error
        except NodeStopped:
            pass
        left: Sequence[Item] = [one.item for one in self._begun]
        total, tally = len(left), publisher.tally
        try:
            if whole:
                told = lambda done: self._on_progress("publishing", done, total)  # noqa: E731
                left = publisher.publish(self._begun, self._ends, told)
        except NodeFault as error:
            fault = fault or error
        code = self._code(tally, fault, len(left) if whole else 0)
        if not whole and code == PARTLY:
            code = DONE
        return ShardWorked(code, tally, len(self._items), len(left), fault)

    def _code(self, tally: ShardTally, fault: NodeFault | None, left: int) -> int:
        if tally.differs:
            return DIFFERS
        if fault is not None:
            return fault.code
        if self._stopping.number:
            return 128 + self._stopping.number
        if left:
            return BUG
        return PARTLY if tally.failed else DONE

    def _begin(self, scratch: Scratch, publisher: Publisher) -> None:
        items = publisher.known(self._items)
        if not items:
            return
        total, root = len(items), self._options.input or self._batch.root
        self._begun, failed = begin(
            self._batch, items, root, scratch, self._stopping, lambda done: self._on_progress("copying", done, total)
        )
        for item in items:
            if item.key in failed:
                publisher.fail(item, failed[item.key])

    def _take_up(self, scratch: Scratch, publisher: Publisher) -> None:
        new = {item.key for item in publisher.known(self._items)}
        self._begun = [one for one in read_begun(scratch) if one.item.key in new] if new else []

    def _work(self, scratch: Scratch, publisher: Publisher) -> None:
        self._begin(scratch, publisher)
        runner = self._runner(scratch)
        optional = {stage["name"] for stage in self._batch.job["stages"] if stage.get("optional")}
        keys = [one.item.key for one in self._begun]
        for step in self._options.steps.steps:
            self._stopping.check()
            if not keys:
                return
            ends = runner.run(step, keys).jobs
            self._ends[step.stage] = ends
            if step.stage not in optional:
                keys = [key for key in keys if key not in ends or ends[key].code == 0]

    def _runner(self, scratch: Scratch) -> StageRunner:
        return StageRunner(scratch, self._stopping, self._options.env, self._on_progress)

    def _end_left(self, run: str) -> None:
        """End what a run that was killed left of its stages."""
        for step in self._options.steps.steps:
            self._runner(Scratch(Path(os.devnull), run)).end_left(step, run)


@contextlib.contextmanager
def _temporary(results: Path) -> Iterator[Path]:
    made = open_results(results)
    try:
        yield made
    finally:
        places.remove_if_there(made)
