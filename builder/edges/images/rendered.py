"""The rendered folder: what today's plan makes of the project's files, written and compared."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import builder
from builder import __version__
from builder.core.config import requirements
from builder.core.config.types import BaseSpec, Config
from builder.core.images import currency, estimate
from builder.core.images import plan as planning
from builder.core.images import render as rendering
from builder.core.images.layer_order import Block, arrange
from builder.core.images.plan import Plan, PlannedImage
from builder.core.platforms import Platform
from builder.core.progress import OnProgress
from builder.core.weights.model import Model, Pin
from builder.edges.images import rootfs as roots
from builder.edges.system import files
from builder.errors import (
    ConfigError,
)

PACKAGE = Path(builder.__file__).resolve().parent
ROOTFS = "rootfs.tar"
BUILD_ROOTFS = "rootfs-build.tar"
"""What the build steps of another platform's images run on, beside a debian base."""
LOCK = "requirements/builder.txt"
CONVERTERS = "edges/weights/convert"
CONVERTING = ("ml-dtypes", "numpy", "onnx", "protobuf", "typing-extensions")
"""Of the builder's own locked packages, what builder/edges/weights/convert imports: for the build stage that converts."""

Models = Sequence[tuple[Model, Pin]]

MARK = "docker-bake.json"
"""The file by which a folder is known as rendered: it is written first, so that a run that was cut short can be repeated."""

ROOTS = frozenset({ROOTFS, BUILD_ROOTFS})
OFFICIAL = frozenset({"Dockerfile", MARK}) | ROOTS


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A plan with every text file it renders to."""

    plan: Plan
    files: Mapping[str, str]
    fingerprints: Mapping[str, str]
    """Image -> what its code is made from, as its label ``io.whisperbake.inputs`` says."""
    order: Mapping[str, tuple[Block, ...]]
    """Image -> its blocks of layers, lowest first, as planned for all images of the mode together."""
    base_digest: str | None
    """Of what the images stand on; None where it is a root file system that is still to be made."""

    def expected(self, image: PlannedImage) -> dict[str, str]:
        """The labels that say that an image is current (:mod:`builder.core.images.currency`)."""
        return currency.expected(
            inputs=self.fingerprints[image.name],
            base_digest=self.base_digest,
            blocks=self.order[image.name],
            carried=self.plan.carried(image),
        )


def rendered(
    config: Config,
    base: BaseSpec,
    models: Models,
    names: Sequence[str] = (),
    platform: Platform | None = None,
) -> Rendered:
    """Plan and render, from the project's files; ``platform`` where it isn't the engine's own."""
    paths = {p for s in config.stages.values() for p in s.requirements.values()}
    paths |= {p for s in config.images.values() for p in s.requirements.values()}
    locks = {path: text for path in sorted(paths) if (text := _text(config.shipped / path)) is not None}
    plan = planning.plan(config, locks=locks, base=base, models=models, images=names, platform=platform)
    every = plan
    if names:  # an extra image that is named is one of the mode's then
        extras = {*config.defaults.extras, *(name for name in names if config.images[name].extra)}
        named = replace(config, defaults=replace(config.defaults, extras=tuple(sorted(extras))))
        every = planning.plan(named, locks=locks, base=base, models=models, platform=platform)
    texts = templates(config)
    rendered_files = rendering.render(plan, texts, context(config.shipped), version=__version__)
    fingerprints = {image.name: rendering.inputs(plan, texts, rendered_files, image) for image in plan.images}
    order = arrange(estimate.stacks(every, shipped_sizes(config)))
    digest = (
        roots.known(base, plan.debian_packages, config.paths.base, platform) if base.kind == "debian" else base.digest
    )
    return Rendered(plan=plan, files=rendered_files, fingerprints=fingerprints, order=order, base_digest=digest)


def templates(config: Config) -> dict[str, str]:
    """The project's templates by name.

    Raises:
        ConfigError: there are none.
    """
    folder = config.shipped / "templates"
    texts = {p.relative_to(folder).as_posix(): p.read_text() for p in sorted(folder.rglob("*.j2"))}
    if "Dockerfile.j2" not in texts:
        raise ConfigError("no template", where=str(folder / "Dockerfile.j2"))
    return texts


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return None


def context(shipped: Path) -> dict[str, str]:
    """What build stages copy: the tools and the stages' code."""
    paths = {f"tools/{p.name}": p for p in (shipped / "images/tools").glob("*.py")}
    paths |= {
        "tools/requirements.txt": shipped / "images/tools/requirements.txt",
        "tools/pipwheel.py": PACKAGE / "bootstrap/pip_wheel.py",
    }
    paths |= {p.relative_to(shipped).as_posix(): p for p in (shipped / "stages").glob("**/*.py")}
    paths |= {
        "weights/fetch.py": shipped / "images/weights/fetch.py",
        "weights/builder/errors.py": PACKAGE / "errors.py",
    }
    paths |= {f"weights/builder/{p.relative_to(PACKAGE).as_posix()}": p for p in (PACKAGE / CONVERTERS).glob("*.py")}
    texts = {name: path.read_text(encoding="utf-8") for name, path in sorted(paths.items())}
    lock = _text(shipped / LOCK)
    if lock is None:
        raise ConfigError("no such requirements file", where=LOCK, hint="make lock")
    locked = requirements.parse(LOCK, lock)
    return {**texts, "weights/convert.txt": requirements.dump([p for p in locked if p.name in CONVERTING])}


def folder_of(config: Config, platform: Platform | None = None) -> Path:
    """Where a mode and a variant are rendered to unless --out says otherwise."""
    name = f"{config.defaults.mode.value}-{config.defaults.variant.value}"
    return config.paths.images / (f"{name}-{platform.architecture}" if platform else name)


def roots_of(
    config: Config, plan: Plan, env: Mapping[str, str], on_progress: OnProgress, *, refresh: bool = False
) -> dict[str, Path]:
    """The root file systems of a debian base by their names in the rendered folder, made when they are missing."""
    if plan.base.kind != "debian":
        return {}

    def made(platform: Platform | None, *, refresh: bool) -> Path:
        return roots.rootfs(
            plan.base,
            plan.debian_packages,
            config.paths.base,
            env=env,
            on_progress=on_progress,
            refresh=refresh,
            platform=platform,
        )

    own = {BUILD_ROOTFS: made(None, refresh=False)} if plan.platform else {}
    return {ROOTFS: made(plan.platform, refresh=refresh), **own}


def write(folder: Path, made: Mapping[str, str], roots: Mapping[str, Path]) -> None:
    """Bring a folder to what was rendered; what doesn't belong there and is ours goes.

    Args:
        roots: the root file systems that it has, by name (:func:`roots_of`).

    Raises:
        ConfigError: the folder has something else in it.
    """
    others = folder.is_dir() and any(not files.is_temporary(path) for path in folder.iterdir())
    if others and not (folder / MARK).is_file():
        raise ConfigError(
            "this folder is not empty, and not one of ours", where=str(folder), hint="name another: --out DIR"
        )
    for path in _there(folder) - set(made) - set(roots):
        (folder / path).unlink()
    for name in sorted(made, key=lambda name: name != MARK):
        if _text(folder / name) != made[name]:
            files.write_atomic(folder / name, made[name])
    for name, root in roots.items():
        _link(root, folder / name)


def _link(root: Path, target: Path) -> None:
    if target.is_file() and target.samefile(root):
        return
    beside = target.with_name(f".{target.name}")
    beside.unlink(missing_ok=True)
    try:
        beside.hardlink_to(root)
    except OSError:  # another disk
        shutil.copyfile(root, beside)
    beside.replace(target)


def differences(folder: Path, made: Mapping[str, str]) -> list[str]:
    """Paths that are missing, other, or too many in a rendered folder."""
    texts = {name: _text(folder / name) for name in made}
    changed = [f"{n}: {'missing' if t is None else 'other'}" for n, t in texts.items() if t != made[n]]
    return sorted(changed + [f"{name}: not rendered any more" for name in _there(folder) - set(made) - ROOTS])


def _there(folder: Path) -> set[str]:
    """The files of a rendered folder that are of our kinds."""
    folders = ("tools", "stages", "requirements", "weights")
    paths = {p.relative_to(folder).as_posix() for d in folders for p in (folder / d).rglob("*") if p.is_file()}
    return paths | {name for name in OFFICIAL if (folder / name).is_file()}


def sizes(config: Config) -> dict[str, int]:
    """Unpacked bytes of ``package==version`` as far as known: measured here, or by those who locked it."""
    return {**shipped_sizes(config), **files.read_object(config.paths.sizes)}


def shipped_sizes(config: Config) -> dict[str, int]:
    """What those who locked the packages measured: the same on every machine, so the order of layers rests on it."""
    return files.read_object(config.shipped / "images" / "sizes.json")
