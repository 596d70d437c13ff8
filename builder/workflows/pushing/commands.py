"""Send images to a registry: with their weights image, their papers, and their signatures."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from builder.core.images.weights import image as weights
from builder.core.progress import OnProgress, Progress
from builder.errors import BakeError, MissingError
from builder.workflows.images import ImageSelection, planner
from builder.workflows.pushing import choosing
from builder.workflows.registry import connected, target_of
from builder.workflows.session import Session, layout_of

if TYPE_CHECKING:
    from builder.core.config.types import Config
    from builder.core.images.oci import Descriptor
    from builder.core.images.reference import Target
    from builder.core.platforms import Platform
    from builder.edges.images.layout import Layout
    from builder.edges.registry.blobs import Registry
    from builder.edges.registry.http import Http
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
    platforms: Sequence[Platform] = (),
) -> ImagesPushed:
    """Send images of the layout to a registry that lacks them, and attach their papers.

    Args:
        key: a private key that signs them there; with ``sign_with`` the public one.
        sign_with: a command that signs in place of a file.
        papers: attach SBOM, provenance and VEX; an index of several platforms has none of its own.
        platforms: each tag is an index of these; none: it is the engine's own image.

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
    images = (
        choosing.several(session, selection, layout, platforms)
        if platforms
        else choosing.own(session, selection, layout)
    )
    signer = signing.chosen(key, sign_with) if key is not None else None
    described = [image for image in images if image.name != weights.NAME and not image.parts]
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


def _papers(
    session: Session, selection: ImageSelection, layout: Layout, images: Sequence[PushedImage]
) -> dict[str, tuple[Attachment, ...]]:
    """Image -> its papers, as they are attached; none for one that is held at an earlier version."""
    from builder.edges.papers import gather
    from builder.edges.registry.referrers import Attachment
    from builder.workflows.papers import commands as papers

    config, found = session.config, {}
    plans, advisories = planner(config, selection), gather.advisories(config)
    for image in images:
        try:
            made = papers.of_image(config, layout, _reference(config, image), plans, advisories)
        except MissingError:  # of no plan of today: it was pushed with its papers when it was current
            session.on_progress(Progress(what=image.name, note="held: no new papers", finished=True))
            continue
        found[image.name] = tuple(
            Attachment(
                subject=image.manifest,
                artifact_type=paper.kind.media_type,
                media_type=paper.kind.media_type,
                data=paper.data,
                name=paper.file,
                annotations=dict(paper.kind.annotations),
            )
            for paper in made
        )
    return found


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
