"""The papers of images and bundles: ``images --sbom``, ``bundle inspect --sbom``, and what push and bundles take along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from builder import __version__
from builder.core.papers import papers as writing
from builder.core.papers.contents import Contents, LockedWheel, alone
from builder.core.papers.papers import KINDS, Paper, PaperKind
from builder.errors import MissingError, UsageError, did_you_mean
from builder.program import command
from builder.workflows.images import ALL, planner
from builder.workflows.session import Session, layout_of

if TYPE_CHECKING:
    from builder.core.bundle.image import BundledImage
    from builder.core.config.types import Config
    from builder.core.papers.vex import Advisories
    from builder.core.weights.model import PinnedModel
    from builder.edges.images.installed import Planner
    from builder.edges.images.layout import Layout
    from builder.edges.images.rendered import Rendered


@dataclass(frozen=True, kw_only=True)
class ShownPaper:
    """A paper, and where it was written."""

    paper: Paper
    file: Path | None


@dataclass(frozen=True, kw_only=True)
class PapersShown:
    """Papers of one or several kinds."""

    papers: tuple[ShownPaper, ...]


EVERY = "all"
"""Of ``--sbom``: all kinds, into a folder."""


def kinds_of(name: str) -> tuple[PaperKind, ...]:
    """Kinds by what was typed.

    Raises:
        UsageError: there is none of that name.
    """
    if name == EVERY:
        return tuple(KINDS.values())
    if name not in KINDS:
        known = (*KINDS, EVERY)
        hint = did_you_mean(name, known)
        raise UsageError(f'"{name}" is not a kind of paper', where="--sbom", expected=", ".join(known), hint=hint)
    return (KINDS[name],)


def of_images(session: Session, names: Sequence[str], kinds: Sequence[PaperKind], *, out: Path | None) -> PapersShown:
    """The papers of images that were built here.

    Args:
        names: images, as ``asr`` or ``asr:slim-cpu``; none: all of the layout.
        out: a folder to write them to; without one there must be one paper.

    Raises:
        UsageError: no such image, or several and no folder.
        MissingError: an image isn't built, or not of today's plan.
    """
    from builder.core.images import currency
    from builder.core.images.versions import moving_tag
    from builder.edges.papers import gather

    config, layout = session.config, layout_of(session.config)
    every = {
        tag: layout.image(tag).written.image.labels
        for tag, row in layout.images().items()
        if "manifest" in row and "platform" not in row and moving_tag(tag) is None
    }
    labels = {tag: said for tag, said in every.items() if currency.INPUTS in said}
    tags = _tags(config, tuple(labels), names)
    if out is None and len(tags) * len(kinds) > 1:
        raise UsageError(
            f"{len(tags) * len(kinds)} papers are too many for one output",
            expected="one image and one kind, or --out FOLDER",
            hint=command(f"images {tags[0].rpartition('/')[2]} --sbom {kinds[0].name}"),
        )
    # With the models that they have, whatever is chosen today.
    plans, advisories = planner(config, ALL, keeping=labels, chosen=False), gather.advisories(config)
    made = [paper for tag in tags for paper in of_image(config, layout, tag, plans, advisories, only=kinds)]
    return _shown(made, kinds, out)


def of_image(
    config: Config,
    layout: Layout,
    tag: str,
    plans: Planner,
    advisories: Advisories,
    *,
    only: Sequence[PaperKind] = tuple(KINDS.values()),
) -> tuple[Paper, ...]:
    """The papers of one image of the layout.

    Raises:
        MissingError: it isn't built, or no plan of today has it: nobody knows what is in it.
    """
    from builder.core.images import currency
    from builder.edges.images import installed
    from builder.edges.papers import gather

    labels = layout.image(tag).written.image.labels
    for planned, image in installed.plans_of(config, tag, labels, plans):
        if not currency.differences(labels, planned.expected(image)):
            return writing.papers(alone(gather.contents(config, layout, planned, image)), advisories, only=only)
    raise MissingError(
        f"{tag} is not of today's code, models and settings",
        where=str(layout.root),
        hint=command(f"build --mode {labels.get(currency.MODE) or config.defaults.mode.value}"),
    )


def of_bundle(
    config: Config,
    layout: Layout,
    made: Rendered,
    images: Sequence[BundledImage],
    *,
    models: Sequence[PinnedModel],
    wheels: Mapping[str, Path],
) -> dict[str, bytes]:
    """Path in a bundle -> paper.

    Args:
        images: as they travel; none for a bundle of models alone.
        models: those that no image carries.
        wheels: name -> file of those that no image has.
    """
    from builder.edges.papers import gather

    planned = {image.tag: image for image in made.plan.images}
    parts = tuple(
        gather.bundled(gather.contents(config, layout, made, planned[image.name]), image.manifest) for image in images
    )
    contents = Contents(
        name="bundle",
        images=parts,
        models=tuple(sorted(models, key=lambda use: use[0].id)),
        wheels=tuple(sorted(_wheel(name, path) for name, path in wheels.items())),
        version=__version__,
        created=max((image.created for image in parts), default=gather.EPOCH),
    )
    return {
        f"{writing.FOLDER}/{paper.file}": paper.data for paper in writing.papers(contents, gather.advisories(config))
    }


def from_bundle(folder: Path, kinds: Sequence[PaperKind], *, out: Path | None) -> PapersShown:
    """Papers that a bundle carries, checked against its inventory.

    Raises:
        UsageError: several, and no folder for them.
        MissingError: it has none of them.
        IntegrityError: the bundle is damaged.
    """
    from builder.edges.bundle import folder as bundles

    if out is None and len(kinds) > 1:
        raise UsageError(
            "several papers are too many for one output", where="--sbom", expected="one kind, or --out FOLDER"
        )
    read = ((kind, bundles.read_small(folder, f"{writing.FOLDER}/bundle{kind.suffix}")) for kind in kinds)
    made = [Paper(kind=kind, about="bundle", data=data) for kind, data in read if data is not None]
    if not made:
        raise MissingError(
            f"this bundle has no {' or '.join(kind.name for kind in kinds)} paper",
            where=str(folder),
            expected="a bundle of this version; a receiver that has the same paper already isn't sent it again",
        )
    return _shown(made, kinds, out)


def _tags(config: Config, tags: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """Tags of the layout by the names that were typed."""
    short = {tag: tag.rpartition("/")[2] for tag in sorted(tags)}
    if not short:
        raise MissingError("no image is built here", where=str(config.paths.layout), hint=command("build"))
    chosen: list[str] = []
    for name in names:
        fitting = [tag for tag, word in short.items() if name in (tag, word, word.rpartition(":")[0])]
        if not fitting:
            known = ", ".join(short.values())
            hint = did_you_mean(name, {word.rpartition(":")[0] for word in short.values()})
            raise MissingError(f'no image "{name}" is built here', expected=known, hint=hint)
        chosen += fitting
    return tuple(dict.fromkeys(chosen)) or tuple(short)


def _shown(made: Sequence[Paper], kinds: Sequence[PaperKind], out: Path | None) -> PapersShown:
    from builder.edges.system import files

    if not made:
        what = " or ".join(kind.name for kind in kinds)
        raise MissingError(f"there is nothing to say in a {what} paper", where="vex.yaml", hint="add a statement")
    if out is None:
        return PapersShown(papers=tuple(ShownPaper(paper=paper, file=None) for paper in made))
    rows = []
    for paper in made:
        files.write_output(out / paper.file, paper.data, instead="--out FOLDER", parents=True)
        rows.append(ShownPaper(paper=paper, file=out / paper.file))
    return PapersShown(papers=tuple(rows))


def _wheel(name: str, path: Path) -> LockedWheel:
    from builder.edges.system import files

    parts = name.split("-")
    return LockedWheel(name=parts[0].replace("_", "-").lower(), version=parts[1], file=name, sha256=files.sha256(path))
