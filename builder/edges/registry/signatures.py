"""Signatures of images in a registry: beside the image, where ``cosign verify`` looks for them."""

from __future__ import annotations

from dataclasses import dataclass

from builder.core.images import oci
from builder.core.signatures import simple
from builder.core.signatures.simple import ImageSignature
from builder.edges.registry.blobs import Open, Registry
from builder.edges.signing.keys import Signer


@dataclass(frozen=True, kw_only=True)
class SignatureStep:
    """What becomes of an image's signature."""

    repository: str
    digest: str
    """Of the image's manifest."""
    payload: bytes
    there: tuple[ImageSignature, ...]
    """All that it has, by whomever."""
    own: ImageSignature | None
    """The one by this key, where it has it."""


def decide(registry: Registry, host: str, repository: str, digest: str, signer: Signer) -> SignatureStep:
    """Ask the registry which signatures an image has.

    Raises:
        SourceError: it refuses, or is gone.
        IntegrityError: something else has the signatures' tag.
    """
    payload, tag = simple.payload(host, repository, digest), simple.tag(digest)
    manifest = registry.read_manifest(repository, tag)
    there = simple.parsed(manifest, f"{host}/{repository}:{tag}") if manifest is not None else ()
    wanted = oci.digest(payload)
    own = (one for one in there if one.blob.digest == wanted and signer.public.verifies(payload, one.signature))
    return SignatureStep(repository=repository, digest=digest, payload=payload, there=there, own=next(own, None))


def sign(registry: Registry, step: SignatureStep, signer: Signer) -> ImageSignature:
    """Sign an image that is in the registry, after all signatures that it has; nothing where it has this one.

    Raises:
        SourceError: the registry refuses, or is gone; or the command that signs fails.
        IntegrityError: the registry keeps other bytes, or the command signs with another key.
    """
    if step.own is not None:
        return step.own
    made = simple.signature(step.payload, signer.sign(step.payload))
    manifest, config = simple.image((*step.there, made))
    for data, kind in ((step.payload, simple.LAYER), (config, oci.CONFIG)):
        blob = oci.describe(kind, data)
        if not registry.has(step.repository, blob):
            registry.send(step.repository, blob, _opened(data), lambda _: None)
    registry.put_manifest(step.repository, simple.tag(step.digest), oci.describe(oci.MANIFEST, manifest), manifest)
    return made


def _opened(data: bytes) -> Open:
    """Bytes as the registry's client reads blobs."""
    return lambda _: iter((data,))
