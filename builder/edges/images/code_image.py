"""The code of images, without weights: from BuildKit into the layout."""

from __future__ import annotations

import io
import json
import posixpath
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from builder.core.images import oci
from builder.core.images.oci import Descriptor
from builder.edges.engine.connection import Engine
from builder.edges.images.layout import Layout
from builder.edges.system import files
from builder.errors import BuildError, IntegrityError
from builder.program import command

COMPRESSION = "compression=zstd,force-compression=true,oci-mediatypes=true"
"""Of code blobs: BuildKit writes and hands over zstd faster than plain tars (0.3 GB of libraries: 7.0 s, plain 10.0 s,
gzip 10.9 s), and a third of the bytes goes to a registry."""

SMALL = 1 << 20
"""Bytes below which a member of an archive is kept in memory: manifests and configs."""


def output(layout: Layout) -> str:
    """The exporter that writes into the layout: blobs that are there already are not written again."""
    layout.root.mkdir(parents=True, exist_ok=True)
    return f"type=oci,tar=false,dest={layout.root},{COMPRESSION}"


def exported(layout: Layout, tag: str) -> str:
    """Digest of the manifest that BuildKit exported under a tag.

    Raises:
        BuildError: nothing was exported under it.
    """
    index = files.read_object(layout.root / "index.json")
    names = {tag, f"docker.io/{tag}", f"docker.io/library/{tag}"}
    for entry in reversed(index.get("manifests", [])):
        if (entry.get("annotations") or {}).get("org.opencontainers.image.ref.name") in names:
            return str(entry["digest"])
    raise BuildError(f"BuildKit exported no {tag}", where=str(layout.root), hint=command("build --no-cache"))


def image(layout: Layout, manifest: str) -> oci.Image:
    """A code image of the layout.

    Raises:
        IntegrityError, MissingError: it is damaged, or gone.
    """
    raw, where = layout.read(manifest), str(layout.path(manifest))
    config, _ = oci.named(raw, where)
    return oci.read(raw, layout.read(config.digest), where)


def whole(layout: Layout, manifest: str) -> bool:
    """Whether all of a code image's blobs are there, by size. Those of another size are removed: an export would keep them."""
    path = layout.path(manifest)
    try:
        config, layers = oci.named(path.read_bytes(), str(path))
        wrong = [layout.path(b.digest) for b in (config, *layers) if _size(layout.path(b.digest)) != b.size]
    except (OSError, IntegrityError):
        path.unlink(missing_ok=True)
        return False
    for damaged in wrong:
        damaged.unlink(missing_ok=True)
    return not wrong


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def unpacked(blob: Descriptor, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The tar in a blob of any media type."""
    import zlib

    import zstandard

    if blob.media_type.endswith("zstd"):
        zstd = zstandard.ZstdDecompressor().decompressobj(read_across_frames=True)
        yield from (zstd.decompress(chunk) for chunk in chunks)
    elif blob.media_type.endswith("gzip"):
        gzip = zlib.decompressobj(16 + zlib.MAX_WBITS)
        for chunk in chunks:
            yield gzip.decompress(chunk)
        yield gzip.flush()
    else:
        yield from chunks


def saved(engine: Engine, layout: Layout, tag: str) -> str:
    """Bring an image of a graph driver into the layout by ``docker save``; the manifest's digest.

    Layers come as plain tars under their diff ids. Both forms of the archive are read: with ``blobs/`` (since Engine 25)
    and with a folder for each layer.

    Raises:
        BuildError: what came is not an image.
    """
    found: dict[str, Descriptor] = {}
    links: dict[str, str] = {}
    small: dict[str, bytes] = {}
    layout.incoming.mkdir(parents=True, exist_ok=True)
    with tarfile.open(
        fileobj=ChunkStream(engine.client.api.get_image(tag, chunk_size=files.CHUNK)), mode="r|"
    ) as archive:
        for member in archive:
            inside = archive.extractfile(member) if member.isreg() else None
            if member.issym():
                links[member.name] = posixpath.normpath(posixpath.join(posixpath.dirname(member.name), member.linkname))
            elif inside is not None and member.size < SMALL and not member.name.endswith(".tar"):
                small[member.name] = inside.read()
            elif inside is not None:
                found[member.name] = layout.take(_chunks(inside), oci.TAR)
    try:
        entry = json.loads(small["manifest.json"])[0]
        config = small[entry["Config"]]
        names = [links.get(name, name) for name in entry["Layers"]]
        for name in names:
            if name in small:
                found[name] = layout.take(iter([small[name]]), oci.TAR)
        layers = [found[name] for name in names]
        if [b.digest for b in layers] != json.loads(config)["rootfs"]["diff_ids"]:
            raise ValueError("its layers are not those of its config")
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise BuildError(f"docker save gave no image for {tag}: {error}", where=engine.host) from None
    layout.put(config)
    return layout.put(oci.manifest(oci.describe(oci.CONFIG, config), layers))


def _chunks(source: IO[bytes]) -> Iterator[bytes]:
    while chunk := source.read(files.CHUNK):
        yield chunk


class ChunkStream(io.RawIOBase):
    """Chunks as a file without seeking."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._left = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        parts, need = [], size
        while need:
            if not self._left:
                self._left = next(self._chunks, b"")
                if not self._left:
                    break
            part = self._left[:need]
            self._left = self._left[len(part) :]
            parts.append(part)
            need -= len(part)
        return b"".join(parts)
