"""Requests for one file's bytes: who is asked, what an answer means, and how long nobody is waited for.

The client is the one of huggingface_hub, so that proxies, CA settings and offline mode are decided in one place.
"""

from __future__ import annotations

import contextlib
import email.utils
import random
import re
import threading
import time
import urllib.parse
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from builder.errors import IntegrityError, Interrupted, SourceError

PATIENCE = 10.0
"""Seconds without an answer, or without one more byte, until a source is given up."""

REACH = 6.0
"""Seconds until an address that doesn't answer at all is given up: with the look at gates before it, less than ten."""

HOPS = 5
"""Redirects that are followed for one file."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How a fetch behaves towards those it asks."""

    patience: float = PATIENCE
    attempts: int = 5
    """Failures in a row, none of which brought ``least`` bytes, until a file is given up."""
    least: int = 64 << 10
    """Bytes that are worth another try: a server that sends one byte and falls silent would take for ever."""
    pause: float = 0.5
    """Seconds before the second try; doubled for each one after, with a jitter of a half either way."""
    longest_wait: float = 300.0
    """Seconds that a Retry-After is obeyed for: the window in which the hub counts requests."""
    chunk: int = 8 << 20
    """Bytes of a file's smallest range of its own, and the most that may come twice after a kill."""
    files: int = 8
    """Files at once; each has one connection of its own."""
    spare: int = 8
    """More connections, for whatever files are large."""
    per_file: int = 8
    """Connections of one file at most."""


class Refused(SourceError):
    """It answered, and not with the file. ``status`` is HTTP's, ``code`` the hub's own word (``GatedRepo``) or empty."""

    def __init__(self, status: int, code: str = "") -> None:
        super().__init__(f"it answered {status}{f' ({code})' if code else ''}")
        self.status = status
        self.code = code


class Broken(SourceError):
    """Worth another try: a broken connection, a busy server, an expired link.

    ``at_once``: the first try after it needs no pause.
    """

    def __init__(self, what: str, *, at_once: bool = False) -> None:
        super().__init__(what)
        self.at_once = at_once


class Traffic:
    """What the connections of one fetch share: their number, who is down, who asked for a pause, and the end.

    Args:
        note: hears one line about a wait that is longer than a moment.
    """

    def __init__(self, limits: Limits, *, note: Callable[[str], None] = lambda _: None) -> None:
        self.limits = limits
        self.files = threading.Semaphore(limits.files)
        self.spare = threading.Semaphore(limits.spare)
        self.stopped = threading.Event()
        self.down: set[str] = set()
        self._up: set[str] = set()
        self._asking: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._until: dict[str, float] = {}
        self._note = note

    def reach(self, address: str) -> None:
        """:func:`reach`, once an address, whoever asks."""
        with self._asking[address]:
            if address not in self._up:
                reach(address, self.down, patience=self.limits.patience)
                self._up.add(address)

    def go_on(self) -> None:
        """Nothing, unless the fetch is to end.

        Raises:
            Interrupted: it is.
        """
        if self.stopped.is_set():
            raise Interrupted("interrupted")

    def sleep(self, seconds: float) -> None:
        """Wait, but not beyond the end of the fetch."""
        self.stopped.wait(seconds)
        self.go_on()

    def back_off(self, failures: int) -> None:
        """Wait after the n-th failure in a row: twice as long each time, at most 8 s, never in step with others."""
        self.sleep(min(self.limits.pause * 2 ** (failures - 1), 8.0) * random.uniform(0.5, 1.5))

    def asked_to_wait(self, host: str, headers: Mapping[str, str]) -> None:
        """Nobody asks ``host`` before its Retry-After (seconds or a date) is over.

        Raises:
            SourceError: it wants more time than anybody would wait.
        """
        seconds = retry_after(headers.get("Retry-After", ""))
        if seconds > self.limits.longest_wait:
            raise SourceError(f"{host} is busy, and asks to come back in {seconds:.0f} s", hint="try again then")
        if seconds > 2.0:
            self._note(f"{host} is busy and asks for {seconds:.0f} s of patience")
        self._until[host] = max(self._until.get(host, 0.0), time.monotonic() + seconds)

    def turn(self, host: str) -> None:
        """Wait until ``host`` may be asked."""
        while (left := self._until.get(host, 0.0) - time.monotonic()) > 0:
            self.sleep(left)
        self.go_on()


class Link:
    """Where one file's bytes are.

    A hub redirects large files to a content host, by a link that expires. It is asked for once, used for every range,
    and asked for again when it no longer works. The token goes to the hub alone.

    Args:
        headers: for the hub: user agent and token.
        size: bytes the file must have.
        sha256: what it must be; a hub that names another one before the first byte is believed.
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
        """An answer with the bytes from ``start`` on (up to ``stop`` if ranges are served), and where it begins.

        It begins at 0, and holds the whole file, where a server doesn't serve ranges.

        Raises:
            Refused, SourceError: there is no use in another try.
            Broken: there is.
            IntegrityError: what it has is another file: longer, shorter, or of another sha256.
        """
        from huggingface_hub import get_session
        from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined] # its client's, whichever that is

        # identity: sizes and ranges are those of the file, not of its compression.
        common = {"Accept-Encoding": "identity"}
        if (start, stop) != (0, self._size):
            common["Range"] = f"bytes={start}-{stop - 1}"
        url = self._content or self.url
        for _ in range(HOPS):
            own = origin(url) == origin(self.url)
            host = urllib.parse.urlsplit(url).netloc.rpartition("@")[2]
            if not own:
                self.traffic.reach(origin(url))
            self.traffic.turn(host)
            named = self._headers if own else {k: v for k, v in self._headers.items() if k.lower() == "user-agent"}
            with contextlib.ExitStack() as stack:
                try:
                    request = get_session().stream(
                        "GET",
                        url,
                        headers={**named, **common},
                        timeout=self.traffic.limits.patience,
                        follow_redirects=False,
                    )
                    answer = stack.enter_context(request)
                    if answer.is_redirect:
                        answer.read()  # to the end, so that the connection can be used again
                except HTTPError as error:
                    raise Broken(short(error)) from error
                if own:
                    self._named(answer.headers)
                if answer.is_redirect:
                    url = _beside(url, answer.headers.get("Location", ""))
                    continue
                if answer.status_code not in (200, 206):
                    raise self._not_the_file(answer, host, own=own)
                self._content = url
                yield answer, self._begins(answer, start)
                return
        raise SourceError(f"it redirects more than {HOPS} times")

    def _named(self, headers: Mapping[str, str]) -> None:
        """Compare what the hub says of a large file before it sends it."""
        size, etag = headers.get("X-Linked-Size", ""), headers.get("X-Linked-Etag", "").strip('W/"')
        if size.isdigit() and int(size) != self._size:
            raise IntegrityError(f"it has {size} bytes in place of {self._size}")
        if re.fullmatch(r"[0-9a-f]{64}", etag) and etag != self._sha256:
            raise IntegrityError(f"the hub has another file there (sha256 {etag[:12]}…)")

    def _not_the_file(self, answer: Any, host: str, *, own: bool) -> SourceError | IntegrityError:
        """What an answer without the file means."""
        status = answer.status_code
        if status in (408, 429) or status >= 500:
            self.traffic.asked_to_wait(host, answer.headers)
            return Broken(f"{host} answered {status}")
        if status == 416:
            there = answer.headers.get("Content-Range", "").rpartition("/")[2]
            return IntegrityError(f"it has {there if there.isdigit() else 'fewer'} bytes in place of {self._size}")
        if not own and status in (400, 401, 403, 404, 410):
            self._content = None
            return Broken(f"{host} answered {status} (a link that has expired?)", at_once=True)
        return Refused(status, answer.headers.get("X-Error-Code", ""))

    def _begins(self, answer: Any, start: int) -> int:
        """Where the body begins; its length compared with what it must be."""
        if answer.status_code == 200:
            there = answer.headers.get("Content-Length", "")
            if there.isdigit() and int(there) != self._size:
                raise IntegrityError(f"it has {there} bytes in place of {self._size}")
            return 0
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", "").strip())
        if match is None or int(match[1]) != start:
            raise Broken("it answered with another range than it was asked for")
        if match[2] not in ("*", str(self._size)):
            raise IntegrityError(f"it has {match[2]} bytes in place of {self._size}")
        return start


def reach(address: str, down: set[str], *, patience: float = PATIENCE) -> None:
    """Ask once; any HTTP answer is an answer. Remembers in ``down`` who did not.

    In a thread, because neither a name that is being resolved nor ten addresses tried in turn know our limit.

    Raises:
        SourceError: nobody answers there within ``patience`` seconds, or ``REACH``, now or earlier in this run.
    """
    named = origin(address)  # without a name and a password that may stand in it
    if address in down:
        raise SourceError(f"{named} could not be reached")
    limit = min(REACH, patience)
    failed: list[BaseException] = []

    def ask() -> None:
        from huggingface_hub import get_session

        try:
            get_session().head(address, timeout=limit, follow_redirects=False)
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(limit)
    if thread.is_alive() or failed:
        down.add(address)
        why = short(failed[0]) if failed else f"no answer in {limit:.0f} s"
        raise SourceError(f"{named} could not be reached ({why})")


def origin(url: str) -> str:
    """``https://host:port``: what a token belongs to."""
    parts = urllib.parse.urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return f"{parts.scheme}://{parts.hostname}:{port}"


def retry_after(value: str) -> float:
    """Seconds of a Retry-After header: a number or a date (RFC 9110); 0 for anything else, or for a date that is past."""
    if re.fullmatch(r"\d{1,9}(\.\d*)?", value.strip()):
        return float(value)
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return 0.0


def short(error: BaseException) -> str:
    """The first line of an error, or its name."""
    text = str(getattr(error, "reason", None) or error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__


def _beside(url: str, location: str) -> str:
    """The address that a redirect names.

    Raises:
        SourceError: it names none.
    """
    try:
        found = urllib.parse.urljoin(url, location)
        if location and urllib.parse.urlsplit(found).scheme in ("http", "https") and origin(found):
            return found
    except ValueError:
        pass
    raise SourceError("it redirects to no address")
