"""One image as it travels in a bundle: its layers, its manifest, its name. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass

from builder.core.images import oci
from builder.core.images.oci import Descriptor
from builder.receiver import inventory as checking

ZSTD, PLAIN = checking.ZSTD, checking.PLAIN
"""Media types of layers that travel: code, weights."""


@dataclass(frozen=True, kw_only=True)
class BundledLayer:
    """One layer of an image as it travels: zstd for code, plain tar for weights."""

    digest: str
    """``sha256:…`` of the blob; for plain tar it is the diff id."""
    size: int
    diff_id: str
    unpacked: int
    """Bytes of the uncompressed tar."""
    media_type: str
    model: str | None = None
    """Id of the model whose weights it holds, or None for code."""


@dataclass(frozen=True, kw_only=True)
class BundledImage:
    """One image as it travels."""

    name: str
    """As ``docker images`` shows it: ``whisperbake/asr:slim-cpu``."""
    stage: str | None
    config: bytes
    layers: tuple[BundledLayer, ...]
    """Lowest first."""

    @property
    def manifest(self) -> bytes:
        """The OCI manifest; the same image has the same bytes."""
        layers = [Descriptor(media_type=x.media_type, digest=x.digest, size=x.size) for x in self.layers]
        return oci.manifest(oci.describe(oci.CONFIG, self.config), layers)


def full_name(name: str) -> str:
    """A reference with its registry, as containerd's image names have it: ``docker.io/whisperbake/asr:slim-cpu``."""
    first, slash, _ = name.partition("/")
    if not slash:
        return f"docker.io/library/{name}"
    return name if "." in first or ":" in first or first == "localhost" else f"docker.io/{name}"


def platform(image: BundledImage) -> str:
    """``linux/amd64``, from an image's config."""
    settings = json.loads(image.config)
    return f"{settings['os']}/{settings['architecture']}"
