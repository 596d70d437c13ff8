"""Secrets that nobody has, in the environment and the settings of everything that the tests start.

At the end of a run what the tests made is searched for them: job folders, logs, crash reports, layers, bundles, states; what
is packed is unpacked. What programs print, and the arguments they are started with, are looked at meanwhile.
tests/conftest.py calls this.
"""

from __future__ import annotations

import base64
import bz2
import contextlib
import hashlib
import io
import json
import lzma
import os
import secrets
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import zstandard

GREP = shutil.which("grep") or "grep"  # a test's PATH may be empty

VARIABLE = "WHISPERBAKE_CANARY"
"""Has the canary of a run, for its workers."""

CHUNK = 1 << 20

LARGE = 1 << 20
"""Bytes. Of larger files with the same beginning, end and size one is searched."""

MOST = 1 << 29
"""Bytes that are unpacked of one file: tests make bombs, too."""

DAMAGED = (
    *(OSError, EOFError, ValueError, RuntimeError, NotImplementedError),
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, zstandard.ZstdError),
)
"""What readers raise at archives that a test damaged."""


def canary() -> str:
    """This run's: letters and digits, which no quoting changes."""
    return os.environ[VARIABLE]


@cache
def forms(core: str) -> dict[str, bytes]:
    """Name -> how it looks in a file: as it is, in base64 (a triple begins at any of its letters), in hexadecimal."""
    raw = core.encode()
    triples = {f"base64 from {n}": base64.b64encode(raw[n : n + (len(raw) - n) // 3 * 3]) for n in range(3)}
    return {"plain": raw, "hexadecimal": raw.hex().encode(), "HEXADECIMAL": raw.hex().upper().encode(), **triples}


# What has them.


def plant(environ: MutableMapping[str, str]) -> None:
    """Put this run's canaries where programs look for secrets. Does nothing in a worker, whose parent did."""
    if VARIABLE in environ:
        return
    core = environ[VARIABLE] = "cny" + secrets.token_hex(10)
    environ["AWS_SECRET_ACCESS_KEY"] = environ["GITHUB_TOKEN"] = environ["UV_INDEX_PASSWORD"] = core
    environ["UNSUSPECTED"] = f"a secret whose name says nothing: {core}"
    for name in ("FTP_PROXY", "ftp_proxy"):  # nothing here uses FTP, but proxies are handed on
        environ[name] = f"http://me:{core}@proxy.invalid:3128"
    environ["DOCKER_CONFIG"] = str(_docker_config(core, environ))


def uproot(environ: MutableMapping[str, str]) -> None:
    """Remove the settings that :func:`plant` wrote."""
    shutil.rmtree(environ.pop("DOCKER_CONFIG"), ignore_errors=True)


def _docker_config(core: str, environ: MutableMapping[str, str]) -> Path:
    """Docker's own settings with a login more."""
    own = Path(environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    folder = Path(tempfile.mkdtemp(prefix="whisperbake-docker-"))
    settings: dict[str, Any] = {}
    for path in own.iterdir() if own.is_dir() else ():
        if path.name == "config.json":
            settings = json.loads(path.read_text())
        else:
            (folder / path.name).symlink_to(path)
    login = base64.b64encode(f"me:{core}".encode()).decode()
    settings["auths"] = {**settings.get("auths", {}), "registry.invalid": {"auth": login}}
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


# What is searched.


def left_in(folders: Iterable[Path], core: str, seen: set[object] | None = None) -> list[str]:
    """Every file below the folders with a canary, and in which form; links are not followed.

    A large file whose content is in ``seen`` was searched by an earlier call; those of this call are added.
    """
    files = list(_distinct(folders, set() if seen is None else seen))
    found = [f"{path}: {', '.join(seen_in(path.read_bytes(), core))}" for path in _grep(files, core)]
    for path in files:
        found += _packed(path, core)
    return found


def _distinct(folders: Iterable[Path], seen: set[object]) -> Iterator[Path]:
    """Regular files, each content once as far as that can be told cheaply."""
    inodes: set[tuple[int, int]] = set()  # of this call: a removed file's number is given again
    for folder in folders:
        for parent, _, names in os.walk(folder):
            for name in names:
                path = Path(parent, name)
                with contextlib.suppress(OSError):
                    about = path.lstat()
                    # A file of holes takes as long to read as a full one. What stands in it is seen where it came from.
                    holes = about.st_size > LARGE and about.st_blocks * 512 < about.st_size // 2
                    if not stat.S_ISREG(about.st_mode) or not about.st_size or holes:
                        continue
                    if (about.st_dev, about.st_ino) in inodes:
                        continue
                    inodes.add((about.st_dev, about.st_ino))
                    if about.st_size > LARGE:
                        with path.open("rb") as file:
                            head = file.read(CHUNK // 16)
                            file.seek(-CHUNK // 16, os.SEEK_END)
                            content = (about.st_size, hashlib.sha256(head + file.read()).digest())
                        if content in seen:
                            continue
                        seen.add(content)
                    yield path


def _grep(files: Iterable[Path], core: str) -> list[Path]:
    """The files that have one of the forms as it stands. grep reads several GB in seconds."""
    patterns = b"\n".join(forms(core).values())  # not as arguments: another worker looks at those
    names = [os.fsencode(path) for path in files]
    found: list[bytes] = []
    for at in range(0, len(names), 500):
        command = [GREP, "-lsaFZ", "-D", "skip", "-f", "-", "--", *names[at : at + 500]]
        done = subprocess.run(command, input=patterns, capture_output=True, check=False, env={"LC_ALL": "C"})
        found += done.stdout.split(b"\0")[:-1]
    return [Path(os.fsdecode(name)) for name in found]


def seen_in(data: bytes, core: str) -> list[str]:
    """The forms of a canary that some bytes have."""
    return [name for name, form in forms(core).items() if form in data]


def _packed(path: Path, core: str) -> Iterator[str]:
    """What is unpacked of a file and has a canary. grep has read what lies in it as it is."""
    with contextlib.suppress(OSError), path.open("rb", buffering=0) as start:
        if not is_packed(start.read(512)):
            return
    room = [MOST]
    with contextlib.suppress(*DAMAGED), _whole(path) as file:
        yield from _search(str(path), file, core, room, plain=True)


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[BinaryIO]:
    """A file; the first part of a bundle with the parts that follow it."""
    parts = [path]
    if path.suffix == ".000":  # a hostile bundle has a FIFO among them
        parts = sorted(p for p in path.parent.glob(f"{path.stem}.[0-9]*") if stat.S_ISREG(p.lstat().st_mode))
    with contextlib.ExitStack() as stack:
        yield io.BufferedReader(_Joined([stack.enter_context(part.open("rb")) for part in parts]), CHUNK)


class _Joined(io.RawIOBase):
    """Files, one after the other."""

    def __init__(self, files: list[BinaryIO]) -> None:
        self._files = files

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while self._files:
            if count := self._files[0].readinto(buffer):  # type: ignore[attr-defined]
                return int(count)
            self._files.pop(0)
        return 0


def _search(name: str, data: Any, core: str, room: list[int], *, plain: bool) -> Iterator[str]:
    """Search a stream: archives by their members, what is compressed unpacked.

    Args:
        room: bytes that may still be unpacked.
        plain: grep has read these bytes.
    """
    stream = data if isinstance(data, io.BufferedReader) else io.BufferedReader(data, CHUNK)
    head = stream.peek(512)[:512]
    if head[257:262] == TAR:
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                inside = f"{name}/{member.name}"
                if seen_in(repr((member.name, member.linkname, member.pax_headers)).encode(), core):
                    yield f"{inside}: its name"
                if source := tar.extractfile(member) if member.isreg() else None:
                    with contextlib.suppress(*DAMAGED):
                        yield from _search(inside, source, core, room, plain=plain)
    elif head.startswith(ZIP):
        with zipfile.ZipFile(io.BytesIO(stream.read(room[0]))) as archive:
            for entry in archive.infolist():
                with contextlib.suppress(*DAMAGED), archive.open(entry) as source:
                    yield from _search(f"{name}/{entry.filename}", source, core, room, plain=False)
    elif decoder := next((decoder for magic, decoder in PACKED.items() if head.startswith(magic)), None):
        yield from _search(name, _Unpacked(stream, decoder), core, room, plain=False)
    elif not plain:
        yield from _read(name, stream, core, room)


def _read(name: str, stream: Any, core: str, room: list[int]) -> Iterator[str]:
    """Search what is no archive, a chunk at a time; a canary may lie across two."""
    before = b""
    while room[0] > 0 and (chunk := stream.read(CHUNK)):
        room[0] -= len(chunk)
        if forms_seen := seen_in(before + chunk, core):
            yield f"{name}: {', '.join(forms_seen)}"
            return
        before = chunk[-100:]


def is_packed(head: bytes) -> bool:
    """Whether a file that begins so is an archive, or compressed."""
    return head[257:262] == TAR or head.startswith((ZIP, *PACKED))


class _Unpacked(io.RawIOBase):
    """What was compressed, up to where it was cut or damaged."""

    def __init__(self, stream: Any, decoder: Callable[[], Any]) -> None:
        self._stream, self._make, self._decoder = stream, decoder, decoder()
        self._packed = self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready and (packed := self._packed or self._stream.read(1 << 14)):
            try:
                self._ready, self._packed = self._decoder.decompress(packed), b""
            except DAMAGED:
                return 0
            if self._decoder.eof:
                self._packed, self._decoder = self._decoder.unused_data, self._make()
        count = min(len(buffer), len(self._ready))
        buffer[:count], self._ready = self._ready[:count], self._ready[count:]
        return count


TAR, ZIP = b"ustar", b"PK\3\4"

PACKED: dict[bytes, Callable[[], Any]] = {
    b"\x1f\x8b": lambda: zlib.decompressobj(31),
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ": lzma.LZMADecompressor,
    zstandard.FRAME_HEADER: lambda: zstandard.ZstdDecompressor().decompressobj(),
}
"""How what is compressed begins, and what unpacks it."""


# What is looked at while tests run.


class Watch:
    """Arguments and output of processes: of those that tests start, and of all that these start."""

    def __init__(self, core: str) -> None:
        self.seen: list[str] = []
        self._core, self._over = core, threading.Event()
        self._thread = threading.Thread(target=self._sample, name="canaries", daemon=True)

    def start(self) -> None:
        """Begin. The audit hook stays for good: Python takes none away."""
        sys.addaudithook(self._audit)
        original = subprocess.Popen.communicate

        def communicate(process: Any, *args: Any, **options: Any) -> Any:
            said = original(process, *args, **options)
            for text in said:
                data = text.encode(errors="replace") if isinstance(text, str) else text or b""
                self._look("printed by", data, process.args)
            return said

        subprocess.Popen.communicate = communicate  # type: ignore[method-assign]
        if Path("/proc/self/cmdline").exists():
            self._thread.start()

    def stop(self) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _look(self, where: str, data: bytes, what: object) -> None:
        if not self._over.is_set() and seen_in(data, self._core):
            self.seen.append(f"{where} {what!r}")

    def _audit(self, event: str, about: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen":
            words = about[1] if isinstance(about[1], (str, bytes)) else list(about[1])
            self._look("an argument of", repr(words).encode(errors="replace"), about[0])

    def _sample(self) -> None:
        """Look at each process a few times after it appeared: between fork and exec it shows its parent's arguments."""
        looks: dict[str, int] = {}
        while not self._over.wait(0.02):
            with os.scandir("/proc") as entries:
                now = {entry.name for entry in entries if entry.name.isdigit()}
            looks = {name: looks.get(name, 0) + 1 for name in now}
            for name in (name for name, count in looks.items() if count < 5):
                with contextlib.suppress(OSError):
                    words = Path("/proc", name, "cmdline").read_bytes()
                    self._look("an argument of", words, words.split(b"\0")[:2])
                    if b"/stages/" in words and b"BAKE_PARENT=" in (own := Path("/proc", name, "environ").read_bytes()):
                        self._look("in the environment of", own, words.split(b"\0")[:2])
