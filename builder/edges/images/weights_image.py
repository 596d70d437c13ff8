"""The weights image and the ModelPack artifact in the layout: manifests and configs over layers that are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.core.images import assembly, oci
from builder.core.images.oci import Descriptor
from builder.core.images.weights import image as weights_image
from builder.core.images.weights import modelpack
from builder.core.progress import OnProgress, Progress
from builder.core.weights.model import PinnedModel
from builder.edges.engine.connection import Engine
from builder.edges.images import load
from builder.edges.images.build import drop_replaced
from builder.edges.images.installed import baked, id_of
from builder.edges.images.layout import Layout, Stored
from builder.errors import MissingError

ARTIFACT = "artifact"
"""Of a record in the layout: the digest of the artifact's manifest."""


@dataclass(frozen=True, kw_only=True)
class StoredWeights:
    """All models of a preset, for whoever mounts or moves them."""

    image: Stored
    artifact: Descriptor
    """Of the ModelPack manifest."""
    data: bytes
    """That manifest."""
    blobs: tuple[Descriptor, ...]
    """What it names: layers, lowest first, then its config."""


def make(
    layout: Layout, ref: str, models: Sequence[PinnedModel], platform: Mapping[str, Any], on_progress: OnProgress
) -> StoredWeights:
    """Write both, and record them under ``ref``. Weights are read only where nobody knows a layer's digest yet.

    Args:
        ref: ``<registry>/weights:<preset>``.
        models: what it is to have.
        platform: ``architecture`` and ``os``.

    Raises:
        MissingError: a model is not in the store, and the digest of its layer isn't known.
    """
    parts = weights_image.layers(models)
    baked = []
    for part in parts:

        def on_bytes(done: int, name: str = part.name, size: int = part.size) -> None:
            on_progress(Progress(what=name, done=done, total=size, unit="bytes", finished=done >= size))

        baked.append(layout.weights(part, on_bytes))
    written = weights_image.image(models, baked, platform)
    layout.put(written.config)
    digest = layout.put(written.manifest)
    settings = modelpack.config(ref.rpartition(":")[2], models, baked)
    config = oci.describe(modelpack.CONFIG, settings)
    layout.put(settings)
    data = modelpack.manifest(config, parts, baked)
    record = {"manifest": digest, ARTIFACT: layout.put(data)}
    if layout.images().get(ref) != record:
        layout.record(ref, record)
    return StoredWeights(
        image=layout.stored(ref, digest),
        artifact=oci.describe(oci.MANIFEST, data),
        data=data,
        blobs=(*dict.fromkeys(layer.blob for layer in baked), config),
    )


def load_into(engine: Engine, layout: Layout, image: Stored, jobs: Path, on_progress: OnProgress) -> None:
    """Bring the weights image into an engine whose containers are to mount it; the one before it goes where no job needs it.

    Args:
        jobs: the folder of jobs.

    Raises:
        MissingError: the engine has too little room.
        IntegrityError, BuildError: see :func:`builder.edges.images.load.load`.
    """
    contents, before = load.inspect(engine, layout), {image.ref: id_of(engine, image.ref)}
    need = load.room(engine, contents, image, ())
    if engine.free is not None and need > engine.free:
        raise MissingError(
            f"the engine has {engine.free / 1e9:.1f} GB free; {image.ref} needs {need / 1e9:.1f} GB",
            where=engine.root,
            hint="docker image prune, or free some space",
        )

    def on_bytes(done: int, total: int) -> None:
        what = f"{image.ref} to the engine"
        on_progress(Progress(what=what, done=done, total=total, unit="bytes", finished=done >= total))

    load.load(engine, layout, image, contents=contents, built=(), on_bytes=on_bytes)
    drop_replaced(engine, jobs, before)


def in_engine(engine: Engine, ref: str, digests: Set[str]) -> tuple[str, str, tuple[str, ...]] | None:
    """The image of weights that an engine has under a name, or under another tag, with all of some models.

    Args:
        ref: ``<registry>/weights:<preset>``.
        digests: of the models.

    Returns:
        its tag, its id, digests of all its models; None where there is none.
    """
    repository = ref.rpartition(":")[0]
    found = engine.client.images.list(filters={"label": f"{assembly.BAKED}=baked"})
    tagged = [(tag, image) for image in found for tag in image.tags if tag.rpartition(":")[0] == repository]
    for tag, image in sorted(tagged, key=lambda one: (one[0] != ref, one[0])):
        inside = set(baked(image.labels).values())
        if digests <= inside:
            return tag, str(image.id), tuple(sorted(inside))
    return None


def platform_of(images: Sequence[Stored]) -> dict[str, Any]:
    """``architecture`` and ``os`` of the images that the weights are for."""
    config = images[0].written.image.config if images else {}
    return {"architecture": config.get("architecture", "amd64"), "os": config.get("os", "linux")}
