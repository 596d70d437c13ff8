"""What this machine has of a job, for :mod:`builder.core.signatures.chain`. Everything in its folder may be anybody's."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from builder.core.config.types import Config
from builder.core.images import currency
from builder.core.jobs import compose
from builder.core.jobs.job import Job
from builder.core.jobs.record.manifest import Manifest
from builder.core.progress import OnProgress, Progress
from builder.core.signatures.chain import ImageFacts, MachineFacts
from builder.core.weights.model import PinnedModel, model_digest
from builder.edges.engine import connection as engines
from builder.edges.images import installed
from builder.edges.images.layout import DIGEST, Layout
from builder.edges.jobs import listing, outcome
from builder.edges.jobs.folder import folder, read
from builder.edges.weights.store import Store
from builder.errors import BakeError
from builder.receiver.jobs.kept import LONGEST_COMPOSE
from builder.receiver.jobs.untrusted import parse_json, read_below, sha256_below, size_below

SERVICE = re.compile(rb'^  "?([a-z0-9-]{1,64})"?:\n    <<: \*stage\n    image: "(sha256:[0-9a-f]{64})"$', re.MULTILINE)
"""A stage and its image, as compose/job.yaml.j2 writes them."""


def facts(
    config: Config,
    job: Job,
    job_folder: Path,
    said: Mapping[str, Manifest],
    engine: str | None,
    on_progress: OnProgress,
) -> MachineFacts:
    """Look at every file that manifests name, at the code here, the images and the store.

    Args:
        engine: address of an engine that may have the images; None where none answers.
    """
    layout, store = Layout(config.paths.layout, config.paths.models), Store(config.paths.models)
    uses = {use.id for stage in job.stages for use in stage.models.values() if use.id in config.pins}
    models = [(config.models[id_], config.pins[id_]) for id_ in sorted(uses & set(config.models))]
    return MachineFacts(
        digests=_digests(job, job_folder, said, on_progress),
        removed=outcome.soundless(job_folder),
        code={stage: outcome.code_digest(config.shipped / "stages", stage) for stage in config.stages},
        images={
            stage: _image(layout, engine, stage, id_) for stage, id_ in image_ids(job_folder).items() if stage in said
        },
        pins={model.id: model_digest(pin) for model, pin in models},
        stored=_stored(store, models, on_progress),
    )


def _stored(store: Store, models: Sequence[PinnedModel], on_progress: OnProgress) -> dict[str, bool]:
    """Whether the store has models as they are pinned; a file that was hashed before isn't read."""
    known: dict[str, str] = {}
    stored: dict[str, bool] = {}
    total, done = sum(pin.size for _, pin in models), 0
    for model, pin in models:
        on_progress(Progress(what="weights", done=done, total=total, unit="bytes"))
        stored[model.id] = store.intact(model, pin, known)
        done += pin.size
    on_progress(Progress(what="weights", done=total, total=total, unit="bytes", finished=True))
    return stored


def _digests(
    job: Job, job_folder: Path, said: Mapping[str, Manifest], on_progress: OnProgress
) -> dict[str, str | None]:
    """``sha256:…`` of what manifests and job.yaml name; as much of it as stages can have made."""
    paths = [entry.path for entry in job.inputs]
    paths += [path for made in said.values() for path in (*made.inputs, *made.outputs)]
    sizes = {path: size_below(job_folder, path) or 0 for path in dict.fromkeys(paths)}
    most = outcome.most_bytes(job) * (len(said) + 1)
    digests: dict[str, str | None] = {}
    total, done = min(sum(sizes.values()), most), 0
    for path, size in sizes.items():
        on_progress(Progress(what="verify", done=min(done, total), total=total, unit="bytes"))
        digest = sha256_below(job_folder, path, most - done) if done <= most else None
        digests[path] = None if digest is None else f"sha256:{digest}"
        done += size
    on_progress(Progress(what="verify", done=total, total=total, unit="bytes", finished=True))
    return digests


def image_ids(job_folder: Path) -> dict[str, str]:
    """Stage -> id of the image in the job's compose.yaml; none where it ran without, or the file is something else.

    It is read as the builder's template and the loader write it, and not as YAML, whose aliases can make gigabytes of a page.
    """
    raw = read_below(job_folder, compose.FILE, LONGEST_COMPOSE) or b""
    with contextlib.suppress(ValueError):
        found = parse_json(raw.partition(b"\n")[2])  # the loader's, below a comment
        services = found.get("services") if isinstance(found, dict) else None
        rows = services.items() if isinstance(services, dict) else ()
        ids = {stage: service.get("image") for stage, service in rows if isinstance(service, dict)}
        return {stage: id_ for stage, id_ in ids.items() if isinstance(id_, str) and DIGEST.fullmatch(id_)}
    return {stage.decode(): id_.decode() for stage, id_ in SERVICE.findall(raw)}


def _image(layout: Layout, engine: str | None, stage: str, id_: str) -> ImageFacts:
    """An image by its id, which is its manifest's digest or its config's: as the engine's store has it."""
    for reference in layout.images():
        with contextlib.suppress(BakeError, OSError):
            stored = layout.image(reference)
            if id_ in (stored.manifest.digest, stored.config.digest):
                return _facts(id_, f"layout: {reference}", stage, stored.written.image.labels)
    if engine is not None and (known := engines.image(engine, id_)) is not None:
        return _facts(id_, "engine", stage, known.labels)
    return ImageFacts(id=id_, where="")


def _facts(id_: str, where: str, stage: str, labels: Mapping[str, str]) -> ImageFacts:
    named, _, code = labels.get(currency.CODE, "").partition(":")
    return ImageFacts(
        id=id_,
        where=where,
        code=code if named == stage else "",
        models=frozenset(installed.baked(labels).values()),
    )


def maker(config: Config, digest: str) -> tuple[Job, str] | None:
    """The newest job here that made a result of these bytes, and the result's path in its folder.

    Args:
        digest: ``sha256:…``.
    """
    for listed in listing.listing(config):
        with contextlib.suppress(BakeError, OSError):
            job = read(config, listed.folder)
            for made in outcome.said(job, folder(config, job)).values():
                for path in made.results:
                    if made.outputs[path] == digest:
                        return job, path
    return None
