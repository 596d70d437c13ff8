"""The command models sign."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from builder.core.signatures import models as format_
from builder.core.weights.model import Model, Pin
from builder.edges.signing import command as signing
from builder.edges.signing import keys
from builder.edges.system import files
from builder.errors import BakeError, MissingError, UsageError
from builder.program import command, shell_word
from builder.workflows.session import Session, pinned, store_of

if TYPE_CHECKING:
    from builder.edges.signing.keys import Signer

LARGEST = 16 << 20
"""Bytes of a signature's file."""


@dataclass(frozen=True, kw_only=True)
class SignedModelFile:
    """One model's signature."""

    model: str
    folder: str
    """The model's, in the tree of weights."""
    file: Path
    written: bool
    """False: the file had this key's signature of these bytes."""


@dataclass(frozen=True, kw_only=True)
class ModelsSigned:
    """Signatures of models."""

    models: tuple[SignedModelFile, ...]
    key: Path


def sign(session: Session, ids: Sequence[str], *, key: Path, sign_with: str | None, out: Path) -> ModelsSigned:
    """Sign what models.lock pins of models: each file's sha256. The weights' bytes are not read.

    Args:
        ids: the models; by default all that the store has whole.
        key: a private key; with ``sign_with`` the public one.
        out: a folder; it gets ``<id>.sig`` for each model.

    Raises:
        UsageError: the key is of a kind that the format doesn't have, or the folder can't be written.
        MissingError: the store has none of the models.
        BakeError: what signs fails.
    """
    signer = signing.chosen(key, sign_with)
    if signer.public.kind != keys.P256:
        raise UsageError(
            f"OpenSSF's signatures of models know no {signer.public.kind}",
            where=str(key),
            expected=keys.P256,
            hint="bundle keys FILE makes a pair that signs bundles and images, too",
        )
    store = store_of(session.config)
    known = pinned(session.config, ids or [m for m in session.config.models if m in session.config.pins])
    chosen = known if ids else [(model, pin) for model, pin in known if not store.missing(model, pin)]
    if not chosen:
        raise MissingError("no models are here to sign", hint=command("models fetch"))
    out = files.expanded(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"the folder can't be made ({error.strerror})", where=str(out), hint="--out DIR") from None
    return ModelsSigned(models=tuple(_signed(signer, model, pin, out) for model, pin in chosen), key=key)


def _signed(signer: Signer, model: Model, pin: Pin, out: Path) -> SignedModelFile:
    from builder.core.weights.model import snapshot_path

    payload = format_.statement(model.id, ((file.path, file.sha256) for file in pin.files))
    target = out / f"{model.id}.sig"
    there = _is_signed(signer, payload, target)
    if not there:
        signature = signer.sign(format_.encoded(payload))
        files.write_output(
            target, format_.bundle(payload, signature, signer.public.digest), instead=f"--out {shell_word('DIR')}"
        )
    return SignedModelFile(model=model.id, folder=snapshot_path(model, pin), file=target, written=not there)


def _is_signed(signer: Signer, payload: bytes, target: Path) -> bool:
    """Whether a file has this key's signature of these bytes: hardware makes another one each time."""
    try:
        raw = files.read_file(target, limit=LARGEST)
        found = format_.parsed(raw or b"", str(target))
    except BakeError:
        return False
    return found.payload == payload and signer.public.verifies(format_.encoded(payload), found.signature)
