"""Ed25519 keys and signatures: made here, checked on the receiver's side with openssl pkeyutl -rawin."""

from __future__ import annotations

from pathlib import Path

from builder.edges.system import files
from builder.errors import IntegrityError, UsageError

LARGEST_SIGNATURE = 1 << 16
"""Bytes; Ed25519 has 64."""


def make_keys(private: Path, public: Path) -> None:
    """A new pair, as PEM: PKCS #8 that only its owner reads, SubjectPublicKeyInfo for receivers.

    Raises:
        UsageError: one of the files exists.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    for path in (private, public):
        if path.exists():
            raise UsageError("a key already exists", where=str(path), hint="name another, or remove it yourself")
    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    files.write_atomic(private, secret, mode=0o600)
    pem, info = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    files.write_atomic(public, key.public_key().public_bytes(pem, info))


def sign(private: Path, data: bytes) -> bytes:
    """64 bytes; the same key and data give the same (RFC 8032).

    Raises:
        UsageError: the key is missing, of another kind, or has a passphrase (openssl pkey removes it into a pipe or tmpfs).
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(private.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"this key can't be used: {error}", where=str(private), hint="bundle keys NAME") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError("this is not an Ed25519 key", where=str(private), hint="bundle keys NAME")
    return key.sign(data)


def sign_file(private: Path, data: bytes, signature: Path) -> None:
    """Write the signature of bytes into a file. Raises UsageError: see :func:`sign`."""
    files.write_atomic(signature, sign(private, data))


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
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(public.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"this key can't be used: {error}", where=str(public)) from None
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError("this is not an Ed25519 key", where=str(public))
    try:
        key.verify(signature, data)
    except InvalidSignature:
        raise IntegrityError(f"not signed with {public.name}", where="inventory.json.sig") from None
