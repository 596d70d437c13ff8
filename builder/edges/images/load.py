"""Partial ``docker load``: an engine gets an image's manifest and config, and of its layers only those that it lacks.

Which layers an engine lacks is a rule of receiver/missing.py. An engine unpacks every layer and checks it against its
digest before the image exists; it gets its tag only after that, so a tag is old or whole.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from builder.core.images import oci
from builder.core.images.oci import Descriptor
from builder.edges.engine.connection import Engine, steady
from builder.edges.images.layout import Layout, Stored
from builder.edges.system import http
from builder.errors import BakeError, BuildError, IntegrityError, MissingError
from builder.receiver.missing import (
    CONTAINERD,
    DISK_FULL,
    LACKS_LAYER,
    WRONG_BYTES,
    EngineContents,
    chain_ids,
    image_id,
    meaning,
    missing_layers,
)
from builder.receiver.tar import END, header, padding


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """How a load went."""

    id: str
    sent: int
    """Bytes of blobs that went to the engine."""
    lacked: bool
    """The engine turned out to lack a layer that it was believed to have, and got it after all."""


def inspect(engine: Engine, layout: Layout) -> EngineContents:
    """What an engine has of images; in a containerd store, the blobs of those that came from this layout."""
    return steady(lambda: _contents(engine, layout))


def _contents(engine: Engine, layout: Layout) -> EngineContents:
    blobs: set[str] = set()
    chains: set[str] = set()
    ids: set[str] = set()
    manifests = {value.get(name) for value in layout.images().values() for name in ("manifest", "pulled")}
    for image in engine.client.api.images(all=True):
        id_ = image["Id"]
        ids.add(id_)
        if engine.store != CONTAINERD:
            chains |= set(chain_ids((engine.client.api.inspect_image(id_)["RootFS"] or {}).get("Layers") or ()))
        elif id_ in manifests or layout.path(id_).is_file():
            with suppress(BakeError):  # not an image of this layout any more
                blobs |= {blob.digest for blob in layout.stored("", id_).blobs}
    return EngineContents(engine.store, frozenset(ids), frozenset(blobs), frozenset(chains))


def tagged(engine: Engine, layout: Layout) -> frozenset[str]:
    """References of the layout that name the same image in the engine."""
    from docker.errors import ImageNotFound

    refs = set()
    for ref in layout.images():
        with suppress(BakeError, ImageNotFound):
            if engine.client.api.inspect_image(ref)["Id"] == identity(engine, layout.described(ref)):
                refs.add(ref)
    return frozenset(refs)


def identity(engine: Engine, image: Stored) -> str:
    """The id that an engine gives the image."""
    return image_id(engine.store, image.manifest.digest, image.config.digest)


def lacking(contents: EngineContents, image: Stored, built: Collection[str]) -> tuple[Descriptor, ...]:
    """The layers to send, lowest first.

    Args:
        built: digests of blobs that this engine's own BuildKit has just exported: a containerd store has them too.
    """
    layers = [(layer.blob.digest, layer.diff_id) for layer in image.layers]
    return tuple(image.layers[k].blob for k in missing_layers(layers, contents.plus(blobs=built)))


UNPACKED = 3
"""Bytes that a byte of a compressed layer becomes, at most as a rule."""


def room(engine: Engine, contents: EngineContents, image: Stored, built: Collection[str]) -> int:
    """Bytes that an engine needs for an image: what is sent is written once as it comes and once unpacked.

    Layers above the lowest that it lacks are unpacked again.
    """
    if identity(engine, image) in contents.ids:
        return 0
    missing = lacking(contents, image, built)
    first = next((k for k, layer in enumerate(image.layers) if layer.blob in missing), len(image.layers))
    above = sum(b.size * (1 if b.media_type == oci.TAR else UNPACKED) for b in (x.blob for x in image.layers[first:]))
    return sum(b.size for b in missing) + above


def load(
    engine: Engine,
    layout: Layout,
    image: Stored,
    *,
    contents: EngineContents,
    built: Collection[str],
    on_bytes: Callable[[int, int], None],
) -> Loaded:
    """Bring an image into an engine, and tag it as the last step.

    Args:
        contents: what the engine has.
        on_bytes: gets the bytes sent so far, and the bytes to send.

    Raises:
        IntegrityError: a blob's bytes are not those of its digest; nothing was tagged.
        MissingError: the engine's disk is full, or the engine went away.
        BuildError: it refuses the image.
    """
    id_ = identity(engine, image)
    lacked, sent = False, 0
    if id_ not in contents.ids:
        missing = lacking(contents, image, built)
        try:
            sent = _send(engine, layout, image, missing, on_bytes)
        except _LacksLayer:
            lacked = True
            sent = _send(engine, layout, image, [layer.blob for layer in image.layers], on_bytes)
    repository, _, tag = image.ref.rpartition(":")
    engine.client.api.tag(id_, repository, tag, force=True)
    return Loaded(id=id_, sent=sent, lacked=lacked)


class _LacksLayer(Exception):
    """The engine lacks a layer that wasn't sent."""


def _send(
    engine: Engine,
    layout: Layout,
    image: Stored,
    missing: Iterable[Descriptor],
    on_bytes: Callable[[int, int], None],
) -> int:
    """``docker load`` of an image without the layers that are not ``missing``; bytes of blobs sent."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException
    from urllib3.exceptions import HTTPError

    blobs = tuple(dict.fromkeys(missing))
    id_ = identity(engine, image)
    try:
        answer = _answer(engine.client.api, _tar(layout, image, blobs, on_bytes))
        if answer != id_:
            raise _refusal(engine, image, answer)
    except DockerException as error:  # an APIError is a RequestException too
        _forget(engine, id_)
        raise _refusal(engine, image, str(getattr(error, "explanation", None) or error)) from None
    except (RequestException, HTTPError) as error:
        raise MissingError(
            f"the engine went away while {image.ref} was loaded ({http.short(error)})",
            where=engine.host,
            hint="docker info; then run the same command again",
        ) from None
    except BaseException:
        _forget(engine, id_)
        raise
    return sum(blob.size for blob in blobs)


def _tar(
    layout: Layout, image: Stored, blobs: Sequence[Descriptor], on_bytes: Callable[[int, int], None]
) -> Iterator[bytes]:
    """An OCI image layout as a tar, with these blobs alone: what ``docker load`` reads."""
    total, done = sum(blob.size for blob in blobs), 0
    yield _file("oci-layout", oci.LAYOUT.encode())
    for blob in blobs:
        yield header(oci.blob_path(blob.digest), blob.size)
        for chunk in layout.open(blob):
            yield chunk
            done += len(chunk)
            on_bytes(done, total)
        yield bytes(padding(blob.size))
    yield _file(oci.blob_path(image.config.digest), image.written.config)
    yield _file(oci.blob_path(image.manifest.digest), image.written.manifest)
    yield _file("manifest.json", oci.docker_manifest(image.written))
    yield _file("index.json", oci.index([(image.manifest, None)]))
    yield bytes(END)


def _file(path: str, data: bytes) -> bytes:
    return header(path, len(data)) + data + bytes(padding(len(data)))


def _forget(engine: Engine, id_: str) -> None:
    """Drop what a failed load left: a containerd store names an image before it unpacks it, lists it nowhere, and keeps
    its blobs."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    with suppress(DockerException, RequestException):
        if not engine.client.api.inspect_image(id_)["RepoTags"]:
            engine.client.api.remove_image(id_)


def _answer(api: Any, data: Iterator[bytes]) -> str:
    """Load a tar: the id of what was loaded, or the engine's error.

    Raises:
        docker.errors.DockerException: the engine refuses at once.
    """
    answer = ""
    for event in api.load_image(data, quiet=True):
        if event.get("error"):
            return str(event["error"]).strip()
        answer = str(event.get("stream") or event.get("message") or answer).strip()
    return answer.removeprefix("Loaded image ID: ")


def _refusal(engine: Engine, image: Stored, answer: str) -> Exception:
    """What an engine's answer means."""
    meant = meaning(answer)
    if meant == LACKS_LAYER:
        return _LacksLayer(answer)
    if meant == DISK_FULL:
        return MissingError(
            "the engine's disk is full", where=engine.root, hint="docker image prune, or free some space"
        )
    if meant == WRONG_BYTES:
        return IntegrityError(f"the engine got other bytes than {image.ref}'s", where=image.ref, detail=[answer])
    return BuildError(f"the engine refused {image.ref}", where=engine.host, detail=[answer], hint="docker info")
