"""Images: what they stand on, the rendered folder, building it, and what an engine has of them."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from builder import __version__
from builder.core.config import requirements
from builder.core.config.types import BaseSpec, Config
from builder.core.images import assembly
from builder.core.images import plan as planning
from builder.core.images import render as rendering
from builder.core.images.layer_order import Block, arrange
from builder.core.images.plan import Plan
from builder.core.progress import OnProgress, Progress
from builder.core.terms import LABEL, Mode, Variant
from builder.core.weights.catalog import model_digest
from builder.core.weights.model import Model, Pin
from builder.edges.engine import connection as engines
from builder.edges.engine.connection import Engine
from builder.edges.images import base as bases
from builder.edges.system import files
from builder.errors import (
    ConfigError,
    SourceError,
)

ROOTFS = "rootfs.tar"
LOCK = "requirements/builder.txt"
CONVERTING = ("ml-dtypes", "numpy", "onnx", "protobuf", "typing-extensions")
"""Of the builder's own locked packages, what builder/edges/weights/convert.py imports: for the build stage that converts."""

Models = Sequence[tuple[Model, Pin]]

OFFICIAL = frozenset({"Dockerfile", "docker-bake.json", ROOTFS})


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A plan with every text file it renders to."""

    plan: Plan
    files: Mapping[str, str]
    fingerprints: Mapping[str, str]
    """Image -> what its code is made from, as its label ``io.whisperbake.inputs`` says."""
    order: Mapping[str, tuple[Block, ...]]
    """Image -> its blocks of layers, lowest first, as planned for all images of the mode together."""


@dataclass(frozen=True, kw_only=True)
class Here:
    """An image that an engine has. Bytes are those of unpacked layers; shared ones another image of ours has too."""

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
    up_to_date: bool
    """Whether its code and the models it carries are those of today's files and models.lock."""


def decide_base(
    config: Config, env: Mapping[str, str], on_progress: OnProgress, engine: Engine | None = None
) -> BaseSpec:
    """What images stand on, with its kind decided and the digest that a registry gives.

    Args:
        engine: where the reference may be already.

    Raises:
        SourceError: the registry can't be reached, and nothing else is allowed.
    """
    spec = config.base
    if spec.kind == "debian":
        return replace(spec, digest="", reference="")
    if spec.digest:
        return replace(spec, kind="registry")
    if spec.reference and engine is not None:
        with suppress(Exception):
            found = engine.client.images.get(spec.reference)
            names = [d.partition("@")[2] for d in found.attrs.get("RepoDigests") or ()]
            on_progress(Progress(what="base", note=f"{spec.reference}, which the engine has", finished=True))
            return replace(spec, kind="registry", digest=names[0] if names and engine.store == "containerd" else "")
    digest = engines.registry_digest(spec.reference, env) if spec.reference and engine is not None else None
    if digest:
        on_progress(Progress(what="base", note=f"{spec.reference}@{digest[:19]}…; pin it: base.digest", finished=True))
        return replace(spec, kind="registry", digest=digest)
    if spec.kind == "registry":
        if engine is None:
            return spec
        raise SourceError(
            f"no registry gives {spec.reference} within {engines.ASK:.0f} s",
            where="bake.yaml: base",
            hint="docker pull it, or base.kind: debian",
        )
    if engine is not None:
        on_progress(
            Progress(
                what="base", note=f"Debian {spec.suite}'s packages: no registry gives {spec.reference}", finished=True
            )
        )
    return replace(spec, kind="debian", digest="", reference="")


def rendered(
    config: Config,
    base: BaseSpec,
    models: Models,
    names: Sequence[str] = (),
) -> Rendered:
    """Plan and render, from the project's files."""
    paths = {p for s in config.stages.values() for p in s.requirements.values()}
    paths |= {p for s in config.images.values() for p in s.requirements.values()}
    locks = {path: text for path in sorted(paths) if (text := _text(config.root / path)) is not None}
    plan = planning.plan(config, locks=locks, base=base, models=models, images=names)
    every = planning.plan(config, locks=locks, base=base, models=models) if names else plan
    texts = templates(config)
    made = rendering.render(plan, texts, _context(config.root), version=__version__)
    prints = {image.name: rendering.inputs(plan, texts, made, image) for image in plan.images}
    order = arrange(planning.stacks(every, shipped_sizes(config)))
    return Rendered(plan=plan, files=made, fingerprints=prints, order=order)


def templates(config: Config) -> dict[str, str]:
    """The project's templates by name.

    Raises:
        ConfigError: there are none.
    """
    folder = config.root / "templates"
    found = {p.relative_to(folder).as_posix(): p.read_text() for p in sorted(folder.rglob("*.j2"))}
    if "Dockerfile.j2" not in found:
        raise ConfigError("no template", where=str(folder / "Dockerfile.j2"))
    return found


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return None


def _context(root: Path) -> dict[str, str]:
    """What build stages copy: the tools and the stages' code."""
    found = {f"tools/{p.name}": p for p in (root / "images/tools").glob("*.py")}
    found |= {
        "tools/requirements.txt": root / "images/tools/requirements.txt",
        "tools/pipwheel.py": root / "builder/bootstrap/pip_wheel.py",
        "stages/contract.py": root / "stages/contract.py",
    }
    found |= {p.relative_to(root).as_posix(): p for p in (root / "stages").glob("*/*.py")}
    found |= {
        "weights/fetch.py": root / "images/weights/fetch.py",
        "weights/builder/errors.py": root / "builder/errors.py",
        "weights/builder/edges/weights/convert.py": root / "builder/edges/weights/convert.py",
    }
    texts = {name: path.read_text(encoding="utf-8") for name, path in sorted(found.items())}
    lock = _text(root / LOCK)
    if lock is None:
        raise ConfigError("no such requirements file", where=LOCK, hint="make lock")
    locked = requirements.parse(LOCK, lock)
    return {**texts, "weights/convert.txt": requirements.dump([p for p in locked if p.name in CONVERTING])}


def folder_of(config: Config) -> Path:
    """Where a mode and a variant are rendered to unless --out says otherwise."""
    return config.paths.images / f"{config.defaults.mode.value}-{config.defaults.variant.value}"


def require_space(config: Config, plan: Plan, engine: Engine) -> None:
    """Refuse to begin what can't end: packages as installed and as kept, the images' own copy, the layout's; weights as
    they come and as they are unpacked.

    Raises:
        MissingError: a disk has too little free.
    """
    lacking = [i for i in plan.images if not labels_of(engine, i.tag)]
    if not lacking:
        return
    known = sizes(config)
    names = {f"{p.name}=={p.version}" for library in plan.libraries.values() for p in library.packages}
    code = sum(known.get(name, 0) for name in names)
    weights = {model.id: pin.size for image in lacking for model, pin in plan.carried(image)}
    needs = {config.home: code}
    if engine.free is not None:
        needs[Path(engine.root)] = 3 * code + 2 * sum(weights.values()) + 500_000_000
    files.require_room(needs, "run docker buildx prune, or build.py prune")


def root_of(
    config: Config, plan: Plan, env: Mapping[str, str], on_progress: OnProgress, *, refresh: bool = False
) -> Path | None:
    """The root file system of a debian base, made when it is missing."""
    if plan.base.kind != "debian":
        return None
    cache = config.paths.base
    return bases.rootfs(plan.base, plan.debian_packages, cache, env=env, on_progress=on_progress, refresh=refresh)


def write(folder: Path, made: Mapping[str, str], root: Path | None) -> None:
    """Bring a folder to what was rendered; what doesn't belong there and is ours goes.

    Raises:
        ConfigError: the folder has something else in it.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "docker-bake.json").is_file():
        raise ConfigError(
            "this folder is not empty, and not one of ours", where=str(folder), hint="name another: --out DIR"
        )
    for path in _there(folder) - set(made) - {ROOTFS}:
        (folder / path).unlink()
    for name, text in made.items():
        if _text(folder / name) != text:
            files.write_atomic(folder / name, text)
    target = folder / ROOTFS
    if root is None:
        target.unlink(missing_ok=True)
    elif not target.is_file() or not target.samefile(root):
        beside = folder / f".{ROOTFS}"
        beside.unlink(missing_ok=True)
        try:
            beside.hardlink_to(root)
        except OSError:  # another disk
            shutil.copyfile(root, beside)
        beside.replace(target)


def differences(folder: Path, made: Mapping[str, str]) -> list[str]:
    """Paths that are missing, other, or too many in a rendered folder."""
    texts = {name: _text(folder / name) for name in made}
    found = [f"{n}: {'missing' if t is None else 'other'}" for n, t in texts.items() if t != made[n]]
    return sorted(found + [f"{name}: not rendered any more" for name in _there(folder) - set(made) - {ROOTFS}])


def _there(folder: Path) -> set[str]:
    """The files of a rendered folder that are of our kinds."""
    places = ("tools", "stages", "requirements", "weights")
    found = {p.relative_to(folder).as_posix() for d in places for p in (folder / d).rglob("*") if p.is_file()}
    return found | {name for name in OFFICIAL if (folder / name).is_file()}


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


def sizes(config: Config) -> dict[str, int]:
    """Unpacked bytes of ``package==version`` as far as known: measured here, or by those who locked it."""
    return {**shipped_sizes(config), **(files.read_json(config.paths.sizes) or {})}


def shipped_sizes(config: Config) -> dict[str, int]:
    """What those who locked the packages measured: the same on every machine, so the order of layers rests on it."""
    return dict(files.read_json(config.root / "images" / "sizes.json") or {})


def listing(config: Config, engine: Engine, models: Callable[[Variant], Models]) -> tuple[Here, ...]:
    """Our images on an engine, by name.

    Args:
        models: what a variant carries today.
    """
    found: dict[str, Any] = {}
    for image in engine.client.images.list(filters={"label": f"{LABEL}inputs"}):
        for tag in image.tags:
            if tag.startswith(f"{config.defaults.registry}/"):
                found[tag] = image
    layers = {tag: _layers(image) for tag, image in found.items()}
    users = Counter(layer for tag in layers for layer in dict(layers[tag]))
    plans: dict[tuple[str, str], Mapping[str, str]] = {}
    here = []
    for tag, image in sorted(found.items()):
        labels = image.labels
        mode, variant = labels.get(f"{LABEL}mode", ""), labels.get(f"{LABEL}variant", "")
        name = labels.get("org.opencontainers.image.title", "")
        if (mode, variant) not in plans:
            plans[mode, variant] = _expected(config, mode, variant, image, models)
        own = sum(size for layer, size in layers[tag] if users[layer] == 1)
        total = sum(size for _, size in layers[tag])
        carried = labels.get(f"{LABEL}models", "")
        baked = _baked(labels)
        locked = all(id_ in config.pins and model_digest(config.pins[id_]) == d for id_, d in baked.items())
        here.append(
            Here(
                name=name,
                tag=tag,
                id=image.id,
                mode=mode,
                variant=variant,
                size_bytes=total,
                own_bytes=own,
                shared_bytes=total - own,
                models=tuple(carried.split(",")) if carried else (),
                baked=baked,
                up_to_date=locked and plans[mode, variant].get(name) == labels.get(f"{LABEL}inputs"),
            )
        )
    return tuple(here)


def _baked(labels: Mapping[str, str]) -> dict[str, str]:
    """Models that an image carries, by its labels: id -> digest."""
    if assembly.BAKED not in labels:
        return {}
    pairs = (entry.partition("=") for entry in labels.get(assembly.DIGESTS, "").split())
    return {id_: digest for id_, _, digest in pairs}


def unique_bytes(config: Config, engine: Engine, tags: Sequence[str]) -> int:
    """Unpacked bytes of all layers of some images, each counted once."""
    return sum({layer: size for tag in tags for layer, size in _layers(engine.client.images.get(tag))}.values())


def base_of(config: Config, labels: Mapping[str, str]) -> BaseSpec:
    """What an image with these labels stands on."""
    if labels.get("org.opencontainers.image.base.name", "").startswith("debian:"):
        return replace(config.base, kind="debian", reference="", digest="")
    return replace(config.base, kind="registry", digest=labels.get("org.opencontainers.image.base.digest", ""))


def _expected(
    config: Config, mode: str, variant: str, image: Any, models: Callable[[Variant], Models]
) -> Mapping[str, str]:
    """What each image of a mode would be made from today, on the base that ``image`` stands on."""
    try:
        defaults = replace(config.defaults, mode=Mode(mode), variant=Variant(variant))
        base = base_of(config, image.labels)
        return rendered(replace(config, defaults=defaults), base, models(Variant(variant))).fingerprints
    except (ValueError, ConfigError):
        return {}


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
