"""Manifests and blobs out of a registry, which may lie: read as far as they may be long, and taken by their digests alone.

A blob of any size comes into a file and resumes there after a break, a kill or a power cut (OCI distribution specification
1.1, "Pull": ranges are RFC 9110's). Where a registry sends blobs from another host, that host hears no login.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from builder.core.images import oci
from builder.core.images.oci import Descriptor
from builder.edges.registry.http import ATTEMPTS, BUSY, Gone, Http, Stopped
from builder.edges.system import files
from builder.edges.system.http import short
from builder.errors import IntegrityError, SourceError

if TYPE_CHECKING:
    import httpx

LEAST = 1 << 20
"""Bytes that must come between two breaks for the second to count as the first."""

AGAIN = "the same command resumes with what has arrived"

OnBytes = Callable[[int], None]
"""Hears how many bytes of a blob are here."""


class RegistryReader:
    """A registry that has answered, to read from. Threads may share it."""

    def __init__(self, http: Http) -> None:
        self._http = http

    @property
    def host(self) -> str:
        """``host[:port]``, as a person named it."""
        return self._http.where.host

    def manifest(self, repository: str, tag: str, architecture: str) -> tuple[Descriptor, bytes] | None:
        """The image manifest that a tag has there, or None; who takes the rest by its digests sees no tag that moves.

        Args:
            architecture: whose manifest it is where the tag is an index of several platforms: ``amd64``.

        Raises:
            SourceError: refused, or not an image's manifest.
            IntegrityError: it isn't what the registry says that it is, or there is none for that architecture.
        """
        where = f"{self._where(repository)}:{tag}"
        answer = self._asked(repository, tag)
        if answer is not None and answer[0].media_type == oci.INDEX:
            wanted = oci.received_of(answer[1], architecture, where)
            answer = self._asked(repository, wanted.digest)
            if answer is None or answer[0] != wanted:
                raise IntegrityError("the registry has another manifest than its index names", where=where)
        if answer is not None and answer[0].media_type != oci.MANIFEST:
            raise SourceError(
                "not an image as push sends it", where=where, expected=oci.MANIFEST, hint="docker pull, or push it anew"
            )
        return answer

    def _asked(self, repository: str, tag: str) -> tuple[Descriptor, bytes] | None:
        """A manifest by its tag or digest, with the type that the registry names."""
        where = f"{self._where(repository)}:{tag}"
        kinds = {"Accept": f"{oci.MANIFEST}, {oci.INDEX}"}
        answer = self._http.ask("GET", f"/v2/{repository}/manifests/{tag}", _pull(repository), headers=kinds)
        if answer.status_code == 404:
            return None
        if answer.status_code != 200:
            raise self._http.refused(answer, repository, verb="pull")
        kind = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        found = oci.describe(kind, answer.content)
        said = answer.headers.get("Docker-Content-Digest", found.digest)
        if said != found.digest:
            raise IntegrityError("the registry's manifest isn't the one that it names", where=where, expected=said[:80])
        return found, answer.content

    def small(self, repository: str, blob: Descriptor) -> bytes:
        """A blob whole, of at most 4 MiB: a config.

        Raises:
            SourceError: refused, or gone.
            IntegrityError: it isn't the one of the digest.
        """
        answer = self._http.ask("GET", f"/v2/{repository}/blobs/{blob.digest}", _pull(repository))
        if answer.status_code != 200:
            raise self._lacks(answer, repository)
        if len(answer.content) != blob.size or oci.digest(answer.content) != blob.digest:
            raise self._other(repository, blob)
        return answer.content

    def fetch(self, repository: str, blob: Descriptor, target: Path, on_bytes: OnBytes) -> None:
        """Bring a blob into a file, from where an earlier try broke off. The file is whole and right, or there is an error.

        Raises:
            SourceError: refused, or broken off ``ATTEMPTS`` times in a row; what has arrived is kept.
            IntegrityError: the registry sends other bytes; nothing is kept.
            Stopped: ``stop`` was set; what has arrived is kept.
        """
        resumed = target.is_file() and target.stat().st_size > 0
        try:
            if self._whole(repository, blob, target, on_bytes):
                return
            target.unlink()
            if resumed and self._whole(repository, blob, target, on_bytes):  # what an earlier run left was damaged
                return
            raise self._other(repository, blob)
        except IntegrityError:
            target.unlink(missing_ok=True)
            raise

    # One blob

    def _whole(self, repository: str, blob: Descriptor, target: Path, on_bytes: OnBytes) -> bool:
        """Fetch the rest of a file; whether it is the blob then."""
        part, failures = _Part(target, blob), 0
        while part.size < blob.size:
            before = part.size
            try:
                self._rest(repository, part, on_bytes)
            except _Broke as error:
                failures = 1 if part.size - before >= LEAST else failures + 1
                if failures >= ATTEMPTS:
                    raise Gone(f"the registry is gone ({error})", where=self._where(repository), hint=AGAIN) from None
                self._http.wait(failures - 1)
        return part.whole

    def _rest(self, repository: str, part: _Part, on_bytes: OnBytes) -> None:
        """One request for what is missing of a blob.

        Raises:
            _Broke: it broke off, or the registry is busy.
        """
        import httpx

        from builder.edges.system import answers

        blob = part.blob
        wanted = {"Range": f"bytes={part.size}-"} if part.size else {}
        try:
            with self._http.opened(f"/v2/{repository}/blobs/{blob.digest}", _pull(repository), wanted) as answer:
                if answer.status_code in BUSY:
                    raise _Broke(f"it answered {answer.status_code}")
                if answer.status_code not in (200, 206):
                    raise self._lacks(answer, repository)
                if answer.status_code == 200 or not _continues(answer.headers.get("Content-Range", ""), part.size):
                    part.empty()  # without ranges, all of it comes again
                    if answer.status_code == 206:
                        raise _Broke("it answered with another range than was asked for")
                with part.target.open("ab") as out:
                    for piece in answer.iter_raw():
                        if self._http.stop.soon.is_set():
                            raise Stopped
                        if part.size + len(piece) > blob.size:
                            raise self._other(repository, blob)
                        out.write(piece)
                        part.add(piece)
                        on_bytes(part.size)
        except (answers.Unbounded, answers.Inner) as error:
            what = f"the registry's answer can't be used ({short(error)})"
            raise SourceError(what, where=self._where(repository)) from None
        except (httpx.TransportError, httpx.StreamError) as error:
            raise _Broke(short(error)) from None
        if part.size < blob.size:
            raise _Broke("it ended early")

    def _lacks(self, answer: httpx.Response, repository: str) -> SourceError:
        if answer.status_code == 404:
            hint = "push it anew"
            return SourceError("the registry lacks a part of the image", where=self._where(repository), hint=hint)
        return self._http.refused(answer, repository, verb="pull")

    def _other(self, repository: str, blob: Descriptor) -> IntegrityError:
        where = self._where(repository)
        return IntegrityError(
            "the registry sends other bytes", where=where, expected=f"{blob.digest}, {blob.size} bytes"
        )

    def _where(self, repository: str) -> str:
        return f"{self._http.where.host}/{repository}"


class _Broke(Exception):
    """Worth another try."""


class _Part:
    """What has arrived of a blob."""

    def __init__(self, target: Path, blob: Descriptor) -> None:
        self.target, self.blob = target, blob
        self.size, self._seen = 0, hashlib.sha256()
        if target.is_file():
            for chunk in files.chunks(target):
                self.add(chunk)
        else:
            target.touch()

    @property
    def whole(self) -> bool:
        return self.size == self.blob.size and f"sha256:{self._seen.hexdigest()}" == self.blob.digest

    def add(self, piece: bytes) -> None:
        """Count a piece that is in the file."""
        self._seen.update(piece)
        self.size += len(piece)

    def empty(self) -> None:
        """Begin again."""
        self.target.write_bytes(b"")
        self.size, self._seen = 0, hashlib.sha256()


def _continues(content_range: str, start: int) -> bool:
    match = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)", content_range.strip())
    return match is not None and int(match[1]) == start


def _pull(repository: str) -> str:
    return f"repository:{repository}:pull"
