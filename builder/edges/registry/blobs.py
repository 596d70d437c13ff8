"""Blobs into a registry, resumed where an upload broke off (OCI distribution specification 1.1, "Push").

Our own client on httpx, because a weight layer is a recipe, not a file: skopeo, crane and oras read blobs from files, so
that all weights would be written once more first; docker push wants them in an engine; dxf sends a blob as one request.

What registries were seen to do decides how blobs are sent: in chunks, since one request of gigabytes can't resume after a
break (and proxies refuse it); 8 MiB each, since S3 wants at least 5; 4 MiB where 8 are refused (ghcr.io, with a 416);
trusting our own count after a 202, since one registry's Range header stands still (ECR). The digest decides at the end.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from builder.core.images import oci, reference
from builder.core.images.oci import Descriptor
from builder.edges.registry.http import AGAIN, ATTEMPTS, BUSY, Gone, Http, OnBytes, Stopped
from builder.edges.system import files
from builder.edges.system.http import number
from builder.errors import BakeError, IntegrityError, SourceError

CHUNK = 8 << 20
"""Bytes of one PATCH, and all of a blob that is ever in memory."""

SMALL = 4 << 20
"""Bytes of one PATCH where ``CHUNK`` is refused, and of a blob that goes in one request."""

LARGEST = 64 << 20
"""The most that a registry may ask for as its smallest chunk."""

COMMIT = 600.0
"""Seconds for a request that ends an upload: a registry may copy all of the blob before it answers."""

KEPT = 7 * 86400
"""Seconds an upload is remembered; registries drop those that nobody resumes after about a week."""

Open = Callable[[Descriptor], Iterator[bytes]]
"""Gives a blob's bytes; raises IntegrityError after the last one when they aren't those of its digest."""


class Lost(Exception):
    """The registry doesn't know an upload any more, or has other bytes of it: it starts again."""


@dataclass(kw_only=True)
class _Upload:
    """An upload that a registry keeps open."""

    repository: str
    address: str
    journal: Path
    """Where its address is kept for the next process: readable by this user alone, since it may be all one needs."""
    offset: int = 0
    """Bytes that the registry has."""


class Registry:
    """A registry that has answered. Threads may share it."""

    def __init__(self, http: Http, journals: Path) -> None:
        """Args:
        journals: a folder for what the next process needs to resume an upload.
        """
        self._http = http
        self._journals = journals
        self._chunk = CHUNK
        for path in journals.glob("*.json"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > KEPT:
                    path.unlink()

    # Questions

    def manifest(self, repository: str, tag: str) -> str | None:
        """The digest that a tag has there, or None."""
        kinds = {"Accept": f"{oci.MANIFEST}, {oci.INDEX}"}
        answer = self._http.ask("HEAD", f"/v2/{repository}/manifests/{tag}", _push(repository), headers=kinds)
        if answer.status_code in (401, 403):
            raise self._http.refused(answer, repository)
        return answer.headers.get("Docker-Content-Digest") if answer.status_code == 200 else None

    def has(self, repository: str, blob: Descriptor) -> bool:
        """Whether a repository has a blob."""
        answer = self._http.ask("HEAD", f"/v2/{repository}/blobs/{blob.digest}", _push(repository))
        if answer.status_code in (401, 403):
            raise self._http.refused(answer, repository)
        return answer.status_code == 200

    def sees(self, repository: str, blob: Descriptor) -> bool:
        """Whether another repository has a blob, and we may read it."""
        try:
            answer = self._http.ask("HEAD", f"/v2/{repository}/blobs/{blob.digest}", f"repository:{repository}:pull")
        except Gone:
            raise
        except SourceError:
            return False
        return answer.status_code == 200

    def read_manifest(self, repository: str, tag: str) -> bytes | None:
        """The manifest that a tag has there, or None: anybody's bytes, at most ``answers.LARGEST``."""
        answer = self._http.ask(
            "GET", f"/v2/{repository}/manifests/{tag}", _push(repository), headers={"Accept": oci.MANIFEST}
        )
        if answer.status_code == 404:
            return None
        if answer.status_code != 200:
            raise self._http.refused(answer, repository)
        return bytes(answer.content)

    # What changes something

    def put_manifest(self, repository: str, tag: str, manifest: Descriptor, data: bytes) -> None:
        """Give a tag its manifest, the last step of a push.

        Raises:
            SourceError: refused.
            IntegrityError: the registry says that it has another.
        """
        kind = {"Content-Type": manifest.media_type}
        path = f"/v2/{repository}/manifests/{tag}"
        answer = self._http.ask("PUT", path, _push(repository), headers=kind, content=data, timeout=COMMIT)
        if answer.status_code not in (200, 201, 202):
            raise self._http.refused(answer, repository)
        kept = answer.headers.get("Docker-Content-Digest", manifest.digest)
        if kept != manifest.digest:
            raise IntegrityError(
                f"the registry keeps {kept[:80]}, which is not what it was given",
                where=f"{self._http.where.host}/{repository}:{tag}",
                expected=manifest.digest,
            )

    def send(self, repository: str, blob: Descriptor, open_: Open, on_bytes: OnBytes, *, source: str = "") -> str:
        """Bring a blob into a repository that lacks it.

        Args:
            source: another repository of this registry that has it, or may have it; it is mounted from there.

        Returns:
            ``mounted`` or ``sent``.

        Raises:
            SourceError: refused, gone, or lost ``ATTEMPTS`` times.
            IntegrityError: the bytes are not those of the digest; the registry keeps nothing of them.
            Stopped: ``stop`` was set.
        """
        name = re.sub(r"[^a-z0-9.-]", "_", f"{self._http.where.host}/{repository}@{blob.digest}".lower())
        journal = self._journals / f"{name}.json"
        for attempt in range(ATTEMPTS):
            upload = self._resumed(repository, blob, journal) if attempt == 0 else None
            upload = upload or self._begun(repository, blob, journal, source if attempt == 0 else "")
            if upload is None:
                return "mounted"
            try:
                self._send(upload, blob, open_, on_bytes)
                return "sent"
            except Lost:
                journal.unlink(missing_ok=True)
                self._http.wait(attempt)
            except IntegrityError:
                journal.unlink(missing_ok=True)
                with suppress(BakeError):
                    self._http.ask("DELETE", upload.address, _push(repository), attempts=1)
                raise
        raise SourceError(
            f"the registry lost an upload {ATTEMPTS} times", where=f"{self._http.where.host}/{repository}", hint=AGAIN
        )

    # One blob

    def _begun(self, repository: str, blob: Descriptor, journal: Path, source: str) -> _Upload | None:
        """A new upload; None when the blob was mounted in its place."""
        path = f"/v2/{repository}/blobs/uploads/"
        answer = None
        if source:
            scope = f"{_push(repository)} repository:{source}:pull"
            answer = self._http.ask("POST", f"{path}?mount={blob.digest}&from={source}", scope)
            if answer.status_code == 201:
                return None
        if answer is None or answer.status_code != 202:  # no right to see the other repository, say
            answer = self._http.ask("POST", path, _push(repository))
        if answer.status_code != 202 or "Location" not in answer.headers:
            raise self._http.refused(answer, repository)
        least = number(answer.headers.get("OCI-Chunk-Min-Length", ""))
        if least is not None and self._chunk < least <= LARGEST:
            self._chunk = least
        return _Upload(repository=repository, address=self._http.place(answer), journal=journal)

    def _resumed(self, repository: str, blob: Descriptor, journal: Path) -> _Upload | None:
        """The upload that an earlier process began, if the registry still knows it."""
        address = files.read_object(journal).get("address")
        if not isinstance(address, str):
            return None
        upload = _Upload(repository=repository, address=address, journal=journal)
        try:
            self._look(upload)
        except Lost:
            return None
        return upload if 0 < upload.offset <= blob.size else None

    def _look(self, upload: _Upload) -> None:
        """Ask how far an upload is.

        Raises:
            Lost: the registry doesn't know it.
        """
        answer = self._http.ask("GET", upload.address, _push(upload.repository))
        count = reference.received(answer.headers.get("Range", ""))
        if answer.status_code not in (202, 204) or count is None:
            raise Lost
        upload.offset = count
        if "Location" in answer.headers:
            upload.address = self._http.place(answer)

    def _send(self, upload: _Upload, blob: Descriptor, open_: Open, on_bytes: OnBytes) -> None:
        body, begin = b"", 0
        for chunk in _chunks(open_(blob), self._chunk):  # from the start even if resumed: the digest is of all of it
            if blob.size <= SMALL:
                body = chunk  # goes with the last request
            elif begin + len(chunk) > upload.offset:
                self._patch(upload, chunk, begin, on_bytes)
            begin += len(chunk)
        address = f"{upload.address}{'&' if '?' in upload.address else '?'}digest={blob.digest}"
        kind = {"Content-Type": "application/octet-stream"}
        answer = self._http.ask("PUT", address, _push(upload.repository), headers=kind, content=body, timeout=COMMIT)
        if answer.status_code not in (201, 204) and not self.has(upload.repository, blob):
            # (It has it when the answer to an earlier try of this request was lost.)
            if answer.status_code in (400, 404, 416):
                raise Lost
            raise self._http.refused(answer, upload.repository)
        upload.journal.unlink(missing_ok=True)
        on_bytes(blob.size)

    def _patch(self, upload: _Upload, chunk: bytes, begin: int, on_bytes: OnBytes) -> None:
        """Send what the registry lacks of a chunk that begins at byte ``begin`` of its blob."""
        end = begin + len(chunk)
        for attempt in range(ATTEMPTS):
            if self._http.stop.soon.is_set():
                raise Stopped
            at = upload.offset
            headers = {"Content-Type": "application/octet-stream", "Content-Range": f"{at}-{end - 1}"}
            part = memoryview(chunk)[at - begin :]
            try:
                answer = self._http.ask(
                    "PATCH",
                    upload.address,
                    _push(upload.repository),
                    headers=headers,
                    content=part,
                    attempts=1,
                    on_bytes=lambda done, at=at: on_bytes(at + done),  # type: ignore[misc]
                )
            except Gone:
                if attempt == ATTEMPTS - 1:
                    raise
                self._http.wait(attempt)
            else:
                if answer.status_code in (201, 202, 204):
                    upload.offset, upload.address = end, self._http.place(answer)
                    _remember(upload)
                    return
                if answer.status_code in (413, 416) and begin == 0 and len(chunk) > SMALL:
                    self._chunk = SMALL
                    raise Lost
                if answer.status_code in (400, 404, 416):
                    raise Lost
                if answer.status_code not in BUSY or attempt == ATTEMPTS - 1:
                    raise self._http.refused(answer, upload.repository)
                self._http.wait(attempt, answer)
            self._look(upload)
            if not begin <= upload.offset <= end:
                raise Lost
            if upload.offset == end:
                return


def _remember(upload: _Upload) -> None:
    """Note the address for the next process. Not flushed to disk: that took a tenth of an upload's time, and all that a
    power cut costs is to begin the blob again."""
    upload.journal.parent.mkdir(parents=True, exist_ok=True)
    beside = upload.journal.with_suffix(".new")
    beside.touch(mode=0o600)
    beside.write_text(json.dumps({"address": upload.address}), encoding="utf-8")
    beside.replace(upload.journal)


def _push(repository: str) -> str:
    return f"repository:{repository}:pull,push"


def _chunks(stream: Iterator[bytes], size: int) -> Iterator[bytes]:
    """The same bytes, ``size`` at a time; the last is shorter."""
    buffer = bytearray()
    for part in stream:
        buffer += part
        while len(buffer) >= size:
            yield bytes(buffer[:size])
            del buffer[:size]
    if buffer:
        yield bytes(buffer)
