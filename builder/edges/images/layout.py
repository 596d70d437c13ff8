"""The layout: the OCI image layout on this disk that engine images, pushes and bundles are made from.

    layout/blobs/sha256/<hex>      what BuildKit exports, and the configs and manifests of assembled images
    layout/recipes/<hex>.json      a weight layer by its digest: which files of the store its tar is made of
    layout/images.json             what is assembled: reference -> manifest, and the code image that it was made from
    layout/parts.json              layers of code by what they are made from, where BuildKit exports them one by one
    layout/digests.json            digests of weight layers by what decides their bytes: the second look reads nothing

Bytes of weights are never here: a weight layer is streamed out of the store. :meth:`Layout.open` gives the bytes of any
blob, wherever they come from, and says so when they are not those of its digest.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from builder.core.images import oci
from builder.core.images.oci import Descriptor, Layer, Written
from builder.core.progress import OnProgress, Progress
from builder.core.weights import layers as weights
from builder.core.weights.layers import Member, WeightLayer
from builder.edges.system import files
from builder.errors import BakeError, ConfigError, IntegrityError, MissingError
from builder.program import command

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Stored:
    """An assembled image of the layout."""

    ref: str
    manifest: Descriptor
    config: Descriptor
    layers: tuple[Layer, ...]
    """Lowest first."""
    written: Written

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Every blob once, in the order they are sent: layers from below, config, manifest."""
        return tuple(dict.fromkeys([*(layer.blob for layer in self.layers), self.config, self.manifest]))


class Layout:
    """The layout below ``root``, with weights from the store at ``store``; making one touches nothing."""

    def __init__(self, root: Path, store: Path) -> None:
        self.root = root
        self.store = store
        self._index = root / "images.json"
        self._known = root / "digests.json"
        self.incoming = root / "incoming"
        """What is being written; after a kill nobody needs it."""

    @property
    def lock(self) -> Path:
        """The file to hold (files.locked) while something is added, assembled or removed."""
        return self.root.with_name(f"{self.root.name}.lock")

    # Blobs

    def path(self, digest: str) -> Path:
        """Where the file of a blob is, or would be.

        Raises:
            IntegrityError: it is not a digest.
        """
        if not DIGEST.fullmatch(digest):
            raise IntegrityError(f"{digest!r} is not a digest", where=str(self.root))
        return self.root / oci.blob_path(digest)

    def has(self, blob: Descriptor) -> bool:
        """Whether its bytes can be had: a file of its size, or a recipe. Reads no blob."""
        try:
            return self.path(blob.digest).stat().st_size == blob.size
        except OSError:
            return self.is_weights(blob.digest)

    def is_weights(self, digest: str) -> bool:
        """Whether a blob is a weight layer: a recipe, no file."""
        return self._recipe(digest).is_file()

    def open(self, blob: Descriptor) -> Iterator[bytes]:
        """A blob's bytes in chunks of at most ``files.CHUNK``, hashed on the way. Its size is known before: ``blob.size``.

        Raises:
            IntegrityError: after the last byte (or the one too many), that they are not those of the digest, and which
                file is at fault. A damaged file of the layout is removed: the next build makes it again.
            MissingError: it has neither a file nor a recipe.
        """
        path = self.path(blob.digest)
        if self.is_weights(blob.digest) and not path.is_file():  # one that was pulled is a file
            yield from self._baked(blob)
            return
        seen, size = hashlib.sha256(), 0
        try:
            for chunk in files.chunks(path):
                seen.update(chunk)
                size += len(chunk)
                if size > blob.size:
                    break
                yield chunk
        except FileNotFoundError:
            raise MissingError("the layout lacks a blob", where=str(path), hint=command("build")) from None
        if size != blob.size or f"sha256:{seen.hexdigest()}" != blob.digest:
            path.unlink(missing_ok=True)
            raise IntegrityError(
                "a blob of the layout was damaged, and is removed",
                where=str(path),
                expected=blob.digest,
                hint="the same command makes it again",
            )

    def whole(self, blob: Descriptor, on_bytes: Callable[[int], None]) -> str:
        """Why a blob's bytes are not those of its digest; empty when they are. Unlike :meth:`open` it changes nothing.

        Args:
            on_bytes: hears the bytes read so far.
        """
        seen, size = hashlib.sha256(), 0
        try:
            weighed = self.is_weights(blob.digest)
            chunks = (
                self._bytes(weights.pieces(self.recipe(blob.digest)))
                if weighed
                else files.chunks(self.path(blob.digest))
            )
            for chunk in chunks:
                seen.update(chunk)
                size += len(chunk)
                on_bytes(size)
                if size > blob.size:
                    break
        except FileNotFoundError:
            return "it isn't there"
        except BakeError as error:
            return error.what
        right = size == blob.size and f"sha256:{seen.hexdigest()}" == blob.digest
        return "" if right else "its bytes are not those of its digest"

    def read(self, digest: str) -> bytes:
        """A small blob whole (config, manifest), checked.

        Raises:
            IntegrityError, MissingError: as :meth:`open`.
        """
        path = self.path(digest)
        size = path.stat().st_size if path.is_file() else 0
        return b"".join(self.open(Descriptor(media_type="", digest=digest, size=size)))

    def put(self, data: bytes) -> str:
        """Keep a small blob; its digest."""
        digest = oci.digest(data)
        path = self.path(digest)
        if not path.is_file() or path.read_bytes() != data:
            files.write_atomic(path, data)
        return digest

    def take(self, chunks: Iterator[bytes], media_type: str) -> Descriptor:
        """Keep a blob of any size; it is hashed while it is written, and gets its name when it is whole."""
        self.incoming.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.incoming)
        os.close(handle)
        part = Path(name)
        blob = Descriptor(
            media_type=media_type, digest=f"sha256:{files.copy_hashed(chunks, part)}", size=part.stat().st_size
        )
        final = self.path(blob.digest)
        final.parent.mkdir(parents=True, exist_ok=True)
        part.chmod(0o644)
        part.replace(final)
        return blob

    # Layers of the code, where they are exported one by one (core/images/graph_driver.py)

    def parts(self) -> dict[str, Descriptor]:
        """Layers by what they are made from; those whose blob is gone are left out."""
        entries = files.read_object(self.root / "parts.json")
        blobs = {key: Descriptor(media_type=oci.TAR, digest=d, size=size) for key, (d, size) in entries.items()}
        return {key: blob for key, blob in blobs.items() if self.has(blob)}

    def keep_parts(self, known: Mapping[str, Descriptor]) -> None:
        files.write_json(self.root / "parts.json", {key: [b.digest, b.size] for key, b in known.items()})

    # Weights

    def weights(self, layer: WeightLayer, on_bytes: Callable[[int], None] = lambda _: None) -> Layer:
        """A weight layer as a layer of the layout; its files are read only when nobody knows its digest yet.

        Args:
            on_bytes: hears the bytes read so far.

        Raises:
            MissingError: a file of the store is not there.
        """
        known = files.read_object(self._known)
        digest = layer.digest or known.get(layer.key)
        if digest is None:
            seen, done = hashlib.sha256(), 0
            for chunk in self._bytes(weights.pieces(layer)):
                seen.update(chunk)
                done += len(chunk)
                on_bytes(done)
            digest = f"sha256:{seen.hexdigest()}"
            files.write_json(self._known, {**known, layer.key: digest})
        value = {
            "name": layer.name,
            "models": list(layer.models),
            "size": layer.size,
            "folders": dict(layer.folders),
            "members": [asdict(m) for m in layer.members],
        }
        if files.read_json(self._recipe(digest)) != value:
            files.write_json(self._recipe(digest), value)
        return oci.weight_layer(digest, layer.size, layer.name)

    def _recipe(self, digest: str) -> Path:
        return self.root / "recipes" / f"{self.path(digest).name}.json"

    def recipe(self, digest: str) -> WeightLayer:
        """The weight layer of a digest.

        Raises:
            IntegrityError: the recipe is damaged; it is removed, and the next build writes it again.
        """
        path = self._recipe(digest)
        value: Any = files.read_json(path)
        try:
            return WeightLayer(
                name=value["name"],
                models=tuple(value["models"]),
                folders=value["folders"],
                members=tuple(Member(**m) for m in value["members"]),
                digest=digest,
            )
        except (TypeError, KeyError):
            path.unlink(missing_ok=True)
            raise IntegrityError(
                "a recipe of the layout was damaged, and is removed",
                where=str(path),
                hint=f"{command('build')} writes it again",
            ) from None

    def _baked(self, blob: Descriptor) -> Iterator[bytes]:
        layer = self.recipe(blob.digest)
        seen, size = hashlib.sha256(), 0
        for chunk in self._bytes(weights.pieces(layer)):
            seen.update(chunk)
            size += len(chunk)
            yield chunk
        if size == blob.size and f"sha256:{seen.hexdigest()}" == blob.digest:
            return
        for member in layer.members:
            if member.source and files.sha256(self.store / member.source) != member.sha256:
                raise IntegrityError(
                    f"{Path(member.path).name} of {', '.join(layer.models)} is not what models.lock says",
                    where=str(self.store / member.source),
                    hint=f"models verify {' '.join(layer.models)}, then again",
                )
        self._recipe(blob.digest).unlink(missing_ok=True)
        known = files.read_object(self._known)
        files.write_json(self._known, {key: d for key, d in known.items() if d != blob.digest})
        raise IntegrityError(
            f"models.lock has another digest for layer {layer.name}",
            expected=f"sha256:{seen.hexdigest()}",
            where=f"models.lock: {', '.join(layer.models)}, layers",
            hint=f"the same command again; if it stays: models lock --layers {' '.join(layer.models)}",
        )

    def _bytes(self, pieces: Iterator[bytes | Member]) -> Iterator[bytes]:
        """Pieces of a tar with the store's files in their places."""
        for piece in pieces:
            if isinstance(piece, bytes):
                yield piece
                continue
            assert piece.source is not None
            path, done = self.store / piece.source, 0
            try:
                for chunk in files.chunks(path):
                    done += len(chunk)
                    if done > piece.size:
                        break
                    yield chunk
            except FileNotFoundError:
                raise MissingError(
                    f"{Path(piece.path).name} is not in the store", where=str(path), hint="models fetch"
                ) from None
            if done != piece.size:
                raise IntegrityError(
                    f"{path.name} changed while it was read: it is not {piece.size} bytes long",
                    where=str(path),
                    hint="models verify",
                )

    # Images

    def images(self) -> dict[str, dict[str, Any]]:
        """Reference -> what is recorded of it: ``manifest`` and ``code`` (digests), ``inputs``; ``platform`` of one that
        isn't for the engine; ``artifact`` of weights; ``pulled`` in place of ``manifest`` where the engine alone has the
        blobs."""
        return files.read_object(self._index)

    def record(self, ref: str, value: dict[str, Any]) -> None:
        files.write_json(self._index, {**self.images(), ref: value})

    def image(self, ref: str) -> Stored:
        """An assembled image by its reference.

        Raises:
            MissingError: none is assembled under that reference.
            IntegrityError: its manifest or config is damaged.
        """
        entry = self.images().get(ref, {})
        if "manifest" in entry:
            return self.stored(ref, entry["manifest"])
        if "pulled" in entry:
            raise MissingError(f"{ref} was pulled, and not built here", hint=command("build --no-cache"))
        raise MissingError(f"{ref} is not assembled here", where=str(self.root), hint=command("build"))

    def described(self, ref: str) -> Stored:
        """The same, or an image that was pulled: manifest and config are here, its blobs may not be.

        Raises:
            MissingError, IntegrityError: as :meth:`image`.
        """
        entry = self.images().get(ref, {})
        return self.stored(ref, entry["pulled"]) if "pulled" in entry else self.image(ref)

    def stored(self, ref: str, digest: str) -> Stored:
        """The image of a manifest's digest."""
        raw, where = self.read(digest), str(self.path(digest))
        config, _ = oci.named(raw, where)
        settings = self.read(config.digest)
        image = oci.read(raw, settings, where)
        return Stored(
            ref=ref,
            manifest=oci.describe(oci.MANIFEST, raw),
            config=config,
            layers=image.layers,
            written=Written(manifest=raw, config=settings, image=image),
        )

    def labels(self, ref: str) -> dict[str, str]:
        """The labels of an assembled image; empty where none is whole."""
        with suppress(MissingError, IntegrityError):
            return dict(self.image(ref).written.image.labels)
        return {}

    # Keeping it small, and giving it away

    def needed(self, refs: Collection[str]) -> set[str]:
        """Digests of all that these references are made of: their images, and the code images below them."""
        digests: set[str] = set()
        for ref, value in self.images().items():
            if ref not in refs:
                continue
            for name in ("manifest", "code", "artifact", "pulled"):
                with suppress(KeyError, FileNotFoundError, IntegrityError):
                    path = self.path(str(value[name]))
                    config, layers = oci.named(path.read_bytes(), str(path))
                    digests |= {str(value[name]), config.digest}
                    # Of an image that was pulled the engine alone has the layers.
                    digests |= {blob.digest for blob in layers if name != "pulled"}
        return digests

    def unneeded(self, keep: Collection[str] | None) -> tuple[Unneeded, ...]:
        """What could go.

        Args:
            keep: references whose blobs stay; None: all of them.
        """
        needed = self.needed(self.images() if keep is None else keep)
        places = {"blob": self.root / "blobs/sha256", "recipe": self.root / "recipes"}
        unneeded = []
        for what, folder in places.items():
            for path in sorted(folder.glob("*")):
                if f"sha256:{path.name.removesuffix('.json')}" not in needed:
                    unneeded.append(Unneeded(path=path, what=what, size=path.stat().st_size))
        for folder in (self.incoming, self.root / "ingest"):
            parts = (p for p in sorted(folder.rglob("*")) if p.is_file())
            unneeded += [Unneeded(path=p, what="left of a killed build", size=p.stat().st_size) for p in parts]
        return tuple(unneeded)

    def forget(self, keep: Collection[str] | None) -> None:
        """Drop the records of all other references."""
        if keep is not None:
            files.write_json(self._index, {ref: value for ref, value in self.images().items() if ref in keep})

    def export(self, out: Path, images: Sequence[Stored], on_progress: OnProgress) -> int:
        """Write a complete OCI layout; its bytes. What is there already and right is kept: an export can be resumed.

        Raises:
            MissingError: the disk has too little free.
            ConfigError: the folder is something else.
            IntegrityError: a blob is not what it should be.
        """
        others = out.is_dir() and any(not files.is_temporary(path) for path in out.iterdir())
        if others and not (out / "oci-layout").is_file():
            raise ConfigError("this folder is not empty, and not an OCI layout", where=str(out))
        blobs = tuple(dict.fromkeys(blob for image in images for blob in image.blobs))
        other = Layout(out, self.store)
        lacking = [b for b in blobs if not _same(other.path(b.digest), b)]
        need = sum(b.size for b in lacking)
        out.mkdir(parents=True, exist_ok=True)
        files.require_room({out: need}, "export to another disk")
        files.write_atomic(out / "oci-layout", oci.LAYOUT)  # first: by it an export that was cut short is known as one
        total, done = need, 0
        for blob in lacking:

            def stream(blob: Descriptor = blob) -> Iterator[bytes]:
                nonlocal done
                for chunk in self.open(blob):
                    yield chunk
                    done += len(chunk)
                    on_progress(Progress(what=str(out), done=done, total=total, unit="bytes", finished=done >= total))

            other.take(stream(), blob.media_type)
        files.write_atomic(out / "index.json", oci.index([(image.manifest, image.ref) for image in images]))
        shutil.rmtree(other.incoming, ignore_errors=True)
        return sum(b.size for b in blobs)


@dataclass(frozen=True, kw_only=True)
class Unneeded:
    """A file of the layout that nothing needs."""

    path: Path
    what: str
    size: int


def _same(path: Path, blob: Descriptor) -> bool:
    return path.is_file() and path.stat().st_size == blob.size and f"sha256:{files.sha256(path)}" == blob.digest
