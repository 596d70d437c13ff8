"""The native environment: one venv with what the stages need, made once from their own hash-locked requirements."""

from __future__ import annotations

import hashlib
import shutil
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from builder.core.progress import Progress, Report
from builder.core.types import Config, StageSpec
from builder.edges import files, shell
from builder.errors import MissingError, SourceError

STAMP = "ready"
"""File in the environment's folder, written last: what has none was cut short."""


def ready(config: Config, stages: Sequence[StageSpec]) -> Path | None:
    """The environment's python, or None when it has to be made. Looks at two files."""
    place = _place(config, stages)
    python = place / "bin" / "python"
    return python if (place / STAMP).is_file() and python.exists() else None


def ensure(
    config: Config, stages: Sequence[StageSpec], *, env: Mapping[str, str], report: Report, force: bool = False
) -> Path:
    """Make the environment unless it is there; a second process waits for the first.

    Raises:
        SourceError: the package index can't be reached or doesn't have a package.
        MissingError: the disk is full, or this Python can't make one.
    """
    place = _place(config, stages)
    with files.locked(place.with_suffix(".lock")):
        if not force and (found := ready(config, stages)):
            return found
        shutil.rmtree(place, ignore_errors=True)
        began = time.monotonic()
        locks = _locks(config, stages)
        with _Pulse(report, "native environment"):
            # pip of our own environment installs into the new one: it needs none, nor ensurepip.
            _run([sys.executable, "-m", "venv", "--without-pip", str(place)], env, place)
            _run(
                [sys.executable, "-m", "pip", "--python", str(place / "bin" / "python"), "install", "--quiet",
                 "--disable-pip-version-check", "--no-input", "--no-deps", "--require-hashes", "--only-binary", ":all:",
                 *(word for lock in locks for word in ("--requirement", str(lock)))],
                env, place,
            )  # fmt: skip
            # Imports are a third quicker with bytecode, and pip leaves none when the caller turned it off.
            site = next((place / "lib").glob("python*/site-packages"))
            shell.run([str(place / "bin" / "python"), "-m", "compileall", "-q", "-j", "0", str(site)], env=env)
        (place / STAMP).write_text("\n".join(str(lock.relative_to(config.root)) for lock in locks) + "\n")
        report(Progress(what="native environment", note=f"ready in {time.monotonic() - began:.0f} s", finished=True))
        _sweep(place)
        return place / "bin" / "python"


def _locks(config: Config, stages: Sequence[StageSpec]) -> list[Path]:
    variant = config.defaults.variant.value
    lacking = [s.name for s in stages if variant not in s.requirements]
    if lacking:
        raise MissingError(
            f"native jobs of the {variant} variant are not there yet: no requirements for {', '.join(lacking)}",
            hint="--variant slim",
        )
    return sorted({config.root / s.requirements[variant] for s in stages})


def _place(config: Config, stages: Sequence[StageSpec]) -> Path:
    """A folder named by what goes into it: other locks or another Python are another environment."""
    digest = hashlib.sha256(sys.version.encode())
    for lock in _locks(config, stages):
        digest.update(lock.read_bytes())
    return config.home / "native" / f"{config.defaults.variant.value}-{digest.hexdigest()[:12]}"


def _run(argv: Sequence[str], env: Mapping[str, str], place: Path) -> None:
    # The venv this program runs in must not leak into the one that is made.
    clean = {
        k: v for k, v in env.items() if k not in ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "PIP_TARGET", "PIP_USER")
    }
    done = shell.run(argv, env=clean)
    if done.code == 0:
        return
    text = done.err + done.out
    shutil.rmtree(place, ignore_errors=True)
    tail = [line for line in text.splitlines() if line.strip()][-6:]
    if "No space left" in text or "Disk quota" in text:
        raise MissingError(
            "the disk is full", where=str(place.parent), hint="free 600 MB, or use --home DIR", detail=tail
        )
    if "Permission denied" in text or "Read-only file system" in text:
        raise MissingError(
            "the state folder can't be written", where=str(place.parent), hint="use --home DIR", detail=tail
        )
    raise SourceError(
        "the stages' packages could not be installed", detail=tail,
        hint="check that pip can reach its index (pip config list), then run this again",
    )  # fmt: skip


def _sweep(kept: Path) -> None:
    """Remove environments of other locks of this variant; a job that runs in one keeps its files open."""
    for other in kept.parent.glob(f"{kept.name.split('-')[0]}-*"):
        if other != kept and other.is_dir():
            shutil.rmtree(other, ignore_errors=True)


class _Pulse:
    """Says twice a second that something is still going on; pip has no progress a program can read."""

    def __init__(self, report: Report, what: str) -> None:
        self._report, self._what, self._over = report, what, threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> None:
        self._report(Progress(what=self._what, note="installing the stages' packages, once"))
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        began = time.monotonic()
        while not self._over.wait(10.0):
            self._report(Progress(what=self._what, note=f"installing, {time.monotonic() - began:.0f} s"))
