"""What all that is verified has in common: its links, its signatures, the engine of this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.core.signatures import simple
from builder.core.signatures.links import ChainLink, Verdict, broken, holds, not_shown
from builder.edges.signing import kept
from builder.errors import BakeError, IntegrityError
from builder.workflows.session import Session

if TYPE_CHECKING:
    from builder.edges.signing.keys import VerifyingKey

NO_KEY = "--key PUBLIC-KEY checks by whom"


@dataclass(frozen=True, kw_only=True)
class Verified:
    """A thing and what its links came to."""

    kind: str
    """``image``, ``bundle``, ``job`` or ``model``."""
    name: str
    links: tuple[ChainLink, ...]
    replayed: bool = False
    """The job ran a second time."""

    @property
    def failure(self) -> BakeError | None:
        """What differs."""
        wrong = [link for link in self.links if link.verdict is Verdict.BROKEN]
        if not wrong:
            return None
        first = wrong[0]
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        return IntegrityError(f"{first.kind} of {first.of}: {first.says}{more}", where=self.name)

    def count(self, verdict: Verdict) -> int:
        """Links with this verdict."""
        return sum(link.verdict is verdict for link in self.links)


def signed(of: str, there: bool, key: VerifyingKey | None, pairs: Sequence[tuple[bytes, bytes]]) -> ChainLink:
    """The link of a signature.

    Args:
        there: something is signed.
        pairs: the bytes that have to be signed, and their signatures.
    """
    if key is None:
        return not_shown("signature", of, f"signed; {NO_KEY}" if there else "not signed")
    if any(key.verifies(data, signature) for data, signature in pairs if signature):
        return holds("signature", of, f"by {key.name}")
    return broken("signature", of, f"not by {key.name}" if there else f"not signed; {key.name} is to have signed it")


def image_signature(session: Session, digest: str, of: str, key: VerifyingKey | None) -> ChainLink:
    """The signatures of an image that push --sign made here."""
    found = kept.read(session.config.paths.signatures, digest)
    pairs = [(data, signature) for data, signature in found if (said := simple.said(data)) and said.digest == digest]
    return signed(of, bool(pairs), key, pairs)


def engine_address(session: Session) -> str | None:
    """Address of an engine on this machine that listens; None where there is none."""
    from builder.edges.engine import connection as engines

    try:
        host = engines.address(session.env)
    except BakeError:
        return None
    return host if host.startswith("unix:") and engines.why_not(host) is None else None
