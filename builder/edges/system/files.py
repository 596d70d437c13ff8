"""Files that are whole or absent: write beside, flush, rename. Hashes. Locks."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from builder.core.text import visible
from builder.errors import MissingError, UsageError
from builder.program import shell_word
from builder.receiver.missing import NO_ROOM

CHUNK = 1 << 20
"""Bytes read at a time where a whole file goes through."""


def write_atomic(path: Path, data: bytes | str, *, mode: int = 0o644) -> None:
    """Write through a temporary file in the same folder, flush to disk, rename over ``path``."""
    with _written_beside(path, data.encode() if isinstance(data, str) else data, mode) as new:
        new.replace(path)


def write_new(path: Path, text: str) -> bool:
    """The same for a file that isn't there yet: False, and nothing is touched, where something has its name."""
    with _written_beside(path, text.encode(), 0o644) as new:
        try:
            path.hardlink_to(new)  # unlike a rename it replaces nothing
        except FileExistsError:
            return False
        except OSError:  # a stick's file system has no second names
            if os.path.lexists(path):
                return False
            new.replace(path)
    return True


@contextmanager
def _written_beside(path: Path, data: bytes, mode: int) -> Iterator[Path]:
    """A temporary file in the folder of ``path`` with all of ``data`` on the disk; it is gone afterwards.

    With it go those that killed writers of the same path left an hour ago or longer.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path)
    handle, name = tempfile.mkstemp(prefix=_prefix(path), suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        with suppress(PermissionError):  # a FAT stick has no modes; elsewhere it is ours, and 0600 until here
            Path(name).chmod(mode)
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


OLD = 3600.0
"""Seconds after which nobody writes a temporary file any more; either way, as clocks move."""


def is_temporary(path: Path) -> bool:
    """Whether a path is named like a file that :func:`write_atomic` is writing, or left when it was killed."""
    return path.name.startswith(".") and path.name.endswith(".tmp")


def sweep(path: Path) -> None:
    """Remove what killed writers of a path left beside it an hour ago or longer."""
    with suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            if entry.name.startswith(_prefix(path)) and is_temporary(Path(entry.name)):
                with suppress(OSError):
                    if abs(time.time() - entry.stat(follow_symlinks=False).st_mtime) > OLD:
                        Path(entry.path).unlink()


def _prefix(path: Path) -> str:
    return f".{path.name[:40]}."


STREAM = re.compile(r"/dev/(?:std(?P<name>out|err)|fd/(?P<dev>\d+))|/proc/self/fd/(?P<proc>\d+)")
"""Names of what this process has open already."""


HARMLESS = ("/dev/null", "/dev/full", "/dev/tty")
"""Devices that a result may be written to."""


def expanded(path: str | Path) -> Path:
    """A path with ``~`` made plain, where it names a home that is known; else as it is: a file may be called ``~x``."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def write_output(path: Path, data: bytes | str, *, instead: str, parents: bool = False, mode: int = 0o644) -> Path:
    """Write a result where a person wants it: whole or not at all where that can be, and never in the place of a link.

    A link of the caller's own is followed, and the file that it leads to is replaced with its mode kept. A FIFO of the caller's
    own, a terminal, ``/dev/stdout`` and ``/dev/null`` are written to; what a terminal would obey is made visible.

    Args:
        instead: what to type for another place, such as ``--out FILE``.
        parents: make the folders above the file, where a new project hasn't any yet.
        mode: of a new file.

    Returns:
        The file that was written.

    Raises:
        UsageError: the folder isn't there, or a folder, a device or another user's link stands in the way.
        MissingError: it can't be written.
    """
    raw = data.encode() if isinstance(data, str) else data
    target = expanded(path)
    try:
        if match := STREAM.fullmatch(str(target)):
            number = match["dev"] or match["proc"] or {"out": "1", "err": "2"}[match["name"]]
            sys.stdout.flush()
            _write_through(os.dup(int(number)), raw)
            return target
        _require_own_links(target, instead)
        status = target.stat() if target.exists() else None
        if status is not None and not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            if not _may_take(status):
                raise UsageError("this is not a file, but a device or somebody else's", where=str(target), hint=instead)
            _write_through(os.open(target, os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY), raw)
            return target
        real = target.resolve()
        if parents:
            real.parent.mkdir(parents=True, exist_ok=True)
        if not real.parent.is_dir():
            raise UsageError(
                "there is no such folder", where=str(real.parent), hint=f"mkdir -p {shell_word(real.parent)}"
            )
        if real.is_dir():
            raise UsageError("this is a folder", where=str(real), hint=instead)
        write_atomic(real, raw, mode=mode if status is None else stat.S_IMODE(status.st_mode))
        return real
    except BrokenPipeError:
        raise
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        why = getattr(error, "strerror", None) or "its links lead in a circle"
        full = disk_full(error)
        raise MissingError(
            "the disk is full" if full else f"it can't be written ({why})",
            where=str(target),
            hint=f"free some space, or {instead}" if full else instead,
        ) from error


def _write_through(handle: int, raw: bytes) -> None:
    """Write to what is open already and close it; a terminal shows what it would otherwise obey."""
    if os.isatty(handle):
        raw = visible(raw.decode(errors="backslashreplace"), keep="\t\n").encode(errors="backslashreplace")
    with os.fdopen(handle, "wb") as out:
        out.write(raw)


def _own(status: os.stat_result) -> bool:
    """Whether the caller or root made it; with sudo, also who called it."""
    sudo = os.environ.get("SUDO_UID", "") if os.geteuid() == 0 else ""
    return status.st_uid in {0, os.geteuid(), *([int(sudo)] if sudo.isdecimal() else [])}


def _require_own_links(target: Path, instead: str) -> None:
    """Raises UsageError where another user's link would lead a file elsewhere: in a shared folder it may lead anywhere."""
    for path in (target, *target.absolute().parents):
        with suppress(FileNotFoundError, NotADirectoryError):
            status = path.lstat()
            if stat.S_ISLNK(status.st_mode) and not _own(status):
                raise UsageError("this is another user's link", where=str(path), hint=instead)


def _may_take(status: os.stat_result) -> bool:
    """Whether a result may be written to what isn't a file: not to a disk, nor to what somebody else listens to."""
    if stat.S_ISFIFO(status.st_mode):
        return _own(status)
    harmless = {os.stat(name).st_rdev for name in HARMLESS if os.path.exists(name)}  # noqa: PTH110, PTH116
    return stat.S_ISCHR(status.st_mode) and (status.st_rdev in harmless or _is_terminal(status.st_rdev))


def _is_terminal(device: int) -> bool:
    return any(os.isatty(k) and os.fstat(k).st_rdev == device for k in range(3))


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as stable JSON: sorted keys, two spaces, one newline at the end."""
    write_atomic(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


LARGEST = 256 << 20
"""Bytes of a file that is read whole."""


def open_regular(path: Path, *, follow: bool = False) -> BinaryIO:
    """A regular file, open for reading; a FIFO doesn't block.

    Args:
        follow: a link too.

    Raises:
        OSError: it can't be opened, or is not a regular file.
    """
    source = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    if not stat.S_ISREG(os.fstat(source).st_mode):
        os.close(source)
        raise OSError(errno.EINVAL, "this is not a regular file")
    return os.fdopen(source, "rb")


def read_file(path: Path, *, limit: int = LARGEST, follow: bool = False) -> bytes | None:
    """A regular file's bytes; None where there is none. No other program decides how long that takes, or how much it is.

    Args:
        follow: a link too.

    Raises:
        UsageError: it can't be read, is not a regular file, or has more than ``limit`` bytes.
    """
    try:
        with open_regular(path, follow=follow) as source:
            data = source.read(limit + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"the file can't be read ({error.strerror})", where=str(path)) from error
    if len(data) > limit:
        raise UsageError(f"the file has more than {limit >> 20} MiB", where=str(path))
    return data


def read_json(path: Path) -> Any | None:
    """The parsed file, or None when it is absent or not JSON (a cache that was cut short)."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty when there is none, or something else."""
    value = read_json(path)
    return value if isinstance(value, dict) else {}


def sha256(path: Path, tell: Callable[[int], None] = lambda _: None) -> str:
    """Hex sha256 of a file, read in chunks (1.3 GB/s here). ``tell`` hears the bytes read so far."""
    digest, done = hashlib.sha256(), 0
    for chunk in chunks(path):
        digest.update(chunk)
        done += len(chunk)
        tell(done)
    return digest.hexdigest()


def chunks(path: Path) -> Iterator[bytes]:
    """A file's bytes, ``CHUNK`` at a time."""
    with path.open("rb") as source:
        while chunk := source.read(CHUNK):
            yield chunk


def copy_hashed(source: Iterable[bytes], target: Path, tell: Callable[[int], None] = lambda _: None) -> str:
    """Write chunks to ``target``, flushed to disk; their hex sha256. ``tell`` hears the bytes written so far.

    What can't be written to the end (a full disk) is removed again.
    """
    digest, done = hashlib.sha256(), 0
    try:
        with _emptied(target) as out:
            for chunk in source:
                digest.update(chunk)
                out.write(chunk)
                done += len(chunk)
                tell(done)
            out.flush()
            os.fsync(out.fileno())
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return digest.hexdigest()


def _emptied(target: Path) -> BinaryIO:
    """An empty file to write to. What stood there and isn't a file of one name is removed: nothing is written through it."""
    with suppress(FileNotFoundError):
        status = target.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            target.unlink()
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    return os.fdopen(os.open(target, flags, 0o666), "wb")


@contextmanager
def locked(path: Path, *, timeout: float = -1) -> Iterator[None]:
    """Hold the lock file ``path``; ``timeout`` seconds (-1: wait for ever, 0: at once).

    The operating system drops it when the holder dies, also by kill -9.

    Raises:
        TimeoutError: another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, thread_local=False)  # a queue takes it in one thread and drops it in another
    try:
        lock.acquire(timeout=timeout)
    except Timeout as error:
        raise TimeoutError(str(path)) from error
    try:
        yield
    finally:
        lock.release()


def size_of(path: Path) -> int:
    """Bytes of a file, or of the files below a folder. Links are not followed; what goes away meanwhile doesn't count."""
    if not path.is_dir() or path.is_symlink():
        with suppress(FileNotFoundError):
            return path.lstat().st_size
        return 0
    total = 0
    for parent, _, names in os.walk(path):
        for name in names:
            with suppress(FileNotFoundError):
                status = (Path(parent) / name).lstat()
                total += 0 if stat.S_ISLNK(status.st_mode) else status.st_size
    return total


RESERVE = 64 << 20
"""Bytes that stay free on every disk."""


def disk_full(problem: BaseException | str) -> bool:
    """Whether an error, or what another program printed, says that a disk or a quota is exhausted."""
    if isinstance(problem, str):
        return NO_ROOM.search(problem) is not None
    return isinstance(problem, OSError) and problem.errno in (errno.ENOSPC, errno.EDQUOT)


def unwritable(error: BaseException) -> bool:
    """Whether an error says that this user, or nobody, may write there."""
    return isinstance(error, OSError) and error.errno in (errno.EROFS, errno.EACCES, errno.EPERM)


def free_bytes(folder: Path) -> int:
    """Bytes free on the disk of ``folder``, or of the nearest folder above it that exists.

    Raises:
        MissingError: the file system doesn't answer.
    """
    nearest = _nearest(folder)
    try:
        return shutil.disk_usage(nearest).free
    except OSError as error:
        raise MissingError(f"the disk doesn't say what is free: {error.strerror}", where=str(nearest)) from error


def require_room(needs: Mapping[Path, int], otherwise: str, *, reserve: int = RESERVE) -> None:
    """Refuse before the first byte what would not fit. Needs on one disk add up.

    Args:
        needs: folder -> bytes that will be written below it.
        otherwise: what to do instead of freeing space: "export to another disk".
        reserve: bytes that have to stay free on each disk.

    Raises:
        MissingError: a disk has too little free.
    """
    disks: dict[int, tuple[Path, int]] = {}
    for folder, need in needs.items():
        nearest = _nearest(folder)
        device = nearest.stat().st_dev
        first, so_far = disks.get(device, (nearest, 0))
        disks[device] = (first, so_far + need)
    for folder, need in disks.values():
        free = free_bytes(folder)
        if need and free < need + reserve:
            raise MissingError(
                f"the disk has {free / 1e6:.0f} MB free; this needs {(need + reserve) / 1e6:.0f} MB",
                where=str(folder),
                hint=f"free some space, or {otherwise}",
            )


def _nearest(folder: Path) -> Path:
    return next(p for p in (folder, *folder.parents) if p.exists())
