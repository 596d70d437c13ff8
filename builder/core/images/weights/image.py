"""The weights image: all models of a preset, in the same layers that stage images carry, and nothing else. Pure.

Containers mount it, read-only and whole, at :data:`MOUNTED`; their models are below :data:`MODELS` then.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from builder.core.images import assembly, oci
from builder.core.images.oci import Image, Layer, Written
from builder.core.images.plan import Plan
from builder.core.terms import Mode, Variant
from builder.core.weights import layers as weights
from builder.core.weights.layers import WeightLayer
from builder.core.weights.model import PinnedModel
from builder.errors import UsageError

NAME = "weights"
"""Of the image, and of its repository."""

MOUNTED = "/weights"
"""Where containers see it, whole: to mount a folder of it alone needs Docker 28, Podman 5.1 or Kubernetes 1.33."""

MODELS = f"{MOUNTED}/{weights.ROOT}"
"""The models root in such a container."""

TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
"""OCI distribution specification 1.1: what a tag may be."""


def tag(presets: Sequence[str], plan: Plan) -> str:
    """``<preset>`` for processors; other models are chosen for a GPU and for the full variant: ``<preset>-full-gpu``.

    Raises:
        UsageError: a preset's name can't be a tag.
    """
    kind = [plan.variant.value] if plan.variant is not Variant.SLIM else []
    kind += ["gpu"] if plan.mode is Mode.DOCKER_GPU else []
    name = "-".join([*presets, *kind])
    if not TAG.fullmatch(name):
        raise UsageError(f"\"{name}\" can't be an image's tag", where="--preset", expected="a-z, 0-9, - and . alone")
    return name


def carried(plan: Plan) -> tuple[PinnedModel, ...]:
    """The models that the images of a plan load, each once."""
    return tuple({m.id: (m, pin) for image in plan.images for m, pin in plan.loaded(image)}.values())


def layers(models: Sequence[PinnedModel]) -> tuple[WeightLayer, ...]:
    """Its layers, lowest first. Beyond an image's most layers small ones are folded, and these are its own then."""
    return weights.fold([layer for model, pin in models for layer in weights.layers(model, pin)], weights.MOST)


def image(models: Sequence[PinnedModel], baked: Sequence[Layer], platform: Mapping[str, Any]) -> Written:
    """Manifest and config.

    Args:
        models: what it has.
        baked: :func:`layers` with their digests.
        platform: ``architecture`` and ``os``: an engine takes no image without.
    """
    licences = sorted({model.licence for model, _ in models})
    labels = {
        "org.opencontainers.image.title": NAME,
        "org.opencontainers.image.licenses": " AND ".join(licences),
        assembly.BAKED: "baked",
        assembly.DIGESTS: assembly.digests(models),
    }
    config = {**platform, "config": {"Labels": labels}}
    return oci.write(Image(config=config, layers=tuple(baked), rest=()))
