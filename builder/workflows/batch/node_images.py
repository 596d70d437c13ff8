"""What a batch's nodes know its images by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from builder.core.terms import Mode
from builder.errors import BakeError, MissingError, UsageError
from builder.program import command
from builder.workflows.session import layout_of

if TYPE_CHECKING:
    from builder.core.batch.batch_file import Batch
    from builder.core.config.types import Config
    from builder.core.jobs.job import JobStage
    from builder.edges.images.layout import Layout, Stored


def named_registry(config: Config, asked: str | None) -> str | None:
    """``HOST/PREFIX``, as it is asked for or as bake.yaml has it; None where nobody names a registry."""
    named = asked or config.defaults.registry
    host, _, path = named.partition("/")
    return named if asked or (path and ("." in host or ":" in host)) else None


def images_of(
    config: Config,
    batch: Batch,
    stages: Sequence[JobStage],
    *,
    engine: str,
    registry: str | None,
    mounted: bool,
) -> dict[str, str]:
    """Stage -> what nodes know its image by: a reference by digest, or its id. Empty for a native batch.

    Args:
        engine: that the files are for.
        registry: as it was typed.
        mounted: weights are mounted, whether images have them or not.

    Raises:
        UsageError: Kubernetes has images alone, and they come from a registry; or an option that native batches don't have.
        MissingError: an image of the batch is not here any more.
    """
    from builder.core.images import reference

    if batch.mode == Mode.NATIVE.value:
        if engine == "kubernetes":
            raise UsageError(
                "this batch is planned for native stages, and Kubernetes runs images",
                where="--for kubernetes",
                hint=command("batch plan … --mode docker-cpu"),
            )
        if registry:
            raise UsageError("a native batch has no images", where="--registry", hint="leave --registry out")
        if mounted:
            raise UsageError("a native batch has no containers", where="--weights-image", hint="leave it out")
        return {}
    named = named_registry(config, registry)
    if engine == "kubernetes" and named is None:
        raise UsageError(
            "nodes of Kubernetes get images from a registry, and none is named",
            where="--registry",
            expected="HOST[:PORT]/PREFIX, where push sent them",
            hint=command(f"push --mode {batch.mode} --registry HOST/PREFIX"),
        )
    stored = _stored(config, batch, stages)
    if engine == "kubernetes" and not mounted:
        _require_weights(stored, stages)
    if named is None:
        return {stage: image.config.digest for stage, image in stored.items()}
    target = reference.target(named, where="--registry" if registry else "bake.yaml: defaults.registry")
    return {
        stage: f"{target.host}/{target.repository(_name(image))}@{image.manifest.digest}"
        for stage, image in stored.items()
    }


def _name(image: Stored) -> str:
    """The image's own name: ``asr`` of ``whisperbake/asr:slim-…``."""
    return image.ref.rpartition("/")[2].rpartition(":")[0]


def _stored(config: Config, batch: Batch, stages: Sequence[JobStage]) -> dict[str, Stored]:
    """Stage -> the layout's image that the batch was planned with.

    Raises:
        MissingError: the layout has it no more.
    """
    layout = layout_of(config)
    known = _by_digest(layout)
    found = {}
    for stage in stages:
        wanted = batch.images.get(stage.name, "")
        if wanted not in known:
            raise MissingError(
                f"the image of stage {stage.name} that this batch was planned with is not here any more",
                where=wanted or "batch.yaml: images",
                hint=command(f"build --mode {batch.mode}"),
            )
        found[stage.name] = known[wanted]
    return found


def _by_digest(layout: Layout) -> dict[str, Stored]:
    """Every assembled image by its manifest's digest, and by its config's: engines call one or the other its id."""
    found: dict[str, Stored] = {}
    for ref in layout.images():
        try:
            image = layout.described(ref)
        except BakeError:  # a damaged one, which a build makes again
            continue
        found |= {image.manifest.digest: image, image.config.digest: image}
    return found


def _lacking(stored: Mapping[str, Stored], stages: Sequence[JobStage]) -> list[str]:
    """Stages whose images don't have their models inside."""
    from builder.edges.images import installed

    return [
        stage.name
        for stage in stages
        if not {use.digest for use in stage.models.values()}
        <= set(installed.baked(stored[stage.name].written.image.labels).values())
    ]


def _require_weights(stored: Mapping[str, Stored], stages: Sequence[JobStage]) -> None:
    """Raises UsageError where an image has no weights inside, and none are mounted."""
    if lacking := _lacking(stored, stages):
        raise UsageError(
            f"the image of stage {lacking[0]} doesn't have its models inside",
            where="--weights-image",
            expected="the reference of an image with weights, by digest",
            hint=f"{command('build')} with --preset and --models of the batch, then plan again",
        )


def all_baked(config: Config, stages: Sequence[JobStage], images: Mapping[str, str]) -> bool:
    """Whether every image has its stage's models inside."""
    known = _by_digest(layout_of(config))
    stored = {stage: known[image.rpartition("@")[2]] for stage, image in images.items()}
    return not _lacking(stored, stages)
