"""The journals of a batch's shards: lines that nodes append, and what they say together. Pure, for the builder and for nodes.

    {"event":"begin","host":"n1","items":40,"pid":7,"shard":3,"t":1764000000.0}
    {"event":"done","key":"4f…","seconds":61.2,"took":9.5}
    {"event":"failed","key":"90…","kind":"recording","reason":"it is not media","stage":"demux"}
    {"event":"alive","t":1764000010.0}
    {"event":"end","code":0,"t":1764000030.0}

Nodes are strangers: whatever a line says is bounded and checked, and one that says nothing known is passed over.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Container
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from builder.node.items import KEY, MOST_SECONDS, MOST_SHARDS
from builder.receiver.jobs.untrusted import parse_json

LONGEST_LINE = 4000
"""Bytes of a journal's line; what is longer is passed over."""

LONGEST_REASON = 500
"""Characters of a failure's reason."""

JOURNAL = re.compile(r"[0-9]{1,7}-[A-Za-z0-9._-]{1,80}\.jsonl")
"""Names of journals: ``<shard>-<host>-<pid>-<random>.jsonl``."""

SILENT = 60.0
"""Seconds after which a run without a line has died: it writes one every ten."""

KINDS = ("recording", "stage")
"""Whose fault a failure is."""

_DONE = re.compile(
    rb'\{"event":"done",(?:"kept":true,)?"key":"([0-9a-f]{20})","seconds":([0-9]{1,9}(?:\.[0-9]{1,6})?)'
    rb'(?:,"took":([0-9]{1,9}(?:\.[0-9]{1,9})?))?\}'
)
"""A line as it mostly is, read without a parser."""


class Failure(NamedTuple):
    """Why a recording has no result."""

    kind: str
    """``recording`` or ``stage``."""
    stage: str
    """Where it failed; empty: before any stage."""
    reason: str
    again: int
    """The ``again`` of the item when it failed."""


@dataclass
class ShardRun:
    """One run of a shard, as its journal tells it."""

    shard: int = -1
    """-1: its journal doesn't begin as it should."""
    host: str = ""
    pid: int = 0
    items: int = 0
    """Recordings that it was to work through."""
    began: float = 0.0
    """Seconds since 1970."""
    last: float = 0.0
    """Of its last line with a time, seconds since 1970."""
    code: int | None = None
    """Exit code; None: it has not ended, or was killed."""

    def running(self, now: float) -> bool:
        """Whether it still runs, as far as anyone can tell.

        Args:
            now: seconds since 1970.
        """
        return self.code is None and self.shard >= 0 and now - self.last < SILENT


@dataclass
class Tally:
    """What all lines together say. A result counts once, and nothing takes it back."""

    known: Container[str] | None = None
    """Keys that count; None: all."""
    done: dict[str, float] = field(default_factory=dict)
    """Key -> core seconds that it took; 0.0 where the first line was of an earlier result."""
    seconds: float = 0.0
    """Of sound, of all that are done."""
    took: float = 0.0
    """Core seconds, of all that are done."""
    failed: dict[str, Failure] = field(default_factory=dict)
    """Key -> its last failure; also of what was done later, or is tried again (:meth:`failure`)."""
    differs: set[str] = field(default_factory=set)
    """Keys of which two runs made different results."""

    def failure(self, key: str, again: int) -> Failure | None:
        """Why an item has no result; None: it has one, or nobody tried as often as it was asked for.

        Args:
            again: the item's.
        """
        failure = self.failed.get(key)
        return None if failure is None or key in self.done or failure.again < again else failure

    def add(self, line: bytes, run: ShardRun) -> None:
        """Take in a line of a journal.

        Args:
            run: of this journal; it is changed.
        """
        usual = _DONE.match(line) if len(line) <= LONGEST_LINE else None
        if usual:
            self._done(usual[1].decode("ascii"), float(usual[2]), float(usual[3] or 0.0))
            return
        try:
            data = parse_json(line) if len(line) <= LONGEST_LINE else None
        except ValueError:
            return
        if isinstance(data, dict):
            self._event(data, run)

    def _event(self, data: dict[str, Any], run: ShardRun) -> None:
        event, key = data.get("event"), data.get("key")
        if event in ("begin", "alive", "end"):
            _noted(data, run)
        if not isinstance(key, str) or not KEY.fullmatch(key) or (self.known is not None and key not in self.known):
            return
        if event == "done":
            self._done(key, _number(data.get("seconds")), _number(data.get("took")))
        elif event == "failed":
            failure = Failure(
                kind=data["kind"] if data.get("kind") in KINDS else "stage",
                stage=sys.intern(_text(data.get("stage"), 40)),
                reason=sys.intern(_text(data.get("reason"), LONGEST_REASON)),
                again=int(_number(data.get("again"))),
            )
            if key not in self.failed or self.failed[key].again <= failure.again:
                self.failed[key] = failure
        elif event == "differs":
            self.differs.add(key)

    def _done(self, key: str, seconds: float, took: float) -> None:
        if self.known is not None and key not in self.known:
            return
        if key not in self.done:
            self.done[key] = took
            self.seconds += seconds
            self.took += took
        elif self.done[key] == 0.0 and took:  # it was known by a line of an earlier result only
            self.done[key] = took
            self.took += took


def _noted(data: dict[str, Any], run: ShardRun) -> None:
    """What a line says of the run itself."""
    run.last = max(run.last, _number(data.get("t"), 1e11))
    if data["event"] == "begin":
        run.shard = int(_number(data.get("shard"), MOST_SHARDS))
        run.host = _text(data.get("host"), 80)
        run.pid, run.items = int(_number(data.get("pid"))), int(_number(data.get("items")))
        run.began, run.code = run.last, None
    elif data["event"] == "end":
        run.code = int(_number(data.get("code")))


def _number(value: object, most: float = MOST_SECONDS) -> float:
    known = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= most
    return float(value) if known else 0.0  # type: ignore[arg-type]


def _text(value: object, most: int) -> str:
    """Text that can be written and shown: no half of a surrogate, no line end."""
    if not isinstance(value, str):
        return ""
    return value[:most].encode("utf-8", "replace").decode("utf-8")
