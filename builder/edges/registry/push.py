"""A set of images into a registry: what it lacks, each blob once for all of them, every manifest after its blobs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field

from builder.core.images.oci import Descriptor
from builder.core.images.reference import Target
from builder.core.progress import OnProgress, Progress
from builder.edges.registry.blobs import Open, Registry
from builder.edges.registry.http import Stopped, StopSignal
from builder.errors import BakeError, Interrupted

WORKERS = 3
"""Blobs on their way at once; each has a chunk in memory."""

QUESTIONS = 8
"""Questions at once."""

SHOWN = 1 << 20
"""Bytes from which a blob has a line or bar of its own."""


@dataclass(frozen=True, kw_only=True)
class PushedImage:
    """An image to push; its blobs without manifests, in the order they are sent."""

    name: str
    tag: str
    manifest: Descriptor
    data: bytes
    """The manifest's bytes."""
    blobs: tuple[Descriptor, ...]
    parts: tuple[tuple[str, Descriptor, bytes], ...] = ()
    """Platform, manifest and the manifest's bytes, where ``manifest`` is an index of several."""
    also: tuple[str, ...] = ()
    """Further tags, of its version and its commit."""

    @property
    def key(self) -> str:
        """Which of a set it is: a repository may get several, each with a tag of its own."""
        return f"{self.name}:{self.tag}"

    @property
    def tags(self) -> tuple[str, ...]:
        """All tags: the one that moves last, so that what it names has its other names before."""
        return (*self.also, self.tag)


@dataclass(frozen=True, kw_only=True)
class PushStep:
    """What becomes of an image: which tags it is to have, and what its repository lacks for them."""

    image: PushedImage
    repository: str
    tags: tuple[str, ...]
    """Those that the registry doesn't have of this image."""
    mount: Mapping[str, str]
    """Digest -> the repository it is mounted from."""
    send: tuple[Descriptor, ...]

    @property
    def there(self) -> bool:
        """Whether every tag has the image already."""
        return not self.tags

    @property
    def further(self) -> bool:
        """Whether the tag that moves has the image already, and others are to have it."""
        return bool(self.tags) and self.image.tag not in self.tags

    @property
    def send_bytes(self) -> int:
        return sum(b.size for b in self.send)

    @property
    def mount_bytes(self) -> int:
        return sum(b.size for b in self.image.blobs if b.digest in self.mount)


@dataclass(kw_only=True)
class _Total:
    """Bytes of all blobs of a push that have arrived, told to one report at a time."""

    size: int
    on_progress: OnProgress
    done: dict[str, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def tell(self, key: str, what: str, blob: Descriptor, count: int, *, finished: bool = False) -> None:
        with self.lock:
            self.done[key] = count
            if blob.size >= SHOWN:
                self.on_progress(Progress(what=what, done=count, total=blob.size, unit="bytes", finished=finished))
            self.on_progress(Progress(what="push", done=sum(self.done.values()), total=self.size, unit="bytes"))


def decide(
    images: Sequence[PushedImage],
    registry: Registry,
    target: Target,
    *,
    others: Mapping[str, Sequence[Descriptor]],
    on_progress: OnProgress,
) -> tuple[PushStep, ...]:
    """Ask the registry what it has.

    Args:
        others: image name -> blobs of images that may be in the registry from an earlier push: places to mount from.

    Raises:
        SourceError: it refuses, or is gone.
    """
    with ThreadPoolExecutor(QUESTIONS) as pool:
        tagged = _tagged(images, registry, target, pool)
        new = [image for image in images if not tagged[image.key]]
        total = sum(len(image.blobs) for image in new)
        on_progress(Progress(what=ASKING, total=total))
        lacked = _lacked(new, registry, target, pool)
        sources = _sources(images, lacked, target)
        nowhere = {blob for image in new for blob in lacked[image.key] if blob.digest not in sources}
        sources |= _elsewhere(nowhere, others, registry, target, pool)
    on_progress(Progress(what=ASKING, done=total, total=total, finished=True))
    return tuple(_steps(images, tagged, lacked, sources, target))


ASKING = "asking what the registry has"


def _tagged(
    images: Sequence[PushedImage], registry: Registry, target: Target, pool: Executor
) -> dict[str, frozenset[str]]:
    """Key of an image -> those of its tags that have its manifest already. A registry that has one has all of its blobs."""
    pairs = [(image, tag) for image in images for tag in image.tags]
    digests = pool.map(lambda pair: registry.manifest(target.repository(pair[0].name), pair[1]), pairs)
    there = {(i.key, tag) for (i, tag), digest in zip(pairs, digests, strict=True) if digest == i.manifest.digest}
    return {image.key: frozenset(tag for tag in image.tags if (image.key, tag) in there) for image in images}


def _lacked(
    images: Sequence[PushedImage], registry: Registry, target: Target, pool: Executor
) -> dict[str, tuple[Descriptor, ...]]:
    """Key of an image -> the blobs that its repository lacks, each once, in the order they are sent."""
    pairs = list(dict.fromkeys((image.name, blob.digest) for image in images for blob in image.blobs))
    blobs = {blob.digest: blob for image in images for blob in image.blobs}
    answers = pool.map(lambda pair: registry.has(target.repository(pair[0]), blobs[pair[1]]), pairs)
    known = {pair for pair, there in zip(pairs, answers, strict=True) if there}
    return {
        image.key: tuple(b for b in dict.fromkeys(image.blobs) if (image.name, b.digest) not in known)
        for image in images
    }


def _sources(
    images: Sequence[PushedImage], lacked: Mapping[str, Sequence[Descriptor]], target: Target
) -> dict[str, str]:
    """Digest -> a repository of these images that has it: the first that was asked, tagged ones before others."""
    sources: dict[str, str] = {}
    for image in sorted(images, key=lambda image: image.key in lacked):
        for blob in image.blobs:
            if blob not in lacked.get(image.key, ()):
                sources.setdefault(blob.digest, target.repository(image.name))
    return sources


def _elsewhere(
    blobs: Collection[Descriptor],
    others: Mapping[str, Sequence[Descriptor]],
    registry: Registry,
    target: Target,
    pool: Executor,
) -> dict[str, str]:
    """Digest -> a repository of an earlier push that has it, for the blobs that none of these images' has."""
    wanted = {blob.digest for blob in blobs}
    sources: dict[str, str] = {}
    for name, known in others.items():
        repository = target.repository(name)
        shared = [blob for blob in known if blob.digest in wanted and blob.digest not in sources]
        answers = pool.map(lambda blob, repository=repository: registry.sees(repository, blob), shared)
        sources |= {blob.digest: repository for blob, seen in zip(shared, answers, strict=True) if seen}
    return sources


def _steps(
    images: Sequence[PushedImage],
    tagged: Mapping[str, Collection[str]],
    lacked: Mapping[str, Sequence[Descriptor]],
    sources: Mapping[str, str],
    target: Target,
) -> Iterator[PushStep]:
    """What each image needs: a blob is sent once, and mounted from there by the images after it."""
    known = dict(sources)
    filled: set[tuple[str, str]] = set()
    for image in images:
        repository = target.repository(image.name)
        missing = [blob for blob in lacked.get(image.key, ()) if (image.name, blob.digest) not in filled]
        filled |= {(image.name, blob.digest) for blob in missing}
        mount = {blob.digest: known[blob.digest] for blob in missing if blob.digest in known}
        send = tuple(blob for blob in missing if blob.digest not in mount)
        known |= {blob.digest: repository for blob in send}
        tags = tuple(tag for tag in image.tags if tag not in tagged[image.key])
        yield PushStep(image=image, repository=repository, tags=tags, mount=mount, send=send)


def carry_out(
    steps: Sequence[PushStep], registry: Registry, *, open_: Open, stop: StopSignal, on_progress: OnProgress
) -> Iterator[tuple[PushStep, int]]:
    """Send and mount, image by image; yields each with the bytes that had to be sent, when its tags are in place.

    Raises:
        SourceError: refused or gone. What has arrived stays there.
        IntegrityError: a blob here is damaged; nothing of it stays there.
        Interrupted: Ctrl-C.
    """
    total = _Total(size=sum(s.send_bytes for s in steps), on_progress=on_progress)
    for step in steps:
        if step.there:
            yield step, 0
            continue
        sent = [0]

        def bring(blob: Descriptor, step: PushStep = step, sent: list[int] = sent) -> None:
            what = f"{step.image.name} {blob.digest.removeprefix('sha256:')[:12]}"
            key, source = f"{step.repository}@{blob.digest}", step.mount.get(blob.digest, "")

            def tell(count: int) -> None:
                if not source and count < blob.size:  # the end is told below
                    total.tell(key, what, blob, count)

            outcome = registry.send(step.repository, blob, open_, tell, source=source)
            if outcome == "sent":
                with total.lock:
                    sent[0] += blob.size
                if not source:
                    total.tell(key, what, blob, blob.size, finished=True)

        needed = [b for b in dict.fromkeys(step.image.blobs) if b.digest in step.mount or b in step.send]
        with together(stop, on_progress) as submit:
            for blob in needed:
                submit(bring, blob)
        image = step.image
        for _, part, data in image.parts:  # a registry refuses an index before its manifests
            registry.put_manifest(step.repository, part.digest, part, data)
        for tag in step.tags:
            registry.put_manifest(step.repository, tag, image.manifest, image.data)
        yield step, sent[0]
    if total.size:
        on_progress(Progress(what="push", done=total.size, total=total.size, unit="bytes", finished=True))


@contextmanager
def together(
    stop: StopSignal, on_progress: OnProgress, what: str = "push"
) -> Iterator[Callable[[Callable[[Descriptor], None], Descriptor], None]]:
    """Run what the block submits, and end all of it when one fails or Ctrl-C comes.

    Ctrl-C once waits for the chunks under way, so that the registry keeps the uploads; twice doesn't.
    """
    futures: list[Future[None]] = []
    with ThreadPoolExecutor(WORKERS) as pool:

        def submit(work: Callable[[Descriptor], None], blob: Descriptor) -> None:
            futures.append(pool.submit(work, blob))

        try:
            yield submit
            wait(futures, return_when=FIRST_EXCEPTION)
        except KeyboardInterrupt:
            stop.soon.set()
            on_progress(Progress(what=what, note="ending with the chunks under way (Ctrl-C again: at once)"))
            try:
                pool.shutdown(cancel_futures=True)
            except KeyboardInterrupt:
                stop.now.set()
            raise Interrupted(f"the {what} was stopped", hint="the same command resumes from there") from None
        errors = [e for f in futures if f.done() and not f.cancelled() and (e := f.exception())]
        if errors:
            stop.soon.set()
            pool.shutdown(cancel_futures=True)
    for error in sorted(errors, key=lambda e: isinstance(e, Stopped) or not isinstance(e, BakeError)):
        raise error
