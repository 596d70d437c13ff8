"""Which packages the base of an image has: as mmdebstrap noted them, or as the base's own dpkg says.

A root file system that an older version of this program made has no list: then the names are known that were asked for.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from builder.core.config.types import BaseSpec
from builder.core.images import oci
from builder.core.papers.contents import BaseContents, DebianPackage
from builder.core.platforms import Platform
from builder.edges.images import rootfs
from builder.edges.images.code_image import ChunkStream, unpacked
from builder.edges.images.layout import Layout
from builder.errors import BakeError

STATUS = re.compile(r"var/lib/dpkg/status(\.d/[A-Za-z0-9.+-]+)?")
"""dpkg's own list, and where images without dpkg have it."""

LARGEST = 32 << 20
"""Bytes of such a list that are read; Debian's whole desktop has 4 MB."""

PYTHON_PACKAGE = re.compile(r"python3-minimal|libpython3-stdlib")
PYTHON_FILE = re.compile(r"usr/bin/python3\.(\d+)")


def of_root(
    spec: BaseSpec, asked: Sequence[str], cache: Path, digest: str, platform: Platform | None = None
) -> BaseContents:
    """A base of Debian's packages.

    Args:
        asked: packages that it was made with.
        cache: where root file systems are kept.
        digest: of the root file system that an image stands on.
        platform: of the image, where it isn't this machine's.
    """
    name = f"debian:{spec.suite}"
    root = rootfs.root_of(spec, asked, cache, platform)
    if root is None or rootfs.digest(root) != digest:
        return BaseContents(name=name, digest=digest, packages=_named(asked, spec.suite))
    found = _listed(rootfs.packages_of(root), spec.suite)
    return BaseContents(
        name=name, digest=digest, packages=found or _named(asked, spec.suite), python=_python(found) or _python_in(root)
    )


def of_layers(
    layout: Layout, layers: Sequence[oci.Layer], *, name: str, digest: str, env: Sequence[str]
) -> BaseContents:
    """A base from a registry, by its layers.

    Args:
        env: variables of the image, ``NAME=value`` each: Python's own images say their version so.
    """
    texts: dict[str, str] = {}
    for layer in layers:
        with suppress(BakeError, tarfile.TarError, EOFError, OSError):  # then its packages aren't known
            texts |= _lists(layout, layer)
    found = tuple(sorted(package for text in texts.values() for package in _installed(text, "")))
    version = next((value.partition("=")[2] for value in env if value.startswith("PYTHON_VERSION=")), "")
    return BaseContents(name=name, digest=digest, packages=found, python=_version(version) or _python(found))


def _named(asked: Sequence[str], suite: str) -> tuple[DebianPackage, ...]:
    return tuple(DebianPackage(name=name, suite=suite) for name in sorted(asked))


def _listed(text: str, suite: str) -> tuple[DebianPackage, ...]:
    """The packages of :data:`builder.edges.images.rootfs.LIST_PACKAGES`; lines that are something else are skipped."""
    rows = [line.split("\t") for line in text.splitlines()]
    fields = ("name", "version", "architecture", "source", "source_version", "sha256")
    return tuple(
        sorted(
            DebianPackage(**dict(zip(fields, row, strict=True)), suite=suite) for row in rows if len(row) == len(fields)
        )
    )


def _installed(text: str, suite: str) -> Iterator[DebianPackage]:
    """The packages of dpkg's list that are installed."""
    for stanza in re.split(r"\n\s*\n", text):
        fields = dict(re.findall(r"^([A-Za-z-]+):[ \t]*(.*)$", stanza, re.MULTILINE))
        if "Package" not in fields or fields.get("Status", "install ok installed").split()[-1:] != ["installed"]:
            continue
        source = re.fullmatch(r"(\S+)(?: \((\S+)\))?", fields.get("Source", ""))
        version = fields.get("Version", "")
        yield DebianPackage(
            name=fields["Package"],
            version=version,
            architecture=fields.get("Architecture", ""),
            source=source[1] if source else fields["Package"],
            source_version=(source[2] if source else "") or version,
            suite=suite,
        )


def _lists(layout: Layout, layer: oci.Layer) -> dict[str, str]:
    """Path -> text of dpkg's lists in a layer."""
    return dict(_read(layout.root, layout.store, layer.blob))


@lru_cache(maxsize=64)
def _read(root: Path, store: Path, blob: oci.Descriptor) -> tuple[tuple[str, str], ...]:
    """As :func:`_lists`; images of a set share their base, which is read once."""
    stream = ChunkStream(unpacked(blob, Layout(root, store).open(blob)))
    found, room = [], LARGEST
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            name = member.name.removeprefix("./")
            if member.isreg() and STATUS.fullmatch(name) and member.size <= room:
                source = archive.extractfile(member)
                found.append((name, source.read().decode("utf-8", "replace") if source else ""))
                room -= member.size
    return tuple(found)


def _python(packages: Sequence[DebianPackage]) -> tuple[int, int] | None:
    versions = (_version(package.version) for package in packages if PYTHON_PACKAGE.fullmatch(package.name))
    return next((version for version in versions if version), None)


def _version(text: str) -> tuple[int, int] | None:
    found = re.match(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else None


def _python_in(root: Path) -> tuple[int, int] | None:
    """By the interpreter's file."""
    with tarfile.open(root) as archive:
        minors = [int(found[1]) for member in archive if (found := PYTHON_FILE.fullmatch(member.name))]
    return (3, max(minors)) if minors else None
