"""Pairs of keys as PEM files: ECDSA on P-256 (FIPS 186-5), and Ed25519 (RFC 8032) in pairs that were made before.

P-256 is what every program takes that is to check a signature of ours: cosign, OpenSSF's model_signing, openssl at a
receiver, and nearly all hardware and services that keep keys. model_signing refuses Ed25519.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from builder.edges.system import files
from builder.errors import IntegrityError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

LARGEST_KEY = 1 << 16
"""Bytes of a key's file: it has a few hundred."""

P256, ED25519 = "ECDSA P-256", "Ed25519"
"""Kinds of keys."""

KINDS = f"{P256} or {ED25519}, as PEM"

MAKE = "bundle keys FILE makes a pair"


@dataclass(frozen=True)
class VerifyingKey:
    """A public key that checks signatures."""

    kind: str
    pem: bytes
    """SubjectPublicKeyInfo, as every program writes it."""
    name: str
    """Of its file: what a person knows it by."""
    _key: EllipticCurvePublicKey | Ed25519PublicKey = field(repr=False, compare=False)

    @property
    def digest(self) -> str:
        """Hex sha256 of the PEM: what OpenSSF's signatures know a key by."""
        return hashlib.sha256(self.pem).hexdigest()

    @property
    def identity(self) -> str:
        """Hex sha256 of the key itself (DER), as a receiver remembers a sender."""
        return hashlib.sha256(base64.b64decode(b"".join(self.pem.splitlines()[1:-1]))).hexdigest()

    def verifies(self, data: bytes, signature: bytes) -> bool:
        """Whether a signature is of this key and of these bytes: ASN.1 of ECDSA with SHA-256, or 64 bytes of Ed25519."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        try:
            if isinstance(self._key, ec.EllipticCurvePublicKey):
                self._key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
            else:
                self._key.verify(signature, data)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class Signer:
    """Whoever has a private key."""

    public: VerifyingKey
    _sign: Callable[[bytes], bytes] = field(repr=False, compare=False)

    def sign(self, data: bytes) -> bytes:
        """The signature of bytes, checked with the public key before anybody sees it.

        Raises:
            IntegrityError: what signs has another key.
            BakeError: see what signs: :func:`builder.edges.signing.command.signer`.
        """
        signature = self._sign(data)
        if not self.public.verifies(data, signature):
            raise IntegrityError(
                f"what was signed can't be checked with {self.public.name}",
                hint="the command and the public key have to be of one pair",
            )
        return signature


def make_pair(private: Path, public: Path) -> None:
    """A new pair on P-256, as PEM: PKCS #8 that only its owner reads, SubjectPublicKeyInfo for everybody else.

    Raises:
        UsageError: one of the files exists.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    for path in (private, public):
        if path.exists():
            raise UsageError("a key already exists", where=str(path), hint="name another, or remove it yourself")
    key = ec.generate_private_key(ec.SECP256R1())
    plain = serialization.NoEncryption()
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    files.write_atomic(private, secret, mode=0o600)
    files.write_atomic(public, _pem(key.public_key()))


def signer(private: Path) -> Signer:
    """The owner of a private key in a file. The same key and bytes give the same signature (RFC 6979, RFC 8032).

    Raises:
        UsageError: the key is missing, of another kind, or has a passphrase.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    raw = _read(private)
    if b"SIGSTORE PRIVATE KEY-----" in raw:
        raise UsageError(
            "this is a key of cosign's, which only cosign reads",
            where=str(private),
            hint="--sign cosign.pub --sign-with 'cosign sign-blob --key cosign.key --tlog-upload=false -y -'",
        )
    try:
        key = load_pem_private_key(raw, None)
    except TypeError:
        raise UsageError(
            "this key has a passphrase",
            where=str(private),
            hint="let openssl ask for it: --sign PUBLIC-KEY --sign-with 'openssl dgst -sha256 -sign KEY'",
        ) from None
    except ValueError:
        hint = "--sign PUBLIC-KEY --sign-with COMMAND" if b"PUBLIC KEY-----" in raw else MAKE
        raise UsageError("this is not a private key", where=str(private), expected=KINDS, hint=hint) from None
    except Exception as error:  # noqa: BLE001 - cryptography has its own exceptions for algorithms it doesn't know
        raise UsageError(f"this key can't be used: {error}", where=str(private), expected=KINDS, hint=MAKE) from None
    if isinstance(key, Ed25519PrivateKey):
        return Signer(_verifying(key.public_key(), private), key.sign)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        try:
            scheme = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
        except UnsupportedAlgorithm:  # a cryptography that was built with OpenSSL before 3.2
            scheme = ec.ECDSA(hashes.SHA256())
        return Signer(_verifying(key.public_key(), private), lambda data: key.sign(data, scheme))
    raise _other_kind(private)


def verifying(public: Path) -> VerifyingKey:
    """A public key in a file.

    Raises:
        UsageError: there is none, or it is of another kind.
    """
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    raw = _read(public)
    if b"PRIVATE KEY-----" in raw:
        raise UsageError(
            "this is a private key",
            where=str(public),
            hint="the public one ends in .pub.pem; keep this one to yourself",
        )
    try:
        return _verifying(load_pem_public_key(raw), public)
    except UsageError:
        raise
    except Exception as error:  # noqa: BLE001 - cryptography has its own exceptions for algorithms it doesn't know
        raise UsageError(f"this key can't be used: {error}", where=str(public), expected=KINDS, hint=MAKE) from None


def signature_in(printed: bytes, kind: str) -> bytes:
    """The signature in what a program printed, as this tool keeps it: base64 or plain; of ECDSA as ASN.1, or as r and s.

    Args:
        kind: of the key.
    """
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    text = re.sub(rb"\s", b"", printed)
    if len(printed) != 64 and re.fullmatch(rb"[A-Za-z0-9+/]{80,}={0,2}", text):
        with contextlib.suppress(binascii.Error):
            printed = base64.b64decode(text, validate=True)
    if kind == P256 and len(printed) == 64:
        return encode_dss_signature(int.from_bytes(printed[:32], "big"), int.from_bytes(printed[32:], "big"))
    return printed


def _read(path: Path) -> bytes:
    raw = files.read_file(path, limit=LARGEST_KEY, follow=True)
    if raw is None:
        raise UsageError("this key can't be used: no such file", where=str(path), hint=MAKE)
    return raw


def _verifying(key: object, path: Path) -> VerifyingKey:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if isinstance(key, Ed25519PublicKey):
        return VerifyingKey(ED25519, _pem(key), path.name, key)
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return VerifyingKey(P256, _pem(key), path.name, key)
    raise _other_kind(path)


def _other_kind(path: Path) -> UsageError:
    return UsageError("this is a key of another kind", where=str(path), expected=KINDS, hint=MAKE)


def _pem(key: EllipticCurvePublicKey | Ed25519PublicKey) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
