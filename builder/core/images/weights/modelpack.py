"""Weights as a ModelPack artifact, the same blobs again: what oras, modctl and other tools for models move. Pure.

CNCF ModelPack's model-spec: docs/spec.md (manifest), docs/config.md and schema/config-schema.json (config),
docs/annotations.md. A layer's media type is of its descriptor alone, so a registry has each blob once.
"""

from __future__ import annotations

from collections.abc import Sequence

from builder.core.images import oci
from builder.core.images.oci import Descriptor, Layer
from builder.core.weights.layers import WeightLayer
from builder.core.weights.model import PinnedModel

ARTIFACT = "application/vnd.cncf.model.manifest.v1+json"
CONFIG = "application/vnd.cncf.model.config.v1+json"
WEIGHT = "application/vnd.cncf.model.weight.v1.tar"
FILE_PATH = "org.cncf.model.filepath"
TITLE = "org.opencontainers.image.title"
"""The file that ``oras pull`` writes a layer into."""

SUFFIX = "-modelpack"
"""Of its tag, which is the weights image's otherwise."""


def config(name: str, models: Sequence[PinnedModel], layers: Sequence[Layer]) -> bytes:
    """Its config.

    Args:
        name: of the whole: the preset.
        models: what it has.
        layers: lowest first.
    """
    licences = sorted({model.licence for model, _ in models})
    title = ", ".join(model.title for model, _ in models)
    capabilities = {"inputTypes": ["audio"], "outputTypes": ["text"]}
    return oci.dump(
        {
            "descriptor": {"name": name, "title": title, "licenses": licences},
            "config": {"capabilities": capabilities},
            "modelfs": {"type": "layers", "diffIds": [layer.diff_id for layer in layers]},
        }
    )


def manifest(config: Descriptor, parts: Sequence[WeightLayer], layers: Sequence[Layer]) -> bytes:
    """Its manifest.

    Args:
        parts: what is in each layer.
        layers: the same ones, with their digests.
    """
    rows = [
        {
            **Descriptor(media_type=WEIGHT, digest=layer.blob.digest, size=layer.blob.size).json,
            "annotations": _notes(part),
        }
        for part, layer in zip(parts, layers, strict=True)
    ]
    head = {"schemaVersion": 2, "mediaType": oci.MANIFEST, "artifactType": ARTIFACT}
    return oci.dump({**head, "config": config.json, "layers": rows})


def _notes(part: WeightLayer) -> dict[str, str]:
    files = [member.path for member in part.members]
    path = files[0] if len(files) == 1 else next(iter(part.folders), "")
    return {FILE_PATH: path, TITLE: f"{part.name.replace('/', '-')}.tar"}
