"""How large images are before they are built: for people, and for the order of layers. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from builder.core.config.requirements import Requirement
from builder.core.images import layer_order as order
from builder.core.images.plan import CUDA, Library, Plan
from builder.core.weights import layers

UNKNOWN = 8_000_000
"""Bytes that a package counts for whose size nobody has measured."""

UNKNOWN_HEAVY = 330_000_000
"""The same of one of NVIDIA's libraries: what torch 2.8's have on average."""

UNKNOWN_TORCH = {"torch": 1_600_000_000, "triton": 250_000_000}
"""The same of packages that have grown for years: as torch 2.8.0 and triton 3.4.0 have, unpacked and pruned."""

UNKNOWN_CPU_TORCH = 530_000_000
"""The same of torch's build for processors: as torch 2.13.0+cpu has."""


CODE = 200_000
"""Bytes that a stage's own code counts for."""


def stacks(plan: Plan, sizes: Mapping[str, int]) -> tuple[order.Stack, ...]:
    """The images as what their order is planned from.

    Args:
        sizes: unpacked bytes of ``package==version`` and ``base==root``. They decide the order, so they have to be the
            same everywhere: those that come with the project. Others are guessed.
    """

    def size(library: Library) -> int:
        packages: dict[str, int] = {}
        for p in library.packages:  # a lock names several versions of one where machines differ
            packages[p.name] = sizes.get(f"{p.name}=={p.version}", packages.get(p.name, guess(p.name, p.version)))
        return sum(packages.values())

    root = order.Block(name="base", kind="base", size=sizes.get("base==root", UNKNOWN))
    stacked = []
    for image in plan.images:
        blocks = [
            root,
            *(
                order.Block(name=f"libraries {n}", kind="requirement", size=size(plan.libraries[n]))
                for n in plan.standing(image)
            ),
        ]
        if image.stage:
            blocks.append(order.Block(name=f"code {image.name}", kind="code", size=CODE))
        models = tuple(
            order.Block(
                name=f"model {model.id}", kind="model", size=sum(layer.size for layer in layers.layers(model, pin))
            )
            for model, pin in plan.carried(image)
        )
        stacked.append(order.Stack(image=image.name, blocks=tuple(blocks), models=models))
    return tuple(stacked)


def guess(package: str, version: str) -> int:
    """Bytes of a package that nobody has measured, unpacked."""
    if package == "torch" and version.endswith("+cpu"):
        return UNKNOWN_CPU_TORCH
    return UNKNOWN_TORCH.get(package, UNKNOWN_HEAVY if package.startswith(CUDA) else UNKNOWN)


def code_bytes(plan: Plan, sizes: Mapping[str, int], images: Collection[str]) -> int:
    """Bytes of the packages, unpacked, that building some of a plan's images brings: those that no other of them stands on.

    What nobody has measured is guessed, so that a build is refused rather than left to fill a disk.

    Args:
        sizes: of ``package==version``, those that are known.
        images: names of those that aren't there yet.
    """
    there = {name for image in plan.images if image.name not in images for name in plan.standing(image)}
    wanted = {name for image in plan.images if image.name in images for name in plan.standing(image)} - there
    return installed_bytes((pin for name in wanted for pin in plan.libraries[name].packages), sizes)


def installed_bytes(pins: Iterable[Requirement], sizes: Mapping[str, int]) -> int:
    """Bytes of packages, unpacked, each once: a lock names several versions of one where machines differ.

    Args:
        sizes: of ``package==version``, those that are known; the others are guessed.
    """
    packages: dict[str, int] = {}
    for pin in sorted(pins):
        packages[pin.name] = sizes.get(f"{pin.name}=={pin.version}") or packages.get(
            pin.name, guess(pin.name, pin.version)
        )
    return sum(packages.values())


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Unpacked bytes, as far as they were measured."""

    size: int
    complete: bool
    """Whether every part's size is known; else it is at least this much."""


@dataclass(frozen=True, kw_only=True)
class PlanEstimate:
    """What a plan's images take, unpacked, without their weights."""

    libraries: Mapping[str, Estimate]
    images: Mapping[str, Estimate]
    """Each with what it stands on."""
    unique_bytes: int
    """All images together, each layer counted once."""


def estimate(plan: Plan, sizes: Mapping[str, int]) -> PlanEstimate:
    """What a plan's images take.

    Args:
        sizes: unpacked bytes of ``package==version`` and ``base==root``, those that are known.
    """
    libraries = {library.name: _measured(library, sizes) for library in plan.libraries.values()}
    root = Estimate(size=sizes.get("base==root", 0), complete="base==root" in sizes)
    images: dict[str, Estimate] = {}
    for image in plan.images:  # parents first
        below = images[image.parent] if image.parent else root
        parts = [below, *(libraries[name] for name in image.libraries)]
        images[image.name] = Estimate(size=sum(p.size for p in parts), complete=all(p.complete for p in parts))
    unique = root.size + sum(library.size for library in libraries.values())
    return PlanEstimate(libraries=libraries, images=images, unique_bytes=unique)


def _measured(library: Library, sizes: Mapping[str, int]) -> Estimate:
    """A library's packages, each once: a lock names several versions of one where machines differ."""
    packages: dict[str, int | None] = {}
    for pin in library.packages:
        packages[pin.name] = sizes.get(f"{pin.name}=={pin.version}") or packages.get(pin.name)
    return Estimate(size=sum(size or 0 for size in packages.values()), complete=None not in packages.values())
