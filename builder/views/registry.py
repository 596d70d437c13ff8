"""Results of the commands about registries: push, pull, ci."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import TypedDict

from builder.core.text import format_size, format_time, table
from builder.program import command
from builder.views import View

if TYPE_CHECKING:
    from builder.edges.images.remote.pull import PullStep
    from builder.edges.registry.push import PushStep
    from builder.workflows.pulling.commands import ImagesPulled
    from builder.workflows.pushing.commands import ImagesPushed, PaperAttached
    from builder.workflows.registry import PipelineCompared, PipelineMade


class PushedImageJson(TypedDict):
    """An image that is pushed, or would be."""

    name: str
    """As in images/*.yaml."""
    reference: str
    """Where it is: ``host/repository:tag``."""
    also: list[str]
    """Its further tags, of its version and its commit."""
    digest: str
    """Of its manifest: ``sha256:…``."""
    bytes: int
    """All of its blobs, without the manifest."""
    sent_bytes: int
    """What had to be sent, or would have to be."""
    mounted_bytes: int
    """What the registry takes from another of its repositories."""
    state: str
    """``up to date``, ``pushed`` or ``would be pushed``; ``tagged`` or ``would be tagged`` where only further tags are new."""
    signature: str
    """``signed``, ``signed before`` (by this key), ``would be signed``; empty without ``--sign``."""
    platforms: dict[str, str]
    """Platform -> digest of its manifest, where ``digest`` is of an index of several (``--platform``); else empty."""


class PushedPaperJson(TypedDict):
    """A paper that is attached to an image, or would be."""

    image: str
    """As in images/*.yaml."""
    kind: str
    """Its artifact type, by which the registry lists it."""
    file: str
    """The name that ``oras pull`` writes it by."""
    digest: str
    """Of the manifest that attaches it: ``sha256:…``."""
    file_digest: str
    """Of the paper itself: ``sha256:…``."""
    bytes: int
    """Of the paper."""
    state: str
    """``up to date``, ``attached`` or ``would be attached``."""


class PushJson(TypedDict):
    """A push."""

    registry: str
    """``host/prefix``."""
    dry_run: bool
    """Whether nothing was sent."""
    images: list[PushedImageJson]
    """In the order they are sent: parents first."""
    papers: list[PushedPaperJson]
    """Of all images; empty with ``--no-papers``."""
    sent_bytes: int
    """Of all images together, without papers."""
    mounted_bytes: int
    """Of all images together."""
    on_the_wire_bytes: int
    """Bytes of request bodies; what was sent twice counts twice."""
    seconds: float
    """Wall time of the push."""


def _push_data(pushed: ImagesPushed) -> PushJson:
    return {
        "registry": f"{pushed.target.host}/{pushed.target.prefix}".rstrip("/"),
        "dry_run": pushed.dry_run,
        "images": [_image(pushed, step, sent) for step, sent in pushed.steps],
        "papers": [_paper(pushed, name, one) for name, papers in pushed.papers.items() for one in papers],
        "sent_bytes": sum(sent for _, sent in pushed.steps),
        "mounted_bytes": sum(step.mount_bytes for step, _ in pushed.steps),
        "on_the_wire_bytes": pushed.wire_bytes,
        "seconds": pushed.seconds,
    }


def _image(pushed: ImagesPushed, step: PushStep, sent: int) -> PushedImageJson:
    image = step.image
    return {
        "name": image.name,
        "reference": f"{pushed.target.host}/{step.repository}:{image.tag}",
        "also": list(image.also),
        "digest": image.manifest.digest,
        "bytes": sum(blob.size for blob in dict.fromkeys(image.blobs)),
        "sent_bytes": sent,
        "mounted_bytes": step.mount_bytes,
        "state": _state(step, pushed.dry_run),
        "signature": pushed.signatures.get(image.name, ""),
        "platforms": {platform: manifest.digest for platform, manifest, _ in image.parts},
    }


def _paper(pushed: ImagesPushed, name: str, one: PaperAttached) -> PushedPaperJson:
    attachment = one.attachment
    return {
        "image": name,
        "kind": attachment.artifact_type,
        "file": attachment.name,
        "digest": attachment.descriptor.digest,
        "file_digest": attachment.blob.digest,
        "bytes": attachment.blob.size,
        "state": "up to date" if one.there else "would be attached" if pushed.dry_run else "attached",
    }


def _papers_text(data: PushJson) -> list[str]:
    """One line for the papers of all images."""
    new = [paper for paper in data["papers"] if paper["state"] != "up to date"]
    if not data["papers"]:
        return []
    if not new:
        return [f"{len(data['papers'])} papers are attached already"]
    size = format_size(sum(paper["bytes"] for paper in new))
    papers = "1 paper" if len(new) == 1 else f"{len(new)} papers"
    return [f"{papers} {new[0]['state']} ({size}): SBOM, provenance, VEX"]


def _state(step: PushStep, dry_run: bool) -> str:
    if step.there:
        return "up to date"
    return f"{'would be ' if dry_run else ''}{'tagged' if step.further else 'pushed'}"


def _push_text(pushed: ImagesPushed) -> list[str]:
    data = _push_data(pushed)
    rows = [
        (
            image["reference"],
            ", ".join(image["also"]),
            image["digest"].removeprefix("sha256:")[:12],
            format_size(image["bytes"]),
            format_size(image["sent_bytes"]),
            format_size(image["mounted_bytes"]),
            ", ".join(filter(None, (image["state"], image["signature"]))),
        )
        for image in data["images"]
    ]
    verb = "would be sent" if pushed.dry_run else f"sent in {format_time(pushed.seconds)}"
    lines = table(("IMAGE", "ALSO", "DIGEST", "SIZE", "SENT", "MOUNTED", "STATE"), rows)
    return [*lines, "", f"{format_size(data['sent_bytes'])} {verb}", *_papers_text(data)]


PUSH = View(command="push", shape=PushJson, data=_push_data, lines=_push_text)


class PulledImageJson(TypedDict):
    """An image that is pulled, or would be."""

    name: str
    """As in images/*.yaml; ``weights`` is the weights image."""
    reference: str
    """Where it comes from: ``host/repository:tag``."""
    tag: str
    """What the engine calls it."""
    digest: str
    """Of its manifest: ``sha256:…``."""
    bytes: int
    """All of its blobs, without the manifest."""
    lacking_bytes: int
    """Layers that the engine lacks."""
    fetched_bytes: int
    """What came from the registry for it, or would come: not what an image before it brings or this disk has."""
    state: str
    """``up to date``, ``pulled`` or ``would be pulled``."""


class PullJson(TypedDict):
    """A pull."""

    registry: str
    """``host/prefix``."""
    dry_run: bool
    """Whether nothing came."""
    images: list[PulledImageJson]
    """In the order they come: parents first."""
    fetched_bytes: int
    """Of all images together, without manifests and configs."""
    seconds: float
    """Wall time of the pull."""


def _pull_data(pulled: ImagesPulled) -> PullJson:
    return {
        "registry": f"{pulled.target.host}/{pulled.target.prefix}".rstrip("/"),
        "dry_run": pulled.dry_run,
        "images": [_pulled_image(pulled, step, came) for step, came in pulled.steps],
        "fetched_bytes": sum(came for _, came in pulled.steps),
        "seconds": pulled.seconds,
    }


def _pulled_image(pulled: ImagesPulled, step: PullStep, came: int) -> PulledImageJson:
    image, wanted = step.image, step.wanted
    return {
        "name": wanted.name,
        "reference": f"{pulled.target.host}/{wanted.repository}:{wanted.tag}",
        "tag": wanted.ref,
        "digest": image.manifest.digest,
        "bytes": sum(blob.size for blob in image.blobs if blob != image.manifest),
        "lacking_bytes": sum(blob.size for blob in step.lacking),
        "fetched_bytes": came,
        "state": "up to date" if step.there else "would be pulled" if pulled.dry_run else "pulled",
    }


def _pull_text(pulled: ImagesPulled) -> list[str]:
    data = _pull_data(pulled)
    rows = [
        (
            image["tag"],
            image["digest"].removeprefix("sha256:")[:12],
            format_size(image["bytes"]),
            format_size(image["fetched_bytes"]),
            image["state"],
        )
        for image in data["images"]
    ]
    verb = "would come" if pulled.dry_run else f"came in {format_time(pulled.seconds)}"
    lines = table(("IMAGE", "DIGEST", "SIZE", "FETCHED", "STATE"), rows)
    return [*lines, "", f"{format_size(data['fetched_bytes'])} {verb}"]


PULL = View(command="pull", shape=PullJson, data=_pull_data, lines=_pull_text)


class PipelineJson(TypedDict):
    """A pipeline for a CI service."""

    service: str
    """``github`` or ``gitlab``."""
    file: str
    """Where it is written, or where the service keeps it."""
    jobs: list[str]
    """Images, each built by a job of its own."""
    text: str
    """All of the file."""


def _pipeline_data(made: PipelineMade) -> PipelineJson:
    return {"service": made.service, "file": str(made.file), "jobs": list(made.images), "text": made.text}


def _pipeline_text(made: PipelineMade) -> list[str]:
    if not made.written:
        return made.text.rstrip("\n").split("\n")
    hint = f"commit it with: {command('render', *made.options, '--out', made.folder)}"
    return [f"{made.file}: {len(made.images)} images", hint]


CI = View(command="ci", shape=PipelineJson, data=_pipeline_data, lines=_pipeline_text)


class PipelineCheckJson(PipelineJson):
    """A pipeline compared with the file that is there."""

    same: bool
    """Whether the file is what would be written."""


def _compared_data(compared: PipelineCompared) -> PipelineCheckJson:
    return {**_pipeline_data(compared.pipeline), "same": compared.failure is None}


def _compared_text(compared: PipelineCompared) -> list[str]:
    return ["as rendered"] if compared.failure is None else []


CI_CHECK = View(command="ci --check", shape=PipelineCheckJson, data=_compared_data, lines=_compared_text)
