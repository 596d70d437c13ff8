"""A bundle's signature, ``inventory.json.sig``: what a key makes of the inventory's bytes, and nothing around it.

The receiver checks it with ``openssl pkeyutl -rawin``, and anybody with ``cosign verify-blob``.
"""

from __future__ import annotations

from pathlib import Path

from builder.edges.signing import keys
from builder.edges.signing.keys import Signer
from builder.edges.system import files
from builder.errors import IntegrityError

LARGEST_SIGNATURE = 1 << 16
"""Bytes; of ECDSA it has about 71, of Ed25519 64."""

make_keys = keys.make_pair


def sign(private: Path, data: bytes) -> bytes:
    """The signature of bytes; the same key and data give the same. Raises UsageError: see :func:`keys.signer`."""
    return keys.signer(private).sign(data)


def sign_file(signer: Signer, data: bytes, signature: Path) -> None:
    """Write the signature of bytes into a file. Raises BakeError: see :meth:`Signer.sign`.

    A signature of these bytes by this key stays: hardware makes another one each time.
    """
    if (there := files.read_file(signature, limit=LARGEST_SIGNATURE)) and signer.public.verifies(data, there):
        return
    files.write_atomic(signature, signer.sign(data))


def verify_file(public: Path, data: bytes, signature: Path) -> None:
    """Check a signature in a file.

    Raises:
        UsageError: the public key can't be used.
        IntegrityError: there is no signature, or another.
    """
    found = files.read_file(signature, limit=LARGEST_SIGNATURE)
    if found is None:
        raise IntegrityError("this bundle is not signed", where=str(signature.parent))
    verify(public, data, found)


def verify(public: Path, data: bytes, signature: bytes) -> None:
    """Check a signature.

    Raises:
        UsageError: the public key can't be used.
        IntegrityError: the signature is not of this key and data.
    """
    if not keys.verifying(public).verifies(data, signature):
        raise IntegrityError(f"not signed with {public.name}", where="inventory.json.sig")
