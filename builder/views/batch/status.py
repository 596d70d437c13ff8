"""Results of ``batch status`` and ``batch collect``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from typing_extensions import NotRequired, TypedDict

from builder.core.text import format_clock, format_size, table
from builder.node.jobs import CHANGED, GONE
from builder.program import command, shell_word
from builder.views import View

if TYPE_CHECKING:
    from builder.core.batch.tally import MissingResult
    from builder.workflows.batch.collect import BatchCollected
    from builder.workflows.batch.status import BatchStatus, ShardStatus

REASONS_SHOWN = 10
"""Reasons that a person is shown."""

LONGEST_SHOWN = 100
"""Characters of a reason in a row."""


class FailureJson(TypedDict):
    """Items that have no result for one reason."""

    kind: str
    """``recording``: the recording is at fault; ``stage``: a stage is; ``plan``: batch plan couldn't read it."""
    stage: str
    """The stage that failed; empty where none did."""
    reason: str
    """What was wrong, as a node said it."""
    items: int
    """How many."""


class ShardJson(TypedDict):
    """One shard of the plan."""

    shard: int
    """Its number."""
    state: str
    """``waiting``, ``running``, ``begun`` (its stages run where nothing is heard of them), ``done`` (no item is left),
    ``ended`` (items are left), or ``lost``: its last run said no end."""
    code: int | None
    """Exit code of its last run; null where that has none yet."""
    host: str
    """Machine of its last run."""
    items: int
    """Its recordings."""
    done: int
    """Those with a result."""
    failed: int
    """Those that failed."""
    seconds: float
    """Of sound."""


class BatchStatusJson(TypedDict):
    """How far a batch is. ``items`` is the sum of ``done``, ``failed``, ``unreadable``, ``running`` and ``missing``."""

    batch: str
    """Its folder."""
    items: int
    """Recordings of the plan."""
    done: int
    """Those with a result."""
    failed: int
    """Those that failed."""
    unreadable: int
    """Those that batch plan couldn't read."""
    running: int
    """Those without a result in shards that run."""
    missing: int
    """The others without a result."""
    shards: int
    """Shards of the plan."""
    running_shards: int
    """Those whose runner wrote within the last minute and hasn't ended."""
    sound_done: float
    """Seconds of sound with a result."""
    sound_left: float
    """Seconds of sound that run or are missing."""
    real_time_factor: float | None
    """Seconds of sound for each second that some shard ran; null while nothing was made."""
    hours_left: float | None
    """At this pace; null while that isn't known."""
    differing: int
    """Recordings of which two runs made different results; the first stays."""
    failures: list[FailureJson]
    """Why recordings failed, the most frequent reasons first, 50 at most."""
    unreadables: list[FailureJson]
    """Why recordings couldn't be read, likewise."""
    by_shard: NotRequired[list[ShardJson]]
    """The shards, where there are 40 at most."""


def _failures(reasons: Sequence[tuple[MissingResult, int]]) -> list[FailureJson]:
    return [{"kind": r.kind, "stage": r.stage, "reason": r.text, "items": count} for r, count in reasons]


def _status_data(found: BatchStatus) -> BatchStatusJson:
    data: BatchStatusJson = {
        "batch": str(found.batch),
        "items": found.items,
        "done": found.done,
        "failed": found.failed,
        "unreadable": found.unreadable,
        "running": found.running,
        "missing": found.missing,
        "shards": found.shards,
        "running_shards": found.running_shards,
        "sound_done": round(found.sound_done, 3),
        "sound_left": round(found.sound_left, 3),
        "real_time_factor": None if found.real_time_factor is None else round(found.real_time_factor, 3),
        "hours_left": None if found.hours_left is None else round(found.hours_left, 3),
        "differing": found.differing,
        "failures": _failures(found.failures),
        "unreadables": _failures(found.unreadables),
    }
    if found.listed:
        data["by_shard"] = [_shard_data(shard) for shard in found.listed]
    return data


def _shard_data(shard: ShardStatus) -> ShardJson:
    return {
        "shard": shard.number,
        "state": shard.state,
        "code": shard.code,
        "host": shard.host,
        "items": shard.items,
        "done": shard.done,
        "failed": shard.failed,
        "seconds": round(shard.seconds, 3),
    }


def _status_text(found: BatchStatus) -> list[str]:
    shards = f" in {_counted(found.running_shards, 'shard')}" if found.running_shards else ""
    lines = [
        f"{_counted(found.items, 'recording')}: {found.done} done, {found.failed} failed, {found.unreadable} unreadable, "
        f"{found.running} running{shards}, {found.missing} missing",
        f"sound: {_hours(found.sound_done)} done, {_hours(found.sound_left)} left{_pace(found)}",
    ]
    if found.differing:
        lines.append(
            f"{_counted(found.differing, 'recording')} came out differently in two runs; the first result stays"
        )
    reasons = [*found.failures, *found.unreadables]
    if reasons:
        lines += ["", *table(("RECORDINGS", "STAGE", "REASON"), [_reason(*each) for each in reasons[:REASONS_SHOWN]])]
    if len(reasons) > REASONS_SHOWN:
        lines.append(f"and {_counted(len(reasons) - REASONS_SHOWN, 'other reason')}: --json")
    if found.listed:
        lines += ["", *table(("SHARD", "STATE", "DONE", "FAILED", "SOUND", "MACHINE"), map(_shard_row, found.listed))]
    lines += [f"next: {line}" for line in _next(found)]
    return lines


def _reason(reason: MissingResult, count: int) -> tuple[object, ...]:
    text = reason.text if len(reason.text) <= LONGEST_SHOWN else f"{reason.text[: LONGEST_SHOWN - 1]}…"
    return count, reason.stage or ("plan" if reason.kind == "plan" else "-"), text or "(no reason was given)"


def _shard_row(shard: ShardStatus) -> tuple[object, ...]:
    state = shard.state if shard.state != "ended" or shard.code is None else f"ended with {shard.code}"
    return shard.number, state, f"{shard.done} of {shard.items}", shard.failed, _hours(shard.seconds), shard.host or "-"


def _next(found: BatchStatus) -> list[str]:
    folder = shell_word(found.batch)
    if found.running or found.missing:
        return []
    unplanned = sum(count for reason, count in found.failures if reason.text in (CHANGED, GONE))
    return [
        *([command(f"batch plan … --out {folder}")] if unplanned else []),
        *([command(f"batch retry {folder} --failed")] if found.failed > unplanned else []),
        command(f"batch collect {folder}"),
    ]


def _pace(found: BatchStatus) -> str:
    if found.real_time_factor is None:
        return ""
    pace = f"; {found.real_time_factor:.1f} times as fast as it is played"
    return f"{pace}, {found.hours_left:.1f} hours left" if found.hours_left else pace


def _hours(seconds: float) -> str:
    """Hours, minutes and seconds; of an archive also years."""
    if seconds < 365 * 86_400:
        return format_clock(seconds)
    return f"{seconds / 3600:.0f} h"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


STATUS = View(command="batch status", shape=BatchStatusJson, data=_status_data, lines=_status_text)
"""``--watch --json`` prints it again, on one line, whenever it changes."""


class RefusedJson(TypedDict):
    """What a node sent and wasn't taken in."""

    file: str
    """Its name in the folder ``arrived``."""
    reason: str
    """What is wrong with it."""


class BatchCollectedJson(TypedDict):
    """What was taken in, and the page of all results."""

    batch: str
    """Its folder."""
    page: str
    """The page: a row for each recording, what failed first."""
    size: int
    """Bytes of the page."""
    taken: list[str]
    """Names of the files in ``arrived`` that were taken in; they are gone."""
    published: int
    """Recordings whose results came with them."""
    refused: list[RefusedJson]
    """Files that weren't; they stay."""
    pages: int
    """Pages of single recordings that were written now."""
    pages_failed: int
    """Recordings whose results can't be shown on a page of their own."""
    status: BatchStatusJson
    """How far the batch is."""


def _collect_data(found: BatchCollected) -> BatchCollectedJson:
    return {
        "batch": str(found.status.batch),
        "page": str(found.page),
        "size": found.size,
        "taken": list(found.taken),
        "published": found.published,
        "refused": [{"file": name, "reason": reason} for name, reason in found.refused],
        "pages": found.pages,
        "pages_failed": found.pages_failed,
        "status": _status_data(found.status),
    }


def _collect_text(found: BatchCollected) -> list[str]:
    lines = []
    if found.taken:
        lines.append(f"{_counted(len(found.taken), 'shard')} taken in, with {_counted(found.published, 'new result')}")
    lines += [f"not taken in: {name}: {reason}" for name, reason in found.refused[:REASONS_SHOWN]]
    if len(found.refused) > REASONS_SHOWN:
        lines.append(f"and {len(found.refused) - REASONS_SHOWN} others")
    if found.pages or found.pages_failed:
        failed = f"; {found.pages_failed} can't be shown" if found.pages_failed else ""
        lines.append(f"{_counted(found.pages, 'page')} of recordings written{failed}")
    return [*lines, *_status_text(found.status)[:2], f"{found.page} ({format_size(found.size)})"]


COLLECT = View(command="batch collect", shape=BatchCollectedJson, data=_collect_data, lines=_collect_text)
