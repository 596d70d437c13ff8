"""The contents of an image of the layout: the plan that it follows, and the files that name wheels and advisories."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from builder import __version__
from builder.core.config.types import Config
from builder.core.images import currency, oci, render
from builder.core.images.plan import PlannedImage
from builder.core.papers import vex
from builder.core.papers import wheels as choosing
from builder.core.papers.contents import BaseContents, ImageContents, code_files
from builder.core.papers.vex import Advisories
from builder.edges.images.layout import Layout, Stored
from builder.edges.images.rendered import Rendered
from builder.edges.papers import base
from builder.edges.system import files

WHEELS = "images/wheels.txt"
ADVISORIES = "vex.yaml"
STAGES = "opt/bake/stages"
"""Where an image has its stage's code."""

EPOCH = "2020-01-01T00:00:00Z"
"""The time of every file of a layer: that of an image without one."""

VERSION = "org.opencontainers.image.version"
REVISION = "org.opencontainers.image.revision"


def contents(config: Config, layout: Layout, made: Rendered, image: PlannedImage) -> ImageContents:
    """What a built image consists of.

    Args:
        made: the plan whose labels the image has.

    Raises:
        MissingError, IntegrityError: the layout lacks it, or it is damaged.
    """
    stored = layout.image(image.tag)
    labels = stored.written.image.labels
    settings = stored.written.image.config
    architecture = str(settings.get("architecture", "amd64"))
    below = _base(config, layout, made, image, stored)
    pins = [pin for name in made.plan.standing(image) for pin in made.plan.libraries[name].packages]
    texts = {
        path.removeprefix("stages/"): text
        for path, text in made.files.items()
        if image.stage and render.is_code_of(image.stage, path)
    }
    return ImageContents(
        name=image.name,
        tag=image.tag.rpartition(":")[2],
        digest=stored.manifest.digest,
        architecture=architecture,
        stage=image.stage,
        mode=labels.get(currency.MODE, ""),
        variant=made.plan.variant.value,
        base=below,
        wheels=choosing.locked(pins, known_wheels(config.shipped), architecture=architecture, python=below.python),
        models=tuple(sorted(made.plan.carried(image), key=lambda use: use[0].id)),
        code=code_files(texts, STAGES),
        inputs=labels.get(currency.INPUTS, ""),
        version=labels.get(VERSION, __version__),
        revision=labels.get(REVISION, ""),
        created=_second(str(settings.get("created", ""))),
    )


def _second(created: str) -> str:
    """A config's time without parts of a second, as SPDX wants it; where there is none, that of every file of a layer."""
    return f"{created[:19]}Z" if len(created) >= 20 else EPOCH


def _base(config: Config, layout: Layout, made: Rendered, image: PlannedImage, stored: Stored) -> BaseContents:
    plan, labels = made.plan, stored.written.image.labels
    digest = labels.get(currency.BASE_DIGEST, "")
    if plan.base.kind == "debian":
        return base.of_root(plan.base, plan.debian_packages, config.paths.base, digest, plan.platform)
    code = tuple(layer for layer in stored.layers if not layout.is_weights(layer.blob.digest))
    above = sum(block.kind not in ("base", "model") for block in made.order[image.name])
    env = json.loads(stored.written.config).get("config", {}).get("Env") or []
    name = labels.get(currency.BASE_NAME, plan.base.reference)
    return base.of_layers(layout, code[: len(code) - above], name=name, digest=digest, env=env)


def bundled(image: ImageContents, manifest: bytes) -> ImageContents:
    """The same image as a bundle has it: packed otherwise, so it has another manifest."""
    return replace(image, digest=oci.digest(manifest))


def known_wheels(shipped: Path) -> dict[str, str]:
    """Hex sha256 -> the wheel's file name; empty where the project has no list of them."""
    path = shipped / WHEELS
    return _known(path, path.stat().st_mtime_ns) if path.is_file() else {}


@lru_cache(maxsize=4)
def _known(path: Path, _: int) -> dict[str, str]:
    return choosing.files((files.read_file(path) or b"").decode("ascii", "replace"))


def advisories(config: Config) -> Advisories:
    """What the project says of advisories: its own vex.yaml, else the one that is shipped.

    Raises:
        ConfigError: it can't be read as that.
    """
    for folder in dict.fromkeys((config.root, config.shipped)):
        if (folder / ADVISORIES).is_file():
            return vex.parse((folder / ADVISORIES).read_text(encoding="utf-8-sig"))
    return Advisories(author="", statements=())
