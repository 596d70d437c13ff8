"""The commands about registries: push, ci."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from builder.core.config.defaults import BAKED
from builder.core.images.weights import image as weights
from builder.core.images.weights import modelpack
from builder.core.progress import OnProgress, Progress
from builder.errors import BakeError, MissingError, UsageError
from builder.program import command, shell_word
from builder.workflows.images import Different, ImageSelection, planner, rendered, weights_of
from builder.workflows.session import Session, layout_of

if TYPE_CHECKING:
    from builder.core.config.types import Config
    from builder.core.images.oci import Descriptor
    from builder.core.images.plan import PlannedImage
    from builder.core.images.reference import Target
    from builder.edges.images.installed import Planner
    from builder.edges.images.layout import Layout, Stored
    from builder.edges.registry.blobs import Registry
    from builder.edges.registry.http import Http, StopSignal
    from builder.edges.registry.push import PushedImage, PushStep
    from builder.edges.registry.referrers import Attachment
    from builder.edges.signing.keys import Signer


@dataclass(frozen=True, kw_only=True)
class PaperAttached:
    """A paper of an image, and whether the registry had it."""

    attachment: Attachment
    there: bool


@dataclass(frozen=True, kw_only=True)
class ImagesPushed:
    """What a push did, or would do."""

    target: Target
    dry_run: bool
    steps: tuple[tuple[PushStep, int], ...]
    """Each image's step, with the bytes that were sent for it."""
    signatures: Mapping[str, str] = field(default_factory=dict)
    """Image -> ``signed``, ``signed before`` or ``would be signed``; empty where none was asked for."""
    wire_bytes: int
    """Bytes of request bodies; what was sent twice counts twice."""
    seconds: float
    papers: Mapping[str, tuple[PaperAttached, ...]] = field(default_factory=dict)
    """Image -> its papers; empty where none were asked for."""


@dataclass(frozen=True, kw_only=True)
class PipelineMade:
    """A pipeline for a CI service."""

    service: str
    file: Path
    images: tuple[str, ...]
    text: str
    options: tuple[str, ...]
    """Those that make this plan anywhere, whatever a machine's environment says."""
    folder: str
    """Where the rendered files are committed."""
    written: bool


@dataclass(frozen=True, kw_only=True)
class PipelineCompared:
    """A pipeline and whether the file is the same."""

    pipeline: PipelineMade
    failure: BakeError | None


def push(
    session: Session,
    selection: ImageSelection,
    *,
    registry: str | None,
    dry_run: bool,
    token_servers: Sequence[str] = (),
    key: Path | None = None,
    sign_with: str | None = None,
    papers: bool = True,
) -> ImagesPushed:
    """Send images of the layout to a registry that lacks them, and attach their papers.

    Args:
        key: a private key that signs them there; with ``sign_with`` the public one.
        sign_with: a command that signs in place of a file.
        papers: attach SBOM, provenance and VEX.

    Raises:
        BakeError: see the steps: :func:`builder.edges.registry.push.carry_out`, :func:`builder.edges.registry.signatures.sign`.
    """
    from builder.edges.registry import push as pushing
    from builder.edges.registry.blobs import Registry
    from builder.edges.registry.http import StopSignal
    from builder.edges.signing import command as signing

    began, config, on_progress = time.monotonic(), session.config, session.on_progress
    target = target_of(config, registry)
    layout = layout_of(config)
    images = _chosen(session, selection, layout)
    signer = signing.chosen(key, sign_with) if key is not None else None
    described = [image for image in images if image.name != weights.NAME]
    attachments = _papers(session, selection, layout, described) if papers else {}
    stop = StopSignal()
    http = connected(config, target, env=session.env, stop=stop, token_servers=token_servers)
    server = Registry(http, config.paths.uploads)
    others = _others(layout)
    done: list[tuple[PushStep, int]] = []
    signed: dict[str, str] = {}
    with nullcontext() if dry_run else _alone(config, target.host, on_progress):
        steps = pushing.decide(images, server, target, others=others, on_progress=on_progress)
        carried = (
            ((step, step.send_bytes) for step in steps)
            if dry_run
            else pushing.carry_out(steps, server, open_=layout.open, stop=stop, on_progress=on_progress)
        )
        for step, sent in carried:
            done.append((step, sent))
            if signer is not None:
                signed[step.image.name] = _signed(config, server, target, step, signer, dry_run=dry_run)
        attached = _attached(attachments, steps, http, server, on_progress, dry_run=dry_run)
    return ImagesPushed(
        target=target,
        dry_run=dry_run,
        steps=tuple(done),
        signatures=signed,
        papers=attached,
        wire_bytes=http.sent,
        seconds=round(time.monotonic() - began, 1),
    )


def _signed(config: Config, server: Registry, target: Target, step: PushStep, signer: Signer, *, dry_run: bool) -> str:
    """Sign an image whose tag is in place; the signature is kept here, too. What became of it."""
    from builder.edges.registry import signatures
    from builder.edges.signing import kept

    asked = signatures.decide(server, target.host, step.repository, step.image.manifest.digest, signer)
    if not dry_run:
        made = signatures.sign(server, asked, signer)
        kept.keep(config.paths.signatures, asked.digest, asked.payload, made.signature)
    return "signed before" if asked.own else "would be signed" if dry_run else "signed"


@dataclass(frozen=True, kw_only=True)
class PipelineOptions:
    """What the command line says of a pipeline."""

    service: str
    out: Path | None
    registry: str | None
    folder: str
    """Where the rendered folder is committed."""
    schedule: str | None = None
    """When images are built anew, as cron writes it."""


def ci(session: Session, selection: ImageSelection, asked: PipelineOptions) -> PipelineMade:
    """A pipeline from the same plan as ``render``'s; written when ``out`` is given."""
    from builder.edges.system import files

    made = _pipeline(session, selection, asked)
    if asked.out is not None:
        files.write_output(
            asked.out, made.text, instead="--out FILE", parents=True
        )  # .github/workflows of a new project
    return made


def compare_ci(session: Session, selection: ImageSelection, asked: PipelineOptions) -> PipelineCompared:
    """Compare a file with the pipeline that would be written."""
    made = _pipeline(session, selection, asked)
    if made.file.is_file() and made.file.read_text(encoding="utf-8", errors="replace") == made.text:
        return PipelineCompared(pipeline=made, failure=None)
    words = _command(selection, made.options, asked)
    hint = shlex.join([*words, "--out", str(made.file)])
    failure = Different("it isn't what is rendered", where=str(made.file), hint=hint)
    return PipelineCompared(pipeline=made, failure=failure)


# Steps of a push


def target_of(config: Config, registry: str | None) -> Target:
    """The registry that the command line names, else the one of bake.yaml."""
    from builder.core.images import reference

    where = "--registry" if registry else "bake.yaml: defaults.registry"
    return reference.target(registry or config.defaults.registry, where=where)


def connected(
    config: Config, target: Target, *, env: Mapping[str, str], stop: StopSignal, token_servers: Sequence[str]
) -> Http:
    from builder.edges.engine import connection as engines
    from builder.edges.images import site
    from builder.edges.registry import credentials, http

    return http.connect(
        target,
        login=credentials.find(target.keys, env),
        authorities=site.find(config.network, env).authorities,
        insecure=lambda: engines.insecure(target.host, env),
        stop=stop,
        token_servers=[server.lower() for server in token_servers],
    )


def _chosen(session: Session, selection: ImageSelection, layout: Layout) -> list[PushedImage]:
    """The selected images of the layout.

    Raises:
        MissingError: some are not built, or not current.
    """
    config, recorded = session.config, layout.images()
    asked = [name for name in selection.names if name != weights.NAME]
    names = replace(selection, names=tuple(asked))
    alone = bool(selection.names) and not asked
    planned = [] if alone else [i for i in rendered(session, names).plan.images if not asked or i.name in asked]
    missing = [image.name for image in planned if "manifest" not in recorded.get(image.tag, {})]
    plans = planner(config, names)
    built = [image for image in planned if image.name not in missing]
    changed = {image.name: d for image in built if (d := _differences(config, layout, image, plans))}
    for affected, what in ((missing, "not built here"), (changed, "not of today's code, models and settings")):
        if affected:
            raise MissingError(
                f"{', '.join(affected)}: {what}",
                where=str(layout.root),
                detail=[f"{name} has changed: {', '.join(changed[name])}" for name in affected if name in changed],
                hint=command(f"build --mode {config.defaults.mode.value}"),
            )
    pushed = [_pushed(layout, image.name, layout.image(image.tag)) for image in built]
    if selection.names and weights.NAME not in selection.names:
        return pushed
    more = _weights(session, names, layout)
    if not more and selection.names:
        raise MissingError(
            "no image with weights is built here",
            where=str(layout.root),
            hint=command(f"build --mode {config.defaults.mode.value}"),
        )
    return [*pushed, *more]


def _weights(session: Session, selection: ImageSelection, layout: Layout) -> list[PushedImage]:
    """The weights image of a preset and the same blobs as an artifact: nothing of them is sent that images have."""
    from builder.edges.registry.push import PushedImage
    from builder.edges.system import files

    with files.locked(layout.lock):
        made = weights_of(session, replace(selection, names=()), layout)
    if made is None:
        return []
    image = _pushed(layout, weights.NAME, made.image)
    tag = f"{image.tag}{modelpack.SUFFIX}"
    artifact = PushedImage(name=weights.NAME, tag=tag, manifest=made.artifact, data=made.data, blobs=made.blobs)
    return [image, artifact]


def _differences(config: Config, layout: Layout, image: PlannedImage, plans: Planner) -> tuple[str, ...]:
    from builder.edges.images import installed

    labels = layout.image(image.tag).written.image.labels
    return installed.differences(config, image.tag, labels, plans)


def _pushed(layout: Layout, name: str, stored: Stored) -> PushedImage:
    from builder.edges.registry.push import PushedImage

    return PushedImage(
        name=name,
        tag=stored.ref.rpartition(":")[2],
        manifest=stored.manifest,
        data=stored.written.manifest,
        blobs=tuple(blob for blob in stored.blobs if blob != stored.manifest),
    )


def _papers(
    session: Session, selection: ImageSelection, layout: Layout, images: Sequence[PushedImage]
) -> dict[str, tuple[Attachment, ...]]:
    """Image -> its papers, as they are attached."""
    from builder.edges.papers import gather
    from builder.edges.registry.referrers import Attachment
    from builder.workflows.papers import commands as papers

    config = session.config
    plans, advisories = planner(config, selection), gather.advisories(config)
    return {
        image.name: tuple(
            Attachment(
                subject=image.manifest,
                artifact_type=paper.kind.media_type,
                media_type=paper.kind.media_type,
                data=paper.data,
                name=paper.file,
                annotations=dict(paper.kind.annotations),
            )
            for paper in papers.of_image(config, layout, _reference(config, image), plans, advisories)
        )
        for image in images
    }


def _reference(config: Config, image: PushedImage) -> str:
    """By which the layout has it."""
    return f"{config.defaults.registry}/{image.name}:{image.tag}"


def _attached(
    attachments: Mapping[str, Sequence[Attachment]],
    steps: Sequence[PushStep],
    http: Http,
    server: Registry,
    on_progress: OnProgress,
    *,
    dry_run: bool,
) -> dict[str, tuple[PaperAttached, ...]]:
    """Attach what the registry lacks; what became of each."""
    from builder.edges.registry import referrers

    wanted = {step.repository: attachments[step.image.name] for step in steps if step.image.name in attachments}
    lacking = referrers.bring(http, server, wanted, dry_run=dry_run, on_progress=on_progress)
    return {
        step.image.name: tuple(
            PaperAttached(attachment=one, there=one not in lacking[step.repository]) for one in wanted[step.repository]
        )
        for step in steps
        if step.repository in wanted
    }


def _others(layout: Layout) -> dict[str, list[Descriptor]]:
    """The blobs of every image here by its name: repositories that an earlier push may have filled."""
    others: dict[str, list[Descriptor]] = {}
    for tag in layout.images():
        with suppress(BakeError):
            name = tag.rpartition("/")[2].rpartition(":")[0]
            others.setdefault(name, []).extend(layout.image(tag).blobs)
    return others


def _alone(config: Config, host: str, on_progress: OnProgress) -> AbstractContextManager[object]:
    """One push to a registry at a time: the second finds there what the first sent."""
    from builder.edges.system import files

    lock = config.paths.uploads / f"{host.replace(':', '_')}.lock"
    with suppress(TimeoutError), files.locked(lock, timeout=0):
        return files.locked(lock)
    on_progress(Progress(what="push", note=f"waiting for another push to {host}"))
    return files.locked(lock)


# Steps of a pipeline


def _pipeline(session: Session, selection: ImageSelection, asked: PipelineOptions) -> PipelineMade:
    from builder.core.images import ci as pipelines
    from builder.core.images import reference
    from builder.edges.images import rendered as images

    if session.config.root != session.config.shipped:
        raise UsageError(
            "a pipeline runs build.py, and this project doesn't have it",
            where=str(session.config.root),
            expected="a checkout of whisperbake",
        )
    if asked.registry:
        reference.target(asked.registry, where="--registry")
    file = asked.out or Path(pipelines.path_of(asked.service))
    if file.is_dir():
        raise UsageError("this is a folder", where=str(file), hint=f"--out {shell_word(file / 'images.yml')}")
    plan = rendered(session, selection).plan
    options = _options(session.config, selection)
    words = _command(selection, options, asked)
    text = pipelines.pipeline(
        asked.service,
        plan,
        images.templates(session.config),
        command=shlex.join([*words, "--out", file.name if file.is_absolute() else file.as_posix()]),
        choice=shlex.join(options),
        folder=asked.folder,
        registry=asked.registry,
        schedule=asked.schedule,
    )
    return PipelineMade(
        service=asked.service,
        file=file,
        images=tuple(image.name for image in plan.images),
        text=text,
        options=options,
        folder=asked.folder,
        written=asked.out is not None,
    )


def _command(selection: ImageSelection, options: tuple[str, ...], asked: PipelineOptions) -> list[str]:
    """What is typed for this pipeline, without the file that it is written to."""
    target = ["--registry", asked.registry] if asked.registry else []
    when = ["--schedule", asked.schedule] if asked.schedule else []
    words = ["python3", "build.py", "ci", asked.service, *selection.names, *options, *target]
    return [*words, "--rendered", asked.folder, *when]


def _options(config: Config, selection: ImageSelection) -> tuple[str, ...]:
    """The options that make this plan anywhere, whatever that machine's environment says."""
    defaults = config.defaults
    presets = ",".join((defaults.preset, *selection.presets))
    words = ["--mode", defaults.mode.value, "--variant", defaults.variant.value, "--preset", presets]
    words += ["--models", selection.models] if selection.models else []
    words += ["--languages", selection.languages] if selection.languages else []
    words += [] if selection.diarization else ["--no-diarization"]
    words += [] if defaults.weights == BAKED else ["--weights", defaults.weights]
    return tuple(words)
