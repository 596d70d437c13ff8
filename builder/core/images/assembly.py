"""What an assembled image consists of: layers of code and of weights, in the planned order. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from builder.core.images import oci
from builder.core.images.layer_order import Block
from builder.core.images.oci import Layer
from builder.core.terms import LABEL
from builder.core.weights import layers as weights
from builder.core.weights.layers import WeightLayer
from builder.core.weights.model import Model, Pin, model_digest
from builder.errors import BuildError
from builder.program import command

BAKED = f"{LABEL}weights"
"""Label of images that carry their weights; its value is ``baked``."""
DIGESTS = f"{LABEL}model-digests"
"""Label: ``<id>=sha256:…`` of every model, separated by spaces."""
ORDER = f"{LABEL}order"
"""Label: a name for the order of layers, so that an image in another order is not up to date."""


@dataclass(frozen=True, kw_only=True)
class Slot:
    """One layer of an image: a layer of the code, by its number from the bottom, or a weight layer."""

    code: int = -1
    weights: WeightLayer | None = None


def labels(blocks: Sequence[Block], carried: Sequence[tuple[Model, Pin]]) -> dict[str, str]:
    """Labels about an assembled image's weights; empty when it has none."""
    if not carried:
        return {}
    names = "\n".join(block.name for block in blocks)
    return {BAKED: "baked", ORDER: hashlib.sha256(names.encode()).hexdigest()[:16]}


def digests(carried: Sequence[tuple[Model, Pin]]) -> str:
    """The value of the label :data:`DIGESTS`."""
    return " ".join(f"{model.id}={model_digest(pin)}" for model, pin in carried)


def slots(
    blocks: Sequence[Block], carried: Sequence[tuple[Model, Pin]], code_layers: int, where: str
) -> tuple[Slot, ...]:
    """The layers of an image, lowest first.

    Every block except the base and the models is one layer of the code image; all layers below are the base.
    When there are more than :data:`weights.MOST` layers, small ones are folded together.

    Raises:
        BuildError: the code image has fewer layers than the plan.
    """
    models = {f"model {model.id}": weights.layers(model, pin) for model, pin in carried}
    code_blocks = [b for b in blocks if b.kind != "model"]
    base = code_layers - (len(code_blocks) - 1)
    if base < 1:
        raise BuildError(
            f"{where} has {code_layers} layers, fewer than planned",
            expected=f"{len(code_blocks)} or more",
            hint=command("build --no-cache"),
        )
    carried_layers = [layer for block in blocks if block.kind == "model" for layer in models[block.name]]
    folded = {layer.name: layer for layer in weights.fold(carried_layers, max(weights.MOST - code_layers, 1))}
    holder = {part: layer for name, layer in folded.items() for part in name.split("+")}
    placed: list[Slot] = []
    done: set[str] = set()
    next_code = 0
    for block in blocks:
        if block.kind != "model":
            count = base if block.kind == "base" else 1
            placed += [Slot(code=k) for k in range(next_code, next_code + count)]
            next_code += count
            continue
        for part in models[block.name]:
            layer = holder[part.name]
            if layer.name not in done:
                done.add(layer.name)
                placed.append(Slot(weights=layer))
    return tuple(placed)


def joined(
    code: oci.Image, slots: Sequence[Slot], baked: Mapping[str, Layer], labels: Mapping[str, str]
) -> oci.Written:
    """Config and manifest.

    Args:
        baked: weight layers by name, with their digests.
        labels: to add to those of the code.
    """
    layers = [code.layers[s.code] if s.weights is None else baked[s.weights.name] for s in slots]
    return oci.write(oci.assemble(code, layers, labels))
