"""How far a batch is: its plan's lines and its journals' lines, counted. Pure, and lean: 100,000 items take a third of a second.

Lines as this program writes them are found by a regular expression over a whole chunk; others are parsed one by one, and
what is neither is nothing. Whoever ran a shard wrote its journal (:mod:`builder.node.results.record`): nothing in it counts but
keys that the plan has, numbers and short texts. :mod:`builder.node.items` reads the plan's lines with more doubt, at a quarter
of the pace.
"""

from __future__ import annotations

import json
import math
import re
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from builder.node.items import KEY, MOST_TRIES

OPEN, DONE, FAILED, UNREADABLE = range(4)
"""States of an item: nothing is known of it, it has a result, it failed, the plan couldn't read it."""

ALIVE = 60.0
"""Seconds: a shard whose journal is older isn't running; its runner writes every 10 s."""

LONGEST_REASON = 300
"""Characters of a reason that are kept."""

MOST_REASONS = 1000
"""Different reasons that are told apart; a runner whose every reason is another fills no memory."""

OTHER = "other reasons"
"""What stands for the reasons after these."""

_TEXT = rb'"[^"\\\n]*(?:\\.[^"\\\n]*)*"'
_NUMBER = rb"\d{1,24}(?:\.\d{1,24})?(?:[eE][+-]?\d{1,3})?"

ITEM = re.compile(
    rb'^(?:\{"key":"([0-9a-f]{20})",(?:"mtime_ns":\d+,)?"path":' + _TEXT + rb',"seconds":(' + _NUMBER + rb")"
    rb',(?:"sha256":"[0-9a-f]{64}",)?"shard":(\d{1,9}),"size":\d+\}|([^\n]+))$',
    re.MULTILINE,
)
"""A line of items.jsonl: key, seconds, shard; or any other line."""

EVENT = re.compile(
    rb'^(?:\{"event":"done","key":"([0-9a-f]{20})",("kept":true,)?"seconds":'
    + _NUMBER
    + rb'(?:,"took":('
    + _NUMBER
    + rb"))?"
    rb"\}|([^\n]+))$",
    re.MULTILINE,
)
"""A line of a journal: key, whether the result is an earlier run's, core seconds; or any other line."""


@dataclass(frozen=True)
class MissingResult:
    """Why items have no result."""

    kind: str
    """``recording`` or ``stage``; ``plan`` where the plan couldn't read it."""
    stage: str
    text: str


@dataclass(slots=True)
class ShardJournal:
    """What one run of a shard said of itself."""

    shard: int
    host: str = ""
    begin: float = math.nan
    """Seconds since the epoch."""
    last: float = math.nan
    """When it last said something."""
    code: int | None = None
    """With what it ended; None while it hasn't."""
    begun: bool = False
    """It ended and the stages were still to run."""
    changed: float = math.nan
    """When its file changed last, by the clock of the disk."""

    def alive(self, now: float) -> bool:
        """Whether it seems to run: it hasn't ended, and said so or wrote within :data:`ALIVE`. Clocks may differ by that."""
        return (
            self.code is None and not self.begun and any(abs(now - when) <= ALIVE for when in (self.last, self.changed))
        )


class BatchTally:
    """Items by their number, the order of the plan, in a few arrays."""

    def __init__(self) -> None:
        self.numbers: dict[bytes, int] = {}
        self.states = bytearray()
        self.seconds = array("d")
        self.shards = array("i")
        """-1 where the plan has no shard for it."""
        self.took = array("f")
        """Core seconds; NaN where nobody said it."""
        self.why = array("i")
        """Number of the reason; -1 where there is none."""
        self.again = array("H")
        """How often ``batch retry --failed`` took it up: a failure of fewer times counts no longer."""
        self.fresh = bytearray()
        """1 where some run of a shard made the result, rather than found it."""
        self.reasons: list[MissingResult] = []
        self.differing: set[bytes] = set()
        self.journals: dict[str, ShardJournal] = {}
        self._reasons: dict[MissingResult, int] = {}

    # ---- What is read

    def add_items(self, lines: bytes) -> int | None:
        """Whole lines of items.jsonl; the number of the first line (from 1, of these) that isn't an item's, if any."""
        numbers, states = self.numbers, self.states
        for count, found in enumerate(ITEM.finditer(lines), 1):
            key, seconds, shard, other = found.groups()
            if key in numbers:
                continue
            if other is None:
                numbers[key] = len(states)
                states.append(OPEN)
                self.seconds.append(float(seconds))
                self.shards.append(int(shard))
                self.why.append(-1)
            elif not self._add_item(other):
                return count
        added = len(states) - len(self.took)
        self.took.frombytes(array("f", [math.nan]).tobytes() * added)
        self.again.frombytes(array("H", [0]).tobytes() * (len(states) - len(self.again)))
        self.fresh.extend(bytes(added))
        return None

    def _add_item(self, line: bytes) -> bool:
        data = parsed(line)
        key, shard, unreadable = data.get("key"), data.get("shard"), data.get("unreadable")
        if not isinstance(key, str) or not KEY.fullmatch(key) or not isinstance(data.get("path"), str):
            return False
        readable = unreadable is None
        seconds = number(data.get("seconds"))
        if readable and (seconds is None or not isinstance(shard, int)):
            return False
        if key.encode() in self.numbers:
            return True
        self.numbers[key.encode()] = len(self.states)
        self.again.frombytes(array("H", [0]).tobytes() * (len(self.states) - len(self.again)))
        self.again.append(min(int(number(data.get("again")) or 0), MOST_TRIES - 1))
        self.states.append(OPEN if readable else UNREADABLE)
        self.seconds.append(seconds or 0.0)
        self.shards.append(shard if readable and isinstance(shard, int) and 0 <= shard < 1 << 31 else -1)
        self.why.append(-1 if readable else self._reason("plan", "", unreadable))
        return True

    def journal(self, name: str, *, changed: float) -> ShardJournal:
        """The journal of a file.

        Args:
            name: the file's; :data:`builder.node.results.record.JOURNAL` fits it.
            changed: when the file changed last, in seconds since the epoch.
        """
        journal = self.journals.get(name)
        if journal is None:
            journal = self.journals[name] = ShardJournal(shard=int(name.partition("-")[0]))
        journal.changed = changed
        return journal

    def add_events(self, journal: ShardJournal, lines: bytes) -> None:
        """Whole lines of a journal."""
        for found in EVENT.finditer(lines):
            key, kept, took, other = found.groups()
            if other is None:
                self._done(key, math.nan if took is None else float(took), kept is not None)
            else:
                self._event(journal, parsed(other))

    def _done(self, key: bytes, took: float, kept: bool) -> None:
        at = self.numbers.get(key)
        if at is None:
            return
        self.states[at] = DONE
        self.why[at] = -1
        if not kept:
            self.fresh[at] = 1
        if took == took:
            self.took[at] = took

    def _event(self, journal: ShardJournal, data: Mapping[str, Any]) -> None:
        event = data.get("event")
        if event not in ("begin", "alive", "begun", "end"):
            key = data.get("key")
            if isinstance(key, str) and KEY.fullmatch(key):
                self._of_item(event, key.encode(), data)
            return
        moment = number(data.get("t"))
        if moment is not None and not moment <= journal.last:  # NaN too
            journal.last = moment
        if event == "begin":
            if moment is not None and journal.begin != journal.begin:
                journal.begin = moment
            journal.host = short(data.get("host"), 64) or journal.host
            journal.code, journal.begun = None, False
        elif event == "begun":
            journal.begun = True
        elif event == "end":
            code = data.get("code")
            journal.code = code if isinstance(code, int) and -256 < code < 256 else 1

    def _of_item(self, event: object, key: bytes, data: Mapping[str, Any]) -> None:
        at = self.numbers.get(key)
        if at is None:
            return
        if event == "done":
            took = number(data.get("took"))
            self._done(key, math.nan if took is None else took, data.get("kept") is True)
        elif event == "differs":
            self.differing.add(key)
        elif event == "failed" and self.states[at] in (OPEN, FAILED):
            again = int(number(data.get("again")) or 0)
            if not self.again[at] <= again < MOST_TRIES - 1:  # so that it can be tried once more
                return
            self.states[at], self.again[at] = FAILED, again
            kind = "recording" if data.get("kind") == "recording" else "stage"
            self.why[at] = self._reason(kind, short(data.get("stage"), 40), data.get("reason"))

    def _reason(self, kind: str, stage: str, text: object) -> int:
        reason = MissingResult(kind, stage, short(text, LONGEST_REASON))
        if reason not in self._reasons and len(self.reasons) >= MOST_REASONS:
            reason = MissingResult("", "", OTHER)
        at = self._reasons.setdefault(reason, len(self.reasons))
        if at == len(self.reasons):
            self.reasons.append(reason)
        return at

    # ---- What it says

    def state_of(self, key: str) -> int:
        """The state of an item; what the plan hasn't is open."""
        at = self.numbers.get(key.encode())
        return OPEN if at is None else self.states[at]

    def tries_of(self, key: str) -> int:
        """How often it was tried again, at the time when it failed."""
        return self.again[self.numbers[key.encode()]]

    def reason_of(self, key: str) -> MissingResult:
        """Why an item has no result."""
        return self.reasons[self.why[self.numbers[key.encode()]]]

    def by_reason(self, state: int) -> Iterator[tuple[MissingResult, int]]:
        """The reasons of the items in a state, the most frequent first, and how many items each has."""
        counts = Counter(why for why, now in zip(self.why, self.states, strict=True) if now == state)
        for why, count in sorted(counts.items(), key=lambda pair: (-pair[1], self.reasons[pair[0]].text)):
            yield self.reasons[why], count

    def sound(self, *states: int) -> float:
        """Seconds of the items in these states."""
        return math.fsum(s for s, now in zip(self.seconds, self.states, strict=True) if now in states)

    def running(self, now: float) -> set[int]:
        """Shards that somebody works at."""
        return {journal.shard for journal in self.journals.values() if journal.alive(now)}

    def open_in(self, shards: Collection[int]) -> int:
        """Items of these shards of which nothing is known yet."""
        if not shards:
            return 0
        return sum(now == OPEN and shard in shards for now, shard in zip(self.states, self.shards, strict=True))

    def worked(self) -> float:
        """Seconds during which some shard ran, from each first word to the last one; what overlaps counts once."""
        spans = sorted((j.begin, j.last) for j in self.journals.values() if j.begin <= j.last)
        total, reached = 0.0, -math.inf
        for begin, last in spans:
            total += max(last - max(begin, reached), 0.0)
            reached = max(reached, last)
        return total

    def real_time_factor(self) -> float | None:
        """Seconds of sound for each second that some shard ran; None while nothing was made."""
        made = math.fsum(s for s, new in zip(self.seconds, self.fresh, strict=True) if new)
        worked = self.worked()
        return made / worked if made and worked else None

    def of_shards(self) -> Mapping[int, ShardCount]:
        """The items of each shard of the plan, by its number."""
        found: dict[int, list[float]] = {}
        for shard, state, seconds in zip(self.shards, self.states, self.seconds, strict=True):
            if shard >= 0:
                row = found.setdefault(shard, [0, 0, 0, 0.0])
                row[0] += 1
                row[1] += state == DONE
                row[2] += state == FAILED
                row[3] += seconds
        return MappingProxyType(
            {n: ShardCount(int(row[0]), int(row[1]), int(row[2]), row[3]) for n, row in sorted(found.items())}
        )


@dataclass(frozen=True)
class ShardCount:
    """A shard's items."""

    items: int
    done: int
    failed: int
    seconds: float
    """Of sound."""


def parsed(line: bytes) -> Mapping[str, Any]:
    """The object in a line; empty where it is something else."""
    try:
        data = _decoded(line.decode())[0]
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


_decoded = json.JSONDecoder().raw_decode
"""Faster than json.loads, which guesses the encoding. What follows an object on its line is passed over."""


def number(value: object) -> float | None:
    """A number that is one, not negative, and less than any moment or length of ours."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e12:
        return None
    return float(value)


def short(value: object, most: int) -> str:
    """A text's first characters on one line; empty where it is no text."""
    if not isinstance(value, str):
        return ""
    line = " ".join(value[: 4 * most].split())
    text = line if len(line) <= most else f"{line[: most - 1]}…"
    return text.encode("utf-8", "replace").decode()


def latest(journals: Iterable[ShardJournal]) -> ShardJournal | None:
    """The run of a shard that began last."""
    return max(journals, key=lambda j: (j.begin if j.begin == j.begin else -math.inf, j.code is None), default=None)
