"""What is attached to an image in a registry: its papers, signatures (OCI distribution specification 1.1, "Referrers").

An attachment is a manifest with a ``subject``. A registry with the referrers API lists it by itself, and says so by the header
OCI-Subject. In others a tag lists it, ``sha256-<hex>`` of the subject: an index that everybody who attaches something adds to.
No registry keeps two writers of one tag apart, so the index is read again after it was written, and added to again where
somebody else was in between.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from builder.core.images import oci
from builder.core.images.oci import Descriptor
from builder.core.progress import OnProgress, Progress
from builder.edges.registry.blobs import COMMIT, Registry
from builder.edges.registry.http import AGAIN, Http
from builder.errors import Interrupted, SourceError

EMPTY = b"{}"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
"""The config of a manifest that has none (image-spec, "Guidance for an Empty Descriptor")."""

TITLE = "org.opencontainers.image.title"
"""Annotation of a layer: the name that a client writes its file by."""

DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")

WORKERS = 4
"""Images at once."""

TRIES = 5
"""How often an index is written before others are too many."""

MOST = 1000
"""Entries of an index: 300 kB of a manifest's 4 MB, which no registry refuses."""


@dataclass(frozen=True, kw_only=True)
class Attachment:
    """A file that is attached to an image."""

    subject: Descriptor
    """The image's manifest."""
    artifact_type: str
    media_type: str
    """Of the file."""
    data: bytes
    name: str = ""
    """The file's name; empty: none is given."""
    annotations: Mapping[str, str] = field(default_factory=dict)
    """Of the manifest; a list of referrers shows them."""
    layer_annotations: Mapping[str, str] = field(default_factory=dict)
    """Of the file's descriptor."""

    @property
    def blob(self) -> Descriptor:
        return oci.describe(self.media_type, self.data)

    @property
    def manifest(self) -> bytes:
        """The same attachment has the same bytes."""
        notes = {**({TITLE: self.name} if self.name else {}), **self.layer_annotations}
        layer = {**self.blob.json, **({"annotations": notes} if notes else {})}
        value = {
            "schemaVersion": 2,
            "mediaType": oci.MANIFEST,
            "artifactType": self.artifact_type,
            "config": oci.describe(EMPTY_TYPE, EMPTY).json,
            "layers": [layer],
            "subject": self.subject.json,
        }
        return oci.dump({**value, "annotations": dict(self.annotations)} if self.annotations else value)

    @property
    def descriptor(self) -> Descriptor:
        return oci.describe(oci.MANIFEST, self.manifest)

    @property
    def entry(self) -> dict[str, Any]:
        """Its row in a list of referrers."""
        row = {**self.descriptor.json, "artifactType": self.artifact_type}
        return {**row, "annotations": dict(self.annotations)} if self.annotations else row


@dataclass(frozen=True, kw_only=True)
class Referrer:
    """A row of a registry's list: whatever somebody attached."""

    descriptor: Descriptor
    artifact_type: str
    annotations: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a registry says is attached to a manifest."""

    api: bool
    """Whether it has the referrers API; otherwise it is the tag's."""
    referrers: tuple[Referrer, ...]
    whole: bool = True
    """False where it has more pages, which nobody asked for."""

    @property
    def digests(self) -> set[str]:
        return {referrer.descriptor.digest for referrer in self.referrers}


def fallback_tag(digest: str) -> str:
    """The tag that lists what is attached to a digest, where there is no API for it."""
    algorithm, _, name = digest.partition(":")
    return f"{algorithm[:32]}-{name[:64]}"


def listed(http: Http, repository: str, digest: str) -> Listing:
    """What is attached to a manifest.

    Raises:
        SourceError: the registry refuses, is gone, or its list can't be read.
    """
    scope = f"repository:{repository}:pull,push"
    answer = http.ask("GET", f"/v2/{repository}/referrers/{digest}", scope, headers={"Accept": oci.INDEX})
    if answer.status_code in (401, 403):
        raise http.refused(answer, repository)
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip()
    if answer.status_code == 200 and kind == oci.INDEX:
        rows = _rows(_index(http, repository, answer.content))
        return Listing(api=True, referrers=tuple(rows), whole="Link" not in answer.headers)
    found = _tagged(http, repository, digest)
    return Listing(api=False, referrers=tuple(_rows(found or {})))


def missing(
    http: Http, registry: Registry, repository: str, attachments: Sequence[Attachment]
) -> tuple[Attachment, ...]:
    """Those of one image's attachments that aren't there; a question or two where all of them are."""
    if not attachments:
        return ()
    there = listed(http, repository, attachments[0].subject.digest)
    rest = tuple(a for a in attachments if a.descriptor.digest not in there.digests)
    if there.whole:
        return rest
    return tuple(a for a in rest if registry.manifest(repository, a.descriptor.digest) is None)


def bring(
    http: Http,
    registry: Registry,
    wanted: Mapping[str, Sequence[Attachment]],
    *,
    dry_run: bool,
    on_progress: OnProgress,
) -> dict[str, tuple[Attachment, ...]]:
    """Attach what a registry lacks to several images.

    Args:
        wanted: repository -> the attachments of the one image that it is asked for.
        dry_run: only ask.

    Returns:
        Repository -> what it lacked.

    Raises:
        SourceError, IntegrityError: as :func:`attach`.
        Interrupted: Ctrl-C; what is attached stays.
    """
    done, turn = 0, threading.Lock()

    def one(repository: str) -> tuple[Attachment, ...]:
        nonlocal done
        lacking = missing(http, registry, repository, wanted[repository])
        if lacking and not dry_run:
            attach(http, registry, repository, lacking)
        with turn:
            done += 1
            on_progress(Progress(what="papers", done=done, total=len(wanted), finished=done == len(wanted)))
        return lacking

    with ThreadPoolExecutor(WORKERS) as pool:
        try:
            return dict(zip(wanted, pool.map(one, wanted), strict=True))
        except KeyboardInterrupt:
            http.stop.soon.set()
            pool.shutdown(cancel_futures=True)
            raise Interrupted("the push was stopped", hint="the same command attaches the rest") from None


def attach(http: Http, registry: Registry, repository: str, attachments: Sequence[Attachment]) -> int:
    """Attach files to one image, which is there already.

    Returns:
        Bytes of the blobs that had to be sent.

    Raises:
        SourceError: refused or gone.
        IntegrityError: the registry keeps something else than it was given.
    """
    sent, untold = 0, []
    blobs = {oci.describe(EMPTY_TYPE, EMPTY): EMPTY} if attachments else {}
    for blob, data in {**blobs, **{one.blob: one.data for one in attachments}}.items():
        if not registry.has(repository, blob):
            registry.send(repository, blob, _opened(data), lambda _: None)
            sent += blob.size
    for one in attachments:
        if not _put(http, repository, one.descriptor.digest, oci.MANIFEST, one.manifest):
            untold.append(one)
    if untold:
        _list(http, repository, untold)
    return sent


def _opened(data: bytes) -> Any:
    def open_(_: Descriptor) -> Iterator[bytes]:
        yield data

    return open_


def _put(http: Http, repository: str, reference: str, kind: str, data: bytes) -> bool:
    """Store a manifest; whether the registry lists it among the referrers of its subject."""
    answer = http.ask(
        "PUT",
        f"/v2/{repository}/manifests/{reference}",
        f"repository:{repository}:pull,push",
        headers={"Content-Type": kind},
        content=data,
        timeout=COMMIT,
    )
    if answer.status_code not in (200, 201, 202):
        raise http.refused(answer, repository)
    return "OCI-Subject" in answer.headers


def _list(http: Http, repository: str, attachments: Sequence[Attachment]) -> None:
    """Add attachments to the index of the fallback tag; what others wrote there stays as it is."""
    subject = attachments[0].subject.digest
    entries = {a.descriptor.digest: a.entry for a in attachments}
    for _ in range(TRIES):
        index = _tagged(http, repository, subject) or {"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": []}
        known = {str(row.get("digest")) for row in index["manifests"] if isinstance(row, dict)}
        lacking = [entry for digest, entry in entries.items() if digest not in known]
        if not lacking:
            return
        if len(index["manifests"]) + len(lacking) > MOST:
            raise SourceError(
                f"more than {MOST} files are attached to one image",
                where=f"{http.where.host}/{repository}:{fallback_tag(subject)}",
                hint="remove some of them",
            )
        rows = [*index["manifests"], *lacking]
        _put(http, repository, fallback_tag(subject), oci.INDEX, oci.dump({**index, "manifests": rows}))
    raise SourceError(
        "others attach files to the same image at the same time",
        where=f"{http.where.host}/{repository}:{fallback_tag(subject)}",
        hint=AGAIN,
    )


def _tagged(http: Http, repository: str, digest: str) -> dict[str, Any] | None:
    """The index of the fallback tag; None where there is none.

    Raises:
        SourceError: the tag is something else, which isn't ours to replace.
    """
    tag = fallback_tag(digest)
    kinds = {"Accept": f"{oci.INDEX}, {oci.MANIFEST}"}
    scope = f"repository:{repository}:pull,push"
    answer = http.ask("GET", f"/v2/{repository}/manifests/{tag}", scope, headers=kinds)
    if answer.status_code == 404:
        return None
    if answer.status_code != 200:
        raise http.refused(answer, repository)
    return _index(http, f"{repository}:{tag}", answer.content)


def _index(http: Http, where: str, raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw)
        right = isinstance(value["manifests"], list) and value.get("mediaType", oci.INDEX) == oci.INDEX
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        right = False
    if not right:
        raise SourceError("the registry's list of what is attached can't be read", where=f"{http.where.host}/{where}")
    return dict(value)


def _rows(index: Mapping[str, Any]) -> Iterator[Referrer]:
    """The rows of an index that can be read; a stranger may have written any."""
    for row in index.get("manifests", ()):
        try:
            kind, digest, size = str(row["mediaType"]), str(row["digest"]), int(row["size"])
            notes = {str(k): str(v) for k, v in (row.get("annotations") or {}).items()}
            artifact = str(row.get("artifactType") or "")
        except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError):
            continue
        if not DIGEST.fullmatch(digest):
            continue
        yield Referrer(
            descriptor=Descriptor(media_type=kind, digest=digest, size=size), artifact_type=artifact, annotations=notes
        )
