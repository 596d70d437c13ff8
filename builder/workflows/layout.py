"""The commands about the layout: free what nothing needs, write a complete one, pin the digests of weight layers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from builder.core.config.types import Config
from builder.core.images.versions import ImageVersion, moving_tag
from builder.core.weights.model import Model, Pin
from builder.edges.system import files
from builder.errors import MissingError
from builder.program import command
from builder.workflows.session import Session, layout_of, pinned, store_of

if TYPE_CHECKING:
    from builder.edges.images.layout import Layout, Unneeded
    from builder.receiver.jobs.kept import KeptImage


@dataclass(frozen=True, kw_only=True)
class LayoutPruned:
    """Files of the layout that nothing needs, and answers that are old."""

    files: tuple[Unneeded, ...]
    removed: bool
    engine: bool
    """Whether an engine answered; if not, every image of the layout is kept."""
    kept: tuple[KeptImage, ...] = ()
    """Images that the engine has for jobs alone."""
    released: tuple[KeptImage, ...] = ()
    """Names that images had for jobs which are gone, or name others now."""
    builder: int | None = None
    """Bytes of BuildKit's cache; None where that was not asked for."""
    versions: tuple[ImageVersion, ...] = ()
    """Versions of images that are kept to go back to, oldest first."""


@dataclass(frozen=True, kw_only=True)
class LayoutExported:
    """A complete OCI layout in a folder."""

    folder: Path
    images: tuple[str, ...]
    """References."""
    size: int
    """Bytes of all blobs."""


@dataclass(frozen=True, kw_only=True)
class ModelLayers:
    """The image layers of one model, as they are in models.lock now."""

    id: str
    digests: Mapping[str, str]
    """Layer -> ``sha256:…``."""
    size: int
    """Bytes of all of them."""
    changed: bool

    @property
    def count(self) -> int:
        return len(self.digests)


@dataclass(frozen=True, kw_only=True)
class LayersLocked:
    """Models with the digests of their layers."""

    models: tuple[ModelLayers, ...]


def prune(
    session: Session, *, dry_run: bool, days: int, builder: bool = False, other_platforms: bool = False
) -> LayoutPruned:
    """Remove blobs and recipes of images that the engine no longer has, what killed builds left, and on an engine of this
    machine the images that it had for jobs which are gone. Answers of services and language models go by age, too.

    Args:
        days: age from which on answers go.
        builder: BuildKit's cache goes, too.
        other_platforms: so do images of other platforms than the engine's, which no engine has.

    Raises:
        MissingError: no engine answers, and ``builder`` is asked for.
    """
    from builder.edges.engine import buildx
    from builder.edges.engine import connection as engines
    from builder.edges.images.past import versions

    layout = layout_of(session.config)
    engine = engines.connect(session.env) if builder else None
    tags = _tags(session.env, layout, other_platforms=other_platforms)
    with files.locked(layout.lock):
        unneeded = layout.unneeded(keep=tags)
        earlier = versions.whole(session.config, tags)
        if not dry_run:
            layout.forget(tags)
            versions.forget(session.config, keep=earlier)
            for file in unneeded:
                file.path.unlink(missing_ok=True)
    answers = _old_answers(session.config, days=days, dry_run=dry_run)
    kept, released = _release(session, dry_run=dry_run) if tags is not None else ((), ())
    cached = None
    if engine is not None:
        cached = buildx.cached_bytes(engine)[1] if dry_run else buildx.drop_cache(engine)
    return LayoutPruned(
        files=(*unneeded, *answers),
        removed=not dry_run,
        engine=tags is not None,
        kept=tuple(kept),
        released=tuple(released),
        builder=cached,
        versions=earlier,
    )


def _old_answers(config: Config, *, days: int, dry_run: bool) -> list[Unneeded]:
    """Answers of services and language models that are too old; they are removed."""
    from builder.edges.images.layout import Unneeded
    from builder.edges.metadata import services

    old = services.old(config.paths.cache, age=days * 86400.0, now=time.time())
    for answer in () if dry_run else old:
        answer.path.unlink(missing_ok=True)
    return [Unneeded(path=one.path, what=f"answer of {one.service}", size=one.size) for one in old]


def _release(session: Session, *, dry_run: bool) -> tuple[Sequence[KeptImage], Sequence[KeptImage]]:
    """The images that an engine has for jobs alone, and the names that no job needs any more, which are removed."""
    from builder.edges.engine import connection as engines
    from builder.edges.engine import kept

    host = engines.address(session.env)
    return kept.release(host, session.config.jobs, dry_run=dry_run) if host.startswith("unix:") else ((), ())


def export(session: Session, out: Path, names: Sequence[str]) -> LayoutExported:
    """Write a complete OCI layout of assembled images, with the bytes of their weights."""
    layout = layout_of(session.config)
    with files.locked(layout.lock):
        references = _assembled(layout, names)
        size = layout.export(out, [layout.image(reference) for reference in references], session.on_progress)
    return LayoutExported(folder=out, images=tuple(references), size=size)


def lock_digests(session: Session, ids: Sequence[str]) -> LayersLocked:
    """Write the digests of models' image layers into models.lock: a build then knows them without a read, and checks them."""
    from builder.edges.machine import project
    from builder.edges.weights import pinning

    project.require(session.config, "models.lock")
    config, layout = session.config, layout_of(session.config)
    locked, pins = [], {}
    for model, pin in pinned(config, ids):
        store_of(config).require(model, pin)
        layers = _digested(layout, model, pin)
        locked.append(layers)
        pins[model.id] = replace(pin, layers=MappingProxyType(dict(layers.digests)))
    pinning.write(config.root, config.home, pins, config.models)
    return LayersLocked(models=tuple(locked))


def _tags(env: Mapping[str, str], layout: Layout, *, other_platforms: bool) -> frozenset[str] | None:
    """The layout's references that stay; None when no engine answers: those that it has, and those of other platforms.

    Args:
        other_platforms: the latter go.
    """
    from builder.edges.engine import connection as engines
    from builder.edges.images import load

    if engines.why_not(engines.address(env)) is not None:
        return None
    others = {reference for reference, entry in layout.images().items() if "platform" in entry and not other_platforms}
    return load.tagged(engines.connect(env), layout) | others


def _assembled(layout: Layout, names: Sequence[str]) -> list[str]:
    """References of assembled images; all of the engine's platform when no name is given.

    An image of another platform is chosen by its whole reference alone: ``docker load`` of an export would take both.

    Raises:
        MissingError: none has such a name, or nothing is assembled.
    """
    known = {
        reference: (reference, *(() if "platform" in entry else (reference.rpartition("/")[2].partition(":")[0],)))
        for reference, entry in layout.images().items()
        if "manifest" in entry
    }
    if lacking := [name for name in names if not any(name in known_as for known_as in known.values())]:
        raise MissingError(f"not assembled here: {', '.join(lacking)}", hint=f"{command('build')}; {command('images')}")
    recorded = layout.images()
    chosen = [
        ref
        for ref, known_as in known.items()
        if (ref in names or (moving_tag(ref) is None and (not names or any(name in known_as for name in names))))
        and (names or "platform" not in recorded[ref])
    ]
    if not chosen:
        raise MissingError("nothing is assembled here", where=str(layout.root), hint=command("build --mode docker-cpu"))
    return chosen


def _digested(layout: Layout, model: Model, pin: Pin) -> ModelLayers:
    """A model's layers with digests from its files, whatever models.lock says of them."""
    from builder.core.weights import layers

    fresh = replace(pin, layers=MappingProxyType({}))
    with files.locked(layout.lock):
        blobs = {layer.name.partition("/")[2]: layout.weights(layer).blob for layer in layers.layers(model, fresh)}
    digests = {name: blob.digest for name, blob in blobs.items()}
    size = sum(blob.size for blob in blobs.values())
    return ModelLayers(id=model.id, digests=digests, size=size, changed=dict(pin.layers) != digests)
