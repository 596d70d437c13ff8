"""Images: of the layout, to the last byte, or of an engine, by what they say of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from builder.core.images.versions import moving_tag
from builder.core.progress import Progress
from builder.core.signatures.links import ChainLink, Verdict, broken, compared, holds, not_shown
from builder.core.weights.model import model_digest
from builder.errors import BakeError, UsageError
from builder.program import command
from builder.workflows.session import Session, layout_of
from builder.workflows.signatures.checks import Verified, engine_address, image_signature

if TYPE_CHECKING:
    from builder.core.images.oci import Descriptor
    from builder.edges.images.layout import Layout, Stored
    from builder.edges.signing.keys import VerifyingKey


def verify(session: Session, word: str, key: VerifyingKey | None) -> Verified:
    """Images of the layout with a name or a reference."""
    layout = layout_of(session.config)
    named = [ref for ref, entry in layout.images().items() if "manifest" in entry and word in _names(ref, entry)]
    if not named:
        return _engine_image(session, word, key)
    links: list[ChainLink] = []
    for reference in named:
        links += _image(session, layout, reference, key, several=len(named) > 1)
    return Verified(kind="image", name=word, links=tuple(links))


def _engine_image(session: Session, word: str, key: VerifyingKey | None) -> Verified:
    """An image that an engine alone has: what it is said to be made of; its layers are the engine's business."""
    from builder.edges.engine import connection as engines

    host = engine_address(session)
    image = engines.image(host, word) if host is not None else None
    if image is None:
        raise UsageError(
            f'nothing here is called "{word}"',
            expected="an image of the layout or the engine, a bundle's folder, a job, a file that a job made, or a model's .sig",
            hint=f"{command('images')} and {command('jobs list')} show them",
        )
    digests = dict.fromkeys((image.id, *image.manifests))
    signed = [image_signature(session, digest, word, key) for digest in digests]
    links = [
        holds("engine", word, image.id),
        not_shown("layer", word, "the layout doesn't have them; the engine checked them when it took them"),
        *_labelled(session, image.labels, ""),
        next((link for link in signed if link.verdict is Verdict.HOLDS), signed[0]),
    ]
    return Verified(kind="image", name=word, links=tuple(links))


def _names(reference: str, entry: Mapping[str, object]) -> tuple[str, ...]:
    """What an image is called: versions, and images of other platforms, by their whole names alone."""
    last = reference.rpartition("/")[2]
    alone = "platform" in entry or moving_tag(reference) is not None
    return (reference, last) if alone else (reference, last, last.partition(":")[0])


def _image(
    session: Session, layout: Layout, reference: str, key: VerifyingKey | None, *, several: bool
) -> list[ChainLink]:
    """One image: manifest, config, every layer's bytes, weights as models.lock pins them, signature, engine."""
    name = f" of {reference}" if several else ""
    digest = str(layout.images()[reference]["manifest"])
    try:
        stored = layout.image(reference)
    except (BakeError, OSError) as error:
        return [broken("manifest", reference, str(error))]
    links = [
        compared("manifest", reference, stored.manifest.digest, digest, gone="", other=stored.manifest.digest),
        holds("config", reference, stored.config.digest),
    ]
    links += _layers(session, layout, stored, name)
    links += _labelled(session, stored.written.image.labels, name)
    links.append(image_signature(session, digest, reference, key))
    links.append(_in_engine(session, stored, reference))
    return links


def _layers(session: Session, layout: Layout, stored: Stored, name: str) -> list[ChainLink]:
    """Every layer's bytes, read once."""
    blobs = list(dict.fromkeys(layer.blob for layer in stored.layers))
    total, before = sum(blob.size for blob in blobs), 0

    def tell(count: int) -> None:
        session.on_progress(Progress(what="verify", done=before + count, total=total, unit="bytes"))

    links = []
    for blob in blobs:
        wrong = layout.whole(blob, tell)
        before += blob.size
        of = f"{_described(layout, blob)}{name}"
        if wrong == "it isn't there" or "is not in the store" in wrong:
            links.append(not_shown("layer", of, f"{blob.digest}: {wrong}"))
        else:
            links.append(broken("layer", of, f"{blob.digest}: {wrong}") if wrong else holds("layer", of, blob.digest))
    session.on_progress(Progress(what="verify", done=total, total=total, unit="bytes", finished=True))
    return links


def _described(layout: Layout, blob: Descriptor) -> str:
    return f"weights {layout.recipe(blob.digest).name}" if layout.is_weights(blob.digest) else "code"


def _labelled(session: Session, labels: Mapping[str, str], name: str) -> list[ChainLink]:
    """What an image says that it is made of: its stage's code, against this project, and models, against models.lock."""
    from builder.core.images import currency
    from builder.edges.images import installed
    from builder.edges.jobs import outcome

    pins, links = session.config.pins, []
    stage, _, code = labels.get(currency.CODE, "").partition(":")
    if stage in session.config.stages:
        here = outcome.code_digest(session.config.shipped / "stages", stage)
        other = not_shown("code", f"{stage}{name}", f"it has {code[:12]}, and this project's is {here[:12]}")
        links.append(holds("code", f"{stage}{name}", f"sha256:{code}") if code == here else other)
    for id_, digest in installed.baked(labels).items():
        pinned = model_digest(pins[id_]) if id_ in pins else None
        if pinned == digest:
            links.append(holds("weights", f"{id_}{name}", f"{digest}, as models.lock pins them"))
        else:
            links.append(broken("weights", f"{id_}{name}", f"{digest}; models.lock pins {pinned or 'none'}"))
    return links


def _in_engine(session: Session, stored: Stored, reference: str) -> ChainLink:
    """Whether the engine's image of that name is this one."""
    host = engine_address(session)
    from builder.edges.engine import connection as engines

    ids = engines.image_ids(host, [reference]) if host is not None else None
    if not ids:
        return not_shown("engine", reference, "no engine here has it")
    if ids[0] in (stored.manifest.digest, stored.config.digest):
        return holds("engine", reference, ids[0])
    return broken("engine", reference, f"the engine has another image of that name: {ids[0]}")
