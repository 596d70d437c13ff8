"""Signatures of models in OpenSSF Model Signing's format, which its ``model_signing verify key`` checks.

A Sigstore bundle (v0.3) around a DSSE envelope around an in-toto statement (v1) that lists a model's files. Sources:
model_signing 1.1 (predicate ``https://model_signing/signature/v1.0``), secure-systems-lab/dsse's protocol.md for the bytes
that are signed, and in-toto/attestation's spec/v1 for the statement.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from builder.core.images import oci
from builder.core.weights.model import SHA256, unsafe
from builder.errors import IntegrityError

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://model_signing/signature/v1.0"
PAYLOAD = "application/vnd.in-toto+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"

MOST = 10_000
"""Files of one model."""

NAME = re.compile(r"[!-~]{1,200}")
"""Of a model, as it is believed in a signature: characters that show."""


@dataclass(frozen=True, kw_only=True)
class SignedModel:
    """A signature of a model, taken apart; nothing of it is checked."""

    payload: bytes
    """The statement."""
    signature: bytes
    key: str
    """Hex sha256 of the public key as PEM, or empty."""


@dataclass(frozen=True, kw_only=True)
class ModelStatement:
    """What a signature says: a model has these files, and no others."""

    name: str
    files: Mapping[str, str]
    """Path below the model's folder -> hex sha256."""


def statement(name: str, files: Iterable[tuple[str, str]]) -> bytes:
    """What is signed. The same files have the same bytes.

    Args:
        name: the model's; it only informs.
        files: path and hex sha256 of each.
    """
    rows = sorted(files, key=lambda file: file[0].split("/"))
    root = _root(digest for _, digest in rows)
    predicate = {
        "resources": [{"algorithm": "sha256", "digest": digest, "name": path} for path, digest in rows],
        # A store in the hub's layout has links to its files.
        "serialization": {"allow_symlinks": True, "hash_type": "sha256", "method": "files"},
    }
    return oci.dump(
        {
            "_type": STATEMENT,
            "subject": [{"name": name, "digest": {"sha256": root}}],
            "predicateType": PREDICATE,
            "predicate": predicate,
        }
    )


def _root(digests: Iterable[str]) -> str:
    """Hex sha256 over the digests in their order: one for all files."""
    return hashlib.sha256(b"".join(bytes.fromhex(digest) for digest in digests)).hexdigest()


def encoded(payload: bytes) -> bytes:
    """The bytes that a key signs (DSSE's pre-authentication encoding)."""
    return f"DSSEv1 {len(PAYLOAD)} {PAYLOAD} {len(payload)} ".encode() + payload


def bundle(payload: bytes, signature: bytes, key: str) -> bytes:
    """The signature's file.

    Args:
        payload: see :func:`statement`.
        signature: of :func:`encoded` bytes.
        key: hex sha256 of the public key as PEM.
    """
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD,
        "signatures": [{"keyid": "", "sig": base64.b64encode(signature).decode()}],
    }
    return oci.dump(
        {
            "mediaType": BUNDLE,
            "verificationMaterial": {"publicKey": {"hint": key}, "tlogEntries": []},
            "dsseEnvelope": envelope,
        }
    )


def parsed(data: bytes, where: str) -> SignedModel:
    """A signature's file, taken apart.

    Raises:
        IntegrityError: it is something else.
    """
    try:
        value = json.loads(data)
        envelope = value["dsseEnvelope"]
        (signed,) = envelope["signatures"]
        if value["mediaType"] != BUNDLE or envelope["payloadType"] != PAYLOAD:
            raise ValueError("another type")
        key = value["verificationMaterial"].get("publicKey", {}).get("hint") or ""
        payload, signature = (base64.b64decode(text, validate=True) for text in (envelope["payload"], signed["sig"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error):
        raise IntegrityError("not a signature of a model, by a key", where=where, expected=BUNDLE) from None
    return SignedModel(payload=payload, signature=signature, key=key if isinstance(key, str) else "")


def said(payload: bytes, where: str) -> ModelStatement:
    """What a signed statement says.

    Raises:
        IntegrityError: it is something else, or lists files that can't be a model's.
    """
    try:
        value = json.loads(payload)
        (subject,) = value["subject"]
        rows, how = value["predicate"]["resources"], value["predicate"]["serialization"]
        files = {_path(row): _digest(row) for row in rows}
        right = (
            (value["_type"], value["predicateType"], how["method"]) == (STATEMENT, PREDICATE, "files")
            and 0 < len(files) == len(rows) <= MOST
            and subject["digest"]["sha256"] == _root(_digest(row) for row in rows)
        )
        name = str(subject["name"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        right = False
    if not right:
        raise IntegrityError("the signed statement is not of a model's files", where=where, expected=PREDICATE)
    return ModelStatement(name=name if NAME.fullmatch(name) else "", files=files)


def _path(row: dict[str, Any]) -> str:
    path = row["name"]
    if not isinstance(path, str) or unsafe(path) is not None:
        raise ValueError("a path")
    return path


def _digest(row: dict[str, Any]) -> str:
    digest = row["digest"]
    if row["algorithm"] != "sha256" or not isinstance(digest, str) or not SHA256.fullmatch(digest):
        raise ValueError("a digest")
    return digest
