"""Files in the receiver's folder: no link is followed on the way to them, and they are whole, or as they were."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from builder.receiver.inventory import LoaderError, need

INCOMING = ".incoming"
"""Folder below the receiver's, with files that are not known to be right yet."""

FRESH = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def write_whole(path: Path, data: bytes) -> None:
    """Write a file beside another, flush it, and put it in its place; whatever has a name there is replaced."""
    beside = path.with_name(f".{path.name}.part")
    with contextlib.suppress(FileNotFoundError):
        beside.unlink()
    with os.fdopen(os.open(beside, FRESH, 0o644), "wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    beside.replace(path)


class Incoming:
    """Files on their way into a folder; :meth:`place` brings all of them in, once they are right."""

    def __init__(self, target: Path) -> None:
        self.target, self.folder = target, target / INCOMING
        self.paths: list[str] = []
        self.taken: set[str] = set()
        self.folders: set[str] = set()

    @contextlib.contextmanager
    def file(self, path: str, mode: int = 0o644) -> Iterator[IO[bytes]]:
        """A new file, to be written; ``path`` is where it will be, ``mode`` its permissions.

        Raises:
            LoaderError: a link is on the way there, or another new file.
        """
        above = {path[:k] for k, letter in enumerate(path) if letter == "/"}
        need(path not in self.folders and not above & self.taken, f"{path} is a file and a folder")
        self.folders |= above
        with self.parent(path) as (_, name):
            del name
        if not self.paths:
            self.clear()
            self.folder.mkdir(mode=0o700)
        with os.fdopen(os.open(self.folder / str(len(self.paths)), FRESH, mode), "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        self.paths.append(path)
        self.taken.add(path)

    def place(self) -> None:
        """Bring the files to their places. Raises LoaderError: a link is on the way to one."""
        for number, path in enumerate(self.paths):
            with self.parent(path, make=True) as (parent, name):
                os.replace(self.folder / str(number), name, dst_dir_fd=parent)
        self.clear()

    def clear(self) -> None:
        """Remove what is on its way, of a killed run too."""
        with contextlib.suppress(FileNotFoundError):
            if self.folder.is_symlink() or not self.folder.is_dir():
                self.folder.unlink()
            else:
                shutil.rmtree(self.folder)

    @contextlib.contextmanager
    def parent(self, path: str, make: bool = False) -> Iterator[tuple[int, str]]:
        """A handle of the folder that a file is in, opened from the target down without links, and the file's name."""
        *folders, name = path.split("/")
        handle, at = os.open(self.target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), self.target
        try:
            for folder in folders:
                at /= folder
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(folder, 0o755, dir_fd=handle)
                try:
                    below = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=handle)
                except FileNotFoundError:  # so is everything below it
                    yield handle, name
                    return
                except OSError:
                    raise self._in_the_way(at, "is a link, or not a folder") from None
                os.close(handle)
                handle = below
            with contextlib.suppress(FileNotFoundError):
                mode = os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode
                if not (mode & 0o170000) == 0o100000:
                    raise self._in_the_way(at / name, "is a link, or not a file")
            yield handle, name
        finally:
            os.close(handle)

    def _in_the_way(self, path: Path, what: str) -> LoaderError:
        return LoaderError(3, f"{path} {what}", f"remove it, or name another folder than {self.target}: --to")
