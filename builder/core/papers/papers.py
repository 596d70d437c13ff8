"""The kinds of papers, and all of them for an image or a bundle. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from builder.core.images import oci
from builder.core.papers import cyclonedx, provenance, spdx
from builder.core.papers import vex as openvex
from builder.core.papers.contents import Contents
from builder.core.papers.vex import Advisories

FOLDER = "papers"
"""In a bundle."""


@dataclass(frozen=True, kw_only=True)
class PaperKind:
    """A kind of paper."""

    name: str
    """As it is typed: ``cyclonedx``."""
    media_type: str
    """Of its file, and the artifact type by which a registry lists it."""
    suffix: str
    """Of its file's name, as tools know it."""
    annotations: tuple[tuple[str, str], ...] = ()
    """Of the manifest by which it is attached to an image: names and values."""


CYCLONEDX = PaperKind(name="cyclonedx", media_type=cyclonedx.MEDIA_TYPE, suffix=".cdx.json")
SPDX = PaperKind(name="spdx", media_type=spdx.MEDIA_TYPE, suffix=".spdx.json")
SLSA = PaperKind(
    name="slsa",
    media_type=provenance.MEDIA_TYPE,
    suffix=".intoto.json",
    annotations=(("in-toto.io/predicate-type", provenance.PREDICATE),),
)
VEX = PaperKind(name="vex", media_type=openvex.MEDIA_TYPE, suffix=".openvex.json")

KINDS = {kind.name: kind for kind in (CYCLONEDX, SPDX, SLSA, VEX)}


@dataclass(frozen=True, kw_only=True)
class Paper:
    """One paper."""

    kind: PaperKind
    about: str
    """``asr:slim-cpu``, or ``bundle``."""
    data: bytes
    """ASCII, with a line's end."""

    @property
    def digest(self) -> str:
        return oci.digest(self.data)

    @property
    def file(self) -> str:
        """The name of its file: ``asr-slim-cpu.cdx.json``."""
        return f"{self.about.replace(':', '-')}{self.kind.suffix}"


def papers(
    contents: Contents, advisories: Advisories, only: Collection[PaperKind] = tuple(KINDS.values())
) -> tuple[Paper, ...]:
    """The papers of some kinds; without VEX where nobody said anything of an advisory, and of models alone without
    provenance, too."""
    writers: dict[PaperKind, Callable[[], bytes | None]] = {
        CYCLONEDX: lambda: cyclonedx.sbom(contents),
        SPDX: lambda: spdx.sbom(contents),
        SLSA: lambda: provenance.statement(contents),
        VEX: lambda: openvex.vex(contents, advisories),
    }
    made = ((kind, write()) for kind, write in writers.items() if kind in only)
    return tuple(Paper(kind=kind, about=contents.name, data=data) for kind, data in made if data is not None)
