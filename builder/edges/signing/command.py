"""A key that no file has: in a token, a card, a security module or a service, which a command asks for signatures.

The command gets the bytes to sign on standard input and prints the signature: ASN.1 as openssl writes it, r and s as PKCS #11
does, either of them plain or in base64. It is no shell's line: ``sh -c '…'`` is, for a command that wants a digest.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from builder.core.text import visible
from builder.edges.signing import keys
from builder.edges.signing.keys import Signer
from builder.edges.system import shell
from builder.errors import MissingError, SourceError, UsageError

PATIENCE = 300.0
"""Seconds: somebody may have to find the token, and to touch it."""

LARGEST_ANSWER = 1 << 16
"""Bytes that it may print: a signature has a hundred."""

SAID = 5
"""Lines of what a command that failed said."""


def chosen(key: Path, command: str | None) -> Signer:
    """Who signs: the owner of a private key in a file, or a command, with the public key in the file.

    Raises:
        UsageError: the key can't be used, or the command is none.
    """
    return keys.signer(key) if command is None else signer(key, command)


def signer(public: Path, command: str) -> Signer:
    """Whoever a command asks; its words are shown and logged nowhere, since a PIN may be among them.

    Args:
        public: the pair's public key; each signature is checked with it.

    Raises:
        UsageError: the key can't be used, or the command is none.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(
            f"this is not a command: {error}", where="--sign-with", hint="quote it as for a shell"
        ) from None
    if not words:
        raise UsageError("this is not a command", where="--sign-with", expected="a program and its arguments")
    key = keys.verifying(public)
    return Signer(key, lambda data: _asked(words, data, key.kind))


def _asked(words: list[str], data: bytes, kind: str) -> bytes:
    """What a command prints for some bytes.

    Raises:
        SourceError: it fails, or takes too long.
        MissingError: there is no such program, or it may not be run.
    """
    name = visible(Path(words[0]).name)
    try:
        done = shell.run(words, stdin=data, timeout=PATIENCE, secret=True)
    except OSError as error:
        raise MissingError(f"{name} can't be run ({error.strerror})", where="--sign-with") from None
    if done.code != 0:
        what = f"took more than {PATIENCE:.0f} s" if done.code == -9 else f"ended with {done.code}"
        said = [visible(line)[:200] for line in done.err.strip().splitlines()[-SAID:]]
        raise SourceError(f"the command that signs, {name}, {what}", where="--sign-with", detail=said)
    if not 0 < len(done.raw) <= LARGEST_ANSWER:
        raise SourceError(
            f"the command that signs, {name}, printed {len(done.raw)} bytes, and no signature",
            where="--sign-with",
            expected="the signature on standard output, as bytes or in base64",
        )
    return keys.signature_in(done.raw, kind)
