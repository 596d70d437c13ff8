"""The command verify: an image, a bundle, a job, a result or a model's signature, checked without a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from builder.core.progress import Progress
from builder.core.signatures import chain
from builder.core.signatures import models as model_format
from builder.core.signatures.links import broken, holds, not_shown
from builder.core.text import format_size
from builder.core.weights.model import model_digest
from builder.edges.jobs import folder as jobs
from builder.edges.signing import keys
from builder.edges.system import files
from builder.errors import UsageError
from builder.program import command
from builder.receiver.inventory import SIGNATURE
from builder.workflows.session import Session, store_of
from builder.workflows.signatures import images as of_images
from builder.workflows.signatures import jobs as of_jobs
from builder.workflows.signatures.checks import Verified, signed
from builder.workflows.signatures.models import LARGEST

if TYPE_CHECKING:
    from builder.edges.signing.keys import VerifyingKey


def verify(session: Session, word: str, *, key: Path | None, replay: bool = False) -> Verified:
    """Check what a word names.

    Args:
        word: a bundle's folder; a job by id or folder; a file that a job made; a model's signature; or an image of the
            layout or of an engine on this machine, by its name or reference.
        key: a public key that has to have signed it: the image, the bundle, the model, or the images that a job ran in.
        replay: run the job a second time, and compare its results.

    Raises:
        UsageError: nothing has that name, or the key can't be used.
        IntegrityError: a bundle or a signature can't be read.
    """
    public = keys.verifying(key) if key is not None else None
    path = files.expanded(word)
    if (path / "inventory.json").is_file():
        found = _bundle(session, path, public)
    elif path.is_file():
        found = _file(session, path, public, replay=replay)
    elif (job := of_jobs.named(session, word, path)) is not None:
        found = of_jobs.verify(session, *job, public, result=None, replay=replay)
    else:
        found = of_images.verify(session, word, public)
    if replay and found.kind != "job":
        raise UsageError(f"this is a {found.kind}: only jobs run again", where="--replay")
    return found


def _bundle(session: Session, folder: Path, key: VerifyingKey | None) -> Verified:
    from builder.edges.bundle import folder as bundles
    from builder.edges.bundle.signing import LARGEST_SIGNATURE
    from builder.workflows import bundle

    opened = bundles.open_bundle(folder)
    signature = files.read_file(folder / SIGNATURE, limit=LARGEST_SIGNATURE)
    links = [signed("inventory.json", signature is not None, key, [(opened.raw, signature or b"")])]
    faults = bundle.verify(session, folder, key=None).faults
    damaged = {fault.part for fault in faults}
    for part in opened.inventory["parts"]:
        if part["name"] not in damaged:
            says = f"sha256:{part['sha256']}" if "sha256" in part else "its files, as inventory.json has them"
            links.append(holds("part", part["name"], says))
    for fault in faults:
        what = "; ".join(fault.inside) or "missing, or of another size"
        links.append(broken("part", fault.part, f"{what} (bundle repair)"))
    return Verified(kind="bundle", name=str(folder), links=tuple(links))


def _file(session: Session, path: Path, key: VerifyingKey | None, *, replay: bool) -> Verified:
    """A model's signature, or a file that a job made."""
    from builder.edges.jobs.record import origin

    if path.suffix == ".sig":
        return _model(session, path, key)
    named = path.resolve()
    if named.parent.name == "output" and (named.parent.parent / "job.yaml").is_file():
        folder = named.parent.parent
        result = f"output/{named.name}"
        return of_jobs.verify(session, jobs.read(session.config, folder), folder, key, result=result, replay=replay)
    session.on_progress(Progress(what="verify", note=f"which job made {path.name}"))
    made = origin.maker(session.config, f"sha256:{files.sha256(path)}")
    if made is None:
        raise UsageError(
            "no job here made a file of these bytes",
            where=str(path),
            hint=f"it was changed, or the job is gone: {command('jobs list')}",
        )
    job, result = made
    return of_jobs.verify(session, job, jobs.folder(session.config, job), key, result=result, replay=replay)


def _model(session: Session, path: Path, key: VerifyingKey | None) -> Verified:
    """A signature in OpenSSF's format: the signature, the files that it lists, and those that the store has."""
    found = model_format.parsed(files.read_file(path, limit=LARGEST) or b"", str(path))
    said = model_format.said(found.payload, str(path))
    links = [signed(path.name, True, key, [(model_format.encoded(found.payload), found.signature)])]
    id_, config = path.stem, session.config
    if id_ not in config.pins or id_ not in config.models:
        links.append(not_shown("weights", id_, "models.lock pins no such model"))
        return Verified(kind="model", name=str(path), links=tuple(links))
    model, pin = config.models[id_], config.pins[id_]
    pinned = {file.path: file.sha256 for file in pin.files}
    if said.files != pinned:
        other = sorted(name for name in {*said.files, *pinned} if said.files.get(name) != pinned.get(name))
        links.append(broken("files", id_, f"models.lock pins others: {', '.join(other[: chain.SHOWN])}"))
    else:
        links.append(holds("files", id_, f"{len(pinned)} files, {model_digest(pin)}, as models.lock pins them"))
    if store_of(config).intact(model, pin, {}):
        links.append(holds("weights", id_, f"{format_size(pin.size)} in the store"))
    else:
        links.append(not_shown("weights", id_, "the store doesn't have them whole"))
    return Verified(kind="model", name=str(path), links=tuple(links))
