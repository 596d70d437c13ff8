"""Results of the commands about images: plan, render, build, images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import NotRequired, TypedDict

from builder.core.config.types import BaseSpec
from builder.core.images import layer_order
from builder.core.text import format_size, format_time, table
from builder.program import command, shell_word
from builder.views import View
from builder.views.past.versions import kept_lines
from builder.views.platforms import OtherPlatformJson, others_text

if TYPE_CHECKING:
    from builder.edges.images.installed import InstalledImage
    from builder.workflows.images import (
        FilesCompared,
        FilesRendered,
        ImageBuilt,
        ImagesBuilt,
        ImagesListed,
        ImagesPlanned,
    )
    from builder.workflows.machine import NativeReady


class BaseJson(TypedDict):
    """What images stand on, as bake.yaml's ``base``."""

    kind: str
    """``registry`` or ``debian``."""
    reference: str
    """The image reference of ``registry``, with a tag."""
    digest: str
    """The digest of ``reference``; empty where nobody asked the registry."""
    suite: str
    """The Debian suite of ``debian``."""


class LayerJson(TypedDict):
    """Packages that are installed together, in one layer."""

    name: str
    """Who shares it, and what is in it."""
    packages: list[str]
    """``name==version`` of each package."""
    estimated_bytes: int
    """Unpacked, as far as sizes are known."""


class BlockJson(TypedDict):
    """Layers of an image that stay together."""

    name: str
    """What they hold, such as ``model tiny.en``."""
    kind: str
    """``base``, ``requirement``, ``model`` or ``code``."""
    bytes: int
    """Unpacked; what nobody has measured is guessed."""


class PlannedImageJson(TypedDict):
    """An image that would be built."""

    name: str
    """As in images/*.yaml."""
    tag: str
    """``<registry>/<name>:<variant>-<cpu|gpu>``."""
    parent: str | None
    """The image that it stands on; null for the base."""
    stage: str | None
    """The stage that it runs; null for an image that others stand on."""
    gpu: bool
    """Whether it has CUDA's libraries."""
    layers: list[LayerJson]
    """Its own packages, lowest layer first."""
    models: list[str]
    """Ids of the models that its stage loads."""
    estimated_bytes: int
    """Unpacked, with what it stands on and without weights."""
    estimate_complete: bool
    """Whether every part of ``estimated_bytes`` is known; if not, it is at least that much."""
    order: list[BlockJson]
    """All of its layers, lowest first."""
    memory_bytes: int | None
    """Limit of its container for a recording of an hour; null where it has no stage."""


class PlannedModelJson(TypedDict):
    """A model that images would carry."""

    id: str
    """As in models.yaml."""
    purpose: str
    """What it is for."""
    bytes: int
    """All of its files."""


class PlanJson(TypedDict):
    """What a build would make."""

    mode: str
    """``native``, ``docker-cpu`` or ``docker-gpu``."""
    variant: str
    """``slim`` or ``full``."""
    base: BaseJson
    """What all images stand on."""
    images: list[PlannedImageJson]
    """In the order they are built: parents first."""
    models: list[PlannedModelJson]
    """All models that the images carry."""
    estimated_unique_bytes: int
    """All images together without weights, each layer counted once."""
    model_bytes: int
    """All models together."""
    unpacked_again: dict[str, int]
    """Bytes that an engine unpacks again when a block of layers changes, by its name."""


def _plan_data(planned: ImagesPlanned) -> PlanJson:
    plan, estimate = planned.plan, planned.estimate
    images: list[PlannedImageJson] = [
        {
            "name": image.name,
            "tag": image.tag,
            "parent": image.parent,
            "stage": image.stage,
            "gpu": image.gpu,
            "layers": [
                {
                    "name": name,
                    "packages": [f"{p.name}=={p.version}" for p in plan.libraries[name].packages],
                    "estimated_bytes": estimate.libraries[name].size,
                }
                for name in image.libraries
            ],
            "models": list(image.models),
            "estimated_bytes": estimate.images[image.name].size,
            "estimate_complete": estimate.images[image.name].complete,
            "order": [{"name": b.name, "kind": b.kind, "bytes": b.size} for b in planned.order[image.name]],
            "memory_bytes": planned.memory.get(image.name),
        }
        for image in plan.images
    ]
    return {
        "mode": plan.mode.value,
        "variant": plan.variant.value,
        "base": _base(plan.base),
        "images": images,
        "models": [{"id": m.id, "purpose": m.purpose.value, "bytes": pin.size} for m, pin in plan.every],
        "estimated_unique_bytes": estimate.unique_bytes,
        "model_bytes": _model_bytes(planned),
        "unpacked_again": _again(planned),
    }


def _plan_text(planned: ImagesPlanned) -> list[str]:
    plan, estimate = planned.plan, planned.estimate
    rows = [
        (
            image.tag,
            image.parent or plan.base.kind,
            ("" if estimate.images[image.name].complete else "≥ ") + format_size(estimate.images[image.name].size),
            format_size(planned.memory[image.name]) if image.name in planned.memory else "",
            ", ".join(image.libraries),
            ", ".join(image.models),
        )
        for image in plan.images
    ]
    base = plan.base.reference if plan.base.kind == "registry" else f"Debian {plan.base.suite}'s packages"
    total = f"{format_size(estimate.unique_bytes)} of layers, {format_size(_model_bytes(planned))} of models"
    blocks = [
        (name, "  ".join(f"{b.name.removeprefix('libraries ')} {format_size(b.size)}" for b in order))
        for name, order in planned.order.items()
    ]
    again = sorted(_again(planned).items(), key=lambda item: item[1])
    return [
        *table(("IMAGE", "ON", "SIZE", "MEMORY", "LAYERS", "MODELS"), rows),
        "",
        "memory: the limit of its container for a recording of an hour",
        f"base: {base}",
        f"all images together: {total}",
        "",
        *table(("IMAGE", "LAYERS, LOWEST FIRST"), blocks),
        "",
        *table(("A CHANGE OF", "UNPACKS AGAIN"), [(name, format_size(size)) for name, size in again]),
    ]


def _base(base: BaseSpec) -> BaseJson:
    return {"kind": base.kind, "reference": base.reference, "digest": base.digest, "suite": base.suite}


def _model_bytes(planned: ImagesPlanned) -> int:
    return sum(pin.size for _, pin in planned.plan.every)


def _again(planned: ImagesPlanned) -> dict[str, int]:
    """Bytes that an engine unpacks again when one block of the images changes, by the block's name."""
    names = dict.fromkeys(b.name for blocks in planned.order.values() for b in blocks)
    return {name: layer_order.again(planned.order, name) for name in names}


PLAN = View(command="plan", shape=PlanJson, data=_plan_data, lines=_plan_text)


class RenderJson(TypedDict):
    """A rendered folder."""

    folder: str
    """Its path."""
    files: list[str]
    """Paths of its files, relative to the folder."""


def _render_data(rendered: FilesRendered) -> RenderJson:
    return {"folder": str(rendered.folder), "files": list(rendered.files)}


def _render_text(rendered: FilesRendered) -> list[str]:
    folder = rendered.folder
    next_step = f"next: cd {shell_word(folder)} && docker buildx bake    (docs/images.md)"
    return [f"{folder}: {len(rendered.files)} files", next_step]


RENDER = View(command="render", shape=RenderJson, data=_render_data, lines=_render_text)


class RenderCheckJson(TypedDict):
    """A folder compared with what would be rendered."""

    folder: str
    """Its path."""
    differences: list[str]
    """``path: missing``, ``other`` or ``not rendered any more``; empty when all is as rendered."""


def _compare_data(compared: FilesCompared) -> RenderCheckJson:
    return {"folder": str(compared.folder), "differences": list(compared.differences)}


def _compare_text(compared: FilesCompared) -> list[str]:
    return [] if compared.differences else ["as rendered"]


COMPARE = View(command="render --check", shape=RenderCheckJson, data=_compare_data, lines=_compare_text)


class InstalledImageJson(TypedDict):
    """An image that the engine has."""

    name: str
    """As in images/*.yaml."""
    tag: str
    """Its full reference."""
    id: str
    """The engine's id of it: ``sha256:…``."""
    mode: str
    """Of the plan that it was built for: ``docker-cpu`` or ``docker-gpu``."""
    variant: str
    """``slim`` or ``full``."""
    size_bytes: int
    """Of all layers, unpacked."""
    own_bytes: int
    """Of the layers that no other image of ours has."""
    shared_bytes: int
    """Of the layers that another image of ours has too."""
    models: list[str]
    """Ids of the models that its stage loads."""
    baked: dict[str, str]
    """The models among them that it carries: id -> digest."""
    up_to_date: bool
    """Whether a build would leave it as it is."""
    versions: list[str]
    """Its further tags, of versions and commits."""
    held: str | None
    """The version that it is held at by ``rollback``: jobs use it as it is; null when it isn't."""


class BuiltImageJson(InstalledImageJson):
    """An image after a build."""

    state: str
    """``built``, ``cached`` (every layer was there), ``assembled`` (only weights are new), ``up to date`` or ``held``."""
    seconds: float
    """From the begin of the build until it was done; 0 when it was left as it is."""
    sent_bytes: int
    """Bytes of layers that went to the engine."""
    bytes_before: NotRequired[int]
    """What the image had unpacked that was replaced, where this one is larger by more than a tenth."""


class BuildJson(TypedDict):
    """The images of a mode after a build."""

    mode: str
    """``docker-cpu`` or ``docker-gpu``."""
    variant: str
    """``slim`` or ``full``."""
    base: BaseJson
    """What they stand on."""
    images: list[BuiltImageJson]
    """In the order they are built: parents first."""
    unique_bytes: int
    """All together, unpacked, each layer counted once."""
    other_platforms: list[OtherPlatformJson]
    """Images of other platforms than the engine's (``--platform``): assembled, and not run."""


class ReadyModelJson(TypedDict):
    """A model that is there."""

    id: str
    """As in models.yaml."""
    purpose: str
    """What it is for."""
    size: int
    """Bytes of all its files."""


class NativeBuildJson(TypedDict):
    """What the native mode has after a build."""

    mode: str
    """``native``."""
    preset: str
    """Whose models these are."""
    preset_reason: str
    """Why it is this one, where that was left to ``auto``; else empty."""
    images: list[BuiltImageJson]
    """The images that read media files; empty without an engine."""
    unique_bytes: int
    """The images together, unpacked, each layer counted once."""
    images_note: str
    """What the images are for, or why there are none."""
    environment: str
    """The folder of the native Python environment."""
    models: list[ReadyModelJson]
    """The preset's models, one for each purpose."""
    fetched: list[str]
    """Ids of the models that this build fetched."""
    ready: bool
    """Always true: what fails is an error."""


def _installed(image: InstalledImage) -> InstalledImageJson:
    return {
        "name": image.name,
        "tag": image.tag,
        "id": image.id,
        "mode": image.mode,
        "variant": image.variant,
        "size_bytes": image.size_bytes,
        "own_bytes": image.own_bytes,
        "shared_bytes": image.shared_bytes,
        "models": list(image.models),
        "baked": dict(image.baked),
        "up_to_date": image.up_to_date,
        "versions": list(image.versions),
        "held": image.held or None,
    }


def _built(image: ImageBuilt) -> BuiltImageJson:
    built = image.built
    larger: BuiltImageJson = {} if image.before is None else {"bytes_before": image.before.size_bytes}  # type: ignore[typeddict-item]
    return {
        **_installed(image.installed),
        "state": built.state,
        "seconds": built.seconds,
        "sent_bytes": built.sent,
        **larger,
    }


def _build_data(made: ImagesBuilt) -> BuildJson:
    return {
        "mode": made.mode.value,
        "variant": made.variant.value,
        "base": _base(made.base),
        "images": [_built(image) for image in made.images],
        "unique_bytes": made.unique_bytes,
        "other_platforms": [
            {
                "name": other.built.name,
                "tag": other.built.tag,
                "platform": other.platform.name,
                "manifest": other.manifest,
                "size_bytes": other.size_bytes,
                "state": other.built.state,
                "seconds": other.built.seconds,
            }
            for other in made.others
        ],
    }


def _native_data(ready: NativeReady) -> NativeBuildJson:
    images = ready.images
    return {
        "mode": "native",
        "preset": ready.preset,
        "preset_reason": ready.preset_reason,
        "images": [_built(image) for image in images.images] if images else [],
        "unique_bytes": images.unique_bytes if images else 0,
        "images_note": f"no images are built: {ready.no_images}" if ready.no_images else MEDIA_NOTE,
        "environment": str(ready.environment),
        "models": [{"id": m.id, "purpose": p.value, "size": pin.size} for p, (m, pin) in ready.models.items()],
        "fetched": list(ready.fetched),
        "ready": True,
    }


MEDIA_NOTE = "media files are parsed in these containers"


def _build_text(made: ImagesBuilt) -> list[str]:
    rows = [
        (
            image.built.tag,
            format_size(image.installed.size_bytes),
            format_size(image.installed.shared_bytes),
            format_size(image.installed.own_bytes),
            format_time(image.built.seconds),
            image.built.state,
        )
        for image in made.images
    ]
    total = f"all together: {format_size(made.unique_bytes)} unpacked, each layer counted once"
    larger = [
        f"warning: {image.built.tag} grew by {image.installed.size_bytes / image.before.size_bytes - 1:.0%}, from"
        f" {format_size(image.before.size_bytes)} on {image.before.at[:10]}  ({command('images --history')})"
        for image in made.images
        if image.before is not None
    ]
    own = [*table(("IMAGE", "SIZE", "SHARED", "OWN", "TIME", "STATE"), rows), "", total, *larger] if rows else []
    return [*own, *([""] if own and made.others else []), *others_text(made)]


def _native_text(ready: NativeReady) -> list[str]:
    rows = [(p.value, m.id, format_size(pin.size), m.licence) for p, (m, pin) in ready.models.items()]
    hardware, advice = ready.hardware, ready.recommended
    machine = f"machine: {hardware.cores} cores, {format_size(hardware.memory)}"
    return [
        *table(("PURPOSE", "MODEL", "SIZE", "LICENCE"), rows),
        "",
        *([*_build_text(ready.images), ""] if ready.images else []),
        f"{machine}; preset {ready.preset}; {ready.preset_reason}"
        if ready.preset_reason
        else f"{machine}; recommended preset: {advice.preset} ({advice.reason})",
        *([f"native: no images are built: {ready.no_images}"] if ready.no_images else []),
        f"ready to run jobs: {command('run RECORDING')}",
    ]


BUILD = View(command="build", shape=BuildJson, data=_build_data, lines=_build_text)
NATIVE_BUILD = View(command="build --mode native", shape=NativeBuildJson, data=_native_data, lines=_native_text)


def _images_data(listed: ImagesListed) -> list[InstalledImageJson]:
    return [_installed(image) for image in listed.images]


def _listed_text(listed: ImagesListed) -> list[str]:
    rows = [
        (
            image.tag,
            image.id.removeprefix("sha256:")[:12],
            format_size(image.size_bytes),
            format_size(image.shared_bytes),
            format_size(image.own_bytes),
            ", ".join(image.models),
            "baked" if image.baked else "mounted" if image.models else "",
            f"held at {image.held}" if image.held else "yes" if image.up_to_date else "no",
        )
        for image in listed.images
    ]
    head = ("IMAGE", "ID", "SIZE", "SHARED", "OWN", "MODELS", "WEIGHTS", "UP TO DATE")
    kept = kept_lines(listed.versions)
    return [*(table(head, rows) if rows else ["no images here"]), *(["", *kept] if kept else [])]


IMAGES = View(command="images", shape=list[InstalledImageJson], data=_images_data, lines=_listed_text)
