"""SLSA provenance 1 as an in-toto statement: what an image was made from, and by what. Pure.

The statement is in-toto-attestation's, which checks it. It isn't signed here: whoever pushes or bundles it does that.
"""

from __future__ import annotations

from typing import Any

from builder.core.papers.contents import PROJECT, CodeFile, Contents, ImageContents, document, model_purl

MEDIA_TYPE = "application/vnd.in-toto+json"
PREDICATE = "https://slsa.dev/provenance/v1"

BUILD_TYPE = "urn:whisperbake:build:1"
"""What the parameters mean: docs/papers.md."""

BUILDER = "urn:whisperbake:builder"


def statement(contents: Contents) -> bytes | None:
    """The document: the same contents, the same bytes. None where there is no image: models were built by their authors.

    Times of the run are left out: they would make two builds of the same bytes differ.
    """
    from google.protobuf.json_format import MessageToDict
    from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
    from in_toto_attestation.v1.statement import Statement

    if not contents.images:
        return None
    subjects = [
        ResourceDescriptor(name=image.label, uri=image.purl, digest={"sha256": image.digest.removeprefix("sha256:")}).pb
        for image in contents.images
    ]
    made = Statement(subjects, PREDICATE, _predicate(contents))
    made.validate()
    return document(MessageToDict(made.pb))


def _predicate(contents: Contents) -> dict[str, Any]:
    from google.protobuf.json_format import MessageToDict, ParseDict
    from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance

    parameters = {
        image.label: {
            "image": image.name,
            "mode": image.mode,
            "variant": image.variant,
            "base": image.base.name,
            "models": [model.id for model, _ in image.models],
        }
        for image in contents.images
    }
    predicate = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": parameters,
            "internalParameters": {
                "inputs": {image.label: image.inputs for image in contents.images},
                "sourceDateEpoch": contents.created,
            },
            "resolvedDependencies": [
                *_sources(contents),
                *_bases(contents),
                *_debian(contents),
                *_wheels(contents),
                *_models(contents),
            ],
        },
        "runDetails": {"builder": {"id": BUILDER, "version": {PROJECT: contents.version}}},
    }
    found: dict[str, Any] = MessageToDict(ParseDict(predicate, Provenance()))  # an unknown field is an error
    return found


def _sources(contents: Contents) -> list[dict[str, Any]]:
    """The commits; of files that differed from one, each file's own hash."""
    revisions = sorted({image.revision for image in contents.images if image.revision})
    commits = [{"name": PROJECT, "digest": {"gitCommit": revision}} for revision in revisions if not _dirty(revision)]
    return commits + [
        {"name": path, "digest": {"sha256": sha256}}
        for path, sha256 in sorted({(f.path, f.sha256) for image in contents.images for f in _changed(image)})
    ]


def _dirty(revision: str) -> bool:
    return revision.endswith("-dirty")


def _changed(image: ImageContents) -> tuple[CodeFile, ...]:
    return image.code if _dirty(image.revision) or not image.revision else ()


def _bases(contents: Contents) -> list[dict[str, Any]]:
    bases = sorted({(image.base.name, image.base.digest) for image in contents.images})
    return [{"name": name, **_sha256(digest.removeprefix("sha256:"))} for name, digest in bases]


def _debian(contents: Contents) -> list[dict[str, Any]]:
    return [{"name": p.name, "uri": p.purl, **_sha256(p.sha256)} for p in contents.every_debian()]


def _wheels(contents: Contents) -> list[dict[str, Any]]:
    return [
        {
            "name": wheel.file or f"{wheel.name}=={wheel.version}",
            "uri": wheel.purl,
            **_sha256(wheel.sha256),
            **({"annotations": {"allowed": list(wheel.allowed)}} if wheel.allowed else {}),
        }
        for wheel in contents.every_wheel()
    ]


def _models(contents: Contents) -> list[dict[str, Any]]:
    """What models.lock pins: each file."""
    return [
        {"name": f"{model.id}/{file.path}", "uri": model_purl(model, pin), "digest": {"sha256": file.sha256}}
        for model, pin in contents.every_model()
        for file in pin.files
    ]


def _sha256(value: str) -> dict[str, Any]:
    return {"digest": {"sha256": value}} if value else {}
