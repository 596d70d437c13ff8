"""The frozen types that configuration is read into and that plans are made from.

Parsing lives in ``parse.py``; models and pins in ``core.weights.model``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from builder.core.config.paths import Paths
from builder.core.terms import Mode, Purpose, Variant, Workflow
from builder.core.weights.model import ENGINES, MLX, Model, Pin

SettingValue = str | int | float | bool | None
"""What a setting of a stage can be."""


@dataclass(frozen=True, kw_only=True)
class StageSetting:
    """One setting of a stage: what it may be, and what it is unless somebody sets it."""

    type: str
    """``int``, ``float``, ``str`` or ``bool``."""
    default: SettingValue
    """None: it may be without a value."""
    summary: str
    minimum: float = -math.inf
    """Of a number."""
    maximum: float = math.inf
    choices: tuple[str, ...] = ()
    """Of a text: all that it may be; empty: anything."""
    longest: int = 200
    """Characters of a text."""
    option: str | None = None
    """The option of ``run`` that sets it too."""
    instead: str | None = None
    """The option that sets it alone: more depends on it than the stage."""
    machine: bool = False
    """It suits the machine, unless somebody sets it."""


@dataclass(frozen=True, kw_only=True)
class ChosenSetting:
    """A setting that somebody chose."""

    stage: str
    name: str
    value: SettingValue
    where: str
    """``bake.yaml:12``, ``--set asr.beam_size``, or the variable."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A named group of defaults and settings."""

    id: str
    summary: str
    defaults: Mapping[str, object]
    """As in bake.yaml's own ``defaults``."""
    origin: Mapping[str, str]
    """Where each of them stands."""
    settings: tuple[ChosenSetting, ...]


WHOLE = 1080
"""MB for an hour of a recording that is in memory as a whole: samples as float32, features, and a copy (0.1 MB a second each)."""


@dataclass(frozen=True, kw_only=True)
class StageSpec:
    """stages/<name>/stage.yaml: one step of the transcription pipeline."""

    name: str
    summary: str
    needs: tuple[str, ...] = ()
    """Stages whose results it reads. The graph has no cycles."""
    uses: tuple[Purpose, ...] = ()
    """Purposes of the models it loads."""
    gpu: tuple[Variant, ...] = ()
    """Variants that gain from a GPU."""
    media: bool = False
    """It parses media files, which are untrusted input."""
    optional: bool = False
    """A job whose stage of this name fails goes on without its results: what is heard is not lost to it."""
    apart: bool = False
    """Native jobs have an environment of its own for it, made when a job has the stage: few do, and its packages are large."""
    requirements: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Variant -> hash-locked requirements file, relative to the shipped files."""
    settings: Mapping[str, StageSetting] = field(default_factory=lambda: MappingProxyType({}))
    memory_mb: int = 512
    """Memory it needs beside its models, in MB, however long its recordings are."""
    memory_mb_hour: int = WHOLE
    """What it needs more for each hour of all recordings of a job, in MB: it holds the results of all of them at once."""
    memory_full_mb: int | None = None
    """As ``memory_mb``, of the full variant, where that is another."""
    memory_full_mb_hour: int = 0
    """What the full variant needs more for each hour of the longest recording, in MB: its libraries hold the whole sound."""

    def memory(self, variant: str, lengths: Sequence[float] = ()) -> int:
        """Bytes that it needs beside its models, for recordings of so many seconds."""
        full = variant == Variant.FULL.value
        flat = (self.memory_full_mb if full else None) or self.memory_mb
        grown = self.memory_mb_hour * sum(lengths)
        grown += self.memory_full_mb_hour * max(lengths, default=0.0) if full else 0.0
        return int((flat + grown / 3600) * 1_000_000)

    @property
    def defaults(self) -> dict[str, SettingValue]:
        """What its settings are unless somebody sets them."""
        return {name: setting.default for name, setting in self.settings.items()}


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A named choice of models: purpose -> model ids."""

    id: str
    summary: str
    models: Mapping[Purpose, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """images/<name>.yaml: one image, its parent, its stage, its packages per variant."""

    name: str
    parent: str | None = None
    stage: str | None = None
    modes: tuple[Mode, ...] = ()
    packages: tuple[str, ...] = ()
    """Packages of its children's locks that it already holds for all of them."""
    extra: bool = False
    """Built where it is asked for (:attr:`Defaults.extras`), and not with all others of the mode."""
    debian_packages: tuple[str, ...] = ()
    """For a ``debian`` base: what the root file system has beside Python."""
    requirements: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Variant (``slim``, ``full``, ``slim-gpu``…) -> hash-locked requirements file."""


@dataclass(frozen=True, kw_only=True)
class BaseSpec:
    """What images stand on: ``registry``, ``debian``, or ``auto`` (in that order)."""

    kind: str = "auto"
    reference: str = ""
    """Image reference for ``registry``, with a tag."""
    digest: str = ""
    """Pinned digest of ``reference``, once it was resolved."""
    suite: str = "bookworm"
    """Debian suite for ``debian``."""


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """Overrides for what is found by itself on this machine; see docs/images.md."""

    ca_bundle: str | None = None
    proxy: str | None = None
    index_url: str | None = None
    torch_index_url: str | None = None
    pip_conf: str | None = None


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What a flag or an environment variable (BAKE_<NAME>) may override."""

    mode: Mode = Mode.NATIVE
    variant: Variant = Variant.SLIM
    preset: str = "starter"
    """A name of :attr:`Config.presets`; ``auto`` only until a session decides it (:mod:`builder.core.config.presets`)."""
    profile: str | None = None
    """A named group of defaults and settings."""
    workflow: Workflow | None = None
    """None: ``subtitle`` for video, ``transcribe`` for sound alone."""
    language: str | None = None
    """None: detected per recording."""
    diarization: bool = True
    gpu_driver: str = "nvidia"
    """How containers get a GPU: ``nvidia`` (the container toolkit's runtime) or ``cdi`` (a device by its CDI name)."""
    weights: str = "baked"
    """Where containers have weights: ``baked`` into each image, or ``mounted`` from an image that has nothing else."""
    registry: str = "whisperbake"
    """Image name prefix."""
    sources: tuple[str, ...] = ()
    """Local folders that may hold weights, tried after the other sources."""
    extras: tuple[str, ...] = ()
    """Images that are built with the others of a mode though few need them: ``translate``. A job's own come by themselves."""


@dataclass(frozen=True, kw_only=True)
class ProjectFiles:
    """What the project's files say, checked; the same for every command until a file changes."""

    defaults: Mapping[str, object]
    """``defaults`` of bake.yaml, each checked when a command is configured."""
    origin: Mapping[str, str]
    """Where each of them stands: ``bake.yaml:3``."""
    written: tuple[str, ...]
    """Those that bake.yaml has."""
    presets: Mapping[str, Preset]
    models: Mapping[str, Model]
    pins: Mapping[str, Pin]
    stages: Mapping[str, StageSpec]
    """In pipeline (topological) order."""
    images: Mapping[str, ImageSpec]
    base: BaseSpec
    network: NetworkSpec
    settings: tuple[ChosenSetting, ...] = ()
    """``settings`` of bake.yaml."""
    apertium: tuple[str, ...] = ()
    """``translation.apertium`` of bake.yaml."""
    profiles: Mapping[str, Profile] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that is configured, checked as a whole."""

    root: Path
    """The folder of bake.yaml, models.yaml and models.lock: what a user edits."""
    shipped: Path
    """The folder of stages/, images/, templates/, compose/ and requirements/: ``root`` in a checkout, else the package's."""
    home: Path
    """The state folder: ``.bake`` beside bake.yaml, BAKE_HOME or --home; without a project the user's data folder."""
    jobs: Path
    """The folder of jobs."""
    defaults: Defaults
    presets: Mapping[str, Preset]
    models: Mapping[str, Model]
    pins: Mapping[str, Pin]
    stages: Mapping[str, StageSpec]
    """In pipeline (topological) order."""
    images: Mapping[str, ImageSpec]
    base: BaseSpec = BaseSpec()
    network: NetworkSpec = NetworkSpec()
    apertium: tuple[str, ...] = ()
    """Apertium's pairs in images, as Debian names them: ``eng-spa``."""
    settings: Mapping[str, Mapping[str, ChosenSetting]] = field(default_factory=lambda: MappingProxyType({}))
    """Stage -> name -> what bake.yaml, the profile, a variable or an option chose."""
    profiles: Mapping[str, Profile] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def together(self) -> tuple[StageSpec, ...]:
        """The stages that share the native environment."""
        return tuple(stage for stage in self.stages.values() if not stage.apart)

    @property
    def paths(self) -> Paths:
        """The state folder's places."""
        return Paths(home=self.home)

    def native_locks(self, *, cuda: bool = False, apple: bool = False) -> tuple[Path, ...]:
        """The locks of what native jobs need, whatever models they load.

        Args:
            cuda: with CUDA's libraries, where the variant's packages come without.
            apple: with MLX.
        """
        variant = self.defaults.variant.value
        engines = [engine for engine in ENGINES if engine != MLX or apple]
        kinds = [variant, *(f"{variant}-{engine}" for engine in engines), *([f"{variant}-gpu"] if cuda else [])]
        named = [stage.requirements for stage in self.stages.values()]
        return tuple(sorted({self.shipped / found[kind] for found in named for kind in kinds if kind in found}))
