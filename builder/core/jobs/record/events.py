"""events.jsonl, to which the orchestrator and stages append: each line read as what may be anything. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from builder.receiver.jobs.untrusted import parse_json

LONGEST_LINE = 1 << 20
"""Bytes; ours have a hundredth of it."""

LONGEST_TEXT = 500
"""Characters that are kept of what an event says."""

LATEST = 1e11
"""Seconds since the epoch, or of sound: more are none."""


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= LATEST


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= 100 and all(map(_is_text, value))


KINDS: Mapping[str, Callable[[Any], bool]] = {
    "t": _is_number,
    "stage": _is_text,
    "event": _is_text,
    "input": _is_text,
    "done": _is_number,
    "total": _is_number,
    "start": _is_number,
    "models": _is_text,
    "text": _is_text,
    "message": _is_text,
    "stages": _is_names,
    "without": _is_names,
}
"""What is read of an event, and of which kind it is."""


def parsed_lines(data: bytes) -> Iterator[Mapping[str, Any]]:
    """The events in whole lines. What doesn't fit is left out: a line without a time or a kind, or a field of a line.

    A line whose stage is not a name is left out, too: without a stage it would be the orchestrator's word.
    """
    for line in data.split(b"\n"):
        if not line.startswith(b"{") or len(line) > LONGEST_LINE:
            continue
        try:
            event = parse_json(line)
        except ValueError:
            continue
        if all(name not in event or KINDS[name](event[name]) for name in ("t", "stage", "event")) and "event" in event:
            yield {
                name: value[:LONGEST_TEXT] if isinstance(value, str) else value
                for name, value in event.items()
                if name in KINDS and KINDS[name](value)
            }
