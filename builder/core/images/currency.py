"""Whether an image is current: whether its labels say what today's plan would write there. Pure.

The one rule for ``build``, ``images``, ``push`` and ``run --no-build``. Each of them makes today's plan, takes the labels
that it expects of an image (:func:`expected`) and compares (:func:`differences`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from builder.core.config.types import BaseSpec
from builder.core.images import assembly
from builder.core.images.layer_order import Block
from builder.core.terms import LABEL
from builder.core.weights.model import Model, Pin, PinnedModel, model_digest

INPUTS = f"{LABEL}inputs"
"""Label: the fingerprint of all that an image's code is made from (:func:`builder.core.images.render.inputs`)."""
MODE, VARIANT, MODELS = f"{LABEL}mode", f"{LABEL}variant", f"{LABEL}models"
"""Labels: what an image was planned for, and the ids of the models that its stage loads."""
CODE = f"{LABEL}code"
"""Label: an image's stage and the digest of its code, as :func:`builder.core.images.render.code_label` gives them."""
SCHEMA = f"{LABEL}schema"
"""Label: the format of the jobs that an image's stage reads (:data:`builder.core.terms.JOB_SCHEMA`); without it, 1."""
BASE_NAME = "org.opencontainers.image.base.name"
BASE_DIGEST = "org.opencontainers.image.base.digest"

MEANING = {
    INPUTS: "code, packages or base",
    BASE_DIGEST: "base",
    assembly.DIGESTS: "models",
    assembly.BAKED: "weights",
    assembly.ORDER: "order of layers",
}
"""What has changed when a label differs."""

ASSEMBLED = (assembly.BAKED, assembly.ORDER)
"""Labels that ``build`` gives together. An image that ``docker buildx bake`` made has no order of ours, and may have its
weights mounted: it runs as well, but ``build`` assembles it."""


def expected(
    *, inputs: str, base_digest: str | None, blocks: Sequence[Block], carried: Sequence[tuple[Model, Pin]]
) -> dict[str, str]:
    """The labels of an image that is current.

    Args:
        inputs: the fingerprint of its code, as today's files give it.
        base_digest: of what it stands on; None where only a build can know it.
        blocks: its layers in the planned order, lowest first.
        carried: the models that it carries, with their pins.
    """
    base = {} if base_digest is None else {BASE_DIGEST: base_digest}
    models = {assembly.DIGESTS: assembly.digests(carried), **assembly.labels(blocks, carried)}
    return {INPUTS: inputs, **base, **models}


def differences(labels: Mapping[str, str], today: Mapping[str, str]) -> tuple[str, ...]:
    """Why an image is not current, in words of :data:`MEANING`; nothing when it is.

    Args:
        labels: the image's own; empty when there is no image.
        today: what :func:`expected` gives for it.
    """
    skipped = () if assembly.ORDER in labels else ASSEMBLED
    return tuple(
        MEANING[name] for name, value in today.items() if name not in skipped and labels.get(name, "") != value
    )


def beside(
    chosen: Sequence[PinnedModel], images: Iterable[Mapping[str, str]], known: Iterable[PinnedModel]
) -> tuple[PinnedModel, ...]:
    """What images carry when they keep what they have: the chosen models, and those of other presets, as pinned today.

    So one image serves several presets, and a job with another of them replaces nothing. The order is the images' own:
    a model that is new comes on top.

    Args:
        images: labels of the images that are there, of one mode and variant.
        known: all models that are pinned and that the variant can load.
    """
    digests = {f"{model.id}={model_digest(pin)}": (model, pin) for model, pin in known}
    entries = [entry for labels in images for entry in labels.get(assembly.DIGESTS, "").split()]
    kept = [digests[entry] for entry in entries if entry in digests]
    return tuple({model.id: (model, pin) for model, pin in (*kept, *chosen)}.values())


def assembled(labels: Mapping[str, str], today: Mapping[str, str]) -> bool:
    """Whether ``build`` put the image together, and not ``docker buildx bake``: only then the layout has its layers."""
    return all(labels.get(name) == today[name] for name in ASSEMBLED if name in today)


def base_of(spec: BaseSpec, labels: Mapping[str, str]) -> BaseSpec:
    """The base that an image has to stand on: what bake.yaml says, and where it leaves that open, what the image has.

    Only a build decides what is open: it asks the engine and the registry, which takes a network.
    """
    debian = replace(spec, kind="debian", reference="", digest="")
    if spec.kind == "debian":
        return debian
    if spec.digest:
        return replace(spec, kind="registry")
    name = labels.get(BASE_NAME, "")
    if spec.kind == "auto" and (not spec.reference or name != spec.reference):
        return debian
    return replace(spec, kind="registry", digest=labels.get(BASE_DIGEST, ""))
