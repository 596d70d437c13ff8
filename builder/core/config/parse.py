"""bake.yaml, models.yaml, models.lock, images/*.yaml and stages/*/stage.yaml as one checked :class:`Config`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import PurePosixPath
from types import MappingProxyType

from builder.core.config.defaults import TAGGED
from builder.core.config.presets import AUTO
from builder.core.config.stage_file import StageShape, read_chosen, read_settings, read_stage
from builder.core.config.types import (
    BaseSpec,
    ImageSpec,
    NetworkSpec,
    Preset,
    Profile,
    ProjectFiles,
    SettingValue,
    StageSpec,
)
from builder.core.terms import Mode, Purpose, Variant
from builder.core.weights import catalog, lock
from builder.core.weights.catalog import one_of
from builder.core.weights.model import unsafe
from builder.core.yaml_document import Document, Path, Strict
from builder.errors import did_you_mean


class DefaultsShape(Strict):
    """``defaults`` of bake.yaml."""

    mode: str = "native"
    variant: str = "slim"
    preset: str = "starter"
    profile: str | None = None
    workflow: str | None = None
    language: str | None = None
    diarization: bool = True
    gpu_driver: str = "nvidia"
    weights: str = "baked"
    registry: str = "whisperbake"
    sources: list[str] = []
    extras: list[str] = []


class PresetShape(Strict):
    """One of ``presets``: purpose -> model ids."""

    summary: str
    models: dict[str, str | list[str]]


class ProfileDefaultsShape(Strict):
    """``defaults`` of a profile: those that are about what a job is, not about where it runs."""

    variant: str | None = None
    preset: str | None = None
    workflow: str | None = None
    language: str | None = None
    diarization: bool | None = None


class ProfileShape(Strict):
    """One of ``profiles``."""

    summary: str
    defaults: ProfileDefaultsShape = ProfileDefaultsShape()
    settings: dict[str, dict[str, SettingValue]] = {}


class BaseShape(Strict):
    """``base`` of bake.yaml."""

    kind: str = "auto"
    reference: str = ""
    digest: str = ""
    suite: str = "bookworm"


class NetworkShape(Strict):
    """``network`` of bake.yaml."""

    ca_bundle: str | None = None
    proxy: str | None = None
    index_url: str | None = None
    torch_index_url: str | None = None
    pip_conf: str | None = None


class TranslationShape(Strict):
    """``translation`` of bake.yaml."""

    apertium: list[str] = []


class BakeShape(Strict):
    """bake.yaml."""

    defaults: DefaultsShape = DefaultsShape()
    presets: dict[str, PresetShape] = {}
    settings: dict[str, dict[str, SettingValue]] = {}
    profiles: dict[str, ProfileShape] = {}
    base: BaseShape = BaseShape()
    network: NetworkShape = NetworkShape()
    translation: TranslationShape = TranslationShape()


class ImageShape(Strict):
    """images/<name>.yaml."""

    name: str
    parent: str | None = None
    stage: str | None = None
    modes: list[str] = []
    packages: list[str] = []
    debian_packages: list[str] = []
    requirements: dict[str, str] = {}
    extra: bool = False


KINDS = ("auto", "registry", "debian")
"""What ``base.kind`` may be."""

LOCKS = ("slim", "slim-gpu", "slim-onnx-asr", "slim-mlx", "slim-ctc", "full", "full-gpu", "full-cpu")
"""What requirements are locked for: a variant; what it needs more on a GPU, or for a model of another engine; where it differs,
the variant of PyTorch's CPU index."""


def read(files: Mapping[str, str]) -> ProjectFiles:
    """What the project's files say, checked, before the environment and flags change it.

    Raises:
        ConfigError: a file is wrong; with file, line and the close match.
    """
    document = Document("bake.yaml", files.get("bake.yaml", ""))
    bake = document.read(BakeShape)
    models = catalog.parse_models(files.get("models.yaml", "models: {}"))
    pins = lock.parse_lock(files.get("models.lock", "models: {}"), known=models)
    stages = _ordered(
        [read_stage(n, t) for n, t in sorted(files.items()) if n.startswith("stages/") and n.endswith("stage.yaml")]
    )
    images = _images([(n, t) for n, t in sorted(files.items()) if n.startswith("images/")], stages)
    presets = {}
    for id_, shape in bake.presets.items():
        if not catalog.ID.fullmatch(id_) or id_ == AUTO:
            raise document.error(
                f"\"{id_}\" can't be a preset's name",
                ("presets", id_),
                expected=f"lower-case letters, digits, . and -; not {AUTO}",
            )
        chosen: dict[Purpose, tuple[str, ...]] = {}
        for purpose, value in shape.models.items():
            at = ("presets", id_, "models", purpose)
            kind = one_of(document, at, purpose, Purpose)
            ids = (value,) if isinstance(value, str) else tuple(value)
            for model in ids:
                if model not in models:
                    raise document.error(f'no model "{model}" in models.yaml', at, hint=did_you_mean(model, models))
                if models[model].purpose is not kind:
                    raise document.error(f'"{model}" is for {models[model].purpose.value}, not for {purpose}', at)
            chosen[kind] = ids
        presets[id_] = Preset(id=id_, summary=shape.summary, models=MappingProxyType(chosen))
    defaults = bake.defaults.model_dump()
    return ProjectFiles(
        defaults=MappingProxyType(defaults),
        origin=MappingProxyType({name: document.where(("defaults", name)) for name in defaults}),
        written=tuple(sorted(bake.defaults.model_fields_set)),
        presets=MappingProxyType(presets),
        models=MappingProxyType(models),
        pins=MappingProxyType(pins),
        stages=MappingProxyType(stages),
        images=MappingProxyType(images),
        base=_base(document, bake.base),
        network=_network(document, bake.network),
        apertium=_apertium(document, bake.translation.apertium),
        settings=read_chosen(document, ("settings",), bake.settings, stages),
        profiles=MappingProxyType({id_: _profile(document, id_, p, stages) for id_, p in bake.profiles.items()}),
    )


def _profile(document: Document, id_: str, shape: ProfileShape, stages: Mapping[str, StageSpec]) -> Profile:
    """One of ``profiles``, checked as far as this file goes."""
    at = ("profiles", id_)
    if not catalog.ID.fullmatch(id_):
        raise document.error(f"\"{id_}\" can't be a profile's name", at, expected="lower-case letters, digits, . and -")
    defaults = {name: getattr(shape.defaults, name) for name in sorted(shape.defaults.model_fields_set)}
    return Profile(
        id=id_,
        summary=shape.summary,
        defaults=MappingProxyType(defaults),
        origin=MappingProxyType({name: document.where((*at, "defaults", name)) for name in defaults}),
        settings=read_chosen(document, (*at, "settings"), shape.settings, stages),
    )


def _base(document: Document, shape: BaseShape) -> BaseSpec:
    """``base``, checked: its values end up in commands and Dockerfiles."""
    if shape.kind not in KINDS:
        raise document.error(
            f'"{shape.kind}" is not a base',
            ("base", "kind"),
            expected=", ".join(KINDS),
            hint=did_you_mean(shape.kind, KINDS),
        )
    if shape.kind == "registry" and not shape.reference:
        raise document.error("which image?", ("base", "kind"), hint="add reference: python:3.11-slim-bookworm")
    if shape.reference and not TAGGED.fullmatch(shape.reference):
        raise document.error(
            f'"{shape.reference}" is not an image with a tag', ("base", "reference"), expected="name:tag, not latest"
        )
    if shape.reference.endswith(":latest"):
        raise document.error("latest is another image tomorrow", ("base", "reference"), expected="a tag that stays")
    if shape.digest and not re.fullmatch(r"sha256:[0-9a-f]{64}", shape.digest):
        raise document.error(f'"{shape.digest}" is not a digest', ("base", "digest"), expected="sha256:<64 hex digits>")
    if not re.fullmatch(r"[a-z]{2,20}", shape.suite):
        raise document.error(f'"{shape.suite}" is not a Debian suite', ("base", "suite"), expected="bookworm, trixie")
    return BaseSpec(**shape.model_dump())


def _apertium(document: Document, pairs: list[str]) -> tuple[str, ...]:
    """``translation.apertium``, checked: its pairs name Debian's packages."""
    at = ("translation", "apertium")
    for k, pair in enumerate(pairs):
        if not re.fullmatch(r"[a-z]{2,3}-[a-z]{2,3}", pair):
            raise document.error(f'"{pair}" is not a pair', (*at, k), expected="as Debian has it, such as eng-spa")
    return _once(document, at, pairs)


def _network(document: Document, shape: NetworkShape) -> NetworkSpec:
    """``network``, checked. Errors don't quote an address: it may hold a password."""
    for key in ("proxy", "index_url", "torch_index_url"):
        value = getattr(shape, key)
        if value is not None and not re.fullmatch(r"https?://[^\s]+", value):
            raise document.error(f"network.{key} is not an address", ("network", key), expected="https://… or http://…")
    for key in ("ca_bundle", "pip_conf"):
        value = getattr(shape, key)
        if value is not None and (not value or any(ord(c) < 32 for c in value)):
            raise document.error(f"network.{key} is not a path", ("network", key))
    return NetworkSpec(**shape.model_dump())


def _requirements(document: Document, found: Mapping[str, str]) -> Mapping[str, str]:
    for variant, path in found.items():
        if variant not in LOCKS:
            raise document.error(
                f'"{variant}" is not a variant',
                ("requirements", variant),
                expected=", ".join(LOCKS),
                hint=did_you_mean(variant, LOCKS),
            )
        if why := unsafe(path):
            raise document.error(f'unsafe path "{path}": {why}', ("requirements", variant))
    return MappingProxyType(dict(found))


def _once(document: Document, at: Path, words: list[str]) -> tuple[str, ...]:
    for k, word in enumerate(words):
        if word in words[:k]:
            raise document.error(f'"{word}" is here twice', (*at, k), hint="keep one of them")
    return tuple(words)


def _ordered(found: list[tuple[Document, StageShape]]) -> dict[str, StageSpec]:
    """The stages in pipeline order; equals by name, so that the order is the same everywhere."""
    shapes = {shape.name: (document, shape) for document, shape in found}
    for document, shape in found:
        for k, need in enumerate(shape.needs):
            if need not in shapes:
                raise document.error(f'no stage "{need}"', ("needs", k), hint=did_you_mean(need, shapes))
    specs = {}
    for name in _sorted({n: s.needs for n, (_, s) in shapes.items()}, {n: d for n, (d, _) in shapes.items()}, "needs"):
        document, shape = shapes[name]
        specs[name] = StageSpec(
            name=name,
            summary=shape.summary,
            needs=_once(document, ("needs",), shape.needs),
            uses=tuple(one_of(document, ("uses", k), u, Purpose) for k, u in enumerate(shape.uses)),
            gpu=tuple(one_of(document, ("gpu", k), v, Variant) for k, v in enumerate(shape.gpu)),
            media=shape.media,
            optional=shape.optional,
            apart=shape.apart,
            requirements=_requirements(document, shape.requirements),
            settings=read_settings(document, shape.settings),
            memory_mb=shape.memory_mb,
            memory_mb_hour=shape.memory_mb_hour,
            memory_full_mb=shape.memory_full_mb,
            memory_full_mb_hour=shape.memory_full_mb_hour,
        )
    return specs


def _images(found: Iterable[tuple[str, str]], stages: Mapping[str, StageSpec]) -> dict[str, ImageSpec]:
    shapes: dict[str, tuple[Document, ImageShape]] = {}
    for name, text in found:
        document = Document(name, text)
        shape = document.read(ImageShape)
        if shape.name != PurePosixPath(name).stem or not catalog.ID.fullmatch(shape.name):
            raise document.error(f'the image is called "{shape.name}"', ("name",), expected="its file's name")
        if shape.stage is not None and shape.stage not in stages:
            raise document.error(f'no stage "{shape.stage}"', ("stage",), hint=did_you_mean(shape.stage, stages))
        for k, package in enumerate(shape.debian_packages):
            if not re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", package):
                raise document.error(f'"{package}" is not a Debian package', ("debian_packages", k))
        for k, package in enumerate(shape.packages):
            if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", package):
                raise document.error(
                    f'"{package}" is not a package', ("packages", k), expected="lower case, with dashes"
                )
        shapes[shape.name] = (document, shape)
    for document, shape in shapes.values():
        if shape.parent is not None and shape.parent not in shapes:
            raise document.error(f'no image "{shape.parent}"', ("parent",), hint=did_you_mean(shape.parent, shapes))
    needs = {n: [s.parent] if s.parent else [] for n, (_, s) in shapes.items()}
    specs = {}
    for name in _sorted(needs, {n: d for n, (d, _) in shapes.items()}, "parent"):
        document, shape = shapes[name]
        specs[name] = ImageSpec(
            name=name,
            parent=shape.parent,
            stage=shape.stage,
            modes=tuple(one_of(document, ("modes", k), m, Mode) for k, m in enumerate(shape.modes)),
            packages=_once(document, ("packages",), shape.packages),
            debian_packages=_once(document, ("debian_packages",), shape.debian_packages),
            requirements=_requirements(document, shape.requirements),
            extra=shape.extra,
        )
    return specs


def _sorted(needs: Mapping[str, list[str]], documents: Mapping[str, Document], key: str) -> list[str]:
    """Names so that each comes after what it needs, as late as its needs allow and otherwise in their own order."""
    try:
        sorter = TopologicalSorter(needs)
        sorter.prepare()
    except CycleError as error:
        circle = error.args[1]
        raise documents[circle[0]].error(
            f"a circle: {' → '.join(circle)}", (key,), hint="take one of them out"
        ) from None
    order: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        order += ready
        sorter.done(*ready)
    return order
