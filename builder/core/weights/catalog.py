"""models.yaml: which models exist."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from builder.core.terms import Purpose, Variant
from builder.core.weights.model import (
    ENGINES,
    INT8,
    MLX,
    SHA256,
    Convert,
    HubSource,
    Model,
    UrlSource,
    WheelMember,
    WheelSource,
    WheelTag,
    unsafe,
)
from builder.core.yaml_document import Document, Strict
from builder.errors import did_you_mean
from builder.receiver.jobs.languages import LANGUAGES

ID = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
"""What a model, preset, stage or image may be called."""

REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
TAG = re.compile(r"cp(?P<python>3\d{1,2})-(?P<abi>cp3\d{1,2}|abi3|none)-(?P<platform>[a-z0-9_]+)")
WHEEL = re.compile(r"[A-Za-z0-9][\w.-]*==[\w.+!-]+")


class ConvertShape(Strict):
    """``convert`` of a model."""

    how: str
    source: str
    result: str
    labels: str = ""


class ModelShape(Strict):
    """One model of models.yaml. ``files`` maps a file to members of wheels, ``<wheel>:<path>``, joined in order."""

    purpose: str
    title: str
    licence: str
    commercial: bool = True
    gated: bool = False
    page: str | None = None
    alternative: str | None = None
    companion: str | None = None
    languages: list[str] = []
    variants: list[str] = ["slim", "full"]
    engine: str = ""
    int8: bool = False
    instead_of: str | None = None
    translates: bool = False
    into: list[str] = []
    target: str = ""
    hub: str | None = None
    include: list[str] = []
    wheels: dict[str, str] = {}
    wheel_tag: str | None = None
    files: dict[str, list[str]] = {}
    url: str | None = None
    sha256: str | None = None
    convert: ConvertShape | None = None


class CatalogShape(Strict):
    """models.yaml."""

    models: dict[str, ModelShape]


def parse_models(text: str) -> dict[str, Model]:
    """The models of the catalogue by id.

    Raises:
        ConfigError: with file and line.
    """
    document = Document("models.yaml", text)
    shape = document.read(CatalogShape)
    models: dict[str, Model] = {}
    for id_, entry in shape.models.items():
        models[id_] = _model(document, id_, entry)
        if entry.int8:
            made = _int8(document, models[id_], shape.models)
            models[made.id] = made
    for id_, model in models.items():
        other = model.alternative
        if other is not None and (other not in models or models[other].gated or not model.gated):
            raise document.error(
                f'"{other}" is not an alternative to "{id_}"',
                ("models", id_, "alternative"),
                expected="an ungated model, for a gated one",
                hint=did_you_mean(other, models),
            )
        _check_companion(document, models, model)
        _check_instead(document, models, model)
    return models


WEIGHTS = "model.bin"
"""The file in which CTranslate2 has a model's weights."""


def _int8(document: Document, model: Model, known: Container[str]) -> Model:
    """The entry of a model's weights in int8, which are made from its own."""
    at, id_ = ("models", model.id, "int8"), f"{model.id}{INT8}"
    if model.purpose not in (Purpose.ASR, Purpose.TRANSLATION) or model.engine or model.convert or not model.repo:
        raise document.error(
            f'"{model.id}" has no weights of CTranslate2', at, expected="a hub repository of Whisper's"
        )
    if id_ in known or not ID.fullmatch(id_):
        raise document.error(f"\"{id_}\" can't be a second model's id", at)
    return replace(
        model,
        id=id_,
        title=f"{model.title}, in int8",
        int8_of=model.id,
        target=f"ctranslate2/{id_}",
        convert=Convert(how="ctranslate2-int8", source=WEIGHTS, result=WEIGHTS),
    )


def _check_instead(document: Document, models: Mapping[str, Model], model: Model) -> None:
    """Refuse a model that can't take the place of the one it names."""
    if model.instead_of is None:
        return
    other = models.get(model.instead_of)
    if model.engine != MLX or other is None or other.purpose is not model.purpose or other.engine:
        raise document.error(
            f'"{model.id}" can\'t take the place of "{model.instead_of}"',
            ("models", model.id, "instead_of"),
            expected=f"a model of the engine {MLX}, and one of Whisper's",
            hint=did_you_mean(model.instead_of, models),
        )


def _check_companion(document: Document, models: Mapping[str, Model], model: Model) -> None:
    """Refuse a companion that can't be chosen with its model."""
    if model.companion is None:
        return
    other = models.get(model.companion)
    if (
        other is None
        or other.purpose is model.purpose
        or other.companion is not None
        or not set(model.variants) <= set(other.variants)
    ):
        raise document.error(
            f'"{model.companion}" can\'t be the companion of "{model.id}"',
            ("models", model.id, "companion"),
            expected="a model for another purpose, of the same variants, without a companion",
            hint=did_you_mean(model.companion, models),
        )


def _model(document: Document, id_: str, entry: ModelShape) -> Model:
    at = ("models", id_)
    if not ID.fullmatch(id_):
        raise document.error(f"\"{id_}\" can't be a model's id", at, expected="lower-case letters, digits, . and -")
    purpose = one_of(document, (*at, "purpose"), entry.purpose, Purpose)
    variants = tuple(one_of(document, (*at, "variants", k), v, Variant) for k, v in enumerate(entry.variants))
    if not variants:
        raise document.error("a model that no variant can load", (*at, "variants"), expected="slim, full")
    _check_languages(document, at, entry, purpose)
    sources = _sources(document, at, entry)
    _check_places(document, at, entry)
    if not sources:
        raise document.error("a model needs a source", at, expected="hub, url, or wheels and files")
    return Model(
        id=id_,
        purpose=purpose,
        title=entry.title,
        licence=entry.licence,
        commercial=entry.commercial,
        gated=entry.gated,
        page=entry.page,
        alternative=entry.alternative,
        companion=entry.companion,
        languages=tuple(entry.languages),
        variants=variants,
        engine=_engine(document, at, entry, purpose, variants),
        instead_of=entry.instead_of,
        translates=entry.translates,
        into=tuple(entry.into),
        target=entry.target,
        sources=sources,
        convert=_convert(document, at, entry),
        include=tuple(entry.include),
    )


def _check_languages(document: Document, at: tuple[str, ...], entry: ModelShape, purpose: Purpose) -> None:
    """Refuse codes that Whisper doesn't have, and a model for translation that doesn't say what it writes."""
    for key, codes in (("languages", entry.languages), ("into", entry.into)):
        for k, code in enumerate(codes):
            if code not in LANGUAGES:
                raise document.error(
                    f'"{code}" is not a language code', (*at, key, k), expected="ISO 639-1, as Whisper knows them"
                )
    if bool(entry.into) != (purpose is Purpose.TRANSLATION):
        raise document.error(
            "into names the languages that a model for translation writes", (*at, "into"), expected="such as [en, es]"
        )


def _engine(
    document: Document, at: tuple[str, ...], entry: ModelShape, purpose: Purpose, variants: tuple[Variant, ...]
) -> str:
    """What computes a model, where it isn't what its stage does the others with; it says its languages."""
    if not entry.engine:
        return ""
    if entry.engine not in ENGINES:
        near = did_you_mean(entry.engine, ENGINES)
        raise document.error(f'no engine "{entry.engine}"', (*at, "engine"), expected=", ".join(ENGINES), hint=near)
    of = ENGINES[entry.engine]
    tells = entry.engine == MLX  # Whisper tells which language is spoken
    if purpose is not of or variants != (Variant.SLIM,) or not (entry.languages or tells):
        raise document.error(
            f"{entry.engine} is an engine of models for {of.value}",
            (*at, "engine"),
            expected=f"purpose {of.value}, variants [slim]" + ("" if tells else ", languages"),
        )
    return entry.engine


def _sources(
    document: Document, at: tuple[str, ...], entry: ModelShape
) -> tuple[HubSource | WheelSource | UrlSource, ...]:
    """Where a model comes from, in the order in which they are tried."""
    sources: list[HubSource | WheelSource | UrlSource] = []
    if entry.hub is not None:
        if not REPO.fullmatch(entry.hub):
            raise document.error(f'"{entry.hub}" is not a repository', (*at, "hub"), expected="org/name")
        sources.append(HubSource(repo=entry.hub))
    if entry.url is not None:
        if not re.fullmatch(r"https://[^\s?#]+", entry.url):
            raise document.error(f'"{entry.url}" is not an address', (*at, "url"), expected="https://…, no query")
        sources.append(UrlSource(url=entry.url, sha256=_digest(document, at, entry)))
    if entry.wheels or entry.files or entry.wheel_tag is not None:
        sources.append(_wheels(document, at, entry))
    return tuple(sources)


def _digest(document: Document, at: tuple[str, ...], entry: ModelShape) -> str:
    """What is known of the file at an address, before anybody has fetched it; empty: nothing."""
    if entry.sha256 is not None and (entry.convert is None or not SHA256.fullmatch(entry.sha256)):
        expected = "64 hex digits, of a file that is converted"
        raise document.error(f'"{entry.sha256}" is not a sha256 of a source', (*at, "sha256"), expected=expected)
    return entry.sha256 or ""


def _check_places(document: Document, at: tuple[str, ...], entry: ModelShape) -> None:
    """Refuse paths that lead out of a model's folder, and a model without a folder."""
    for key, path in (("target", entry.target), *(("files", f) for f in entry.files)):
        if path and (why := unsafe(path)):
            raise document.error(f'unsafe path "{path}": {why}', (*at, key))
    if not entry.target and not entry.hub:
        raise document.error("a model without a hub repository needs a target folder", at, hint="add target: onnx/…")
    if entry.include and not entry.hub:
        raise document.error("include chooses files of a hub repository; this model has none", (*at, "include"))


def _convert(document: Document, at: tuple[str, ...], entry: ModelShape) -> Convert | None:
    convert = entry.convert
    if convert is None:
        return None
    for path in (convert.source, convert.result):
        if why := unsafe(path):
            raise document.error(f'unsafe path "{path}": {why}', (*at, "convert"))
    if not entry.target:
        raise document.error("a converted model needs a target folder", at, hint="add target: onnx/…")
    return Convert(how=convert.how, source=convert.source, result=convert.result, labels=convert.labels)


def _wheels(document: Document, at: tuple[str, ...], entry: ModelShape) -> WheelSource:
    if not entry.files:
        raise document.error("wheels without files", (*at, "wheels"), hint="files says which of their members are used")
    for wheel, digest in entry.wheels.items():
        if not WHEEL.fullmatch(wheel) or not SHA256.fullmatch(digest):
            raise document.error(
                f'"{wheel}" is not a pinned wheel', (*at, "wheels", wheel), expected="name==version: <64 hex digits>"
            )
    files = {}
    used: set[str] = set()
    for path, parts in entry.files.items():
        members = []
        if not parts:
            raise document.error(f'"{path}" has no members', (*at, "files", path), expected="[name==version:path]")
        for part in parts:
            wheel, _, member = part.partition(":")
            if wheel not in entry.wheels:
                raise document.error(
                    f'no wheel "{wheel}" in this model', (*at, "files", path), hint=did_you_mean(wheel, entry.wheels)
                )
            if why := unsafe(member):
                raise document.error(f'unsafe path "{member}": {why}', (*at, "files", path))
            used.add(wheel)
            members.append(WheelMember(wheel=wheel, member=member))
        files[path] = tuple(members)
    for wheel in entry.wheels:
        if wheel not in used:
            raise document.error(f'no file comes from "{wheel}"', (*at, "wheels", wheel), hint="leave it out")
    return WheelSource(
        wheels=MappingProxyType(dict(entry.wheels)),
        files=MappingProxyType(files),
        tag=_tag(document, (*at, "wheel_tag"), entry.wheel_tag),
    )


def _tag(document: Document, at: tuple[str, ...], text: str | None) -> WheelTag | None:
    if text is None:
        return None
    if (parts := TAG.fullmatch(text)) is None:
        raise document.error(
            f'"{text}" is not a tag of a wheel', at, expected="such as cp311-cp311-manylinux_2_28_x86_64"
        )
    return WheelTag(**parts.groupdict())


def one_of(document: Document, path: tuple[Any, ...], value: str, kind: Any) -> Any:
    """The member of an enumeration.

    Raises:
        ConfigError: it has no such value; a close one is named.
    """
    known = [member.value for member in kind]
    if value not in known:
        raise document.error(
            f'"{value}" is not a {kind.__name__.lower()}',
            path,
            expected=", ".join(known),
            hint=did_you_mean(value, known),
        )
    return kind(value)
