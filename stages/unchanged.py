"""A file whose bytes stay the same while it is read: a recording may be a hard link to one that its owner goes on writing."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path


class Changed(Exception):
    """The file is not the one that was expected, or was written meanwhile."""


@dataclass
class Proof:
    """What a file was, once the block that reads it has ended."""

    digest: str = ""
    """``sha256:<hex>``."""


@contextmanager
def unchanged(path: Path, expected: str) -> Iterator[Proof]:
    """Read a file in the block: what it reads are the bytes of ``expected``.

    The file is hashed while the block works, which costs no time where there is a second core, and must not be written
    meanwhile; it is hashed again where only its status has changed, such as its mode.

    Args:
        expected: hex sha256; empty: nobody knows, and nothing is compared.

    Raises:
        Changed: the bytes are others; it comes before what the block raises, which it explains.
    """
    proof, before, hashing = Proof(), path.stat(), _Hashing(path)
    failure: Exception | None = None
    try:
        yield proof
    except Exception as error:  # noqa: BLE001  whatever it is: a file that changes is the first reason to name
        failure = error
    proof.digest, after = hashing.result(), before
    with suppress(FileNotFoundError):  # it was taken away after it was read
        after = path.stat()
        if after.st_ctime_ns != before.st_ctime_ns:  # other times can be set back, this one can't
            proof.digest = sha256(path)
    same = all(getattr(after, part) == getattr(before, part) for part in ("st_ino", "st_size", "st_mtime_ns"))
    if expected and not (same and proof.digest == f"sha256:{expected}"):
        raise Changed(path.name) from failure
    if failure is not None:
        raise failure


class _Hashing:
    """A file's sha256, computed by another thread: hashlib and reading let others work."""

    def __init__(self, path: Path) -> None:
        self._digest = ""
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._hash, args=(path,), daemon=True)
        self._thread.start()

    def _hash(self, path: Path) -> None:
        try:
            self._digest = sha256(path)
        except OSError as error:
            self._error = error

    def result(self) -> str:
        """``sha256:<hex>``; waits for it. Raises OSError: the file can't be read."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._digest


def sha256(path: Path) -> str:
    """``sha256:<hex>`` of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while chunk := source.read(1 << 20):
            digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"


@cache
def code_digest(stage: str) -> str:
    """Hex sha256 over a stage's Python files and those that all share: when code changes, its results are made again."""
    here = Path(__file__).resolve().parent
    digest = hashlib.sha256()
    for path in [*sorted(here.glob("*.py")), *sorted((here / stage).glob("*.py"))]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
