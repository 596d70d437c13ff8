"""``batch plan``: look into recordings, decide what is done with them, share them out."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder import __version__
from builder.core.batch import batch_file
from builder.core.batch.batch_file import IDENTITIES, Batch, Round
from builder.core.batch.differences import differences
from builder.core.batch.rounds import settled, with_round
from builder.core.batch.shards import length
from builder.core.jobs.job import stage_data
from builder.core.jobs.request import JobOptions, Request, plan_stages
from builder.core.progress import Progress
from builder.core.terms import Workflow
from builder.core.weights.model import model_digest
from builder.edges.system import files
from builder.errors import InputError, UsageError, did_you_mean
from builder.node.items import Item, item_key
from builder.program import command

if TYPE_CHECKING:
    from builder.core.batch.tally import BatchTally
    from builder.edges.batch.found import FoundFile
    from builder.edges.batch.probes import Probed
    from builder.workflows.host import JobHost
    from builder.workflows.session import Session


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """How a batch is planned."""

    out: Path
    """The batch's folder."""
    shard_minutes: float
    identity: str
    typed: Mapping[str, Any]
    """The options of jobs, as they were typed."""
    build: bool = True
    """Images that are missing are built."""


@dataclass(frozen=True, kw_only=True)
class BatchPlanned:
    """A batch that was planned, or planned again."""

    folder: Path
    batch: Batch
    items: Sequence[Item]
    round: Round | None
    """The shards that were made; None: nothing was new."""
    done: int
    """Recordings that have a result."""
    failed: int
    """Recordings that failed, and are not tried again."""
    new: int
    """Recordings that the batch did not have, or that changed."""
    gone: int
    """Recordings without a result that are no longer there, and left the batch."""

    @property
    def unreadable(self) -> list[Item]:
        """Those that can't be read."""
        return [item for item in self.items if item.unreadable]

    @property
    def seconds(self) -> float:
        """Of sound."""
        return sum(item.seconds for item in self.items)


def plan(session: Session, words: Sequence[str], asked: JobOptions, options: PlanOptions) -> BatchPlanned:
    """Plan a batch of the recordings that the words mean, or plan it again.

    Args:
        words: folders, and lists of paths.
        asked: what is done with each recording.

    Raises:
        UsageError: an option is for single recordings, or the batch was planned otherwise.
        InputError: there are no recordings.
        MissingError: the folder can't be written.
    """
    from builder.edges.batch import folder as batches
    from builder.edges.batch import found as finding
    from builder.workflows import host as hosts

    _refuse(asked, options)
    config, out = session.config, files.expanded(options.out).absolute()
    batches.before(out)
    paths = finding.named(words, out)
    request = hosts.resolve(config, asked)
    if request.warning:
        session.on_progress(Progress(what="warning", note=request.warning, finished=True))
    plan_stages(config.stages, request, workflow=_workflow(request))  # what can't be is said before anything is built
    with batches.planning(out):
        before = batches.before(out)
        if before is not None:
            batch_file.require_version(before, __version__, str(out))
        root = before.root if before else finding.root_of(words, paths)
        host = _host(session, request, build=options.build)
        made, beside = _made(session, request, options, root=root, images=host.images)
        if before is not None:
            _require_same(before, made, out)
        listed = finding.looked(paths, root, lambda n: _tell(session, "files", n, len(paths)))
        return _written(session, listed, host, before=before, made=made, beside=beside, out=out)


def _written(
    session: Session,
    listed: Sequence[FoundFile],
    host: JobHost,
    *,
    before: Batch | None,
    made: Batch,
    beside: Mapping[str, bytes],
    out: Path,
) -> BatchPlanned:
    """Look into the recordings, give shards to those without a result, and write the batch."""
    from builder.core.batch.tally import DONE, FAILED, OPEN, BatchTally
    from builder.edges.batch import folder as batches
    from builder.edges.batch.following import BatchFollower

    known = {item.path: item for item in batches.items(out)} if before else {}
    tally = BatchFollower(out).looked() if before else BatchTally()
    items = _items(session, listed, host, made, known)
    stay, gone = _others(listed, known, made, tally)
    items = sorted([*items, *stay], key=lambda item: item.path) if stay else items
    if all(item.unreadable for item in items):
        reasons = [f"{item.path}: {item.unreadable}" for item in items[:10]]
        raise InputError("none of the files can be read", where=made.root, detail=reasons)
    old = {item.key for item in known.values() if not item.unreadable}
    new = sum(not item.unreadable and item.key not in old for item in items)
    del known, old

    def left(item: Item) -> bool:
        return tally.state_of(item.key) == OPEN

    batch = replace(before, shard_minutes=made.shard_minutes) if before else made
    anew = new or gone or any(left(item) and not settled(batch, item) for item in items if not item.unreadable)
    planned = with_round(batch, items, left if anew else lambda item: False)
    batches.write(out, planned.batch, planned.items, None if before else beside)
    return BatchPlanned(
        folder=out,
        batch=planned.batch,
        items=planned.items,
        round=planned.round,
        done=sum(tally.state_of(item.key) == DONE for item in planned.items),
        failed=sum(tally.state_of(item.key) == FAILED for item in planned.items),
        new=new,
        gone=gone,
    )


def _refuse(asked: JobOptions, options: PlanOptions) -> None:
    """Raises UsageError for what is meant for one recording, or is nothing."""
    if asked.start is not None or asked.end is not None:
        raise UsageError(
            "a batch is of whole recordings",
            where="--start" if asked.start is not None else "--end",
            hint=command("run RECORDING --start …") + " is for a part of one",
        )
    if asked.metadata is not None:
        raise UsageError(
            "a batch asks nobody what its recordings are", where="--metadata", hint="leave it out; run has it"
        )
    if options.identity not in IDENTITIES:
        raise UsageError(
            f'"{options.identity}" tells nothing of a recording',
            where="--identity",
            expected=" or ".join(IDENTITIES),
            hint=did_you_mean(options.identity, IDENTITIES),
        )


def _workflow(request: Request) -> Workflow:
    """A film is made of recordings only where that is asked for: a batch would hold every picture twice."""
    return request.workflow or Workflow.TRANSCRIBE


def _host(session: Session, request: Request, *, build: bool) -> JobHost:
    """Where the stages run, with their models."""
    from builder.workflows import host as hosts
    from builder.workflows.session import fetch_missing

    config = session.config
    host = hosts.choose(session, stages=request.stages(config), gpu=request.on_gpu, build=build)
    if host.warning:
        session.on_progress(Progress(what="warning", note=host.warning, finished=True))
    fetch_missing(config, list(request.models.values()), env=session.env, on_progress=session.on_progress)
    return host


def _made(
    session: Session, request: Request, options: PlanOptions, *, root: str, images: Mapping[str, str]
) -> tuple[Batch, dict[str, bytes]]:
    """The batch as it is planned now, without shards, and the files that its jobs get."""
    from builder.edges.batch import folder as batches

    workflow, mode = _workflow(request).value, session.config.defaults.mode.value
    stages = plan_stages(session.config.stages, request, workflow=_workflow(request))
    beside = batches.beside_of(stages, request)
    names = {stage.name for stage in stages}
    about = {"workflow": workflow, "mode": mode, "variant": request.variant, "preset": request.preset}
    used = {use.id for stage in stages for use in stage.models.values()}
    batch = Batch(
        version=__version__,
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        root=root,
        identity=options.identity,
        shard_minutes=options.shard_minutes,
        options=options.typed,
        workflow=workflow,
        mode=mode,
        variant=request.variant,
        preset=request.preset,
        images={stage: image for stage, image in images.items() if stage in names},
        models={model.id: model_digest(pin) for model, pin in request.models.values() if model.id in used},
        job={"schema": 1, **about, "stages": [stage_data(stage) for stage in stages]},
        beside=batches.sha256s(beside),
    )
    return batch_file.from_text(batch_file.to_text(batch), str(options.out)), beside


def _require_same(before: Batch, now: Batch, out: Path) -> None:
    """Raises UsageError when results would be of two kinds."""
    found = differences(before, now)
    if found:
        typed = " ".join(batch_file.typed(before.options))
        raise UsageError(
            f"this batch was planned otherwise: {found[0]}",
            where=str(out),
            detail=found[1:10],
            hint=f"{command('batch plan … --out', out)} {typed}".rstrip() + ", or --out another folder",
        )


def _items(
    session: Session, listed: Sequence[FoundFile], host: JobHost, batch: Batch, known: Mapping[str, Item]
) -> list[Item]:
    """The recordings as items; only those are looked into that nobody knows as they are."""
    from builder.edges.batch import probes
    from builder.workflows.session import hardware_of

    hashed = batch.identity == "sha256"

    def same(entry: FoundFile) -> Item | None:
        item = known.get(entry.path)
        if item is None or hashed or item.unreadable or entry.unreadable:
            return None
        return item if (item.size, item.mtime_ns) == (entry.size, entry.mtime_ns) else None

    probed = probes.look(
        [entry for entry in listed if not entry.unreadable and same(entry) is None],
        root=batch.root,
        media=host.media,
        media_each=host.media_each,
        cache=probes.ProbeCache(session.config.paths.probes),
        hashed=hashed,
        workers=hardware_of(session.config)[0].threads,
        on_done=lambda done, total: _tell(session, "recordings", done, total),
    )
    found = []
    for entry in listed:
        item = same(entry) or _item(entry, probed, probes.file_key(batch.root, entry), hashed=hashed)
        old = known.get(entry.path)
        found.append(old if old is not None and _unchanged(old, item) else item)
    return found


def _unchanged(old: Item, item: Item) -> bool:
    """Whether a known item stays, with its shard."""
    return old.key == item.key and old.unreadable == item.unreadable


def _item(entry: FoundFile, probed: Probed, key: str, *, hashed: bool) -> Item:
    unreadable = entry.unreadable or probed.unreadable.get(key, "")
    digest = probed.sha256.get(key) if hashed and not unreadable else None
    identity = str(entry.mtime_ns) if digest is None else digest
    return Item(
        key=item_key(entry.path, entry.size, identity),
        path=entry.path,
        size=entry.size,
        mtime_ns=entry.mtime_ns if digest is None else None,
        sha256=digest,
        seconds=0.0 if unreadable else length(probed.seconds[key], entry.size),
        unreadable=unreadable,
    )


def _others(
    listed: Sequence[FoundFile], known: Mapping[str, Item], batch: Batch, tally: BatchTally
) -> tuple[list[Item], int]:
    """Items that the words don't mean: those that stay, and how many are gone."""
    from builder.core.batch.tally import DONE
    from builder.edges.batch import found as finding

    meant = {entry.path for entry in listed} if known else set()
    stay, gone = [], 0
    for path, item in known.items():
        if path in meant:
            continue
        if tally.state_of(item.key) == DONE or finding.is_there(batch.root, path, item.size):
            stay.append(item)
        else:
            gone += 1
    return stay, gone


def _tell(session: Session, what: str, done: int, total: int) -> None:
    session.on_progress(Progress(what=f"looking at {what}", done=done, total=total, finished=done == total))
