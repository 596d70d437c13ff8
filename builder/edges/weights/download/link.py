"""Requests for one file's bytes: who is asked, and what an answer means."""

from __future__ import annotations

import contextlib
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

from builder.edges.system import http
from builder.edges.system.http import origin, short
from builder.edges.weights.download.traffic import Traffic
from builder.errors import IntegrityError, SourceError


class Refused(SourceError):
    """An answer without the file. ``status`` is HTTP's, ``code`` the hub's own word (``GatedRepo``) or empty."""

    def __init__(self, status: int, code: str = "") -> None:
        super().__init__(f"it answered {status}{f' ({code})' if code else ''}")
        self.status = status
        self.code = code


class Broken(SourceError):
    """Worth another try: a broken connection, a busy server, an expired link.

    ``at_once``: the next try needs no pause.
    """

    def __init__(self, what: str, *, at_once: bool = False) -> None:
        super().__init__(what)
        self.at_once = at_once


class Link:
    """Where one file's bytes are.

    A hub redirects requests for large files to a content host, with a link that expires. It is asked for the link once; the
    link serves every range, and is asked for again when it no longer works. The token goes to the hub alone.

    Args:
        headers: for the hub: user agent and token.
        size: bytes the file must have.
        sha256: what it must be; when the hub names another one before the first byte, the file is refused at once.
    """

    def __init__(self, url: str, headers: Mapping[str, str], *, size: int, sha256: str, traffic: Traffic) -> None:
        self.url = url
        self.traffic = traffic
        self._headers = dict(headers)
        self._size, self._sha256 = size, sha256
        self._content: str | None = None
        """Where the hub's redirects ended."""

    @contextlib.contextmanager
    def open(self, start: int, stop: int) -> Iterator[tuple[Any, int]]:
        """An answer with the bytes from ``start`` to ``stop``, and the offset at which it begins.

        From a server that doesn't serve ranges, it begins at 0 and holds the whole file.

        Raises:
            Refused, SourceError: another try is pointless.
            Broken: another try may succeed.
            IntegrityError: the server has another file: longer, shorter, or of another sha256.
        """
        import httpx

        from builder.edges.system import answers

        # identity: sizes and ranges are those of the file, not of its compression.
        common = {"Accept-Encoding": "identity"}
        if (start, stop) != (0, self._size):
            common["Range"] = f"bytes={start}-{stop - 1}"
        url = self._content or self.url
        for _ in range(http.HOPS + 1):
            at_hub = origin(url) == origin(self.url)
            host = urllib.parse.urlsplit(url).netloc.rpartition("@")[2]
            if not at_hub:
                self.traffic.reach(origin(url), named=self.url)
            self.traffic.turn(host)
            headers = self._headers if at_hub else {k: v for k, v in self._headers.items() if k.lower() == "user-agent"}
            with contextlib.ExitStack() as stack:
                try:
                    request = answers.shared(self.url, self.traffic.env).stream(
                        "GET",
                        url,
                        headers={**headers, **common},
                        timeout=self.traffic.limits.patience,
                        extensions=answers.FILE,
                    )
                    answer = stack.enter_context(request)
                except answers.Inner as error:
                    raise SourceError(f"it leads to an address that it may not lead to: {short(error)}") from error
                except httpx.HTTPError as error:
                    raise Broken(short(error)) from error
                except httpx.InvalidURL as error:
                    raise SourceError(f"it leads to what is not an address: {short(error)}") from error
                if at_hub:
                    self._compare(answer.headers)
                if answer.is_redirect:
                    url = http.redirected(url, answer.headers.get("Location", ""))
                    continue
                if answer.status_code not in (200, 206):
                    raise self._not_the_file(answer, host, at_hub=at_hub)
                self._content = url
                yield answer, self._begins(answer, start)
                return
        raise SourceError(f"it redirects more than {http.HOPS} times")

    def _compare(self, headers: Mapping[str, str]) -> None:
        """Compare with the pin what the hub says of a large file before it sends it.

        Raises:
            IntegrityError: it is another file.
        """
        size, etag = headers.get("X-Linked-Size", ""), headers.get("X-Linked-Etag", "").strip('W/"')
        if http.number(size) not in (None, self._size):
            raise IntegrityError(f"it has {size} bytes in place of {self._size}")
        if re.fullmatch(r"[0-9a-f]{64}", etag) and etag != self._sha256:
            raise IntegrityError(f"the hub has another file there (sha256 {etag[:12]}…)")

    def _not_the_file(self, answer: Any, host: str, *, at_hub: bool) -> SourceError | IntegrityError:
        """What an answer without the file means."""
        status = answer.status_code
        if status in (408, 429) or status >= 500:
            self.traffic.asked_to_wait(host, answer.headers)
            return Broken(f"{host} answered {status}")
        if status == 416:
            size = answer.headers.get("Content-Range", "").rpartition("/")[2]
            return IntegrityError(
                f"it has {'fewer' if http.number(size) is None else size} bytes in place of {self._size}"
            )
        if not at_hub and status in (400, 401, 403, 404, 410):
            self._content = None
            return Broken(f"{host} answered {status} (a link that has expired?)", at_once=True)
        return Refused(status, answer.headers.get("X-Error-Code", ""))

    def _begins(self, answer: Any, start: int) -> int:
        """The offset at which the body begins.

        Raises:
            Broken: it is another range than the one that was asked for.
            IntegrityError: the whole file has another length than it must have.
        """
        if answer.status_code == 200:
            length = answer.headers.get("Content-Length", "")
            if http.number(length) not in (None, self._size):
                raise IntegrityError(f"it has {length} bytes in place of {self._size}")
            return 0
        match = re.fullmatch(
            r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)", answer.headers.get("Content-Range", "").strip()
        )
        if match is None or int(match[1]) != start:
            raise Broken("it answered with another range than was asked for")
        if match[2] not in ("*", str(self._size)):
            raise IntegrityError(f"it has {match[2]} bytes in place of {self._size}")
        return start
