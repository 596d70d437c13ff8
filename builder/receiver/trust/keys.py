"""Who vouches for a bundle: its sender's signature, a fingerprint that was read out, or the person at the keyboard."""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import os
import re
import shutil
import subprocess  # openssl; the loader has no other module to do it with
import tempfile
from dataclasses import dataclass
from pathlib import Path

from builder.receiver.display import say, shown
from builder.receiver.inventory import INVENTORY, SIGNATURE, LoaderError, open_file, read_file
from builder.receiver.parts import Bundle

PUBLIC_PEM = re.compile(rb"-----BEGIN PUBLIC KEY-----([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----")

LARGEST_KEY = 1 << 16
"""Bytes of a key's file, and of a signature's: both have about a hundred."""

SHORTEST_FINGERPRINT = 16
"""Hex digits that somebody has to read out."""


@dataclass(frozen=True)
class PublicKey:
    """A sender's public key."""

    pem: bytes
    """SubjectPublicKeyInfo, and nothing beside it."""
    where: str
    """The file that it was read from."""
    name: str
    """What a person calls it."""

    @property
    def sender(self) -> str:
        """Hex sha256 that stands for whoever has the private key."""
        return hashlib.sha256(base64.b64decode(self.pem.split(b"-----")[2])).hexdigest()


def key_in(raw: bytes, where: str, name: str = "") -> PublicKey:
    """The public key in the bytes of a file. Raises LoaderError: there is none."""
    if b"PRIVATE KEY-----" in raw:
        raise LoaderError(
            2, f"{shown(where)} is a private key", "the public one ends in .pub.pem; keep this one to yourself"
        )
    found = PUBLIC_PEM.search(raw)
    try:
        der = base64.b64decode(re.sub(rb"\s", b"", found[1]) if found else b"", validate=True)
    except binascii.Error:
        der = b""
    if not der:
        raise LoaderError(
            2, f"{shown(where)} is not a public key", "--key FILE, with what the sender's bundle keys wrote"
        )
    text = base64.b64encode(der)
    lines = b"\n".join(text[k : k + 64] for k in range(0, len(text), 64))
    return PublicKey(
        b"-----BEGIN PUBLIC KEY-----\n" + lines + b"\n-----END PUBLIC KEY-----\n",
        where,
        name or shown(Path(where).name),
    )


def read_key(path: Path) -> PublicKey:
    """A key that a person named; a link is followed. Raises LoaderError: no such file, or no key in it."""
    try:
        with open_file(Path(os.path.realpath(path))) as source:
            return key_in(source.read(LARGEST_KEY), str(path))
    except OSError as error:
        raise LoaderError(2, f"no key {shown(str(path))} ({error.strerror or error})", "--key FILE") from None


@dataclass(frozen=True)
class Expected:
    """What this machine expects of a bundle, from the ones before."""

    key: PublicKey | None = None
    """The sender's key; None as long as none was given."""
    signed: bool = False
    """An earlier one was signed, whether or not somebody had the key."""


def vouched(bundle: Bundle, chosen: argparse.Namespace, expected: Expected) -> PublicKey | None:
    """The key that signed a bundle; None where somebody else vouches for it.

    Raises:
        LoaderError: nobody does, the fingerprint or the signature is another (5), or it can't be checked (3).
    """
    known = _has_fingerprint(bundle, chosen.fingerprint)
    signature = _signature(bundle)
    key = _key(chosen, expected)
    if key is not None:
        if signature is None:
            what = f"{bundle.folder} is not signed, but a key is given"
            if expected.key is not None:
                what = f"{bundle.folder} is not signed; bundles for this machine are signed ({key.where})"
            raise LoaderError(5, what, "don't use it; ask the sender whether the signature was left out")
        _check_signature(key, bundle.raw, signature, known)
        return key
    if known:
        return None
    if signature is None and expected.signed:
        raise LoaderError(
            5,
            f"{bundle.folder} is not signed, but what was loaded before was",
            "ask the sender whether the signature was left out; --fingerprint, as the sender reads it out",
        )
    what = "signed, but not checked" if signature else "not signed"
    if not (chosen.allow_unsigned or chosen.check):
        raise LoaderError(
            5,
            f"nobody vouches for this bundle: it is {what}",
            "--key FILE with the sender's public key, or --fingerprint HEX as the sender reads it out, neither of"
            " which may come with the bundle; --allow-unsigned, if you need no proof of who made it",
        )
    say(f"{what}: anybody can have made this bundle")
    return None


def _has_fingerprint(bundle: Bundle, fingerprint: str | None) -> bool:
    """Whether a fingerprint was given, and is the bundle's. Raises LoaderError: it is another one's, or too short."""
    if fingerprint is None:
        return False
    plain = re.sub(r"[\s:-]", "", fingerprint.lower())
    if len(plain) < SHORTEST_FINGERPRINT or not re.fullmatch("[0-9a-f]+", plain):
        raise LoaderError(
            2,
            f"a fingerprint has at least {SHORTEST_FINGERPRINT} hex digits",
            "--fingerprint, as the sender's bundle inspect shows it",
        )
    if not bundle.fingerprint.startswith(plain):
        raise LoaderError(
            5, f"this is another bundle: its fingerprint is {bundle.fingerprint}", "don't use it; ask the sender"
        )
    return True


def _signature(bundle: Bundle) -> bytes | None:
    """The signature's bytes, read once; None when there is none. Raises LoaderError: it can't be read."""
    path = bundle.folder / SIGNATURE
    return read_file(path, LARGEST_KEY) if os.path.lexists(path) else None


def _key(chosen: argparse.Namespace, expected: Expected) -> PublicKey | None:
    """The key that has to have signed. Raises LoaderError: another one than before was given."""
    if chosen.new_key is not None:
        return read_key(chosen.new_key)
    if chosen.key is None:
        return expected.key
    key = read_key(chosen.key)
    if expected.key is not None and expected.key.sender != key.sender:
        raise LoaderError(
            5,
            f"{key.name} is another key than that of the bundles before ({expected.key.where})",
            "ask the sender; --new-key FILE in place of --key, if there is a new one",
        )
    return key


def _check_signature(key: PublicKey, raw: bytes, signature: bytes, known: bool) -> None:
    """Check a signature of bytes that were read, and of no others: openssl gets copies in a folder of our own.

    Args:
        known: somebody has read the fingerprint out; then a machine that can't check signatures need not.
    """
    openssl = shutil.which("openssl")
    if not openssl or not Path(openssl).is_absolute():
        return _unchecked("openssl is not installed", "install it", known)
    with tempfile.TemporaryDirectory(prefix="whisperbake-") as folder:
        files = {name: Path(folder) / name for name in ("key", "signature", "signed")}
        for name, data in (("key", key.pem), ("signature", signature), ("signed", raw)):
            files[name].write_bytes(data)
        words = [openssl, "pkeyutl", "-verify", "-pubin", "-inkey", str(files["key"]), "-rawin"]
        words += ["-sigfile", str(files["signature"]), "-in", str(files["signed"])]
        done = subprocess.run(words, capture_output=True, check=False)
    said = (done.stdout + done.stderr).decode("utf-8", "replace")
    if "nknown option" in said or "Unrecognized" in said:
        return _unchecked("openssl is too old", "install openssl 3", known)
    if done.returncode != 0 or "Signature Verified Successfully" not in said:
        raise LoaderError(
            5,
            f"{INVENTORY} was not signed with {key.name}: it or {SIGNATURE} is damaged, or somebody else made it",
            "copy both again from the sender; don't use this bundle if that stays",
        )
    say(f"signed with {key.name}")
    return None


def _unchecked(why: str, do: str, known: bool) -> None:
    """Raises LoaderError, unless the fingerprint was read out."""
    if not known:
        raise LoaderError(
            3, f"the signature can't be checked: {why}", f"{do}, or compare by telephone: --fingerprint HEX"
        )
    say(f"the signature is not checked ({why}); the fingerprint is right")
