"""Building images: BuildKit builds their code into the layout, weights join it there, the engine gets what it lacks."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from builder.core.config.types import Config
from builder.core.images import assembly, currency, estimate, oci
from builder.core.images import graph_driver as piecewise
from builder.core.images import render as rendering
from builder.core.images.build_log import BuildLog
from builder.core.images.oci import Descriptor
from builder.core.images.plan import Plan, PlannedImage
from builder.core.progress import OnProgress, Progress
from builder.core.weights.model import Model, Pin
from builder.edges.engine import buildx, kept
from builder.edges.engine import connection as engines
from builder.edges.engine.connection import Engine
from builder.edges.images import assemble, load
from builder.edges.images import code_image as code
from builder.edges.images import site as network
from builder.edges.images.installed import id_of, labels_of
from builder.edges.images.layout import Layout, Stored
from builder.edges.images.rendered import ROOTFS, Rendered, sizes
from builder.edges.system import files, pip, shell
from builder.edges.system.pip import Cause
from builder.edges.weights.store import Store
from builder.errors import (
    BakeError,
    BuildError,
    IntegrityError,
    Interrupted,
    MissingError,
    SourceError,
)
from builder.program import command, shell_word
from builder.receiver.missing import CONTAINERD

KEPT_LOGS = 5

Bake = Callable[..., None]
"""Runs BuildKit: ``bake(names, output, cache=…, file=…)``."""


@dataclass(frozen=True, kw_only=True)
class Built:
    """What became of one image; seconds of wall time since the build began, 0 when it was there."""

    name: str
    tag: str
    state: str
    """``built``, ``cached`` (every layer was there), ``assembled`` (new weights only), ``up to date`` or ``held``."""
    seconds: float
    sent: int = 0
    """Bytes of layers that went to the engine."""


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What one build works with."""

    config: Config
    made: Rendered
    folder: Path
    engine: Engine
    layout: Layout
    store: Store
    env: Mapping[str, str]
    on_progress: OnProgress
    cache: bool
    held: Collection[str] = ()
    exported: set[str] = field(default_factory=set)
    """Digests of the blobs that this engine's BuildKit exported in this run."""

    @property
    def base_digest(self) -> str:
        return self.made.base_digest or ""

    def carried(self, image: PlannedImage) -> tuple[tuple[Model, Pin], ...]:
        return self.made.plan.carried(image)


def build(
    config: Config,
    made: Rendered,
    folder: Path,
    engine: Engine,
    *,
    env: Mapping[str, str],
    on_progress: OnProgress,
    cache: bool = True,
    held: Collection[str] = (),
) -> tuple[Built, ...]:
    """Build what is not up to date. Its weights have to be in the store.

    Images of another platform than the engine's go into the layout alone: an engine would run them or refuse them by
    emulators that it happens to have.

    Args:
        held: tags that stay as they are, whatever they are made from (:mod:`builder.edges.images.past.versions`).
        cache: whether BuildKit may take what it built before.

    Raises:
        BuildError: a step failed; with its last lines and the log.
        MissingError: too little disk, or a model is not in the store.
        IntegrityError: a weight file or a blob is not what it should be; no tag was touched.
        Interrupted: Ctrl-C; what is finished is kept.
    """
    store = Store(config.paths.models)
    job = _Job(
        config=config,
        made=made,
        folder=folder,
        engine=engine,
        layout=Layout(config.paths.layout, store.root),
        store=store,
        env=env,
        on_progress=on_progress,
        cache=cache,
        held=held,
    )
    with files.locked(job.layout.lock):
        return _build(job)


def _build(job: _Job) -> tuple[Built, ...]:
    images = job.made.plan.images
    labels = {image.tag: _labels(job, image) for image in images}
    stale = outdated(job.made, labels) if job.cache else list(images)
    old = [image for image in stale if image.tag not in job.held]
    done = {i.name: Built(name=i.name, tag=i.tag, state="held", seconds=0.0) for i in stale if i not in old}
    if old:
        done |= _built(job, old)
    return tuple(done.get(i.name, Built(name=i.name, tag=i.tag, state="up to date", seconds=0.0)) for i in images)


def _built(job: _Job, old: Sequence[PlannedImage]) -> dict[str, Built]:
    """Build images; what became of each, by its name."""
    foreign = job.made.plan.platform is not None
    for model, pin in {m.id: (m, pin) for i in old for m, pin in job.carried(i)}.values():
        job.store.require(model, pin)
    began = time.monotonic()
    before = {image.tag: id_of(job.engine, image.tag) for image in job.made.plan.images}
    fresh = [i for i in old if not job.cache or _code_of(job, i) is None]
    states = _code(job, fresh) if fresh else {}
    done = {}
    for image in old:
        stored = _assemble(job, image)
        sent = 0 if foreign else _load(job, stored).sent
        seconds = round(time.monotonic() - began, 1)
        done[image.name] = Built(
            name=image.name, tag=image.tag, state=states.get(image.name, "assembled"), seconds=seconds, sent=sent
        )
        job.on_progress(Progress(what=image.name, note=done[image.name].state, finished=True))
    if not foreign:
        drop_replaced(job.engine, job.config.jobs, before)
    return done


def _labels(job: _Job, image: PlannedImage) -> dict[str, str]:
    """Those of the image where it belongs: in the engine, or for another platform, whole in the layout."""
    if job.made.plan.platform is None:
        return labels_of(job.engine, image.tag)
    return job.layout.labels(image.tag) if _code_of(job, image) is not None else {}


def outdated(made: Rendered, labels: Mapping[str, Mapping[str, str]]) -> list[PlannedImage]:
    """The planned images that are missing, not current, or made without this tool.

    Args:
        labels: those of the engine's images, by tag; empty where there is none.
    """
    pairs = [(image, labels.get(image.tag, {}), made.expected(image)) for image in made.plan.images]
    return [
        i for i, known, today in pairs if currency.differences(known, today) or not currency.assembled(known, today)
    ]


def _code_of(job: _Job, image: PlannedImage) -> str | None:
    """Manifest of the code image in the layout, when it is the one that is wanted and whole."""
    entry = job.layout.images().get(image.tag, {})
    today = {"inputs": job.made.fingerprints[image.name], "base": job.base_digest}
    if {name: entry.get(name) for name in today} != today:
        return None
    return str(entry["code"]) if code.whole(job.layout, entry["code"]) else None


def _code(job: _Job, images: Sequence[PlannedImage]) -> dict[str, str]:
    """Build the code of images and bring it into the layout; what became of each."""
    site = network.find(job.config.network, job.env)
    for note in site.notes:
        job.on_progress(Progress(what="network", note=note, finished=True))
    log = _log(job.config.paths.logs)
    seen = BuildLog(tags={image.tag: image.name for image in images})
    with network.secrets(site) as secrets, log.open("w", encoding="utf-8", buffering=1) as out:
        # Line by line: what a failure means is read from there. The code alone: weights come from the store.
        without = dict.fromkeys(["ENVIRONMENT", *rendering.arguments_of(job.made.plan).values()], "development")
        variables = {**without, "BASE_DIGEST": job.base_digest, **_commit(job.config.shipped, job.env)}

        def bake(names: Sequence[str], output: str, *, cache: bool = True, file: Path | None = None) -> None:
            for line in buildx.bake(
                job.engine.host,
                job.folder,
                names,
                variables={**variables, **secrets},
                cache=cache,
                output=output,
                file=file,
            ):
                out.write(line if line.endswith("\n") else f"{line}\n")
                for part in line.splitlines():
                    if (now := seen.feed(part)) and now[1]:
                        job.on_progress(Progress(what=now[0], note=now[1]))
                    steps, all_steps = seen.progress()
                    if steps:
                        job.on_progress(Progress(what="build", done=steps, total=all_steps))

        with _failures(seen, log):
            if job.engine.store == CONTAINERD:
                _exported(job, images, bake)
            else:
                _piecewise(job, images, bake, variables)
    steps, _ = seen.progress()
    if steps:
        job.on_progress(Progress(what="build", done=steps, total=steps, finished=True))
    _remember_sizes(job.config, seen.sizes)
    return {i.name: "built" if seen.built(_stages(i)) else "cached" for i in images}


def _exported(job: _Job, images: Sequence[PlannedImage], bake: Bake) -> None:
    """By BuildKit's OCI exporter."""
    # All of them together into the cache; exports of several at the same moment collide on a shared layer.
    if len(images) > 1 or not job.cache:
        bake([i.name for i in images], "type=cacheonly", cache=job.cache)
    for image in images:
        job.on_progress(Progress(what=image.name, note="into the layout"))
        bake([image.name], code.output(job.layout))
        if not code.whole(job.layout, code.exported(job.layout, image.tag)):  # a damaged blob was there before
            bake([image.name], code.output(job.layout))
        _record_code(job, image, code.exported(job.layout, image.tag))


def _piecewise(job: _Job, images: Sequence[PlannedImage], bake: Bake, variables: Mapping[str, str]) -> None:
    """Layer by layer, on an engine with a graph driver."""
    plan, texts = job.made.plan, job.made.files
    if plan.platform is not None and plan.base.kind != "debian":
        raise MissingError(
            f"an engine with {job.engine.store} has {plan.base.reference} for one platform at a time",
            where=job.engine.host,
            hint="base.kind: debian in bake.yaml, or an engine with the containerd store",
        )
    parts = {i.name: piecewise.parts(plan, i, texts, job.base_digest) for i in images}
    stages = {part.stage: part.key for found in parts.values() for part in found}
    known = job.layout.parts()
    wanted = {s: key for s, key in stages.items() if not job.cache or key not in known}
    job.layout.incoming.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=job.layout.incoming) as folder:
        if wanted:
            note = (
                f"an engine with {job.engine.store} has no OCI exporter: {len(wanted)} layers are exported one by one"
            )
            job.on_progress(Progress(what="layers", note=note, finished=True))
            tars = {stage: Path(folder) / f"{stage}.tar" for stage in wanted}
            file = Path(folder) / "docker-bake.json"
            file.write_text(piecewise.bake_file({s: str(path) for s, path in tars.items()}, texts), encoding="utf-8")
            bake([], "", cache=job.cache, file=file)
            for stage, path in tars.items():
                known[wanted[stage]] = job.layout.take(files.chunks(path), oci.TAR)
                path.unlink()
            job.layout.keep_parts(known)
    root: tuple[Descriptor, ...] = ()
    base = None
    if plan.base.kind == "debian":
        key = f"root {job.base_digest}"
        if key not in known:
            known[key] = job.layout.take(files.chunks(job.folder / ROOTFS), oci.TAR)
            job.layout.keep_parts(known)
        root = (known[key],)
    else:
        reference = plan.base.reference + (f"@{plan.base.digest}" if plan.base.digest else "")
        engines.pull(job.engine, reference)
        base = code.image(job.layout, code.saved(job.engine, job.layout, reference))
    epoch = int(variables.get("SOURCE_DATE_EPOCH", rendering.EPOCH))
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))
    architecture = plan.platform.architecture if plan.platform else job.engine.architecture
    for image in images:
        blobs = [*root, *(known[part.key] for part in parts[image.name])]
        written = piecewise.image(
            plan, image, blobs, texts, variables, created=when, architecture=architecture, base=base
        )
        job.layout.put(written.config)
        _record_code(job, image, job.layout.put(written.manifest))


def _record_code(job: _Job, image: PlannedImage, manifest: str) -> None:
    job.exported.update(layer.blob.digest for layer in code.image(job.layout, manifest).layers)
    entry, platform = job.layout.images().get(image.tag, {}), job.made.plan.platform
    job.layout.record(
        image.tag,
        {
            **entry,
            "code": manifest,
            "inputs": job.made.fingerprints[image.name],
            "base": job.base_digest,
            **({"platform": platform.name} if platform else {}),
        },
    )


def _assemble(job: _Job, image: PlannedImage) -> Stored:
    manifest = _code_of(job, image)
    if manifest is None:
        raise IntegrityError(
            f"the code of {image.name} in the layout is damaged",
            where=str(job.layout.root),
            hint="the same command again",
        )
    blocks, carried = job.made.order[image.name], job.carried(image)
    labels = {**rendering.plain_labels(job.made.files, image), **assembly.labels(blocks, carried)}
    return assemble.assemble(
        job.layout, image.tag, manifest, blocks, carried, labels=labels, on_progress=job.on_progress
    )


def _load(job: _Job, stored: Stored) -> load.Loaded:
    contents = load.inspect(job.engine, job.layout)
    need = load.room(job.engine, contents, stored, job.exported)
    if job.engine.free is not None and need > job.engine.free:
        raise MissingError(
            f"the engine has {job.engine.free / 1e9:.1f} GB free; {stored.ref} needs {need / 1e9:.1f} GB",
            where=job.engine.root,
            hint=f"docker image prune, {command('prune')}, or free some space",
        )

    def on_bytes(done: int, total: int) -> None:
        job.on_progress(
            Progress(what=f"{stored.ref} to the engine", done=done, total=total, unit="bytes", finished=done >= total)
        )

    loaded = load.load(job.engine, job.layout, stored, contents=contents, built=job.exported, on_bytes=on_bytes)
    if loaded.lacked:
        job.on_progress(
            Progress(
                what=stored.ref, note="the engine lacked layers that it was built with; it got them", finished=True
            )
        )
    return loaded


def _stages(image: PlannedImage) -> list[str]:
    """The build stages that are an image's own."""
    own = [image.name, f"code-{image.name}", *(f"libraries-{name}" for name in image.libraries)]
    return own if image.parent else [*own, "root", "tools", "made-base"]


def _failure(seen: BuildLog, what: str, log: Path) -> BakeError:
    step = seen.failed
    lines = step.lines if step else log.read_text(errors="replace").splitlines()[-12:]
    text = "\n".join([*lines, log.read_text(errors="replace")[-4000:]])
    if files.disk_full(text):
        return MissingError("the engine's disk is full", where=str(log), hint="docker buildx prune", detail=lines)
    if "no match for platform" in text:
        return BuildError(
            "the base has no image for this platform",
            where=str(log),
            detail=lines,
            expected="base.reference: an index that has it",
            hint="base.kind: debian in bake.yaml",
        )
    if "ash mismatch" in text or pip.read_log(text).cause is Cause.OTHER_BYTES:
        return IntegrityError(
            "a package from the index is not the one that is locked",
            where=str(log),
            detail=lines,
            hint="ask who runs the index; nothing of it is in an image",
        )
    if any(
        word in text
        for word in (
            "Temporary failure in name resolution",
            "CERTIFICATE_VERIFY",
            "Connection refused",
            "pipwheel.Unavailable",
            "Failed to fetch",
            "UnknownIssuer",
        )
    ):
        return SourceError(
            "a build step can't reach the package index",
            where=str(log),
            detail=lines,
            hint="bake.yaml: network has the CA bundle, proxy and index for builds; doctor shows what was found",
        )
    where = f"{step.image}, step {step.stage} {step.count}" if step else "buildx"
    return BuildError(f"{where} failed" if step else what, where=str(log), detail=lines, hint=f"less {shell_word(log)}")


def _log(folder: Path) -> Path:
    """A new log; the oldest go."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in sorted(folder.glob("build-*.log"))[: -KEPT_LOGS + 1 or None]:
        old.unlink(missing_ok=True)
    return folder / time.strftime("build-%Y%m%d-%H%M%S.log")


def _commit(root: Path, env: Mapping[str, str]) -> dict[str, str]:
    """REVISION and SOURCE_DATE_EPOCH of the commit, with ``-dirty`` where files differ from it; empty without git."""
    chosen = {"SOURCE_DATE_EPOCH": env["SOURCE_DATE_EPOCH"]} if env.get("SOURCE_DATE_EPOCH", "").isdigit() else {}
    if not (root / ".git").exists() or shutil.which("git") is None:
        return chosen
    done = shell.run(["git", "-C", str(root), "log", "-1", "--format=%H %ct"], timeout=5)
    if done.code != 0:
        return chosen
    revision, when = done.out.split()
    changed = shell.run(["git", "-C", str(root), "status", "--porcelain", "--untracked-files=no"], timeout=30).out
    return {"REVISION": f"{revision}-dirty" if changed.strip() else revision, "SOURCE_DATE_EPOCH": when} | chosen


@contextmanager
def _failures(seen: BuildLog, log: Path) -> Iterator[None]:
    """What goes wrong inside BuildKit, as our errors."""
    try:
        yield
    except RuntimeError as error:
        raise _failure(seen, str(error), log) from None
    except KeyboardInterrupt:
        raise Interrupted("the build was stopped", hint="the same command resumes with what is finished") from None


def drop_replaced(engine: Engine, jobs: Path, before: Mapping[str, str | None]) -> None:
    """Images that lost their tag, have no other and are named by no job: they would dangle.

    Args:
        jobs: the folder of jobs.
        before: tag -> id of the image that had it.
    """
    from docker.errors import APIError, ImageNotFound

    pairs = [(old, tag) for tag, old in before.items() if old and old != id_of(engine, tag)]
    replaced = {old: tag.rpartition(":")[0] for old, tag in pairs}
    local = engine.host.startswith("unix:")  # jobs run on no other
    if replaced and local:
        kept.keep_named(engine.host, jobs, replaced)
    for old in replaced:
        with suppress(ImageNotFound, APIError):  # a container still uses it
            if not engine.client.images.get(old).tags:
                engine.client.images.remove(old)
    if local:
        kept.release(engine.host, jobs)


def _remember_sizes(config: Config, sizes: Mapping[str, int]) -> None:
    path = config.paths.sizes
    if sizes:
        files.write_json(path, {**files.read_object(path), **sizes})


def require_space(config: Config, plan: Plan, engine: Engine) -> None:
    """Refuse to begin a build that would fill a disk: packages and weights are kept in several copies.

    Raises:
        MissingError: a disk has too little free.
    """
    foreign, layout = plan.platform is not None, Layout(config.paths.layout, config.paths.models)
    lacking = [i for i in plan.images if not (layout.labels(i.tag) if foreign else labels_of(engine, i.tag))]
    if not lacking:
        return
    code = estimate.code_bytes(plan, sizes(config), [image.name for image in lacking])
    weights = {m.id: pin.size for image in lacking for m, pin in plan.carried(image) if not foreign}
    needs = {config.home: code}
    if engine.free is not None:
        needs[Path(engine.root)] = 3 * code + 2 * sum(weights.values()) + 500_000_000
    files.require_room(needs, f"run docker buildx prune, or {command('prune')}")
