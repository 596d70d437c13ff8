"""What verify found: links, each of which holds, is broken, or can't be shown on this machine. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Verdict(str, Enum):
    """What became of a link."""

    HOLDS = "holds"
    BROKEN = "broken"
    """Bytes are there, and others than they should be."""
    NOT_SHOWN = "not shown"
    """What would show it isn't on this machine."""


@dataclass(frozen=True, kw_only=True)
class ChainLink:
    """One step from a thing to what it was made of."""

    kind: str
    """``recording``, ``code``, ``weights``, ``signature`` …"""
    of: str
    """The stage, file, model or layer."""
    verdict: Verdict
    says: str
    """The digest that was compared, or what is wrong, or missing."""


def holds(kind: str, of: str, says: str) -> ChainLink:
    """A link whose bytes were compared."""
    return ChainLink(kind=kind, of=of, verdict=Verdict.HOLDS, says=says)


def broken(kind: str, of: str, says: str) -> ChainLink:
    """A link whose bytes differ."""
    return ChainLink(kind=kind, of=of, verdict=Verdict.BROKEN, says=says)


def not_shown(kind: str, of: str, says: str) -> ChainLink:
    """A link that nothing here can prove."""
    return ChainLink(kind=kind, of=of, verdict=Verdict.NOT_SHOWN, says=says)


def compared(kind: str, of: str, digest: str | None, expected: str, *, gone: str, other: str) -> ChainLink:
    """A link between bytes and a digest.

    Args:
        digest: of the bytes that are there; None where there are none.
        gone: what to say then.
        other: what to say of other bytes.
    """
    if digest is None:
        return not_shown(kind, of, gone)
    return holds(kind, of, expected) if digest == expected else broken(kind, of, other)
