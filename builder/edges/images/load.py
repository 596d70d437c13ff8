"""Partial ``docker load``: an engine gets an image's manifest and config, and of its layers only those that it lacks.

A containerd store keeps blobs by digest: what it has may stand anywhere in the image. A graph driver (overlay2) keeps
layers by the chain below them: what is left out must be the lowest ones of a chain that it has. Either unpacks and checks
every layer against its digest before there is an image; it gets its tag only after that, so a tag is old or whole.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from builder.core.images import oci
from builder.core.images.oci import Descriptor
from builder.edges.engine.connection import Engine
from builder.edges.images.layout import Layout, Stored
from builder.edges.system import files
from builder.errors import BakeError, BuildError, IntegrityError, MissingError

ABSENT = re.compile(r"content digest sha256:[0-9a-f]{64}: not found|blobs/sha256/[0-9a-f]{64}: no such file")
"""How a containerd store, and a graph driver, say that they don't have a layer that wasn't sent."""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What a load took."""

    id: str
    sent: int
    """Bytes of blobs that went to the engine."""
    lacked: bool
    """The engine turned out to lack a layer that it was believed to have, and got it after all."""


@dataclass(frozen=True, kw_only=True)
class Has:
    """What an engine has of layers."""

    blobs: frozenset[str]
    """Digests of blobs of the images that came from this layout (containerd store)."""
    chains: frozenset[tuple[str, ...]]
    """Chains of diff ids, from the lowest layer up (graph driver)."""
    ids: frozenset[str]


def look(engine: Engine, layout: Layout) -> Has:
    """Ask an engine about its images."""
    blobs: set[str] = set()
    chains: set[tuple[str, ...]] = set()
    ids = set()
    manifests = {value.get("manifest") for value in layout.images().values()}
    for found in engine.client.api.images(all=True):
        ids.add(found["Id"])
        if engine.store == "containerd" and found["Id"] not in manifests and not layout.path(found["Id"]).is_file():
            continue
        if engine.store == "containerd":
            try:
                blobs |= {blob.digest for blob in layout.stored("", found["Id"]).blobs}
            except BakeError:  # not an image of this layout any more
                continue
        else:
            diffs = (engine.client.api.inspect_image(found["Id"])["RootFS"] or {}).get("Layers") or ()
            chains |= {tuple(diffs[: k + 1]) for k in range(len(diffs))}
    return Has(blobs=frozenset(blobs), chains=frozenset(chains), ids=frozenset(ids))


def tagged(engine: Engine, layout: Layout) -> frozenset[str]:
    """References of the layout that the engine has, as they were assembled."""
    from docker.errors import ImageNotFound

    found = set()
    for ref in layout.images():
        with suppress(BakeError, ImageNotFound):
            if engine.client.api.inspect_image(ref)["Id"] == identity(engine, layout.image(ref)):
                found.add(ref)
    return frozenset(found)


def identity(engine: Engine, image: Stored) -> str:
    """What an engine calls the image: its manifest's digest in a containerd store, else its config's."""
    return (image.manifest if engine.store == "containerd" else image.config).digest


def lacking(engine: Engine, has: Has, image: Stored, built: Collection[str]) -> tuple[Descriptor, ...]:
    """The layers to send, lowest first.

    Args:
        built: digests of blobs that this engine's own BuildKit has just exported: a containerd store has them too.
    """
    if engine.store == "containerd":
        return tuple(layer.blob for layer in image.layers if layer.blob.digest not in has.blobs | set(built))
    diffs = [layer.diff_id for layer in image.layers]
    there = next((k for k in range(len(diffs), 0, -1) if tuple(diffs[:k]) in has.chains), 0)
    return tuple(layer.blob for layer in image.layers[there:])


UNPACKED = 3
"""Bytes that one of a compressed layer becomes, at most as a rule."""


def room(engine: Engine, has: Has, image: Stored, built: Collection[str]) -> int:
    """Bytes that an engine needs for an image: what is sent is written once as it comes and once unpacked.

    Layers above the lowest that it lacks are unpacked again.
    """
    if identity(engine, image) in has.ids:
        return 0
    missing = lacking(engine, has, image, built)
    first = next((k for k, layer in enumerate(image.layers) if layer.blob in missing), len(image.layers))
    above = sum(b.size * (1 if b.media_type == oci.TAR else UNPACKED) for b in (x.blob for x in image.layers[first:]))
    return sum(b.size for b in missing) + above


def load(
    engine: Engine, layout: Layout, image: Stored, *, has: Has, built: Collection[str], tell: Callable[[int, int], None]
) -> Loaded:
    """Bring an image into an engine, and tag it as the last step.

    Args:
        tell: hears the bytes sent, of how many.

    Raises:
        IntegrityError: a blob's bytes are not those of its digest; nothing was tagged.
        MissingError: the engine's disk is full, or the engine went away.
        BuildError: it refuses the image.
    """
    wanted = identity(engine, image)
    lacked, sent = False, 0
    if wanted not in has.ids:
        missing = lacking(engine, has, image, built)
        try:
            sent = _send(engine, layout, image, missing, wanted, tell)
        except _Lacks:
            lacked = True
            missing = tuple(layer.blob for layer in image.layers)
            sent = _send(engine, layout, image, missing, wanted, tell)
    repository, _, tag = image.ref.rpartition(":")
    engine.client.api.tag(wanted, repository, tag, force=True)
    return Loaded(id=wanted, sent=sent, lacked=lacked)


class _Lacks(Exception):
    """The engine lacks a layer that wasn't sent."""


def _send(
    engine: Engine,
    layout: Layout,
    image: Stored,
    missing: Iterable[Descriptor],
    wanted: str,
    tell: Callable[[int, int], None],
) -> int:
    import requests

    blobs = tuple(dict.fromkeys(missing))
    total, done = sum(b.size for b in blobs), 0

    def stream() -> Iterator[bytes]:
        nonlocal done
        yield _entry("oci-layout", len(oci.LAYOUT)) + oci.LAYOUT.encode() + _padding(len(oci.LAYOUT))
        for blob in blobs:
            yield _entry(oci.blob_path(blob.digest), blob.size)
            for chunk in layout.open(blob):
                yield chunk
                done += len(chunk)
                tell(done, total)
            yield _padding(blob.size)
        small = {
            oci.blob_path(image.config.digest): image.written.config,
            oci.blob_path(image.manifest.digest): image.written.manifest,
            "manifest.json": oci.docker_manifest(image.written),
            "index.json": oci.index([(image.manifest, None)]),
        }
        for name, data in small.items():
            yield _entry(name, len(data)) + data + _padding(len(data))
        yield bytes(1024)

    try:
        answer = _answer(engine.client.api, stream())
        if answer != wanted:
            raise _refused(engine, image, answer)
    except requests.exceptions.RequestException as error:
        raise MissingError(
            f"the engine went away while {image.ref} was loaded ({_reason(error)})",
            where=engine.host,
            hint="docker info; then the same command again",
        ) from None
    except BaseException:
        _forget(engine, wanted)
        raise
    return total


def _forget(engine: Engine, id_: str) -> None:
    """Drop what a failed load left: a containerd store names an image before it unpacks it, lists it nowhere, and keeps
    its blobs."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    with suppress(DockerException, RequestException):
        if not engine.client.api.inspect_image(id_)["RepoTags"]:
            engine.client.api.remove_image(id_)


def _answer(api: Any, data: Iterator[bytes]) -> str:
    """POST /images/load: the id of what was loaded, or the engine's complaint."""
    answer = api._post(api._url("/images/load"), data=data, params={"quiet": True}, stream=True)
    said = ""
    for line in answer.iter_lines():
        try:
            event: Mapping[str, Any] = json.loads(line)
        except ValueError:
            continue
        said = str(event.get("error") or event.get("stream") or event.get("message") or said).strip()
        if event.get("error"):
            break
    return said.removeprefix("Loaded image ID: ")


def _refused(engine: Engine, image: Stored, why: str) -> Exception:
    if ABSENT.search(why):
        return _Lacks(why)
    if files.disk_full(why):
        return MissingError(
            "the engine's disk is full", where=engine.root, hint="docker image prune, or free some space"
        )
    if "diffID" in why or "unexpected commit digest" in why or ("digest" in why and "mismatch" in why):
        return IntegrityError(f"the engine got other bytes than {image.ref}'s", where=image.ref, detail=[why])
    return BuildError(f"the engine refused {image.ref}", where=engine.host, detail=[why], hint="docker info")


def _reason(error: BaseException) -> str:
    text = str(error)
    return text.splitlines()[0][:120] if text else type(error).__name__


def _entry(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % 512)
