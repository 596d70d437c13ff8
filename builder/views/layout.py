"""Results of the commands about the layout: prune, layout export, models lock --layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from typing_extensions import TypedDict

from builder.core.text import format_size, table
from builder.program import shell_word
from builder.views import View
from builder.views.past.versions import ImageVersionJson, version_data

if TYPE_CHECKING:
    from builder.receiver.jobs.kept import KeptImage
    from builder.workflows.layout import LayersLocked, LayoutExported, LayoutPruned


class PrunedFileJson(TypedDict):
    """A file of the layout that nothing needs, or an old answer."""

    path: str
    """Where it is, or was."""
    what: str
    """``blob``, ``recipe``, ``left of a killed build``, or ``answer of`` a service or a language model (``llm``)."""
    bytes: int
    """Its size."""


class KeptImageJson(TypedDict):
    """An image that the engine has for jobs."""

    tag: str
    """The name that it has for them."""
    bytes: int
    """Its size as the engine counts it; layers that other images share are in it."""
    jobs: list[str]
    """Ids of the jobs whose compose.yaml names it."""


class LayoutPruneJson(TypedDict):
    """What no image needs."""

    removed: bool
    """False after ``--dry-run``."""
    bytes: int
    """All files together."""
    engine: bool
    """Whether an engine answered; if not, every image of the layout is kept."""
    files: list[PrunedFileJson]
    """Each file that is removed, or would be."""
    kept: list[KeptImageJson]
    """Images that were built over or removed, and that stay for jobs."""
    released: list[KeptImageJson]
    """Names of images that no job needs any more: they are removed, or would be, and with its last name an image."""
    builder: int | None
    """Bytes of BuildKit's cache that were freed, or would be; null without ``--builder``."""
    versions: list[ImageVersionJson]
    """Versions of images that stay, oldest first: ``rollback`` can go to them."""


def _prune_data(pruned: LayoutPruned) -> LayoutPruneJson:
    return {
        "removed": pruned.removed,
        "bytes": sum(file.size for file in pruned.files),
        "engine": pruned.engine,
        "files": [{"path": str(file.path), "what": file.what, "bytes": file.size} for file in pruned.files],
        "kept": [_kept_data(image) for image in pruned.kept],
        "released": [_kept_data(image) for image in pruned.released],
        "builder": pruned.builder,
        "versions": [version_data(version) for version in pruned.versions],
    }


def _kept_data(image: KeptImage) -> KeptImageJson:
    return {"tag": image.tag, "bytes": image.size, "jobs": list(image.jobs)}


def _prune_text(pruned: LayoutPruned) -> list[str]:
    rows = [(file.what, format_size(file.size), file.path.name[:16]) for file in pruned.files]
    rows += [("image for no job", format_size(image.size), image.tag) for image in pruned.released]
    lines = [*table(("WHAT", "SIZE", "NAME"), rows), ""] if rows else []
    word = "freed" if pruned.removed else "would free"
    lines.append(f"{word} {format_size(sum(file.size for file in pruned.files))}")
    if pruned.builder is not None:
        lines.append(f"{word} {format_size(pruned.builder)} of BuildKit's cache")
    if not pruned.engine:
        lines.append("no engine answers: images were kept, whether it has them or not")
    lines += [
        f"kept: {version.mode} {version.variant} {version.name}, which rollback can go to"
        for version in pruned.versions
    ]
    lines += [
        f"kept: {image.tag}, which job {image.jobs[0]}{_more(image.jobs)} needs for docker compose up"
        for image in pruned.kept
    ]
    return lines


def _more(jobs: Sequence[str]) -> str:
    return f" (and {len(jobs) - 1} more)" if len(jobs) > 1 else ""


PRUNE = View(command="prune", shape=LayoutPruneJson, data=_prune_data, lines=_prune_text)


class LayoutExportJson(TypedDict):
    """A complete OCI layout."""

    folder: str
    """Its path."""
    images: list[str]
    """References of its images."""
    bytes: int
    """All blobs together."""


def _export_data(exported: LayoutExported) -> LayoutExportJson:
    return {"folder": str(exported.folder), "images": list(exported.images), "bytes": exported.size}


def _export_text(exported: LayoutExported) -> list[str]:
    out, images = exported.folder, exported.images
    copied = f"skopeo copy {shell_word(f'oci:{out}:{images[0]}')} …"
    next_step = f"next: {copied}, or tar -C {shell_word(out)} -c . | docker load"
    return [f"{out}: {len(images)} images, {format_size(exported.size)}", next_step]


EXPORT = View(command="layout export", shape=LayoutExportJson, data=_export_data, lines=_export_text)


def _locked_data(locked: LayersLocked) -> dict[str, dict[str, str]]:
    return {model.id: dict(model.digests) for model in locked.models}


def _locked_text(locked: LayersLocked) -> list[str]:
    return [
        f"{model.id}: {'written' if model.changed else 'unchanged'}, {format_size(model.size)} in {model.count} layers"
        for model in locked.models
    ]


LOCK_LAYERS = View(
    command="models lock --layers", shape=dict[str, dict[str, str]], data=_locked_data, lines=_locked_text
)
"""Model -> the name of each of its layers -> the layer's digest, ``sha256:…``."""
