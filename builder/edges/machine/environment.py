"""The native environment: one venv with what the stages need, made once from their own hash-locked requirements."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from builder.bootstrap.modules import run_module
from builder.core.config.paths import CONTENTS
from builder.core.config.types import Config, StageSpec
from builder.core.jobs.sandbox import look_seconds
from builder.core.progress import OnProgress, Progress
from builder.core.stage_env import stage_environment
from builder.edges.machine.hardware import apple_silicon
from builder.edges.system import files, pip, shell
from builder.edges.system.pip import Cause
from builder.errors import BakeError, IntegrityError, MissingError, SourceError
from builder.receiver.jobs.untrusted import parse_json

STAMP = "ready"
"""File in the environment's folder, written last: what has none was cut short. Its time is that of the last use."""

UNUSED = 24 * 3600.0
"""Seconds after its last use when an environment of older locks is removed: longer than any job."""

WHAT = "native environment"


def ready(config: Config, stages: Sequence[StageSpec], *, cuda: bool = False) -> Path | None:
    """The environment's python, or None when it has to be made.

    Args:
        cuda: the one that also has CUDA's libraries, where the variant's packages come without.
    """
    place = _place(config, stages, cuda=cuda)
    python = place / "bin" / "python"
    if not ((place / STAMP).is_file() and python.exists()):
        return None
    with contextlib.suppress(OSError):  # a read-only state folder
        os.utime(place / STAMP)  # in use: not to be swept
    return python


def ensure(
    config: Config,
    stages: Sequence[StageSpec],
    *,
    cuda: bool = False,
    env: Mapping[str, str],
    on_progress: OnProgress,
    force: bool = False,
) -> Path:
    """Make the environment unless it is there; a second process waits for the first.

    Raises:
        SourceError: the package index can't be reached or doesn't have a package.
        IntegrityError: a package is not the one that is locked.
        MissingError: the disk is full, or this Python can't make one.
    """
    if not force and (found := ready(config, stages, cuda=cuda)):
        return found
    place, locks = _place(config, stages, cuda=cuda), _locks(config, stages, cuda=cuda)
    try:
        with files.locked(place.parent / "lock"):
            if not force and (found := ready(config, stages, cuda=cuda)):
                return found
            _sweep(place, locks)
            _require_room(config, place, locks)
            if locks == _locks(config, stages, cuda=False):
                return _make(place, locks, env, on_progress, "the stages' packages")
            try:
                return _make(place, locks, env, on_progress, "the stages' packages and CUDA's libraries (1.3 GB)")
            except SourceError as error:
                error.hint = f"--device cpu needs no CUDA; or {error.hint}"
                raise
    except OSError as error:
        raise MissingError(
            f"the native environment can't be made: {error.strerror}", where=str(error.filename), hint="use --home DIR"
        ) from error


def media(
    config: Config, python: Path, env: Mapping[str, str]
) -> Callable[[Sequence[str], Path, Path | None], shell.Done]:
    """clip.py in the native environment, offline."""
    # The home of its libraries is the user's own: in /tmp others could leave settings for them.
    scratch = config.paths.native / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    variables = stage_environment(models=str(config.paths.models), scratch=str(scratch), threads=1, inherit=env)

    def look(options: Sequence[str], source: Path, target: Path | None) -> shell.Done:
        words = [*options, str(source), *([str(target)] if target else [])]
        clip = str(config.shipped / "stages/demux/clip.py")
        return shell.run([str(python), clip, *words], env=variables, timeout=look_seconds(source.stat().st_size))

    return look


def media_each(config: Config, python: Path, env: Mapping[str, str]) -> Callable[[Sequence[Path]], list[shell.Done]]:
    """clip.py --probe for many recordings by one process, which has loaded its libraries once: ten times as fast."""
    scratch = config.paths.native / "tmp"
    variables = stage_environment(models=str(config.paths.models), scratch=str(scratch), threads=1, inherit=env)
    words = [str(python), str(config.shipped / "stages/demux/clip.py"), "--probe-each"]

    def look(sources: Sequence[Path]) -> list[shell.Done]:
        """What was said of each, in order; of those after the one that ended the process, nothing."""
        names = b"\0".join(os.fsencode(source) for source in sources)
        limit = sum(look_seconds(source.stat().st_size) for source in sources)
        done = shell.run(words, env=variables, stdin=names, timeout=limit)
        found = []
        for line in done.out.splitlines()[: len(sources)]:
            try:
                data = parse_json(line.encode())
                code, said = int(data["code"]), str(data["said"])
            except (ValueError, TypeError, KeyError):
                break
            found.append(shell.Done(code=code, out=said if code == 0 else "", err=said))
        return found

    return look


def _make(place: Path, locks: Sequence[Path], env: Mapping[str, str], on_progress: OnProgress, what: str) -> Path:
    """Build beside ``place``, then move there: a pip whose parent was killed may still write into its own folder.

    Args:
        what: what is installed, for a person.
    """
    began = time.monotonic()
    part = place.with_name(f"{place.name}.{os.getpid()}.part")
    python = place / "bin" / "python"
    try:
        with _Pulse(on_progress, what):
            # pip of our own environment installs into the new one: it needs none, nor ensurepip.
            _run([*run_module(sys.executable, "venv"), "--without-pip", str(part)], env, part)
            _run(
                pip.command(
                    "--python",
                    str(part / "bin" / "python"),
                    "install",
                    *pip.LOCKED,
                    "--no-compile",
                    *(word for lock in locks for word in ("--requirement", str(lock))),
                ),
                env,
                part,
            )
            shutil.rmtree(place, ignore_errors=True)
            part.replace(place)
            # After the move, so that tracebacks name the real files. Imports take 0.24 s with bytecode, 0.35 without.
            site = next((place / "lib").glob("python*/site-packages"))
            compileall = [*run_module(str(python), "compileall"), "-q", str(site)]
            # -j 0 (all cores) needs /dev/shm. Packages may carry files that don't compile: no reason to fail.
            if "Traceback" in shell.run([*compileall, "-j", "0"], env=_without_ours(env)).err:
                shell.run(compileall, env=_without_ours(env))
    finally:
        shutil.rmtree(part, ignore_errors=True)
    files.write_atomic(place / STAMP, "".join(f"{word}\n" for word in _named(locks)))
    on_progress(Progress(what=WHAT, note=f"ready in {time.monotonic() - began:.0f} s", finished=True))
    return python


def _locks(config: Config, stages: Sequence[StageSpec], *, cuda: bool) -> list[Path]:
    variant = config.defaults.variant.value
    lacking = [s.name for s in stages if variant not in s.requirements]
    if lacking:
        raise MissingError(
            f"native jobs of the {variant} variant are not there yet: no requirements for {', '.join(lacking)}",
            hint="--variant slim",
        )
    chosen = replace(config, stages={stage.name: stage for stage in stages})
    return list(chosen.native_locks(cuda=cuda, apple=apple_silicon()))


UNPACKING = 1.7
"""Bytes that a set-up needs for a byte of a package: pip has all wheels on the disk before it installs the first."""


def _require_room(config: Config, place: Path, locks: Sequence[Path]) -> None:
    """Refuse a set-up that would fill the disk, before the first byte: the full variant has 6 GB of packages.

    Raises:
        MissingError: too little is free.
    """
    from builder.core.config import requirements
    from builder.core.images import estimate
    from builder.core.images.plan import CUDA

    sizes = files.read_object(config.shipped / "images" / "sizes.json")
    pins = {pin for lock in locks for pin in requirements.parse(lock.name, lock.read_text(encoding="utf-8"))}
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):  # torch comes without CUDA there
        pins = {pin for pin in pins if not pin.name.startswith(CUDA)}
    need = int(UNPACKING * estimate.installed_bytes(pins, sizes))
    files.require_room({place.parent: need}, "put the state elsewhere: --home DIR")


def _named(locks: Sequence[Path]) -> list[str]:
    return [f"{lock.name} of {lock.parent.name}" for lock in locks]


def cuda_libraries(python: Path) -> list[Path]:
    """The folders of CUDA's libraries in the environment of ``python``: CTranslate2 asks the loader for them by name."""
    return sorted(python.parent.parent.glob("lib/python*/site-packages/nvidia/*/lib"))


def cuda_cache(python: Path) -> Path:
    """The folder for what the driver compiles for a GPU that is newer than a wheel's machine code.

    It takes 12 s on an H100 (CTranslate2 4.8.5), each time: by default it is kept in HOME, which a stage has for one job.
    """
    return python.parent.parent / "cuda-cache"


def _place(config: Config, stages: Sequence[StageSpec], *, cuda: bool = False) -> Path:
    """A folder named by what goes into it: other locks or another Python are another environment."""
    digest = hashlib.sha256(sys.version.encode())
    for lock in _locks(config, stages, cuda=cuda):
        digest.update(lock.read_bytes())
    return config.paths.native / f"{config.defaults.variant.value}-{digest.hexdigest()[:12]}"


def _without_ours(env: Mapping[str, str]) -> dict[str, str]:
    """``env`` without what would lead pip or Python away from the new environment."""
    leads_away = {"PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "PIP_TARGET", "PIP_PREFIX"}
    return {k: v for k, v in env.items() if k not in leads_away} | {"PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0"}


def _run(argv: Sequence[str], env: Mapping[str, str], part: Path) -> None:
    """Run one step; its failure as the error a user can act on."""
    # Temporary files go inside, so that a killed set-up leaves nothing in /tmp.
    scratch = part.with_name("tmp")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        done = shell.run(argv, env={**_without_ours(env), "TMPDIR": str(scratch)})
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if done.code != 0:
        raise failure(done.err + done.out, part.parent)


def failure(text: str, folder: Path) -> BakeError:
    """What pip printed, as the error it means.

    Args:
        folder: where the environments are.
    """
    tail = [line for line in text.splitlines() if line.strip()][-6:]
    settings = "python3 -m pip config list"
    match pip.read_log(text).cause:
        case Cause.DISK_FULL:
            return MissingError(
                "the disk is full", where=str(folder), hint="free 600 MB, or use --home DIR", detail=tail
            )
        case Cause.UNWRITABLE:
            return MissingError(
                "the state folder can't be written", where=str(folder), hint="use --home DIR", detail=tail
            )
        case Cause.OTHER_BYTES:
            return IntegrityError(
                "a package from the index is not the one that is locked",
                detail=tail,
                hint="ask who runs the index; nothing of it was installed",
            )
        case Cause.CERTIFICATE:
            return SourceError(
                "the package index has a certificate this machine doesn't trust",
                detail=tail,
                hint="name the CA bundle: PIP_CERT=FILE, or cert = FILE in pip.conf",
            )
        case Cause.UNREACHABLE:
            return SourceError(
                "the package index can't be reached",
                detail=tail,
                hint=f"check the network and pip's settings ({settings}), then run this again",
            )
        case Cause.NO_WHEEL:
            kind = f"Python {sys.version_info[0]}.{sys.version_info[1]} on {sys.platform} {platform.machine()}"
            return SourceError(
                f"pip found no wheel for {kind}",
                detail=tail,
                hint=f"{settings} shows where it looks; there are wheels for Python 3.10 to 3.14 (full: to 3.13)",
            )
        case _:
            return SourceError(
                "the stages' packages could not be installed",
                detail=tail,
                hint=f"run this again; {settings} shows where pip looks",
            )


def _sweep(place: Path, locks: Sequence[Path]) -> None:
    """Remove what is left of killed set-ups, and environments of older locks that no job has used for a while.

    Called with the lock held, so nobody else is making one. An environment of other stages has none of ``locks``, and stays.
    """
    mine = set(_named(locks))
    for other in place.parent.glob("*"):
        if not other.is_dir() or other == place or not CONTENTS["native"].fullmatch(other.name):
            continue
        same_variant = other.name.split("-")[0] == place.name.split("-")[0]
        with contextlib.suppress(FileNotFoundError):
            stamp = other / STAMP
            older = same_variant and stamp.exists() and mine & set(stamp.read_text().splitlines())
            if not stamp.exists() or (older and time.time() - stamp.stat().st_mtime > UNUSED):
                shutil.rmtree(other, ignore_errors=True)


class _Pulse:
    """Reports every ten seconds that work continues: pip shows no progress that a program can read."""

    def __init__(self, on_progress: OnProgress, installed: str) -> None:
        self._on_progress, self._installed, self._over = on_progress, installed, threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> None:
        self._on_progress(Progress(what=WHAT, note=f"installing {self._installed}, once"))
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        began = time.monotonic()
        while not self._over.wait(10.0):
            self._on_progress(Progress(what=WHAT, note=f"installing, {time.monotonic() - began:.0f} s"))
