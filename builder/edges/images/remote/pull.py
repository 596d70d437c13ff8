"""Images of a registry into an engine: the way back of push. Only what the engine lacks comes, by digest, each blob once.

Tags are looked up once, at the start; from then on digests alone count. A blob is whole and right on this disk before the
engine gets any of it, and goes from here when all images are in the engine. Manifests and configs stay in the layout: with
them the next pull knows what a containerd store has.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from builder.core.images import oci
from builder.core.images.oci import Descriptor
from builder.core.progress import OnProgress, Progress
from builder.edges.engine.connection import Engine
from builder.edges.images import load
from builder.edges.images.layout import Layout, Stored
from builder.edges.registry.http import StopSignal
from builder.edges.registry.push import QUESTIONS, together
from builder.edges.registry.read import RegistryReader
from builder.edges.system import files
from builder.errors import IntegrityError, MissingError
from builder.receiver.missing import chain_ids

SHOWN = 1 << 20
"""Bytes from which a blob has a line or bar of its own."""


@dataclass(frozen=True, kw_only=True)
class WantedImage:
    """An image to pull: its name, where it is in the registry, what the engine is to call it."""

    name: str
    repository: str
    tag: str
    ref: str


@dataclass(frozen=True, kw_only=True)
class PullStep:
    """An image of the registry, and what the engine lacks of it."""

    wanted: WantedImage
    manifest: bytes
    config: bytes
    image: Stored
    there: bool
    """Whether the engine has it under its name."""
    lacking: tuple[Descriptor, ...]
    """Layers that the engine lacks, lowest first."""
    fetch: tuple[Descriptor, ...]
    """Of these, what this disk doesn't have either, and no image before it in the set brings."""

    @property
    def fetch_bytes(self) -> int:
        return sum(blob.size for blob in self.fetch)


def resolve(
    reader: RegistryReader, wanted: Sequence[WantedImage], architecture: str
) -> list[tuple[WantedImage, bytes, bytes]]:
    """Manifest and config of each image, looked up together and checked.

    Args:
        architecture: the engine's, for tags of several platforms.

    Raises:
        MissingError: the registry has some of them not.
        SourceError: it refuses, or has something else there.
        IntegrityError: what it sends isn't what its digest says.
    """

    def look(one: WantedImage) -> tuple[WantedImage, bytes, bytes] | None:
        found = reader.manifest(one.repository, one.tag, architecture)
        if found is None:
            return None
        config, _ = oci.received(found[1], f"{one.repository}:{one.tag}")
        return one, found[1], reader.small(one.repository, config)

    with ThreadPoolExecutor(QUESTIONS) as pool:
        found = list(pool.map(look, wanted))
    if lacking := [one.name for one, answer in zip(wanted, found, strict=True) if answer is None]:
        raise MissingError(
            f"the registry doesn't have {', '.join(lacking)}",
            where=f"{reader.host}/{wanted[0].repository.rpartition('/')[0]}, tag {wanted[0].tag}",
            hint="push them there first, with the same --mode, --variant and --preset",
        )
    return [answer for answer in found if answer is not None]


def decide(
    engine: Engine, layout: Layout, resolved: Sequence[tuple[WantedImage, bytes, bytes]]
) -> tuple[PullStep, ...]:
    """What each image needs. Changes nothing.

    Raises:
        IntegrityError: a config that isn't its manifest's.
    """
    contents, coming = load.inspect(engine, layout), set[str]()
    steps = []
    for wanted, manifest, config in resolved:
        image = _stored(wanted, manifest, config)
        id_ = load.identity(engine, image)
        lacking = () if id_ in contents.ids else load.lacking(contents, image, ())
        fetch = tuple(blob for blob in lacking if blob.digest not in coming and not _at_hand(layout, blob))
        coming |= {blob.digest for blob in fetch}
        there = id_ in contents.ids and _named(engine, wanted.ref) == id_
        steps.append(
            PullStep(
                wanted=wanted, manifest=manifest, config=config, image=image, there=there, lacking=lacking, fetch=fetch
            )
        )
        # A graph driver counts chains, a containerd store blobs: both have this image's when the next one comes.
        contents = contents.plus(
            blobs=(layer.blob.digest for layer in image.layers),
            chains=chain_ids([layer.diff_id for layer in image.layers]),
        )
    return tuple(steps)


def require_room(layout: Layout, engine: Engine, steps: Sequence[PullStep]) -> None:
    """Raises MissingError where this disk or the engine's has too little free."""
    every = sum(step.fetch_bytes for step in steps)
    files.require_room({layout.root: every}, "free some space; the same command resumes")
    coming = dict.fromkeys(blob for step in steps for blob in step.lacking)
    # As it comes, and once unpacked.
    need = sum(blob.size * (2 if blob.media_type == oci.TAR else 1 + load.UNPACKED) for blob in coming)
    if engine.free is not None and need > engine.free:
        raise MissingError(
            f"the engine has {engine.free / 1e9:.1f} GB free; the images need {need / 1e9:.1f} GB",
            where=engine.root,
            hint="docker image prune, or free some space",
        )


def carry_out(
    steps: Sequence[PullStep],
    reader: RegistryReader,
    engine: Engine,
    layout: Layout,
    *,
    stop: StopSignal,
    on_progress: OnProgress,
) -> Iterator[tuple[PullStep, int]]:
    """Fetch and load, image by image; yields each with the bytes that came for it, when it has its name in the engine.

    The caller holds the layout's lock.

    Raises:
        SourceError: refused or gone. What has arrived is kept for the next time.
        IntegrityError: the registry sends other bytes than it names.
        MissingError, BuildError: the engine is full, gone, or takes no such image.
        Interrupted: Ctrl-C.
    """
    spool = _Spool(layout, reader, total=sum(step.fetch_bytes for step in steps), on_progress=on_progress)
    for step in steps:
        layout.put(step.config)
        layout.put(step.manifest)
        if not step.there:
            spool.bring(step, stop)
            _load(engine, spool, step, on_progress)
        _record(layout, step)
        yield step, spool.came
        spool.came = 0
    spool.clear()


class _Spool(Layout):
    """The layout with the blobs that come from a registry: each is fetched at the latest when it is opened."""

    def __init__(self, layout: Layout, reader: RegistryReader, *, total: int, on_progress: OnProgress) -> None:
        super().__init__(layout.root, layout.store)
        self._reader, self._total, self._on_progress = reader, total, on_progress
        self._repository = ""
        self._done: dict[str, int] = {}
        self._shown = threading.Lock()
        self._fetched: dict[str, Path] = {}
        self.came = 0
        """Bytes of blobs that have come for the image in hand."""

    def bring(self, step: PullStep, stop: StopSignal) -> None:
        """Fetch what an image needs."""
        self._repository = step.wanted.repository
        for blob in step.lacking:
            if self.path(blob.digest).is_file() and not self.is_weights(blob.digest):
                self._fetched.setdefault(blob.digest, self.path(blob.digest))
        with together(stop, self._on_progress, "pull") as submit:
            for blob in step.fetch:
                submit(self._fetch, blob)

    def open(self, blob: Descriptor) -> Iterator[bytes]:
        if not _at_hand(self, blob):
            self._fetch(blob)
        yield from super().open(blob)

    def clear(self) -> None:
        """Remove what has come: the engine has it. What a build made here stays."""
        built = self.needed(self._built())
        for digest, path in self._fetched.items():
            if digest not in built:
                path.unlink(missing_ok=True)

    def _built(self) -> Collection[str]:
        return [ref for ref, value in self.images().items() if "manifest" in value]

    def _fetch(self, blob: Descriptor) -> None:
        name = blob.digest.removeprefix("sha256:")
        part, final = self.incoming / f"pull-{name}", self.path(blob.digest)
        part.parent.mkdir(parents=True, exist_ok=True)
        before = part.stat().st_size if part.is_file() else 0
        self._reader.fetch(self._repository, blob, part, lambda done: self._tell(blob, done))
        part.chmod(0o644)
        final.parent.mkdir(parents=True, exist_ok=True)
        part.replace(final)
        with self._shown:
            self._fetched[blob.digest] = final
            self.came += blob.size - min(before, blob.size)
        self._tell(blob, blob.size, finished=True)

    def _tell(self, blob: Descriptor, done: int, *, finished: bool = False) -> None:
        name = f"{self._repository.rpartition('/')[2]} {blob.digest.removeprefix('sha256:')[:12]}"
        with self._shown:
            self._done[blob.digest] = done
            if blob.size >= SHOWN:
                self._on_progress(Progress(what=name, done=done, total=blob.size, unit="bytes", finished=finished))
            every = sum(self._done.values())
            whole = finished and every >= self._total
            self._on_progress(Progress(what="pull", done=every, total=self._total, unit="bytes", finished=whole))


def _load(engine: Engine, spool: _Spool, step: PullStep, on_progress: OnProgress) -> None:
    what = f"{step.wanted.ref} to the engine"

    def on_bytes(done: int, total: int) -> None:
        on_progress(Progress(what=what, done=done, total=total, unit="bytes", finished=done >= total))

    load.load(engine, spool, step.image, contents=load.inspect(engine, spool), built=(), on_bytes=on_bytes)


def _record(layout: Layout, step: PullStep) -> None:
    """Note what the engine has under a name; what a build noted of its code stays."""
    entry = layout.images().get(step.wanted.ref, {})
    if entry.get("manifest") == step.image.manifest.digest:
        return
    kept = {name: value for name, value in entry.items() if name not in ("manifest", "artifact")}
    record = {**kept, "pulled": step.image.manifest.digest}
    if record != entry:
        layout.record(step.wanted.ref, record)


def _stored(wanted: WantedImage, manifest: bytes, config: bytes) -> Stored:
    where = f"{wanted.repository}:{wanted.tag}"
    descriptor, _ = oci.received(manifest, where)
    image = oci.read(manifest, config, where)
    oci.require_plain(image, where)
    return Stored(
        ref=wanted.ref,
        manifest=oci.describe(oci.MANIFEST, manifest),
        config=descriptor,
        layers=image.layers,
        written=oci.Written(manifest=manifest, config=config, image=image),
    )


def _named(engine: Engine, ref: str) -> str:
    from docker.errors import ImageNotFound

    with suppress(ImageNotFound):
        return str(engine.client.api.inspect_image(ref)["Id"])
    return ""


def _at_hand(layout: Layout, blob: Descriptor) -> bool:
    """Whether a blob can be had on this disk: a file, or a recipe whose files the store has."""
    path = layout.path(blob.digest)
    if path.is_file():
        return path.stat().st_size == blob.size
    if not layout.is_weights(blob.digest):
        return False
    with suppress(IntegrityError):
        members = layout.recipe(blob.digest).members
        return all(_has(layout.store / m.source, m.size) for m in members if m.source)
    return False


def _has(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size
