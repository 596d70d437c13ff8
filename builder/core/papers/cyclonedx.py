"""A CycloneDX 1.6 SBOM, with models as machine-learning-model components. Pure.

By cyclonedx-python-lib, but for model cards, which it doesn't have yet (its issue 912): these join its JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from builder.core.papers.contents import (
    LICENCE,
    PROJECT,
    BaseContents,
    Contents,
    DebianPackage,
    ImageContents,
    LockedWheel,
    document,
    identifier,
    model_properties,
    model_purl,
)
from builder.core.terms import LABEL, Purpose
from builder.core.weights.model import Model, Pin

if TYPE_CHECKING:
    from cyclonedx.model import Property
    from cyclonedx.model.component import Component
    from cyclonedx.model.license import License

MEDIA_TYPE = "application/vnd.cyclonedx+json"

TASKS = {
    Purpose.ASR: "automatic-speech-recognition",
    Purpose.VAD: "voice-activity-detection",
    Purpose.EMBEDDING: "speaker-embedding",
    Purpose.SEGMENTATION: "speaker-segmentation",
    Purpose.ALIGNMENT: "forced-alignment",
    Purpose.DIARIZATION: "speaker-diarization",
    Purpose.SEPARATION: "speech-enhancement",
    Purpose.VOCALS: "source-separation",
    Purpose.TAGGING: "audio-classification",
    Purpose.TRANSLATION: "translation",
}
"""The ``task`` of a model card."""


def sbom(contents: Contents) -> bytes:
    """The document: the same contents, the same bytes."""
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.dependency import Dependency
    from cyclonedx.output.json import JsonV1Dot6

    parts = _parts(contents)
    root = _root(contents)
    held = {image.purl: _held(image) for image in contents.images}
    bases = {_base_ref(base): tuple(map(_debian_ref, base.packages)) for base in contents.every_base()}
    if (image := contents.whole_image) is None:
        parts |= {image.purl: _image(image) for image in contents.images}
        held[root.bom_ref.value or ""] = tuple(parts)
    else:
        held = {root.bom_ref.value or "": held[image.purl]}
    refs = {ref: part.bom_ref for ref, part in parts.items()} | {root.bom_ref.value or "": root.bom_ref}
    bom = Bom(
        metadata=BomMetaData(component=root, tools=_tools(contents)),
        components=parts.values(),
        dependencies=[
            Dependency(ref=refs[of], dependencies=[Dependency(ref=refs[ref]) for ref in dict.fromkeys(those)])
            for of, those in {**held, **bases}.items()
        ],
    )
    data = json.loads(JsonV1Dot6(bom).output_as_string())
    cards = {_model_ref(model, pin): _card(model) for model, pin in contents.every_model()}
    for component in data["components"]:
        if card := cards.get(component["bom-ref"]):
            component["modelCard"] = card
    del data["serialNumber"]  # by chance; and the time is the clock's
    data["metadata"]["timestamp"] = contents.created
    return document({**data, "serialNumber": f"urn:uuid:{identifier('cyclonedx', data)}"})


def _tools(contents: Contents) -> Any:
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.tool import ToolRepository

    own = Component(name=PROJECT, version=contents.version, type=ComponentType.APPLICATION, bom_ref=f"tool:{PROJECT}")
    return ToolRepository(components=[own])


def _root(contents: Contents) -> Component:
    """What the document is about."""
    from cyclonedx.model.component import Component, ComponentType

    if (image := contents.whole_image) is not None:
        return _image(image)
    return Component(
        name=f"{PROJECT}-{contents.name}",
        type=ComponentType.APPLICATION,
        version=contents.version,
        bom_ref=contents.name,
        description="images, models and a loader for machines without a network",
    )


def _image(image: ImageContents) -> Component:
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    about = [
        ("mode", image.mode),
        ("variant", image.variant),
        ("inputs", image.inputs),
        ("base.name", image.base.name),
        ("base.digest", image.base.digest),
        ("revision", image.revision),
    ]
    return Component(
        name=image.name,
        type=ComponentType.CONTAINER,
        version=image.tag,
        bom_ref=image.purl,
        purl=PackageURL.from_string(image.purl),
        hashes=_hashes(image.digest.removeprefix("sha256:")),
        properties=_properties((f"{LABEL}{name}", value) for name, value in about),
    )


def _parts(contents: Contents) -> dict[str, Component]:
    """Every part of all images and of what is beside them, by its reference in the document."""
    parts = {_base_ref(base): _base(base) for base in contents.every_base()}
    parts |= {_debian_ref(package): _debian(package) for package in contents.every_debian()}
    parts |= {_wheel_ref(wheel): _wheel(wheel) for wheel in contents.every_wheel()}
    parts |= {_model_ref(model, pin): _model(model, pin) for model, pin in contents.every_model()}
    return parts | {_code_ref(image): _code(image) for image in contents.images if image.code}


def _held(image: ImageContents) -> tuple[str, ...]:
    return (
        _base_ref(image.base),
        *map(_wheel_ref, image.wheels),
        *(_model_ref(model, pin) for model, pin in image.models),
        *([_code_ref(image)] if image.code else []),
    )


def _base_ref(base: BaseContents) -> str:
    return f"base:{base.key}"


def _debian_ref(package: DebianPackage) -> str:
    return package.purl


def _wheel_ref(wheel: LockedWheel) -> str:
    return f"{wheel.purl}#{wheel.file or wheel.sha256}"


def _model_ref(model: Model, pin: Pin) -> str:
    return f"model:{model.id}@{pin.revision}"


def _code_ref(image: ImageContents) -> str:
    return f"code:{image.stage}@{image.inputs}"


def _base(base: BaseContents) -> Component:
    """What images stand on: a scanner knows by it whose advisories count."""
    from cyclonedx.model.component import Component, ComponentType

    return Component(
        name="debian" if base.system else base.name,
        type=ComponentType.OPERATING_SYSTEM,
        version=base.system or None,
        description=base.name,
        bom_ref=_base_ref(base),
        hashes=_hashes(base.digest.removeprefix("sha256:")),
    )


def _debian(package: DebianPackage) -> Component:
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    source = f"{package.source} {package.source_version}".strip()
    return Component(
        name=package.name,
        type=ComponentType.LIBRARY,
        version=package.version or None,
        bom_ref=_debian_ref(package),
        purl=PackageURL.from_string(package.purl),
        hashes=_hashes(package.sha256),
        properties=_properties([(f"{LABEL}debian.source", source)]),
    )


def _wheel(wheel: LockedWheel) -> Component:
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    more = [(f"{LABEL}wheel.file", wheel.file), *((f"{LABEL}wheel.allowed", h) for h in wheel.allowed)]
    return Component(
        name=wheel.name,
        type=ComponentType.LIBRARY,
        version=wheel.version,
        bom_ref=_wheel_ref(wheel),
        purl=PackageURL.from_string(wheel.purl),
        hashes=_hashes(wheel.sha256),
        properties=_properties(more),
    )


def _model(model: Model, pin: Pin) -> Component:
    from cyclonedx.model import ExternalReference, ExternalReferenceType, XsUri
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    ref = _model_ref(model, pin)
    files = [
        Component(
            name=file.path,
            type=ComponentType.FILE,
            bom_ref=f"{ref}/{file.path}",
            hashes=_hashes(file.sha256),
            properties=_properties([(f"{LABEL}size", str(file.size))]),
        )
        for file in pin.files
    ]
    page = [ExternalReference(type=ExternalReferenceType.WEBSITE, url=XsUri(model.page))] if model.page else []
    return Component(
        name=model.id,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        version=pin.revision,
        description=model.title,
        bom_ref=ref,
        purl=PackageURL.from_string(model_purl(model, pin)),
        hashes=_hashes(pin.files[0].sha256) if len(pin.files) == 1 else (),
        licenses=[_licence(model.licence)],
        external_references=page,
        components=files,
        properties=_properties(model_properties(model, pin)),
    )


def _code(image: ImageContents) -> Component:
    from cyclonedx.model.component import Component, ComponentType

    ref = _code_ref(image)
    return Component(
        name=f"{PROJECT}-{image.stage}",
        type=ComponentType.APPLICATION,
        version=image.version,
        bom_ref=ref,
        licenses=[_licence(LICENCE)],
        components=[
            Component(
                name=file.path, type=ComponentType.FILE, bom_ref=f"{ref}/{file.path}", hashes=_hashes(file.sha256)
            )
            for file in image.code
        ],
    )


def _card(model: Model) -> dict[str, Any]:
    """A model card with what the catalogue knows."""
    task = TASKS.get(model.purpose)
    return {"modelParameters": {"task": task}} if task else {}


def _licence(text: str) -> License:
    """An SPDX id, an expression of them, or a name."""
    from cyclonedx.contrib.license.factories import LicenseFactory

    return LicenseFactory().make_from_string(text)


def _hashes(sha256: str) -> Sequence[Any]:
    from cyclonedx.model import HashAlgorithm, HashType

    return [HashType(alg=HashAlgorithm.SHA_256, content=sha256)] if sha256 else []


def _properties(pairs: Iterable[tuple[str, str]]) -> list[Property]:
    from cyclonedx.model import Property

    return [Property(name=name, value=value) for name, value in pairs if value]
