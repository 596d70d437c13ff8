"""Which images were built when, how large they became, and which of them grew. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

GROWTH = 1.1
"""A person is told of an image that has become larger than this many times what it was."""


@dataclass(frozen=True, kw_only=True)
class BuildRecord:
    """One image after a build that changed it."""

    at: str
    """ISO 8601, UTC."""
    tag: str
    id: str
    state: str
    """``built``, ``cached`` or ``assembled``, as the build said."""
    seconds: float
    """From the begin of the build until it was done."""
    size_bytes: int
    """Unpacked."""
    sent_bytes: int
    """Of layers that went to the engine."""


def parsed(lines: Iterable[bytes]) -> tuple[BuildRecord, ...]:
    """The records that lines are of, oldest first; what was cut short by a full disk is left out."""
    found = []
    for line in lines:
        try:
            said = json.loads(line)
            found.append(BuildRecord(**{name: kind(said[name]) for name, kind in KINDS.items()}))
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
            continue
    return tuple(found)


KINDS = {"at": str, "tag": str, "id": str, "state": str, "seconds": float, "size_bytes": int, "sent_bytes": int}


def line(record: BuildRecord) -> str:
    """A record as a line of the file."""
    return json.dumps(asdict(record), ensure_ascii=False) + "\n"


def predecessors(records: Sequence[BuildRecord]) -> tuple[BuildRecord | None, ...]:
    """For each record, the last one before it of another image that had its tag."""
    last: dict[str, list[BuildRecord]] = {}
    found = []
    for record in records:
        others = [one for one in last.get(record.tag, []) if one.id != record.id]
        found.append(others[-1] if others else None)
        last[record.tag] = [*others[-1:], record]
    return tuple(found)


def grown(before: BuildRecord | None, after: BuildRecord) -> float | None:
    """How many times larger an image is than the one before it, where that is worth a warning."""
    if before is None or before.size_bytes <= 0 or after.size_bytes <= GROWTH * before.size_bytes:
        return None
    return after.size_bytes / before.size_bytes
