"""The images that an engine has: their labels, their sizes, whether they are current."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from builder.core.config.types import BaseSpec, Config
from builder.core.images import assembly, currency, versions
from builder.core.images.plan import PlannedImage
from builder.core.terms import Mode, Variant
from builder.edges.engine import connection
from builder.edges.engine.connection import Engine
from builder.edges.images.rendered import Rendered
from builder.errors import ConfigError
from builder.receiver.jobs.kept import KEPT
from builder.receiver.versions.previous import HELD

Planner = Callable[[Mode, Variant, BaseSpec], Rendered]
"""Today's plan for a mode and a variant on a base; raises ConfigError where the project has none."""


@dataclass(frozen=True, kw_only=True)
class InstalledImage:
    """An image that an engine has. Bytes are those of unpacked layers; shared ones are in another of our images too."""

    name: str
    tag: str
    id: str
    mode: str
    variant: str
    size_bytes: int
    own_bytes: int
    shared_bytes: int
    models: tuple[str, ...]
    """What its stage loads."""
    baked: Mapping[str, str]
    """Of these, what it carries: id -> digest of the model."""
    differences: tuple[str, ...]
    """What has changed since it was built (:mod:`builder.core.images.currency`); empty when it is current."""

    versions: tuple[str, ...] = ()
    """Its further tags, of versions and commits."""
    held: str = ""
    """The version that it is held at; empty when it isn't."""

    @property
    def up_to_date(self) -> bool:
        return not self.differences


@dataclass(frozen=True, kw_only=True)
class TaggedImage:
    """An image of ours as the engine tells of it."""

    tag: str
    id: str
    labels: Mapping[str, str]
    layers: tuple[tuple[str, int], ...]
    """(diff id, unpacked bytes), lowest first."""
    versions: tuple[str, ...] = ()
    """Its further tags, of versions and commits."""


def labels_of(engine: Engine, tag: str) -> dict[str, str]:
    from docker.errors import ImageNotFound

    try:
        return dict(engine.client.images.get(tag).labels)
    except ImageNotFound:
        return {}


def id_of(engine: Engine, tag: str) -> str | None:
    from docker.errors import ImageNotFound

    try:
        return str(engine.client.images.get(tag).id)
    except ImageNotFound:
        return None


def tagged(config: Config, engine: Engine) -> list[TaggedImage]:
    """Our images on an engine, each by the tag that a build moves."""
    return [
        TaggedImage(
            tag=tag,
            id=image.id,
            labels=image.labels,
            layers=tuple(_layers(image)),
            versions=tuple(sorted(other for other in image.tags if versions.moving_tag(other) == tag)),
        )
        for image in engine.client.images.list(filters={"label": currency.INPUTS})
        for tag in image.tags
        if tag.startswith(f"{config.defaults.registry}/")
        and not (KEPT.fullmatch(tag) or HELD.fullmatch(tag))
        and versions.moving_tag(tag) is None
    ]


def described(
    config: Config, images: Sequence[TaggedImage], planner: Planner, held: Mapping[str, str] = MappingProxyType({})
) -> tuple[InstalledImage, ...]:
    """Images with what they share and how they differ from today's plan, by tag.

    Args:
        held: tags that are held, with the name of their version.
    """
    users = Counter(layer for image in images for layer in dict(image.layers))
    return tuple(
        _described(image, users, differences(config, image.tag, image.labels, planner), held=held.get(image.tag, ""))
        for image in sorted(images, key=lambda image: image.tag)
    )


def _described(image: TaggedImage, users: Mapping[str, int], changed: tuple[str, ...], *, held: str) -> InstalledImage:
    labels = image.labels
    models = labels.get(currency.MODELS, "")
    total = sum(size for _, size in image.layers)
    own = sum(size for layer, size in image.layers if users[layer] == 1)
    return InstalledImage(
        name=labels.get("org.opencontainers.image.title", ""),
        tag=image.tag,
        id=image.id,
        mode=labels.get(currency.MODE, ""),
        variant=labels.get(currency.VARIANT, ""),
        size_bytes=total,
        own_bytes=own,
        shared_bytes=total - own,
        models=tuple(models.split(",")) if models else (),
        baked=baked(labels),
        differences=changed,
        versions=image.versions,
        held=held,
    )


def differences(config: Config, tag: str, labels: Mapping[str, str], planner: Planner) -> tuple[str, ...]:
    """What has changed since an image was built; empty when it is current.

    It is compared with the plan of this command's mode where that has an image of this tag, else with the plan of the
    mode and variant that its labels name: modes share images, and each plans the order of layers for its own set.
    """
    for planned, image in plans_of(config, tag, labels, planner):
        return currency.differences(labels, planned.expected(image))
    return ("not of today's images",)


def plans_of(
    config: Config, tag: str, labels: Mapping[str, str], planner: Planner
) -> Iterator[tuple[Rendered, PlannedImage]]:
    """Today's plans that have an image of a tag, with it: this command's own first, then what its labels name."""
    base = currency.base_of(config.base, labels)
    own = (labels.get(currency.MODE, ""), labels.get(currency.VARIANT, ""))
    for mode, variant in dict.fromkeys([(config.defaults.mode.value, config.defaults.variant.value), own]):
        try:
            planned = planner(Mode(mode), Variant(variant), base)
        except (ValueError, ConfigError):  # a mode or variant that this project doesn't have, or can't plan
            continue
        yield from ((planned, image) for image in planned.plan.images if image.tag == tag)


def baked(labels: Mapping[str, str]) -> dict[str, str]:
    """Models that an image carries, by its labels: id -> digest."""
    if assembly.BAKED not in labels:
        return {}
    pairs = (entry.partition("=") for entry in labels.get(assembly.DIGESTS, "").split())
    return {id_: digest for id_, _, digest in pairs}


def unique_bytes(engine: Engine, tags: Sequence[str]) -> int:
    """Unpacked bytes of all layers of some images, each counted once."""

    def look() -> int:
        return sum({layer: size for tag in tags for layer, size in _layers(engine.client.images.get(tag))}.values())

    return connection.steady(look)


def _layers(image: Any) -> list[tuple[str, int]]:
    """(diff id, unpacked bytes) of every layer, lowest first. An engine tells sizes by history entry."""
    ids = image.attrs["RootFS"]["Layers"]
    steps = [h["Size"] for h in reversed(_history(image)) if h["Size"]]
    if len(steps) != len(ids):  # a layer without a byte: the sum is right, its parts are not known
        return [*((layer, 0) for layer in ids[:-1]), (ids[-1], sum(steps))] if ids else []
    return list(zip(ids, steps, strict=True))


def _history(image: Any) -> list[dict[str, Any]]:
    """An image's history with sizes.

    A containerd store may have an image whose snapshots its collector took while a build came from the cache: making a
    container unpacks them again.
    """
    from docker.errors import ImageNotFound, NotFound

    try:
        return list(image.history())
    except ImageNotFound:
        raise
    except NotFound:
        image.client.containers.create(image.id, ["true"], network_mode="none").remove()
        return list(image.history())
