"""The pages of a batch: one of all recordings, and one beside each result. Which of these are written stands in ``pages.txt``."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from builder.core.batch import page as pages
from builder.core.config.types import Config
from builder.core.jobs import page as job_page
from builder.core.jobs.job import Job
from builder.edges.jobs import folder as jobs
from builder.edges.jobs import page as gathering
from builder.errors import BakeError, ConfigError
from builder.receiver.jobs.untrusted import append_below, open_below, replace_below, size_below, status_below

INDEX = "pages.txt"
"""In a batch's folder: the keys of recordings that have a page, a line each. Without it all are written anew."""

PAGE = "report.html"
"""In a batch's folder, and in that of each result."""

KEY_BYTES = 20

TOGETHER = 100
"""Pages that are written before they are noted in the index."""


class PagesIndex:
    """Which recordings of a batch have pages: kept, so that collecting again doesn't look at every result."""

    def __init__(self, batch: Path) -> None:
        """
        Raises:
            OSError: the index is there, and can't be read.
        """
        self._batch = batch.resolve()
        self.keys: set[bytes] = set()
        with contextlib.suppress(FileNotFoundError), open_below(self._batch, INDEX) as source:
            for line in iter(lambda: source.readline(KEY_BYTES + 2), b""):
                if len(line) == KEY_BYTES + 1 and line.endswith(b"\n"):  # a killed writer's last line is torn
                    self.keys.add(bytes.fromhex(line.decode("ascii", "replace")) if _hex(line) else b"")
        self.keys.discard(b"")

    def __contains__(self, key: bytes) -> bool:
        """
        Args:
            key: hex digits.
        """
        return bytes.fromhex(key.decode()) in self.keys

    def add(self, keys: Iterable[bytes]) -> None:
        """Note that recordings have pages.

        Raises:
            OSError: it can't be written.
        """
        new = list(keys)
        if not new:
            return
        handle = append_below(self._batch, INDEX)
        try:
            # After a torn line its rest must not become a part of the first key.
            os.write(handle, b"\n" + b"".join(key + b"\n" for key in new))
        finally:
            os.close(handle)
        self.keys.update(bytes.fromhex(key.decode()) for key in new)


def _hex(line: bytes) -> bool:
    return all(digit in b"0123456789abcdef" for digit in line[:-1])


class PageWriter:
    """Writes the pages of results, one after the other."""

    def __init__(self, config: Config, batch: Path) -> None:
        self._config = config
        self._results = (batch / "results").resolve()
        self._templates = gathering.templates(config.shipped)

    def write(self, key: str) -> None:
        """Write the page of a recording, beside its result; one that is there stays.

        Raises:
            BakeError: its result is not there, or not one that can be shown.
            OSError: the page can't be written.
        """
        name = f"{key[:2]}/{key}/{PAGE}"
        if size_below(self._results, name):
            return
        folder = self._results / key[:2] / key
        status = status_below(self._results, f"{key[:2]}/{key}/result.json")
        if status is None:
            raise BakeError("the result is not there", where=str(folder))
        job = jobs.parsed(folder)
        if job.id != key:
            raise ConfigError("this is the result of something else", where=str(folder / "job.yaml"))
        page = gathering.gather(self._config, job, out=folder / PAGE, limit=0, folder=folder, state=_state(job, folder))
        text = job_page.render(page, self._templates).encode()
        replace_below(self._results, name, (text,), status.st_mode & 0o666)


def _state(job: Job, folder: Path) -> str:
    """``done``, or ``partial`` where an optional stage left nothing."""
    whole = all(size_below(folder, f"work/{stage.name}/manifest.json") is not None for stage in job.stages)
    return "done" if whole else "partial"


def write_page(batch: Path, pieces: Iterable[str], *, mode: int) -> int:
    """Write the page of all recordings, whole or not at all; its bytes.

    Raises:
        OSError: it can't be written.
    """
    return replace_below(batch.resolve(), PAGE, (piece.encode() for piece in _joined(pieces)), mode)


def _joined(pieces: Iterable[str], most: int = 1 << 16) -> Iterator[str]:
    """Pieces of a page, put together to some tens of kilobytes: a template gives them word by word."""
    waiting: list[str] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= most:
            yield "".join(waiting)
            waiting, size = [], 0
    yield "".join(waiting)


def templates(shipped: Path) -> dict[str, str]:
    """The page's template, style and script, by name."""
    folder = shipped / "templates" / "batch"
    return {name: (folder / name).read_text(encoding="utf-8") for name in pages.TEMPLATES}
