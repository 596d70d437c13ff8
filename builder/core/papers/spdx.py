"""An SPDX 2.3 document in JSON. Pure.

Written here: spdx-tools brings rdflib, xmltodict and five more to every user for what is one dictionary. Tests read the
documents with it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any

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
    unique,
)
from builder.core.weights.model import Model, Pin, PinnedModel

MEDIA_TYPE = "application/spdx+json"

NONE = "NOASSERTION"
DOCUMENT = "SPDXRef-DOCUMENT"


def sbom(contents: Contents) -> bytes:
    """The document: the same contents, the same bytes."""
    root = _image(contents.whole_image) if contents.whole_image else _bundle(contents)
    entries = _entries(contents)
    ids = unique([root["name"], *entries])
    relations = [_relation(DOCUMENT, "DESCRIBES", _ref(ids[root["name"]]))]
    relations += [
        _relation(_ref(ids[key]), "CONTAINS", _ref(ids[part]))
        for key, parts in _holders(contents, root["name"]).items()
        for part in dict.fromkeys(parts)
    ]
    files, more = _files(contents, ids)
    packages = [{**root, "SPDXID": _ref(ids[root["name"]])}]
    packages += [{**entry, "SPDXID": _ref(ids[key])} for key, entry in entries.items()]
    data = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": DOCUMENT,
        "name": f"{PROJECT} {contents.name}",
        "creationInfo": {"created": contents.created, "creators": [f"Tool: {PROJECT}-{contents.version}"]},
        "packages": packages,
        "files": files,
        "relationships": [*relations, *more],
        "hasExtractedLicensingInfos": _named_licences(contents.every_model()),
        "documentDescribes": [_ref(ids[root["name"]])],
    }
    data = {name: value for name, value in data.items() if value}
    return document({**data, "documentNamespace": f"urn:uuid:{identifier('spdx', data)}"})


def _ref(id_: str) -> str:
    return f"SPDXRef-{id_}"


def _relation(one: str, kind: str, other: str) -> dict[str, str]:
    return {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}


def _entries(contents: Contents) -> dict[str, dict[str, Any]]:
    """Every part, by a key of its own."""
    entries: dict[str, dict[str, Any]] = {}
    if contents.whole_image is None:
        entries |= {image.purl: _image(image) for image in contents.images}
    entries |= {_base_key(base): _base(base) for base in contents.every_base()}
    entries |= {_debian_key(package): _debian(package) for package in contents.every_debian()}
    entries |= {_wheel_key(wheel): _wheel(wheel) for wheel in contents.every_wheel()}
    for model, pin in contents.every_model():
        entries[_model_key(model)] = _model(model, pin)
        entries |= {
            f"{_model_key(model)}-{file.path}": _package(
                f"{model.id}/{file.path}", pin.revision, sha256=file.sha256, purpose="FILE"
            )
            for file in pin.files
        }
    return entries | {_code_key(image): _code(image) for image in contents.images if image.code}


def _holders(contents: Contents, root: str) -> dict[str, tuple[str, ...]]:
    """Key of what contains something -> keys of what it contains."""
    bases = {_base_key(base): tuple(map(_debian_key, base.packages)) for base in contents.every_base()}
    if contents.whole_image is not None:
        return {root: _held(contents.whole_image), **bases}
    loose = (*map(_wheel_key, contents.wheels), *(_model_key(model) for model, _ in contents.models))
    images = {image.purl: _held(image) for image in contents.images}
    return {root: (*images, *loose), **images, **bases}


def _held(image: ImageContents) -> tuple[str, ...]:
    """Keys of an image's parts."""
    return (
        _base_key(image.base),
        *map(_wheel_key, image.wheels),
        *(_model_key(model) for model, _ in image.models),
        *([_code_key(image)] if image.code else []),
    )


def _base_key(base: BaseContents) -> str:
    return f"base-{base.key}"


def _debian_key(package: DebianPackage) -> str:
    return f"deb-{package.name}-{package.version}-{package.architecture}"


def _wheel_key(wheel: LockedWheel) -> str:
    return f"wheel-{wheel.file.removesuffix('.whl') or f'{wheel.name}-{wheel.version}'}"


def _model_key(model: Model) -> str:
    return f"model-{model.id}"


def _code_key(image: ImageContents) -> str:
    return f"code-{image.stage}-{image.inputs[:12]}"


def _package(
    name: str,
    version: str,
    *,
    purpose: str,
    purl: str = "",
    sha256: str = "",
    licence: str = "",
    comment: str = "",
    **more: Any,
) -> dict[str, Any]:
    entry = {
        "name": name,
        "versionInfo": version,
        "downloadLocation": NONE,
        "filesAnalyzed": False,
        "licenseDeclared": licence,
        "primaryPackagePurpose": purpose,
        "checksums": [{"algorithm": "SHA256", "checksumValue": sha256}] if sha256 else [],
        "externalRefs": [
            {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl},
        ]
        if purl
        else [],
        "comment": comment,
        **more,
    }
    return {key: value for key, value in entry.items() if value not in ("", [])}


def _image(image: ImageContents) -> dict[str, Any]:
    base = f"base {image.base.name} {image.base.digest}".strip()
    about = f"{base}; {image.mode}, {image.variant}; inputs {image.inputs}; revision {image.revision or 'unknown'}"
    return _package(
        image.name,
        image.tag,
        purpose="CONTAINER",
        purl=image.purl,
        sha256=image.digest.removeprefix("sha256:"),
        comment=about,
    )


def _bundle(contents: Contents) -> dict[str, Any]:
    return _package(f"{PROJECT}-{contents.name}", contents.version, purpose="ARCHIVE")


def _base(base: BaseContents) -> dict[str, Any]:
    sha256 = base.digest.removeprefix("sha256:")
    name = "debian" if base.system else base.name
    return _package(name, base.system, purpose="OPERATING-SYSTEM", sha256=sha256, summary=base.name)


def _debian(package: DebianPackage) -> dict[str, Any]:
    source = f"built from {package.source} {package.source_version}".strip() if package.source else ""
    return _package(
        package.name,
        package.version,
        purpose="LIBRARY",
        purl=package.purl,
        sha256=package.sha256,
        sourceInfo=source,
        supplier="Organization: Debian",
    )


def _wheel(wheel: LockedWheel) -> dict[str, Any]:
    allowed = f"one of the files with sha256 {', '.join(wheel.allowed)}" if wheel.allowed else ""
    return _package(
        wheel.name,
        wheel.version,
        purpose="LIBRARY",
        purl=wheel.purl,
        sha256=wheel.sha256,
        packageFileName=wheel.file,
        comment=allowed,
    )


def _model(model: Model, pin: Pin) -> dict[str, Any]:
    about = "\n".join(f"{name}: {value}" for name, value in model_properties(model, pin))
    return _package(
        model.id,
        pin.revision,
        purpose="OTHER",
        purl=model_purl(model, pin),
        sha256=pin.files[0].sha256 if len(pin.files) == 1 else "",
        licence=_licence(model.licence),
        comment=about,
        summary=model.title,
        homepage=model.page or "",
    )


def _code(image: ImageContents) -> dict[str, Any]:
    # SPDX 2.3, 7.9: SHA-1 over the sorted SHA-1 of all files.
    code = hashlib.sha1("".join(sorted(file.sha1 for file in image.code)).encode(), usedforsecurity=False).hexdigest()
    entry = _package(f"{PROJECT}-{image.stage}", image.version, purpose="APPLICATION", licence=LICENCE)
    verified = {"packageVerificationCode": {"packageVerificationCodeValue": code}}
    return {**entry, "filesAnalyzed": True, "licenseInfoFromFiles": [LICENCE], **verified}


def _files(contents: Contents, ids: dict[str, str]) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """The files of the project's own code, and who contains which; those of models are packages (SPDX wants SHA-1 of files)."""
    files: dict[str, dict[str, Any]] = {}
    relations = []
    for image in contents.images:
        for file in image.code:
            id_ = _ref(f"file-{file.sha256[:16]}-{unique([file.path])[file.path]}")
            files[id_] = {
                "SPDXID": id_,
                "fileName": f"./{file.path}",
                "fileTypes": ["SOURCE"],
                "checksums": [
                    {"algorithm": "SHA1", "checksumValue": file.sha1},
                    {"algorithm": "SHA256", "checksumValue": file.sha256},
                ],
                "licenseInfoInFiles": [LICENCE],
            }
            relations.append(_relation(_ref(ids[_code_key(image)]), "CONTAINS", id_))
    for model, pin in contents.every_model():
        key = _model_key(model)
        relations += [_relation(_ref(ids[key]), "CONTAINS", _ref(ids[f"{key}-{file.path}"])) for file in pin.files]
    return [files[id_] for id_ in sorted(files)], relations


def _licence(text: str) -> str:
    """A licence as SPDX writes it: ids and expressions of its list, all else by a reference."""
    from cyclonedx.spdx import is_expression, is_supported_id

    if is_supported_id(text) or is_expression(text):
        return text
    return f"LicenseRef-{re.sub(r'[^A-Za-z0-9.]+', '-', text).strip('-') or 'unnamed'}"


def _named_licences(models: Iterable[PinnedModel]) -> list[dict[str, Any]]:
    """What the references of :func:`_licence` stand for."""
    named = {_licence(model.licence): model for model, _ in models if _licence(model.licence).startswith("LicenseRef-")}
    return [
        {"licenseId": id_, "name": model.licence, "extractedText": model.licence, "comment": "named by models.yaml"}
        for id_, model in sorted(named.items())
    ]
