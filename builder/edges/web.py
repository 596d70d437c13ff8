"""One file over HTTP: resumed where it broke off, hashed while it streams, given up when nobody answers.

The client is the one of huggingface_hub, so that proxies, CA settings and offline mode are decided in one place.
"""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from builder.edges import files
from builder.errors import IntegrityError, SourceError

PATIENCE = 10.0
"""Seconds without an answer, or without one more byte, until a source is given up."""

ATTEMPTS = 4
"""Tries of one file, each going on where the last one broke off. One that brought no byte at all is the last."""

BUSY = frozenset({429, 500, 502, 503, 504})
"""Answers that are worth another try."""


class Refused(SourceError):
    """It answered, and not with the file. ``status`` is HTTP's, ``code`` the hub's own word (``GatedRepo``) or empty."""

    def __init__(self, status: int, code: str = "") -> None:
        super().__init__(f"it answered {status}{f' ({code})' if code else ''}")
        self.status = status
        self.code = code


def reach(address: str, down: set[str]) -> None:
    """Ask once; any HTTP answer is an answer. Remembers in ``down`` who did not.

    In a thread, because neither a name that is being resolved nor ten addresses tried in turn know our limit.

    Raises:
        SourceError: nobody answers there within ``PATIENCE`` seconds, now or earlier in this run.
    """
    if address in down:
        raise SourceError(f"{address} could not be reached")
    failed: list[BaseException] = []

    def ask() -> None:
        from huggingface_hub import get_session

        try:
            get_session().head(address, timeout=PATIENCE, follow_redirects=False)
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if thread.is_alive() or failed:
        down.add(address)
        why = short(failed[0]) if failed else f"no answer in {PATIENCE:.0f} s"
        raise SourceError(f"{address} could not be reached ({why})")


def download(
    url: str, target: Path, *, size: int, sha256: str, headers: Mapping[str, str], tell: Callable[[int], None]
) -> str:
    """Bring ``url`` to ``target``, going on from the bytes that are there; the hex sha256 of what is there then.

    Args:
        size: bytes it must have; more are never written.
        sha256: what it should be. If bytes from an earlier run spoil it, they are dropped and all is fetched once more.
        tell: called with the number of bytes that are there.

    Raises:
        Refused: an answer without the file.
        SourceError: it broke off too often, or nobody answered.
        IntegrityError: it is longer or shorter than ``size``.
    """
    resumed = target.exists()
    found = _download(url, target, size, headers, tell)
    if resumed and found != sha256:
        target.unlink()
        found = _download(url, target, size, headers, tell)
    return found


def _download(url: str, target: Path, size: int, headers: Mapping[str, str], tell: Callable[[int], None]) -> str:
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined] # its client's, whichever that is

    digest, done = _begun(target, size)
    with target.open("ab") as out:
        for attempt in range(ATTEMPTS):
            before = done
            try:
                with _answer(url, headers, done) as answer:
                    if answer.status_code == 200 and done:  # a server without ranges: from the start
                        out.truncate(0)
                        digest, done = hashlib.sha256(), 0
                    elif answer.status_code not in (200, 206):
                        raise Refused(answer.status_code, answer.headers.get("X-Error-Code", ""))
                    for (
                        chunk
                    ) in answer.iter_bytes():  # as they arrive: what is held back to fill a chunk is lost in a break
                        done += len(chunk)
                        if done > size:
                            raise IntegrityError(f"it is longer than the {size} bytes of models.lock")
                        digest.update(chunk)
                        out.write(chunk)
                        tell(done)
                if done == size:
                    out.flush()
                    os.fsync(out.fileno())
                    return str(digest.hexdigest())
                # Length and connection were in order, and still too short: it is another file.
                if answer.headers.get("Content-Length") == str(done - before):
                    raise IntegrityError(f"it has {done} bytes in place of {size}")
                why = "it broke off"
                pause = 0.0
            except Refused as error:
                if error.status not in BUSY or attempt == ATTEMPTS - 1:
                    raise
                why, pause = error.what, _asked_to_wait(answer.headers)
            except HTTPError as error:
                why, pause = short(error), 0.0
                if done == before:
                    raise SourceError(why) from error
            out.flush()
            if attempt < ATTEMPTS - 1:
                time.sleep(pause or 0.3 * 2**attempt * (0.5 + random.random()))
    raise SourceError(f"{why}, {ATTEMPTS} times; the first {done} of {size} bytes are kept")


def _begun(target: Path, size: int) -> tuple[Any, int]:
    """The running digest and the count of bytes an earlier try left; none if there are too many to go on from."""
    digest, done = hashlib.sha256(), 0
    if target.exists():
        if target.stat().st_size >= size:
            target.unlink()
        else:
            with target.open("rb") as source:
                while chunk := source.read(files.CHUNK):
                    digest.update(chunk)
                    done += len(chunk)
    return digest, done


def _answer(url: str, headers: Mapping[str, str], done: int) -> Any:
    """The answer as a context, redirects followed: the client drops the token when the host changes."""
    from huggingface_hub import get_session

    # identity: sizes and ranges are those of the file, not of its compression.
    asked = {**headers, "Accept-Encoding": "identity", **({"Range": f"bytes={done}-"} if done else {})}
    return get_session().stream("GET", url, headers=asked, timeout=PATIENCE, follow_redirects=True)


def _asked_to_wait(headers: Mapping[str, str]) -> float:
    """Retry-After in seconds, at most ``PATIENCE``; 0 when it is absent or a date."""
    value = headers.get("Retry-After", "")
    return min(float(value), PATIENCE) if value.isdigit() else 0.0


def short(error: BaseException) -> str:
    """The first line of an error, or its name."""
    text = str(getattr(error, "reason", None) or error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
