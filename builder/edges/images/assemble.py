"""An image of code and weights, as config and manifest in the layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from builder.core.images import assembly
from builder.core.images.layer_order import Block
from builder.core.progress import OnProgress, Progress
from builder.core.weights.layers import LARGEST
from builder.core.weights.model import Model, Pin
from builder.edges.images import code_image as code
from builder.edges.images.layout import Layout, Stored


def assemble(
    layout: Layout,
    ref: str,
    manifest: str,
    blocks: Sequence[Block],
    carried: Sequence[tuple[Model, Pin]],
    *,
    labels: Mapping[str, str],
    on_progress: OnProgress,
) -> Stored:
    """Put weight layers between the layers of a code image, and record the result under ``ref``.

    No byte of a weight file is read when its layer's digest is known, from models.lock or an earlier look.

    Args:
        manifest: digest of the code image's manifest, in the layout.
        blocks: the planned order, lowest first.
        carried: the models, which have to be in the store.

    Raises:
        IntegrityError, MissingError: a blob or a weight file is damaged or gone.
        BuildError: the code image has fewer layers than planned.
    """
    code_image = code.image(layout, manifest)
    slots = assembly.slots(blocks, carried, len(code_image.layers), ref)
    baked = {}
    for slot in slots:
        if (layer := slot.weights) is None:
            continue
        if layer.size > LARGEST:
            note = f"layer {layer.name} has {layer.size / 1e9:.1f} GB: some registries refuse more than 10"
            on_progress(Progress(what=ref, note=note, finished=True))

        def on_bytes(done: int, name: str = layer.name, size: int = layer.size) -> None:
            on_progress(Progress(what=name, done=done, total=size, unit="bytes", finished=done >= size))

        baked[layer.name] = layout.weights(layer, on_bytes)
    written = assembly.joined(code_image, slots, baked, labels)
    layout.put(written.config)
    digest = layout.put(written.manifest)
    entry = {name: value for name, value in layout.images().get(ref, {}).items() if name != "pulled"}
    layout.record(ref, {**entry, "manifest": digest})
    return layout.stored(ref, digest)
