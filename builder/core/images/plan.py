"""What is built: configuration in, images with their layers and models out. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from types import MappingProxyType

from builder.core.config import requirements
from builder.core.config.defaults import MOUNTED
from builder.core.config.requirements import Requirement
from builder.core.config.types import BaseSpec, Config, ImageSpec
from builder.core.platforms import Platform
from builder.core.terms import Mode, Purpose, Variant
from builder.core.weights.model import Model, Pin
from builder.errors import ConfigError, UsageError

CUDA = "nvidia-"
"""How the names of NVIDIA's libraries on the package index begin: gigabytes that seldom change."""

HEAVY = ("torch", "triton")
"""What else is large and steady enough for a layer apart from what changes more often."""


@dataclass(frozen=True, kw_only=True)
class Library:
    """Packages that are installed together and become one layer, shared by every image that names it."""

    name: str
    packages: tuple[Requirement, ...]

    @property
    def file(self) -> str:
        """Its requirements file in the rendered folder."""
        return f"requirements/{self.name}.txt"


@dataclass(frozen=True, kw_only=True)
class PlannedImage:
    """One image: what it stands on, what it adds."""

    name: str
    tag: str
    """``<registry>/<name>:<variant>-<cpu|gpu>``; for a platform of its own with ``-<architecture>``."""
    parent: str | None
    stage: str | None
    gpu: bool
    libraries: tuple[str, ...]
    """Names of its own libraries, lowest layer first."""
    models: tuple[str, ...]
    """Ids of the models that it carries."""
    loads: tuple[str, ...] = ()
    """Ids of those that its stage loads: the same, unless weights are mounted."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that a mode and a variant need, in the order it is built."""

    mode: Mode
    variant: Variant
    base: BaseSpec
    debian_packages: tuple[str, ...]
    images: tuple[PlannedImage, ...]
    libraries: Mapping[str, Library]
    models: tuple[tuple[Model, Pin], ...]
    """What its images carry, in the order they were chosen."""
    mounted: tuple[tuple[Model, Pin], ...] = ()
    """What they load from the weights image instead."""
    platform: Platform | None = None
    """What they are for, where that isn't what the engine runs; nothing of that platform is run for them."""

    @property
    def every(self) -> tuple[tuple[Model, Pin], ...]:
        """What its images load."""
        return (*self.models, *self.mounted)

    def image(self, name: str) -> PlannedImage:
        """The image of that name; ``KeyError`` when the plan has none."""
        return {i.name: i for i in self.images}[name]

    def chain(self, image: PlannedImage) -> tuple[PlannedImage, ...]:
        """An image with all that it stands on, the lowest first."""
        return (*(self.chain(self.image(image.parent)) if image.parent else ()), image)

    def standing(self, image: PlannedImage) -> tuple[str, ...]:
        """Names of all libraries of an image, its parents' first."""
        return tuple(library for link in self.chain(image) for library in link.libraries)

    def carried(self, image: PlannedImage) -> tuple[tuple[Model, Pin], ...]:
        """An image's models with their pins."""
        return tuple((model, pin) for model, pin in self.models if model.id in image.models)

    def loaded(self, image: PlannedImage) -> tuple[tuple[Model, Pin], ...]:
        """The models that an image's stage loads, wherever they are."""
        return tuple((model, pin) for model, pin in self.every if model.id in image.loads)


def plan(
    config: Config,
    *,
    locks: Mapping[str, str],
    base: BaseSpec,
    models: Sequence[tuple[Model, Pin]],
    images: Sequence[str] = (),
    platform: Platform | None = None,
) -> Plan:
    """Which images a mode and a variant consist of.

    Args:
        locks: text of every requirements file that an image or a stage names, by path.
        base: what they stand on, with its kind decided (``registry`` or ``debian``).
        models: what was chosen, in that order; several for one purpose where they differ by language.
        images: only these, with what they stand on; empty for all of the mode, of extra ones those that are configured.
        platform: another one than the engine's.

    Raises:
        UsageError: an unknown image, one that the mode doesn't have, or images for GPUs of another platform.
        ConfigError: an image lacks requirements, or two locks disagree.
    """
    mode, variant = config.defaults.mode, config.defaults.variant
    if platform is not None and mode is Mode.DOCKER_GPU:
        raise UsageError(
            f"images for GPUs are built on their own platform alone, and not for {platform.name} here",
            expected="--mode docker-cpu, with --platform",
        )
    wanted = _wanted(config, mode, images)
    # What a layer holds depends on all of the mode's images, so that building some gives the same ones.
    every = _wanted(config, mode, [n for n, spec in config.images.items() if mode in spec.modes])
    own = _own(config, every, locks, {(model.purpose, model.engine) for model, _ in models if model.engine})
    libraries, uses = _libraries(config, every, own)
    purposes = {purpose for name in wanted for purpose in _purposes(config, config.images[name])}
    used = [(model, pin) for model, pin in models if model.purpose in purposes]
    mounted = config.defaults.weights == MOUNTED
    return Plan(
        mode=mode,
        variant=variant,
        base=base,
        debian_packages=tuple(
            sorted({p for n in every for p in config.images[n].debian_packages} | _of_apertium(config, base))
        ),
        images=tuple(_image(config, config.images[n], uses[n], used, platform) for n in wanted),
        libraries=MappingProxyType({lib.name: lib for lib in libraries if any(lib.name in uses[n] for n in wanted)}),
        models=() if mounted else tuple(used),
        mounted=tuple(used) if mounted else (),
        platform=platform,
    )


def _of_apertium(config: Config, base: BaseSpec) -> set[str]:
    """Debian's packages of the pairs that bake.yaml wants in images; libc-bin has the locale that their tagger reads.

    Raises:
        ConfigError: the base isn't made of Debian's packages.
    """
    if config.apertium and base.kind == "registry":
        raise ConfigError(
            "Apertium's pairs come with a base of Debian's packages",
            where="bake.yaml: translation.apertium",
            hint="base.kind: debian",
        )
    return {"apertium", "libc-bin", *(f"apertium-{pair}" for pair in config.apertium)} if config.apertium else set()


def _own(
    config: Config, every: Sequence[str], locks: Mapping[str, str], engines: Set[tuple[Purpose, str]]
) -> dict[str, set[Requirement]]:
    """Image -> the pins that it adds to those of its parents.

    Args:
        engines: of the chosen models, with their purposes, where it isn't their stage's usual one.

    Raises:
        ConfigError: an image pins another version of a package than an image that it stands on.
    """
    needs = {name: _needs(config, config.images[name], locks, engines) for name in every}
    held: dict[str, set[Requirement]] = {}
    own: dict[str, set[Requirement]] = {}
    for name in every:  # parents first
        spec = config.images[name]
        below = held[spec.parent] if spec.parent else set()
        named = needs[name] if spec.stage or spec.requirements else set()
        own[name] = (named | _hoisted(config, spec, needs, every)) - below
        if twice := sorted({p.name for p in own[name]} & {p.name for p in below}):
            raise _disagree(twice[0], f"images/{name}.yaml")
        held[name] = below | own[name]
    return own


def _wanted(config: Config, mode: Mode, names: Sequence[str]) -> tuple[str, ...]:
    """Names in the order of building: parents first."""
    there = [n for n, spec in config.images.items() if mode in spec.modes]
    for name in names:
        if name not in config.images:
            raise UsageError(f'no image "{name}"', expected=", ".join(config.images))
        if name not in there:
            raise UsageError(f"{mode.value} has no image {name}", expected=", ".join(there))
    usual = [n for n in there if not config.images[n].extra or n in config.defaults.extras]
    chosen = set(names or usual)
    for name in reversed(list(config.images)):
        parent = config.images[name].parent
        if name in chosen and parent:
            if parent not in there:
                raise ConfigError(f"{parent} is not built for {mode.value}", where=f"images/{name}.yaml")
            chosen.add(parent)
    return tuple(n for n in config.images if n in chosen)


def _on_gpu(config: Config, spec: ImageSpec, mode: Mode) -> bool:
    if mode is not Mode.DOCKER_GPU or spec.stage is None:
        return False
    return config.defaults.variant in config.stages[spec.stage].gpu


def _purposes(config: Config, spec: ImageSpec) -> tuple[Purpose, ...]:
    return config.stages[spec.stage].uses if spec.stage else ()


def _needs(
    config: Config, spec: ImageSpec, locks: Mapping[str, str], engines: Set[tuple[Purpose, str]]
) -> set[Requirement]:
    """Every pin that an image's own files name."""
    mode, variant = config.defaults.mode, config.defaults.variant
    files = dict(spec.requirements)
    if spec.stage:
        files |= config.stages[spec.stage].requirements
        if variant.value not in files:
            raise ConfigError(
                f"the {variant.value} variant has no requirements for {spec.stage}",
                where=f"stages/{spec.stage}/stage.yaml",
                hint="--variant slim",
            )
    keys = [variant.value] + ([f"{variant.value}-gpu"] if _on_gpu(config, spec, mode) else [])
    if config.network.torch_index_url and mode is not Mode.DOCKER_GPU and f"{variant.value}-cpu" in files:
        keys = [f"{variant.value}-cpu"]  # PyTorch's CPU builds, which another index has under other hashes
    keys += sorted(f"{variant.value}-{engine}" for purpose, engine in engines if purpose in _purposes(config, spec))
    pins: set[Requirement] = set()
    for key in keys:
        if key in files:
            if files[key] not in locks:
                raise ConfigError(
                    "no such requirements file",
                    where=files[key],
                    hint=f"requirements/stages.py {key}, with --torch-index URL for a mirror"
                    if key.endswith("-cpu")
                    else "make lock",
                )
            pins |= set(requirements.parse(files[key], locks[files[key]]))
    return pins


def _hoisted(
    config: Config, spec: ImageSpec, needs: Mapping[str, set[Requirement]], every: Iterable[str]
) -> set[Requirement]:
    """The pins of ``packages``, found in the locks of those that stand on this image."""

    def stands_on(name: str) -> bool:
        parent = config.images[name].parent
        return parent is not None and (parent == spec.name or stands_on(parent))

    pins: set[Requirement] = set()
    for package in spec.packages:
        kinds = {frozenset(p for p in needs[n] if p.name == package) for n in every if stands_on(n)} - {frozenset()}
        if len(kinds) > 1:
            raise _disagree(package, f"images/{spec.name}.yaml")
        pins = pins.union(*kinds)
    return pins


def _disagree(package: str, where: str) -> ConfigError:
    return ConfigError(
        f"{package} is pinned in two versions among the stages that stand on each other",
        where=where,
        hint="make lock resolves all stages together",
    )


def _libraries(
    config: Config, every: Sequence[str], own: Mapping[str, set[Requirement]]
) -> tuple[list[Library], dict[str, tuple[str, ...]]]:
    """Packages by who needs them: what siblings share is one layer, and stands below what they don't."""
    users: dict[tuple[str | None, Requirement], set[str]] = {}
    for name in every:
        for pin in own[name]:
            users.setdefault((config.images[name].parent, pin), set()).add(name)
    groups: dict[tuple[frozenset[str], str], set[Requirement]] = {}
    for (_, pin), names in users.items():
        kind = "cuda" if pin.name.startswith(CUDA) else "torch" if pin.name in HEAVY else ""
        groups.setdefault((frozenset(names), kind), set()).add(pin)
    libraries = []
    uses: dict[str, list[tuple[int, bool, str]]] = {name: [] for name in every}
    for (together, kind), pins in groups.items():
        label = "-".join([*sorted(together), *([kind] if kind else [])])
        libraries.append(Library(name=label, packages=tuple(sorted(pins))))
        for name in together:
            uses[name].append((-len(together), not kind, label))
    libraries.sort(key=lambda library: library.name)
    return libraries, {name: tuple(label for *_, label in sorted(ranked)) for name, ranked in uses.items()}


def _image(
    config: Config,
    spec: ImageSpec,
    libraries: tuple[str, ...],
    models: Sequence[tuple[Model, Pin]],
    platform: Platform | None,
) -> PlannedImage:
    gpu = _on_gpu(config, spec, config.defaults.mode)
    kind = ("gpu" if gpu else "cpu") + (f"-{platform.architecture}" if platform else "")
    loaded = tuple(model.id for model, _ in models if model.purpose in _purposes(config, spec))
    return PlannedImage(
        name=spec.name,
        tag=f"{config.defaults.registry}/{spec.name}:{config.defaults.variant.value}-{kind}",
        parent=spec.parent,
        stage=spec.stage,
        gpu=gpu,
        libraries=libraries,
        models=() if config.defaults.weights == MOUNTED else loaded,
        loads=loaded,
    )


def fingerprint(texts: Mapping[str, str]) -> str:
    """Hex sha256 over named texts: what an image is made from."""
    digest = hashlib.sha256()
    for name in sorted(texts):
        digest.update(name.encode() + b"\0" + texts[name].encode() + b"\0")
    return digest.hexdigest()
