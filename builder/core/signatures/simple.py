"""Signatures of images as cosign keeps them: "simple signing" payloads, in an image of their own beside the signed one.

Sources: cosign's specs/SIGNATURE_SPEC.md (payload, media type, annotation, the tag ``sha256-<hex>.sig``), and
containers/image's docs/containers-signature.5.md for the payload's meaning.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from builder.core.images import oci
from builder.core.images.oci import Descriptor
from builder.core.images.reference import HUB
from builder.errors import IntegrityError

LAYER = "application/vnd.dev.cosign.simplesigning.v1+json"
"""Media type of a payload."""

SIGNATURE = "dev.cosignproject.cosign/signature"
"""Annotation of a payload's descriptor: the signature, in base64."""

TYPE = "cosign container image signature"

MOST = 1000
"""Signatures of one image that are kept."""


@dataclass(frozen=True, kw_only=True)
class ImageSignature:
    """A signature of an image."""

    blob: Descriptor
    """The payload."""
    signature: bytes
    row: dict[str, Any] = field(compare=False, repr=False)
    """Its descriptor as it stands in the manifest, with whatever others wrote there."""


@dataclass(frozen=True, kw_only=True)
class Signed:
    """What a signature says."""

    reference: str
    """Of the repository that the image was in."""
    digest: str
    """``sha256:…`` of the image's manifest."""


def tag(digest: str) -> str:
    """The tag that an image's signatures have."""
    return f"{digest.replace(':', '-')}.sig"


def payload(host: str, repository: str, digest: str) -> bytes:
    """What is signed: that an image is in a repository. The same image there has the same bytes.

    Args:
        host: of the registry, as in references.
        digest: ``sha256:…`` of the image's manifest.
    """
    name = f"{'index.docker.io' if host == HUB else host}/{repository}"
    critical = {
        "identity": {"docker-reference": name},
        "image": {"docker-manifest-digest": digest},
        "type": TYPE,
    }
    return oci.dump({"critical": critical, "optional": None})


def said(data: bytes) -> Signed | None:
    """What a payload says; None when it isn't one."""
    try:
        critical = json.loads(data)["critical"]
        reference, digest = critical["identity"]["docker-reference"], critical["image"]["docker-manifest-digest"]
        right = critical["type"] == TYPE and isinstance(reference, str) and isinstance(digest, str)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return Signed(reference=reference, digest=digest) if right else None


def signature(data: bytes, signed: bytes) -> ImageSignature:
    """A signature for a manifest.

    Args:
        data: the payload.
        signed: its signature.
    """
    blob = oci.describe(LAYER, data)
    row = {**blob.json, "annotations": {SIGNATURE: base64.b64encode(signed).decode()}}
    return ImageSignature(blob=blob, signature=signed, row=row)


def parsed(manifest: bytes, where: str) -> tuple[ImageSignature, ...]:
    """The signatures of a manifest that a registry has.

    Raises:
        IntegrityError: it is something else; what is there is not to be written over.
    """
    try:
        rows = json.loads(manifest)["layers"]
        if not isinstance(rows, list) or len(rows) > MOST:
            raise ValueError("layers")
        oci.dump(rows)  # half a surrogate has no bytes
        return tuple(_row(row) for row in rows)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise IntegrityError(
            "what is there are no signatures of cosign's",
            where=where,
            hint="look at it, and remove it if nobody needs it",
        ) from None


def _row(row: dict[str, Any]) -> ImageSignature:
    """A signature's descriptor; raises ValueError and what reading anything does."""
    kind, digest, size = row["mediaType"], row["digest"], row["size"]
    if kind != LAYER or not isinstance(digest, str) or not isinstance(size, int):
        raise ValueError("a layer")
    blob = Descriptor(media_type=kind, digest=digest, size=size)
    try:
        signed = base64.b64decode(row["annotations"][SIGNATURE], validate=True)
    except binascii.Error:
        signed = b""  # somebody's mistake, which stays as it is
    return ImageSignature(blob=blob, signature=signed, row=row)


def image(signatures: Sequence[ImageSignature]) -> tuple[bytes, bytes]:
    """The manifest and the config of the image that has these signatures; the same ones have the same bytes."""
    never = "0001-01-01T00:00:00Z"
    config = oci.dump(
        {
            "architecture": "",
            "config": {},
            "created": never,
            "history": [{"created": never} for _ in signatures],
            "os": "",
            "rootfs": {"type": "layers", "diff_ids": [one.blob.digest for one in signatures]},
        }
    )
    manifest = {
        "schemaVersion": 2,
        "mediaType": oci.MANIFEST,
        "config": oci.describe(oci.CONFIG, config).json,
        "layers": [one.row for one in signatures],
    }
    return oci.dump(manifest), config
