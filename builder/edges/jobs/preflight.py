"""Before a job runs: is everything there, whole and large enough? Cached for 24 hours, keyed by what was inspected."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType

from builder.core.config.types import Config
from builder.core.jobs import compose
from builder.core.jobs.job import Job
from builder.edges.machine import hardware as probe
from builder.edges.system import files
from builder.edges.weights import access
from builder.edges.weights.store import Store
from builder.errors import BakeError, InputError, MissingError
from builder.program import command, shell_word
from builder.receiver.jobs.job import sound_bytes
from builder.receiver.jobs.untrusted import size_below

FRESH = 24 * 3600.0
"""Seconds that a result is good for, if nothing it looked at changes."""

MB = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was inspected; ``failure`` says what to do about it."""

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


@dataclass(frozen=True, kw_only=True)
class Containers:
    """What jobs in containers need: an engine, and images of all stages."""

    engine: str
    """Its address."""
    images: Sequence[str]
    """Ids of the images."""
    models: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Stage -> digests of the models that its container has without this machine's store."""


def check(
    config: Config,
    job: Job,
    *,
    python: Path | None,
    apart: Mapping[str, Path | None] = MappingProxyType({}),
    containers: Containers | None = None,
    lacking: Check | None = None,
    env: Mapping[str, str] = MappingProxyType({}),
    refresh: bool = False,
    now: float | None = None,
) -> Checks:
    """Inspect what ``job`` needs.

    Args:
        python: of the native environment; None when it is missing.
        apart: the same of stages that have an environment of their own, by their names.
        containers: in place of native environments.
        lacking: why there are no containers, where there should be some.
        env: the caller's environment, which says where its secrets are.
        refresh: inspect everything, whatever the cache says.
        now: seconds since the epoch, for tests.
    """
    at = time.time() if now is None else now
    job_folder = config.jobs / job.id
    cache = config.paths.preflight
    pythons = {"": python, **apart} if containers is None and lacking is None else {}
    key = _key(config, job, [*pythons.values()], containers, env)
    entries = {k: v for k, v in files.read_object(cache).items() if isinstance(v, dict)}
    # Room is never cached: other programs use disk and memory too.
    room = (
        _inspect("disk", partial(_disk, job, job_folder)),
        _inspect("memory", partial(_memory, config, job)),
    )
    entry = entries.get(job.id, {})
    fresh = entry.get("key") == key and 0 <= at - entry.get("at", -FRESH) < FRESH
    if fresh and not refresh and lacking is None:
        return Checks(checks=(*(Check(name=n, note=t) for n, t in entry["notes"]), *room), cached=True)
    checked = (
        *([lacking] if lacking else _of_place(config, job, pythons, containers)),
        _inspect("secrets", partial(_secrets, config, env)),
        *(_inspect(f"model {id_}", partial(_model, config, id_)) for id_ in _of_store(job, containers)),
        *(_inspect(f"recording {i.name}", partial(_recording, job_folder, i.path, i.size)) for i in job.inputs),
    )
    if not any(c.failure for c in checked):
        entries = {k: v for k, v in entries.items() if at - v.get("at", 0) < FRESH}
        entries[job.id] = {"at": at, "key": key, "notes": [[c.name, c.note] for c in checked]}
        with contextlib.suppress(OSError):
            files.write_json(cache, entries)
    return Checks(checks=(*checked, *room), cached=False)


def _inspect(name: str, test: Callable[[], str]) -> Check:
    try:
        return Check(name=name, note=test())
    except BakeError as failure:
        return Check(name=name, note=failure.what, failure=failure)


def _uses(job: Job) -> dict[str, str]:
    """Ids of the job's models, and their folders."""
    return {use.id: use.path for stage in job.stages for use in stage.models.values()}


def _of_store(job: Job, containers: Containers | None) -> list[str]:
    """Ids of the job's models that come from this machine's store."""
    inside = containers.models if containers is not None else {}
    uses = [(use, inside.get(stage.name, frozenset())) for stage in job.stages for use in stage.models.values()]
    return list(dict.fromkeys(use.id for use, there in uses if use.digest not in there))


def _key(
    config: Config,
    job: Job,
    pythons: Sequence[Path | None],
    containers: Containers | None,
    env: Mapping[str, str],
) -> str:
    """A hash over the identity of everything that is inspected."""
    store = config.paths.models
    watched = [config.root / "models.lock", *(config.jobs / job.id / i.path for i in job.inputs)]
    for folder in _uses(job).values():
        with contextlib.suppress(OSError):
            watched += sorted((store / folder).iterdir())
    about: list[str] = [containers.engine, *containers.images] if containers else [str(python) for python in pythons]
    for python in filter(None, pythons):
        with contextlib.suppress(OSError):  # its time is that of the last use
            about.append(str((python.parent.parent / "ready").stat().st_ino))
    if containers is not None:  # an engine that was started again has a new socket
        watched.append(Path(containers.engine.removeprefix("unix://")))
    watched += _secret_files(config, env)
    identities = []
    for path in watched:
        try:
            status = path.stat()
            identities.append([str(path), status.st_size, status.st_mtime_ns, status.st_ino, status.st_mode])
        except OSError:
            identities.append([str(path), None])
    return hashlib.sha256(json.dumps([job.key, *about, identities]).encode()).hexdigest()


def _environment(stage: str, python: Path | None, job: Job) -> str:
    """A native environment is there; it is that of all stages, or of one that has its own."""
    if python is None and stage:
        what = f"the native environment of stage {stage} is missing"
        raise MissingError(what, hint=f"{command(f'run {job.id}')} makes it, from the package index")
    if python is None:
        raise MissingError("the native environment is missing", hint=command("bootstrap"))
    return "ready"


def _of_place(
    config: Config, job: Job, pythons: Mapping[str, Path | None], containers: Containers | None
) -> list[Check]:
    """The native environments; or engine, compose, images, and the way to a GPU where a stage wants one."""
    if containers is None:
        return [
            _inspect(f"environment of {stage}" if stage else "environment", partial(_environment, stage, python, job))
            for stage, python in pythons.items()
        ]
    from builder.edges.engine import connection as engines
    from builder.edges.engine import needs

    try:
        info = engines.info(containers.engine)
    except BakeError as failure:
        return [Check(name="engine", note=failure.what, failure=failure)]
    checks = [
        _inspect("engine", lambda: needs.engine(info, containers.engine)),
        _inspect("compose", lambda: needs.compose(info)),
        _inspect("images", lambda: _images(containers)),
    ]
    if any(compose.needs_gpu(stage) for stage in job.stages):
        checks.append(_inspect("GPU", lambda: needs.gpu(info, config.defaults.gpu_driver)))
    return checks


def _images(containers: Containers) -> str:
    from builder.edges.engine import connection as engines

    for image in containers.images:
        if engines.image_ids(containers.engine, [image]) is None:
            raise MissingError(f"image {image[:19]} is gone", where=containers.engine, hint=command("build"))
    return f"{len(containers.images)}, by id"


def _secret_files(config: Config, env: Mapping[str, str]) -> list[Path]:
    """Files of this user that may hold a secret: the hub client's token, and our own secrets."""
    return [access.client_token(env), access.secrets_file(env, config.home)]


def _secrets(config: Config, env: Mapping[str, str]) -> str:
    """No stage needs one; but whoever can read this machine's files should not get one either."""
    secrets = [p for p in _secret_files(config, env) if p.is_file()]
    for path in secrets:
        if path.stat().st_mode & 0o077 and path == access.secrets_file(env, config.home):
            raise MissingError("others can read a secret", where=str(path), hint=f"chmod 600 {shell_word(path)}")
    exposed = [str(p) for p in secrets if p.stat().st_mode & 0o077]
    return f"others can read {exposed[0]}: chmod 600 it" if exposed else f"{len(secrets)}, readable by you alone"


def _model(config: Config, id_: str) -> str:
    model, pin = config.models.get(id_), config.pins.get(id_)
    if model is None or pin is None:
        raise MissingError(f"model {id_} is no longer in models.lock", hint="prepare the recording again")
    Store(config.paths.models).require(model, pin)
    return f"{pin.size / MB:.0f} MB, as models.lock says"


def _recording(job_folder: Path, path: str, size: int) -> str:
    size_now = size_below(job_folder, path)
    if size_now is None:
        raise InputError("the job's recording is gone", where=str(job_folder / path), hint="prepare it again")
    if size_now != size:
        raise InputError(
            f"the recording has {size_now} bytes, it had {size} when the job was made",
            where=str(job_folder / path),
            hint="prepare it again",
        )
    return f"{size / MB:.1f} MB"


def room(job: Job) -> int:
    """Bytes that a job may write: the sound of its recordings, with mux a copy of each, and the texts.

    Where channels are heard apart, each of two has its own sound beside. What separate makes is as long.
    """
    stages = {stage.name: stage for stage in job.stages}
    apart = "demux" in stages and stages["demux"].settings.get("channels") == "split"
    sound = (
        sum(sound_bytes(i.size, i.duration) for i in job.inputs)
        * (3 if apart else 1)
        * (2 if "separate" in stages else 1)
    )
    return 8 * MB + sound + (sum(i.size for i in job.inputs) if "mux" in stages else 0)


def _disk(job: Job, job_folder: Path) -> str:
    need = room(job)
    files.require_room({job_folder: need}, "set BAKE_JOBS to a folder on another disk", reserve=0)
    return f"{files.free_bytes(job_folder) / MB:.0f} MB free, up to {need / MB:.0f} MB needed"


def _memory(config: Config, job: Job) -> str:
    """The hungriest stage with its models must fit; whoever has less than that would be killed half way."""
    sizes = {id_: pin.size for id_, pin in config.pins.items()}
    need = max(compose.needed(job, stage, spec=config.stages.get(stage.name), sizes=sizes) for stage in job.stages)
    free = probe.memory_available()
    if free < need:
        raise MissingError(
            f"too little memory: {free / MB:.0f} MB free, {need / MB:.0f} MB needed",
            hint="close other programs, or take a smaller preset",
        )
    return f"{free / MB:.0f} MB free, {need / MB:.0f} MB needed"
