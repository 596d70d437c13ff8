"""Jobs: from their results to what made them, and a second run."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from builder.core.jobs.job import Job
from builder.core.jobs.request import JobOptions
from builder.core.signatures import chain
from builder.core.signatures.links import ChainLink, not_shown
from builder.core.terms import Mode
from builder.edges.jobs import folder as jobs
from builder.errors import BakeError, MissingError, UsageError
from builder.program import command
from builder.workflows.session import Session, layout_of, pinned, store_of
from builder.workflows.signatures.checks import Verified, engine_address, image_signature

if TYPE_CHECKING:
    from builder.edges.signing.keys import VerifyingKey


def named(session: Session, word: str, path: Path) -> tuple[Job, Path] | None:
    """A job by its id, the beginning of it, or its folder, wherever that is; None where no job is meant."""
    from builder.edges.jobs import listing

    if (path / "job.yaml").is_file():
        folder = path.resolve()
        return jobs.read(session.config, folder), folder
    if not listing.is_id(word):
        return None
    job = listing.find(session.config, word)
    return job, jobs.folder(session.config, job)


def verify(
    session: Session, job: Job, folder: Path, key: VerifyingKey | None, *, result: str | None, replay: bool
) -> Verified:
    from builder.edges.jobs import outcome
    from builder.edges.jobs.record import origin

    said = outcome.said(job, folder)
    facts = origin.facts(session.config, job, folder, said, engine_address(session), session.on_progress)
    if job.mode == Mode.NATIVE.value:
        facts = replace(facts, images={})
    links = chain.chain(job, said, facts, result=result)
    if job.mode == Mode.NATIVE.value:
        links.append(not_shown("image", job.id, "it ran without one, in the environment of this machine"))
    links += _image_signatures(session, facts, key)
    if replay:
        links += _replayed(session, job, folder)
    return Verified(kind="job", name=job.id, links=tuple(links), replayed=replay)


def _image_signatures(session: Session, facts: chain.MachineFacts, key: VerifyingKey | None) -> list[ChainLink]:
    """The signatures of the images that a job ran in; an engine's id may be the digest that was signed."""
    layout = layout_of(session.config)
    digests = {}
    for image in facts.images.values():
        reference = image.where.partition("layout: ")[2]
        digests[image.id] = layout.image(reference).manifest.digest if reference else image.id
    return [image_signature(session, digest, id_, key) for id_, digest in digests.items()]


def _replayed(session: Session, job: Job, folder: Path) -> list[ChainLink]:
    """Run a job a second time, in a folder of its own, and compare what it makes."""
    from builder.edges.engine import kept
    from builder.edges.jobs import outcome
    from builder.edges.jobs.record import again
    from builder.workflows import run

    if jobs.state(folder) in ("running", "queued"):
        raise UsageError(f"job {job.id} is running", hint="wait for it")
    first = outcome.said(job, folder)
    if not any(made.results for made in first.values()):
        raise UsageError(f"job {job.id} has no results to compare", hint=command("run", job.id))
    _require_here(session, job)
    root = session.config.paths.cache / "replay"
    try:
        with again.copied(root, job, folder, session.on_progress) as copy:
            inner = replace(session, config=replace(session.config, jobs=root))
            run.run(inner, [copy.id], JobOptions(), run.RunOptions(build=False))
            second = outcome.said(copy, root / copy.id)
    finally:
        if (host := engine_address(session)) is not None:
            with contextlib.suppress(BakeError):
                kept.release(host, root)  # the names that its images had for it
    return chain.replayed(first, second, [stage.name for stage in job.stages])


def _require_here(session: Session, job: Job) -> None:
    """Refuse to run a job for which something would be fetched first: verify asks no network.

    Raises:
        MissingError: weights, or the native environment. Images that are missing are refused by the run itself.
    """
    from builder.core.jobs.compose import needs_gpu
    from builder.edges.machine import environment
    from builder.workflows import run

    config, _ = run.of_jobs(session.config, [job], typed=None)
    store, ids = store_of(config), run.models_of([job])
    if lacking := [model.id for model, pin in pinned(config, ids) if store.missing(model, pin)]:
        raise MissingError(
            f"the store lacks weights of job {job.id}: {', '.join(lacking)}", hint=command("models fetch", *lacking)
        )
    if config.defaults.mode is not Mode.NATIVE:
        return
    named = {stage.name for stage in job.stages}
    apart = [(spec,) for name, spec in config.stages.items() if spec.apart and name in named]
    cuda = any(needs_gpu(stage) for stage in job.stages)
    if not environment.ready(config, config.together, cuda=cuda) or not all(
        environment.ready(config, s) for s in apart
    ):
        raise MissingError(
            f"the environment that ran job {job.id} is not on this machine",
            hint=command("bootstrap --mode native --variant", job.variant),
        )
