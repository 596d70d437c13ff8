"""What an image or a bundle consists of, as its plan says: the one source of all papers. Pure."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from builder.core.terms import LABEL
from builder.core.weights.model import Model, Pin, PinnedModel, UrlSource

PROJECT = "whisperbake"
LICENCE = "Apache-2.0"
"""Of the project's own code."""


@dataclass(frozen=True, kw_only=True, order=True)
class DebianPackage:
    """A package of the base; what nobody wrote down is empty."""

    name: str
    version: str = ""
    architecture: str = ""
    source: str = ""
    """The source package that it was built from."""
    source_version: str = ""
    sha256: str = ""
    """Hex sha256 of the .deb."""
    suite: str = ""

    @property
    def purl(self) -> str:
        about = {"arch": self.architecture, "distro": self.suite}
        return purl("deb", "debian", self.name, self.version, {name: value for name, value in about.items() if value})


@dataclass(frozen=True, kw_only=True, order=True)
class LockedWheel:
    """A package of the index, pinned by hash."""

    name: str
    version: str
    file: str = ""
    """The wheel that its image has; empty where that isn't known."""
    sha256: str = ""
    """Hex sha256 of that file."""
    allowed: tuple[str, ...] = ()
    """Hex sha256 of all files that the lock allows; only where it isn't known which one of them it is."""

    @property
    def purl(self) -> str:
        return purl("pypi", None, self.name, self.version, {})


@dataclass(frozen=True, kw_only=True, order=True)
class CodeFile:
    """A file of the project's own code in an image."""

    path: str
    """In the image, without a slash before it."""
    sha1: str
    """SPDX 2.3 wants one of each file."""
    sha256: str


@dataclass(frozen=True, kw_only=True)
class BaseContents:
    """What an image stands on."""

    name: str
    """A reference, or ``debian:bookworm``."""
    digest: str
    """``sha256:…`` of the reference's manifest, or of the root file system; empty where it isn't known."""
    packages: tuple[DebianPackage, ...] = ()
    python: tuple[int, int] | None = None
    """The version of its Python, as far as known."""

    @property
    def system(self) -> str:
        """The version of Debian, as scanners name it: ``12.4``; empty where it isn't known."""
        version = next((package.version for package in self.packages if package.name == "base-files"), "")
        return version.partition("+")[0]

    @property
    def key(self) -> str:
        """What tells it from other bases of the same name."""
        return f"{self.name}@{self.digest}"


@dataclass(frozen=True, kw_only=True)
class ImageContents:
    """One image and its parts."""

    name: str
    tag: str
    """Without the repository: ``slim-cpu``."""
    digest: str
    """``sha256:…`` of its manifest."""
    architecture: str
    """As OCI names it: ``amd64``."""
    stage: str | None
    mode: str
    variant: str
    base: BaseContents
    wheels: tuple[LockedWheel, ...]
    models: tuple[PinnedModel, ...]
    code: tuple[CodeFile, ...]
    """What its stage runs."""
    inputs: str
    """Hex sha256 of all that its code image is made from (the label ``inputs``)."""
    version: str
    """Of the project that built it."""
    revision: str
    """The commit that it was built from, with ``-dirty`` where files differed from it; empty without git."""
    created: str
    """When, as its config says: SOURCE_DATE_EPOCH, the commit's time, or a fixed time."""

    @property
    def purl(self) -> str:
        return purl("oci", None, self.name, self.digest, {"arch": self.architecture, "tag": self.tag})

    @property
    def label(self) -> str:
        """``asr:slim-cpu``."""
        return f"{self.name}:{self.tag}"


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a set of papers is about: one image, or a bundle of several."""

    name: str
    """``asr:slim-cpu``, or ``bundle``."""
    images: tuple[ImageContents, ...]
    models: tuple[PinnedModel, ...] = ()
    """Models that no image carries."""
    wheels: tuple[LockedWheel, ...] = ()
    """Wheels that no image has."""
    version: str
    created: str

    @property
    def whole_image(self) -> ImageContents | None:
        """The image, where the papers are those of one."""
        return self.images[0] if len(self.images) == 1 and self.name == self.images[0].label else None

    def every_model(self) -> tuple[PinnedModel, ...]:
        """Each model once, by id."""
        found = {model.id: (model, pin) for image in self.images for model, pin in image.models}
        found |= {model.id: (model, pin) for model, pin in self.models}
        return tuple(found[id_] for id_ in sorted(found))

    def every_wheel(self) -> tuple[LockedWheel, ...]:
        """Each wheel once, by name."""
        return tuple(sorted({*self.wheels, *(wheel for image in self.images for wheel in image.wheels)}))

    def every_base(self) -> tuple[BaseContents, ...]:
        """Each base once, by name."""
        bases = {image.base.key: image.base for image in self.images}
        return tuple(bases[key] for key in sorted(bases))

    def every_debian(self) -> tuple[DebianPackage, ...]:
        """Each package of the bases once, by name."""
        return tuple(sorted({package for image in self.images for package in image.base.packages}))


def alone(image: ImageContents) -> Contents:
    """The contents of papers about one image."""
    return Contents(name=image.label, images=(image,), version=image.version, created=image.created)


def code_files(texts: Mapping[str, str], folder: str) -> tuple[CodeFile, ...]:
    """The project's files as an image has them.

    Args:
        texts: path in the rendered folder -> text.
        folder: where an image has them.
    """
    files = {f"{folder}/{path}": text.encode() for path, text in texts.items()}
    return tuple(
        CodeFile(
            path=path,
            sha1=hashlib.sha1(data, usedforsecurity=False).hexdigest(),
            sha256=hashlib.sha256(data).hexdigest(),
        )
        for path, data in sorted(files.items())
    )


def purl(kind: str, namespace: str | None, name: str, version: str, qualifiers: Mapping[str, str]) -> str:
    """A package URL (package-url/purl-spec)."""
    from packageurl import PackageURL

    return str(PackageURL(kind, namespace, name, version or None, dict(qualifiers) or None).to_string())


def model_purl(model: Model, pin: Pin) -> str:
    """The package URL of a model: its repository on the hub, or where its file is published."""
    if model.repo:
        organisation, _, name = model.repo.rpartition("/")
        return purl("huggingface", organisation or None, name, pin.revision, {})
    address = {"download_url": model.url} if model.url else {}
    return purl("generic", None, model.id, pin.revision, address)


def model_properties(model: Model, pin: Pin) -> tuple[tuple[str, str], ...]:
    """What else is known of a model: names and values, in a fixed order."""
    from builder.core.weights.model import model_digest

    known = [
        ("purpose", model.purpose.value),
        ("digest", model_digest(pin)),
        ("parameters", parameters(model.title)),
        ("size", str(pin.size)),
        ("commercial", "yes" if model.commercial else "no"),
        ("repository-licence", pin.licence),
        ("converted-by", model.convert.how if model.convert else ""),
        ("languages", " ".join(model.languages)),
        *(("source-file", f"{f.sha256}  {f.path}") for f in pin.source_files),
        *(("source", source.url) for source in model.sources if isinstance(source, UrlSource)),
        *(("record", record) for record in pin.records),
        *(("layer", f"{digest}  {name}") for name, digest in sorted(pin.layers.items())),
    ]
    return tuple((f"{LABEL}model.{name}", value) for name, value in known if value)


def parameters(title: str) -> str:
    """How many parameters a title says that a model has (``39 M parameters``); empty where it doesn't say."""
    words = title.replace(",", " ").split()
    for number, unit, what in zip(words, words[1:], words[2:], strict=False):
        if what == "parameters" and unit in ("M", "B"):
            try:
                return str(round(float(number) * {"M": 1e6, "B": 1e9}[unit]))
            except ValueError:
                return ""
    return ""


def document(value: Any) -> bytes:
    """A paper's bytes: ASCII, so that they are the same on any terminal, and sorted, so that they are always the same."""
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=True) + "\n").encode()


def identifier(kind: str, value: Any) -> uuid.UUID:
    """A UUID from what a paper says: the same paper has the same, another has another."""
    return uuid.uuid5(uuid.NAMESPACE_OID, f"{PROJECT} {kind} {hashlib.sha256(document(value)).hexdigest()}")


def unique(texts: Iterable[str]) -> dict[str, str]:
    """Text -> an id of letters, digits, points and dashes, no two of them alike (SPDX 2.3, 3.2)."""
    ids: dict[str, str] = {}
    taken: set[str] = set()
    for text in texts:
        base = "".join(c if c.isascii() and (c.isalnum() or c in ".-") else "-" for c in text)
        number, id_ = 2, base
        while id_ in taken:
            id_, number = f"{base}-{number}", number + 1
        taken.add(id_)
        ids[text] = id_
    return ids
