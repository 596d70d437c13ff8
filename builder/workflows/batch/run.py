"""The command ``batch run``: one shard on this machine, by the program that nodes have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from builder import __version__
from builder.core.batch import batch_file, rendering
from builder.core.batch.batch_file import Batch
from builder.core.config.types import Config
from builder.core.jobs import compose
from builder.core.progress import OnProgress, Progress
from builder.core.terms import Mode, Variant
from builder.core.weights.model import model_digest
from builder.edges.batch import folder as batches
from builder.edges.batch import steps as starting
from builder.errors import (
    BakeError,
    IntegrityError,
    Interrupted,
    MissingError,
    PartialError,
    Terminated,
    UsageError,
)
from builder.node import faults, shard
from builder.node.faults import NodeFault
from builder.node.shard import NodeStep, NodeSteps
from builder.node.work import ShardOptions, ShardWork, ShardWorked
from builder.program import command
from builder.workflows import host as hosts
from builder.workflows.session import Session, fetch_missing, hardware_of, native_python, pinned, pythons_apart

KINDS: Mapping[int, Callable[..., BakeError]] = {
    faults.WRONG: UsageError,
    faults.MACHINE: MissingError,
    faults.DIFFERS: IntegrityError,
}
"""A node's exit codes -> errors."""


@dataclass(frozen=True, kw_only=True)
class ShardRan:
    """A shard that was run."""

    batch: Path
    shard: int
    worked: ShardWorked

    @property
    def failure(self) -> BakeError | None:
        """Why there is more to do, or not all came out."""
        worked, where = self.worked, f"shard {self.shard}"
        again = command(f"batch run {self.batch} --shard {self.shard}")
        if worked.fault is not None and not worked.tally.differs:
            return error_of(worked.fault)
        if worked.tally.differs:
            many = len(worked.tally.differs)
            what = f"{many} recordings came out differently than in an earlier run, whose results stay"
            return IntegrityError(what, where=where, detail=worked.tally.differs[:10])
        if worked.code > 128:
            kind = Interrupted if worked.code == Interrupted.exit_code else Terminated
            return kind(f"ended; {len(worked.tally.done)} of {worked.items} recordings have results", hint=again)
        if worked.left:
            return BakeError(f"{worked.left} recordings are left", where=where, hint=again)
        if worked.tally.failed:
            what = f"{len(worked.tally.failed)} of {worked.items} recordings failed, each with its reason"
            return PartialError(what, where=where, hint=command(f"batch status {self.batch}"))
        return None


def error_of(fault: NodeFault) -> BakeError:
    """What a node says, as this program's error."""
    kind = KINDS.get(fault.code, BakeError)
    return kind(fault.what, hint=fault.do or None, detail=fault.detail)


def run(
    session: Session, folder: Path, number: int | None, *, scratch: Path | None = None, build: bool = True
) -> ShardRan:
    """Run a shard: what has a result is passed over.

    Args:
        number: of the shard; None: what an engine counts.
        scratch: for what goes on; by default in the state folder.
        build: build images that are missing; else they are an error.

    Raises:
        UsageError: there is no such batch or shard, or another version planned it.
        MissingError: this machine lacks something.
        IntegrityError: its models are not the batch's.
    """
    batch = batches.read(folder)
    batch_file.require_version(batch, __version__, str(folder / batch_file.NAME))
    config = of_batch(session.config, batch)
    session = replace(session, config=config)
    models = pinned(config, sorted(batch.models))
    place = (scratch or config.paths.cache / "batch").absolute()
    try:
        number = shard.shard_number(number, 0, session.env)
        known = shard.read_batch(folder)
        shard.require_shard(known, number)
        digests = {model.id: model_digest(pin) for model, pin in models}
        steps = NodeSteps(job=known.job, models=digests, steps=_steps(session, batch, folder, number, place, build))
        options = ShardOptions(batch=folder.absolute(), shard=number, steps=steps, scratch=place, env=dict(session.env))
        work = ShardWork(options, _told(session.on_progress))
        fetch_missing(config, models, env=session.env, on_progress=session.on_progress)
        worked = work.run()
    except NodeFault as fault:
        raise error_of(fault) from fault
    return ShardRan(batch=folder, shard=number, worked=worked)


def of_batch(config: Config, batch: Batch) -> Config:
    """The configuration with the batch's own mode, variant and preset."""
    defaults = replace(config.defaults, mode=Mode(batch.mode), variant=Variant(batch.variant), preset=batch.preset)
    return replace(config, defaults=defaults)


def _steps(
    session: Session, batch: Batch, folder: Path, number: int, scratch: Path, build: bool
) -> tuple[NodeStep, ...]:
    """How this machine starts the stages."""
    config, env, told = session.config, session.env, session.on_progress
    stages = rendering.stages_of(batch.job)
    gpu = any(map(compose.needs_gpu, stages))
    if gpu:
        hosts.require_gpu(config, env, hint="the batch is for a GPU: plan it with --device cpu")
    if config.defaults.mode is Mode.NATIVE:
        python = native_python(config, cuda=gpu, env=env, on_progress=told)
        apart = pythons_apart(config, [stage.name for stage in stages], env=env, on_progress=told)
        return starting.native(config, batch, python=python, apart=apart, env=env)
    session = replace(session, config=hosts.with_extras(config, [stage.name for stage in stages]))
    images = hosts.stage_images_here(session, build=build)
    own = {stage: image.id for stage, image in images.images.items() if stage in batch.images}
    if own != dict(batch.images):
        odd = sorted(stage for stage in batch.images if own.get(stage) != batch.images[stage])
        raise MissingError(
            f"the images of {', '.join(odd)} here are not the batch's",
            where=str(folder),
            hint=f"{command('batch render')}, for an engine that pulls them; or plan with the images that are here",
        )
    items = shard.read_items(folder / shard.ITEMS, number)
    hardware, _ = hardware_of(config)
    machine = hosts.container_machine(config, images, hardware)
    return starting.containers(
        config, batch, items, images.images, engine=images.engine, machine=machine, scratch=scratch
    )


def _told(on_progress: OnProgress) -> Callable[[str, int, int], None]:
    """A node's progress, as this program shows it."""

    def tell(stage: str, done: int, total: int) -> None:
        on_progress(Progress(what=stage, done=done, total=total, finished=done >= total))

    return tell
