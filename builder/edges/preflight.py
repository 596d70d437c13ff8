"""Before a job runs: is everything there, whole and large enough? Cached for 24 hours, keyed by what was looked at."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.core.job import Job
from builder.core.types import Config
from builder.edges import files, probe
from builder.edges.store import Store
from builder.errors import BakeError, InputError, MissingError

FRESH = 24 * 3600.0
"""Seconds that a result is good for, if nothing it looked at changes."""

MB = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at; ``failure`` says what to do about it."""

    name: str
    note: str
    failure: BakeError | None = None


@dataclass(frozen=True, kw_only=True)
class Checks:
    """All of them."""

    checks: tuple[Check, ...]
    cached: bool

    def raise_failure(self) -> None:
        """Raise the first failure."""
        for check in self.checks:
            if check.failure is not None:
                raise check.failure


def check(
    config: Config, job: Job, *, python: Path | None, images: Sequence[str] = (), refresh: bool = False,
    now: float | None = None,
) -> Checks:  # fmt: skip
    """Look at what ``job`` needs.

    Args:
        python: of the native environment, or None when it isn't there.
        images: ids of the images that all stages run in, in place of a native environment.
        refresh: look, whatever the cache says.
        now: seconds since the epoch, for tests.
    """
    at = time.time() if now is None else now
    place = config.jobs / job.id
    cache = config.home / "cache" / "preflight.json"
    key = _key(config, job, python, images)
    known = files.read_json(cache)
    entry = known.get(job.id) if isinstance(known, dict) else None
    # Room is never cached: other programs use disk and memory too.
    room = (_look("disk", lambda: _disk(config, job, place)), _look("memory", lambda: _memory(config, job)))
    if not refresh and entry and entry.get("key") == key and 0 <= at - entry.get("at", -FRESH) < FRESH:
        return Checks(checks=(*(Check(name=n, note=t) for n, t in entry["notes"]), *room), cached=True)
    found = (
        _look("environment", lambda: _environment(python, images)),
        *(_look(f"model {use}", lambda u=use: _model(config, u)) for use in _uses(job)),  # type: ignore[misc]
        *(_look(f"recording {i.name}", lambda p=place / i.path, n=i.size: _recording(p, n)) for i in job.inputs),  # type: ignore[misc]
    )
    if not any(c.failure for c in found):
        fresh = known if isinstance(known, dict) else {}
        fresh = {k: v for k, v in fresh.items() if isinstance(v, dict) and at - v.get("at", 0) < FRESH}
        fresh[job.id] = {"at": at, "key": _key(config, job, python, images), "notes": [[c.name, c.note] for c in found]}
        with contextlib.suppress(OSError):
            files.write_json(cache, fresh)
    return Checks(checks=(*found, *room), cached=False)


def _look(name: str, test: Callable[[], str]) -> Check:
    try:
        return Check(name=name, note=test())
    except BakeError as failure:
        return Check(name=name, note=failure.what, failure=failure)


def _uses(job: Job) -> dict[str, str]:
    """Ids of the job's models, and their folders."""
    return {use.id: use.path for stage in job.stages for use in stage.models.values()}


def _key(config: Config, job: Job, python: Path | None, images: Sequence[str]) -> str:
    """A hash over the identity of everything that is looked at."""
    store = config.home / "models"
    watched = [config.root / "models.lock", *(config.jobs / job.id / i.path for i in job.inputs)]
    for folder in _uses(job).values():
        with contextlib.suppress(OSError):
            watched += sorted((store / folder).iterdir())
    if python is not None:
        watched.append(python.parent.parent / "ready")
    identities = []
    for path in watched:
        try:
            found = path.stat()
            identities.append([str(path), found.st_size, found.st_mtime_ns, found.st_ino])
        except OSError:
            identities.append([str(path), None])
    return hashlib.sha256(json.dumps([job.key, str(python), list(images), identities]).encode()).hexdigest()


def _environment(python: Path | None, images: Sequence[str]) -> str:
    if images:
        return f"{len(images)} images"
    if python is None:
        raise MissingError("the native environment is not there", hint="build.py bootstrap")
    return "ready"


def _model(config: Config, id_: str) -> str:
    model, pin = config.models.get(id_), config.pins.get(id_)
    if model is None or pin is None:
        raise MissingError(f"model {id_} is no longer in models.lock", hint="prepare the recording again")
    Store(config.home / "models").require(model, pin)
    return f"{pin.size / MB:.0f} MB, as models.lock says"


def _recording(path: Path, size: int) -> str:
    try:
        found = path.stat().st_size
    except OSError as error:
        raise InputError("the job's recording is gone", where=str(path), hint="prepare it again") from error
    if found != size:
        raise InputError(
            f"the recording has {found} bytes, it had {size} when the job was made", where=str(path),
            hint="prepare it again",
        )  # fmt: skip
    return f"{size / MB:.1f} MB"


def _disk(config: Config, job: Job, place: Path) -> str:
    """A recording becomes 16 kHz WAV (at most ten times a compressed file's size) and, with mux, a copy of itself."""
    need = 8 * MB + sum(i.size * (11 if "mux" in {s.name for s in job.stages} else 10) for i in job.inputs)
    need = min(need, 8 * MB + sum(i.size for i in job.inputs) + 4_300 * MB * len(job.inputs))
    try:
        free = shutil.disk_usage(place if place.exists() else config.root).free
    except OSError as error:
        raise MissingError(f"the disk can't be asked for its room: {error.strerror}", where=str(place)) from error
    if free < need:
        raise MissingError(
            f"the disk is too full: {free / MB:.0f} MB free, up to {need / MB:.0f} MB needed", where=str(place),
            hint="free some space, or set BAKE_JOBS to a folder on another disk",
        )  # fmt: skip
    return f"{free / MB:.0f} MB free, up to {need / MB:.0f} MB needed"


def _memory(config: Config, job: Job) -> str:
    """The hungriest stage with its models must fit; whoever has less than that would be killed half way."""
    need = 0
    for stage in job.stages:
        models = sum(config.pins[u.id].size for u in stage.models.values() if u.id in config.pins)
        spec = config.stages.get(stage.name)
        need = max(need, (spec.memory_mb if spec else 256) * MB + models)
    free = probe.memory_available()
    if free < need:
        raise MissingError(
            f"too little memory: {free / MB:.0f} MB free, {need / MB:.0f} MB needed",
            hint="close other programs, or take a smaller preset",
        )  # fmt: skip
    return f"{free / MB:.0f} MB free, {need / MB:.0f} MB needed"


def summary(checks: Checks) -> Mapping[str, object]:
    """For ``--json``."""
    return {
        "cached": checks.cached,
        "ok": not any(c.failure for c in checks.checks),
        "checks": [{"name": c.name, "ok": c.failure is None, "note": c.note} for c in checks.checks],
    }
