"""``batch render``: files with which an engine works through a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from builder import __version__
from builder.core.batch import batch_file, htcondor, kubernetes, readme, rendering, slurm, steps
from builder.core.batch.kubernetes import ClusterOptions, Volume
from builder.core.batch.rendering import RenderedBatch, ShardTable
from builder.core.batch.slurm import SlurmOptions
from builder.errors import UsageError, did_you_mean
from builder.program import command
from builder.workflows.batch import node_images
from builder.workflows.batch.run import of_batch
from builder.workflows.session import Session, native_python, pythons_apart

if TYPE_CHECKING:
    from builder.core.batch.batch_file import Batch
    from builder.core.config.types import Config
    from builder.core.jobs.job import JobStage

PARALLELISM = 16
"""Shards at once, where nobody says."""


@dataclass(frozen=True, kw_only=True)
class BatchRenderOptions:
    """What the command line asks of the files, as it was typed."""

    engine: str
    out: Path | None = None
    first: int = 0
    parallelism: int = PARALLELISM
    gpus: int | None = None
    registry: str | None = None
    namespace: str | None = None
    queue: str | None = None
    input_claim: str | None = None
    results_claim: str | None = None
    host_path: bool = False
    user: str | None = None
    weights_image: str | None = None


@dataclass(frozen=True, kw_only=True)
class BatchRendered:
    """The files for an engine."""

    engine: str
    folder: Path
    files: tuple[str, ...]
    """Names."""
    batch: RenderedBatch
    way: str
    """How nodes get what they run: of :mod:`builder.core.batch.readme`."""
    submit: tuple[str, ...]
    """What to type in the folder."""


def render(session: Session, folder: Path, options: BatchRenderOptions) -> BatchRendered:
    """Write plain files that an engine's own commands take.

    Raises:
        UsageError: no batch, one of another version, an engine or an option that isn't, or nothing to do.
        MissingError: images or models of the batch are not here, or the disk is full.
    """
    from builder.edges.batch import folder as batches

    _require_engine(options)
    batch = batches.read(folder)
    batch_file.require_version(batch, __version__, str(folder))
    config = of_batch(session.config, batch)
    place = folder.resolve()
    stages = rendering.stages_of(batch.job)
    images = node_images.images_of(
        config,
        batch,
        stages,
        engine=options.engine,
        registry=options.registry,
        mounted=options.weights_image is not None,
    )
    rendered = _rendered(config, place, batch, stages, options, images)
    named = node_images.named_registry(config, options.registry)
    way = readme.NATIVE if not images else readme.REGISTRY if named else readme.LOADED
    python, started = _steps(replace(session, config=config), batch, stages, options, images=images, way=way)
    out = (options.out or place / options.engine).resolve()
    texts = _texts(config, place, out, batch, rendered, options, python=python, way=way)
    _write(place, out, batch, options, {**texts, steps.FILE: steps.text(batch.job, batch.models, started)})
    return BatchRendered(
        engine=options.engine,
        folder=out,
        files=(*sorted(texts), rendering.NODE, steps.FILE),
        batch=rendered,
        way=way,
        submit=tuple(_submit(options.engine, rendered)),
    )


def _submit(engine: str, batch: RenderedBatch) -> Sequence[str]:
    if engine == "slurm":
        return slurm.submissions(batch)
    return ["kubectl apply -k ."] if engine == "kubernetes" else ["condor_submit batch.sub"]


# What can't be asked for


ALONE: Mapping[str, tuple[str, ...]] = {
    "namespace": ("kubernetes",),
    "queue": ("kubernetes", "slurm"),
    "input_claim": ("kubernetes",),
    "results_claim": ("kubernetes",),
    "host_path": ("kubernetes",),
    "user": ("kubernetes",),
}
"""Options that only some engines have."""


def _require_engine(options: BatchRenderOptions) -> None:
    """Raises UsageError for an engine that isn't known here, and for an option that it has no use for."""
    if options.engine not in rendering.ENGINES:
        raise UsageError(
            f'"{options.engine}" is not an engine known here',
            where="--for",
            expected=", ".join(rendering.ENGINES),
            hint=did_you_mean(options.engine, rendering.ENGINES),
        )
    for name, engines in ALONE.items():
        if getattr(options, name) and options.engine not in engines:
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag} is for {' and '.join(engines)}", where=flag, hint=f"leave {flag} out")


# What is rendered


def _rendered(
    config: Config,
    folder: Path,
    batch: Batch,
    stages: Sequence[JobStage],
    options: BatchRenderOptions,
    images: Mapping[str, str],
) -> RenderedBatch:
    """The batch with all that its shards take.

    Raises:
        UsageError: there is no such shard, nothing in them, or a number of GPUs that can't be.
    """
    from builder.edges.batch import folder as batches

    if options.first >= batch.shards:
        raise UsageError(
            f"there is no shard {options.first}",
            where="--first",
            expected=f"0 to {batch.shards - 1}: the batch's shards",
        )
    table = ShardTable(options.first, batch.shards)
    for item in batches.items(folder):
        if item.shard is not None:
            table.add(item.shard, item.seconds, item.size)
    gpu = any(stage.settings.get("device") == "cuda" for stage in stages)
    if options.gpus is not None and gpu != bool(options.gpus):
        what = "stages of this batch compute on a GPU" if gpu else "no stage of this batch computes on a GPU"
        raise UsageError(what, where="--gpus", hint="--gpus 1" if gpu else "plan it with --device cuda")
    needs = rendering.step_needs(
        batch.job,
        longest=table.longest,
        specs=config.stages,
        sizes={id_: pin.size for id_, pin in config.pins.items()},
        images=images,
    )
    found = RenderedBatch(
        name=rendering.batch_name(str(folder), batch.created),
        version=batch.version,
        created=batch.created,
        first=options.first,
        shards=table.shards,
        steps=needs,
        parallelism=min(options.parallelism, len(table.shards)),
        gpus=(options.gpus or 1) if gpu else 0,
    )
    if not found.items:
        raise UsageError("no recording is in these shards", where=str(folder), hint=command("batch status", folder))
    return found


def _steps(
    session: Session,
    batch: Batch,
    stages: Sequence[JobStage],
    options: BatchRenderOptions,
    *,
    images: Mapping[str, str],
    way: str,
) -> tuple[str, list[dict[str, object]]]:
    """The native environment's interpreter (empty in containers), and the steps."""
    config = session.config
    if options.engine == "kubernetes":
        return "", steps.kubernetes(stages)
    if images:
        weights = _weights(options)
        models = "" if weights or node_images.all_baked(config, stages, images) else str(config.paths.models.resolve())
        return "", steps.podman(stages, images=images, pull=way == readme.REGISTRY, models=models, weights=weights)
    from builder.edges.batch import steps as starting

    cuda = any(stage.settings.get("device") == "cuda" for stage in stages)
    python = native_python(config, cuda=cuda, env=session.env, on_progress=session.on_progress)
    names = [stage.name for stage in stages]
    apart = pythons_apart(config, names, env=session.env, on_progress=session.on_progress)
    # Of this machine's own variables nodes get none.
    return str(python), [asdict(one) for one in starting.native(config, batch, python=python, apart=apart, env={})]


# Files


def _texts(
    config: Config,
    folder: Path,
    out: Path,
    batch: Batch,
    rendered: RenderedBatch,
    options: BatchRenderOptions,
    *,
    python: str,
    way: str,
) -> dict[str, str]:
    """The engine's files and README.md, by name."""
    from builder.edges.images import rendered as images

    templates = images.templates(config)
    claims = bool(options.results_claim)
    if options.engine == "kubernetes":
        texts = kubernetes.render(rendered, _cluster(folder, batch, options), templates)
    elif options.engine == "slurm":
        queue = slurm.require_partition(options.queue, where="--queue") if options.queue else ""
        where = SlurmOptions(folder=str(folder), here=str(out), python=python or "python3", queue=queue)
        texts = slurm.render(rendered, where, templates)
    else:
        texts = htcondor.render(rendered, templates, beside=bool(batch.beside))
    page = readme.render(
        rendered,
        templates,
        engine=options.engine,
        folder=str(folder),
        mode=batch.mode,
        way=way,
        python=python,
        claims=claims,
        weights="" if options.engine == "kubernetes" else _weights(options),
    )
    return {**texts, readme.FILE: page}


def _cluster(folder: Path, batch: Batch, options: BatchRenderOptions) -> ClusterOptions:
    """Where pods find folders, and who they run as.

    Raises:
        UsageError: it isn't said, said twice, or can't be.
    """
    claims = (options.input_claim, options.results_claim)
    if options.host_path and any(claims):
        raise UsageError("--host-path and claims exclude each other", hint="leave one of them out")
    if not options.host_path and not all(claims):
        raise UsageError(
            "where do pods find the recordings and the batch?",
            where="--results-claim" if claims[0] else "--input-claim",
            expected="--input-claim and --results-claim, or --host-path",
        )
    if options.host_path:
        places = (Volume(path=str(folder)), Volume(path=batch.root))
    else:
        places = (
            kubernetes.volume(claims[1] or "", where="--results-claim"),
            kubernetes.volume(claims[0] or "", where="--input-claim"),
        )
    owner = folder.stat()
    own = (owner.st_uid, owner.st_gid) if options.host_path else (0, 0)
    return ClusterOptions(
        batch=places[0],
        input=places[1],
        user=_user(options.user, own),
        namespace=kubernetes.require_label(options.namespace, where="--namespace") if options.namespace else "",
        queue=kubernetes.require_label(options.queue, where="--queue") if options.queue else "",
        weights=_weights(options),
    )


def _weights(options: BatchRenderOptions) -> str:
    """The image that weights are mounted from, by digest; empty: none.

    Raises:
        UsageError: it is not one by digest.
    """
    image = options.weights_image
    return kubernetes.require_reference(image, where="--weights-image") if image else ""


def _user(text: str | None, own: tuple[int, int]) -> tuple[int, int]:
    """Uid and gid of containers: as it is said, else the owner of the batch's folder on nodes, and never root.

    Raises:
        UsageError: not two numbers, or root.
    """
    if text is None:
        return own if own[0] else ClusterOptions.user
    first, _, second = text.partition(":")
    if not (first.isdecimal() and second.isdecimal() and first.isascii() and second.isascii()) or int(first) == 0:
        raise UsageError(f'"{text}" is not a user for containers', where="--user", expected="UID:GID, and not root")
    return int(first), int(second)


def _write(folder: Path, out: Path, batch: Batch, options: BatchRenderOptions, texts: Mapping[str, str]) -> None:
    """All files, the folders beside them, and what HTCondor transfers."""
    from builder.edges.batch import folder as batches
    from builder.edges.batch import rendered, zipapp

    if out == folder:
        raise UsageError("the batch's own folder", where=str(out), hint="--out another, or none")
    rendered.make_folders(
        out, htcondor.FOLDERS if options.engine == "htcondor" else [slurm.LOGS] * (options.engine == "slurm")
    )
    if options.engine == "htcondor":
        rendered.write_shards(
            out,
            batches.items(folder),
            root=Path(batch.root),
            batch=folder,
            first=options.first,
            beside=batch.beside,
        )
    rendered.write(out, {**texts, rendering.NODE: zipapp.zipapp()}, programs=[rendering.NODE])
