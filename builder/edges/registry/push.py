"""A set of images into a registry: what it lacks, each blob once for all of them, every manifest after its blobs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
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
    """An image to push; its blobs without the manifest, in the order they are sent."""

    name: str
    tag: str
    manifest: Descriptor
    data: bytes
    """The manifest's bytes."""
    blobs: tuple[Descriptor, ...]


@dataclass(frozen=True, kw_only=True)
class Step:
    """What becomes of an image: ``there`` (the tag has it already), or what its repository lacks."""

    image: PushedImage
    repository: str
    there: bool
    mount: Mapping[str, str]
    """Digest -> the repository it is mounted from."""
    send: tuple[Descriptor, ...]

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
) -> tuple[Step, ...]:
    """Ask the registry what it has.

    Args:
        others: image name -> blobs of images that may be in the registry from an earlier push: places to mount from.

    Raises:
        SourceError: it refuses, or is gone.
    """
    has: dict[str, list[str]] = {}
    there = []
    with ThreadPoolExecutor(QUESTIONS) as pool:
        found = pool.map(lambda i: registry.manifest(target.repository(i.name), i.tag), images)
        for image, digest in zip(images, found, strict=True):
            there.append(digest == image.manifest.digest)
            if there[-1]:
                for blob in image.blobs:
                    has.setdefault(blob.digest, []).append(target.repository(image.name))
        asked = [(i, b) for i, known in zip(images, there, strict=True) if not known for b in i.blobs]
        on_progress(Progress(what="asking what the registry has", total=len(asked)))
        lacks = set()
        answers = pool.map(lambda pair: registry.has(target.repository(pair[0].name), pair[1]), asked)
        for (image, blob), answer in zip(asked, answers, strict=True):
            if answer:
                has.setdefault(blob.digest, []).append(target.repository(image.name))
            else:
                lacks.add((image.name, blob.digest))
        nowhere = {b.digest: b for i, b in asked if (i.name, b.digest) in lacks and b.digest not in has}
        for name, blobs in others.items():
            shared = [b for b in blobs if b.digest in nowhere and b.digest not in has]
            answers = pool.map(lambda b, n=name: registry.sees(target.repository(n), b), shared)
            for blob, answer in zip(shared, answers, strict=True):
                if answer:
                    has[blob.digest] = [target.repository(name)]
    on_progress(Progress(what="asking what the registry has", done=len(asked), total=len(asked), finished=True))
    steps = []
    for image, known in zip(images, there, strict=True):
        repository = target.repository(image.name)
        missing = [b for b in dict.fromkeys(image.blobs) if (image.name, b.digest) in lacks]
        mount = {b.digest: has[b.digest][0] for b in missing if has.get(b.digest)}
        send = tuple(b for b in missing if b.digest not in mount)
        for blob in send:
            has.setdefault(blob.digest, []).append(repository)  # by the time a later image wants it
        steps.append(Step(image=image, repository=repository, there=known, mount=mount, send=send))
    return tuple(steps)


def carry_out(
    steps: Sequence[Step], registry: Registry, *, open_: Open, stop: StopSignal, on_progress: OnProgress
) -> Iterator[tuple[Step, int]]:
    """Send and mount, image by image; yields each with the bytes that had to be sent, when its tag is in place.

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

        def bring(blob: Descriptor, step: Step = step, sent: list[int] = sent) -> None:
            what = f"{step.image.name} {blob.digest.removeprefix('sha256:')[:12]}"
            key, source = f"{step.repository}@{blob.digest}", step.mount.get(blob.digest, "")

            def tell(count: int) -> None:
                if not source and count < blob.size:  # the end is told below
                    total.tell(key, what, blob, count)

            became = registry.send(step.repository, blob, open_, tell, source=source)
            if became == "sent":
                with total.lock:
                    sent[0] += blob.size
                if not source:
                    total.tell(key, what, blob, blob.size, finished=True)

        wanted = [b for b in dict.fromkeys(step.image.blobs) if b.digest in step.mount or b in step.send]
        with _together(stop, on_progress) as submit:
            for blob in wanted:
                submit(bring, blob)
        image = step.image
        registry.put_manifest(step.repository, image.tag, image.manifest, image.data)
        yield step, sent[0]
    if total.size:
        on_progress(Progress(what="push", done=total.size, total=total.size, unit="bytes", finished=True))


@contextmanager
def _together(
    stop: StopSignal, on_progress: OnProgress
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
            on_progress(Progress(what="push", note="ending with the chunks under way (Ctrl-C again: at once)"))
            try:
                pool.shutdown(cancel_futures=True)
            except KeyboardInterrupt:
                stop.now.set()
            raise Interrupted("the push was stopped", hint="the same command goes on from there") from None
        failed = [e for f in futures if f.done() and not f.cancelled() and (e := f.exception())]
        if failed:
            stop.soon.set()
            pool.shutdown(cancel_futures=True)
    for error in sorted(failed, key=lambda e: isinstance(e, Stopped) or not isinstance(e, BakeError)):
        raise error
