"""``batch collect``: what nodes sent is taken in, and everything is shown on one page."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from builder import __version__
from builder.core.batch import page as pages
from builder.core.batch.batch_file import ITEMS
from builder.core.batch.page import BatchSummary
from builder.core.batch.tally import DONE, OPEN, BatchTally
from builder.core.progress import OnProgress, Progress
from builder.edges.batch import arrived, folder
from builder.edges.batch.following import BatchFollower
from builder.edges.batch.pages import PAGE, TOGETHER, PagesIndex, PageWriter, templates, write_page
from builder.edges.batch.recordings import PlannedItems
from builder.edges.jobs.folder import disk_error
from builder.edges.system import files
from builder.errors import BakeError, IntegrityError, UsageError
from builder.workflows.batch.status import BatchStatus, of_tally

if TYPE_CHECKING:
    from builder.workflows.session import Session

REASONS = 20
"""Reasons above the table; the table has all."""


@dataclass(frozen=True, kw_only=True)
class BatchCollected:
    """What was taken in, and the page of all results."""

    status: BatchStatus
    page: Path
    size: int
    """Bytes of the page."""
    taken: tuple[str, ...]
    """Names of tars that were taken in."""
    published: int
    """Recordings whose results came with them."""
    refused: tuple[tuple[str, str], ...]
    """Names of tars that weren't, and why."""
    pages: int
    """Pages of recordings that were written now."""
    pages_failed: int
    """Recordings whose results can't be shown."""

    @property
    def failure(self) -> BakeError | None:
        """That something wasn't taken in."""
        if not self.refused:
            return None
        name, reason = self.refused[0]
        others = f" (and {len(self.refused) - 1} others)" if len(self.refused) > 1 else ""
        return IntegrityError(
            f"{name} was not taken in: {reason}{others}",
            where=str(self.status.batch / arrived.FOLDER),
            hint="let its shard run again, or remove the file: batch retry makes shards of what is missing",
        )


def collect(session: Session, batch: Path, *, pages: bool = True) -> BatchCollected:
    """Take in what arrived, and write the page of the batch; then, if asked for, one for each recording that has none.

    Raises:
        ConfigError: the folder has no batch of this version's.
        UsageError: another process collects it.
        MissingError: the disk is full, or something can't be written.
    """
    planned = folder.read(batch)
    with _alone(batch), _on_disk(batch):
        follower = BatchFollower(batch)
        follower.look()
        taken = arrived.take(
            batch,
            follower.tally.numbers,
            PlannedItems(batch, Path(planned.root)).changed,
            _telling(session.on_progress),
        )
        follower.look()
        index = PagesIndex(batch)
        size, made, failed = _page(session, follower, index), 0, 0
        if pages:
            made, failed = _pages(session, follower.tally, index, batch)
            size = _page(session, follower, index) if made else size
    return BatchCollected(
        status=of_tally(batch, follower.tally, time.time()),
        page=batch / PAGE,
        size=size,
        taken=taken.names,
        published=taken.published,
        refused=taken.refused,
        pages=made,
        pages_failed=failed,
    )


@contextlib.contextmanager
def _alone(batch: Path) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(files.locked(batch / ".collect.lock", timeout=0))
        except TimeoutError as error:
            raise UsageError("another process collects this batch", where=str(batch), hint="wait for it") from error
        yield


@contextlib.contextmanager
def _on_disk(batch: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise disk_error(error, batch) from error


def _telling(on_progress: OnProgress) -> arrived.Tell:
    def tell(name: str, number: int, total: int) -> None:
        over = number == total
        on_progress(Progress(what="taking in", done=number, total=total, unit="shards", note=name, finished=over))

    return tell


def _pages(session: Session, tally: BatchTally, index: PagesIndex, batch: Path) -> tuple[int, int]:
    """Write the page of each recording that has a result and no page; how many were written, and how many can't be."""
    wanted = [key for key, at in tally.numbers.items() if tally.states[at] == DONE and key not in index]
    writer, made, failed = PageWriter(session.config, batch), 0, 0
    new: list[bytes] = []
    try:
        for number, key in enumerate(wanted):
            session.on_progress(Progress(what="pages", done=number, total=len(wanted), unit="pages"))
            try:
                writer.write(key.decode())
            except BakeError:  # what a node says of a result that isn't there, or isn't one
                failed += 1
                continue
            made += 1
            new.append(key)
            if len(new) == TOGETHER:
                index.add(new)
                new.clear()
    finally:
        index.add(new)
    if wanted:
        session.on_progress(Progress(what="pages", done=len(wanted), total=len(wanted), unit="pages", finished=True))
    return made, failed


def _page(session: Session, follower: BatchFollower, index: PagesIndex) -> int:
    """Write the page of the batch; its bytes."""
    tally, batch, now = follower.tally, follower.batch, time.time()
    found = of_tally(batch, tally, now)
    mode = (batch / ITEMS).stat().st_mode & 0o666
    pieces = pages.render(
        _summary(found, now), _rows(batch, tally, index, now), tally.reasons, templates(session.config.shipped)
    )
    return write_page(batch, pieces, mode=mode)


def _summary(found: BatchStatus, now: float) -> BatchSummary:
    counts = {state: getattr(found, state) for state in pages.STATES}
    reasons = [(r.stage or ("plan" if r.kind == "plan" else ""), r.text, n) for r, n in found.failures]
    reasons += [("plan", r.text, n) for r, n in found.unreadables]
    return BatchSummary(
        name=found.batch.name,
        version=__version__,
        moment=time.strftime("%Y-%m-%d %H:%M", time.gmtime(now)),
        items=found.items,
        counts=tuple(counts.items()),
        done_sound=found.sound_done,
        left_sound=found.sound_left,
        pace=found.real_time_factor,
        differing=found.differing,
        reasons=tuple(reasons[:REASONS]),
        unshown=max(len(reasons) - REASONS, 0),
    )


def _rows(batch: Path, tally: BatchTally, index: PagesIndex, now: float) -> Iterator[Markup]:
    """A row for each item, in the order of their paths."""
    shards = tally.running(now)
    for item in folder.items(batch):
        key = item.key.encode()
        at = tally.numbers[key]
        running = tally.states[at] == OPEN and tally.shards[at] in shards
        yield pages.row(tally, at, item.path, key=item.key, running=running, paged=key in index)
