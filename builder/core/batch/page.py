"""A batch as one HTML page: how far it is, what failed first, a row for each recording. Pure: data in, pieces of text out.

The page asks for nothing: its policy is that of a job's page. All text is escaped by the template; the rows are JSON that can't
end a block, and a script of the page's own makes text of them, a few hundred at a time.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import jinja2
from markupsafe import Markup

from builder.core.batch.tally import DONE, FAILED, UNREADABLE, BatchTally, MissingResult
from builder.core.jobs.page import block, policy

TEMPLATES = ("batch.html.j2", "batch.css", "batch.js")
"""What the page is rendered from, below templates/batch."""

STATES = ("failed", "unreadable", "running", "missing", "done")
"""States of a row, the first ones first."""

COLUMNS = (
    ("state", "State", ""),
    ("path", "Recording", ""),
    ("seconds", "Sound", "n"),
    ("took", "Processor time", "n"),
    ("shard", "Shard", "n"),
    ("why", "Reason", ""),
)
"""Columns of the table: their name in batch.js, head, class."""


@dataclass(frozen=True, kw_only=True)
class BatchSummary:
    """What stands above the table."""

    name: str
    version: str
    """Of this program."""
    moment: str
    """When it was looked, ``2026-11-24 08:00``, UTC."""
    items: int
    counts: tuple[tuple[str, int], ...]
    """State, a name of STATES, and how many recordings are in it; in that order."""
    done_sound: float
    """Seconds."""
    left_sound: float
    """Seconds."""
    pace: float | None
    """Seconds of sound for each second; None where nobody knows."""
    differing: int
    reasons: tuple[tuple[str, str, int], ...]
    """Stage, why, how many recordings."""
    unshown: int
    """How many more reasons there are."""


def row(tally: BatchTally, at: int, path: str, *, key: str, running: bool, paged: bool) -> Markup:
    """A line of the table's data: ``[state, shard, seconds, took, why, paged, key, path]``, as batch.js reads it.

    Args:
        at: the item's number.
        key: the item's.
        running: its shard runs.
        paged: it has a page of its own.
    """
    state, took = tally.states[at], tally.took[at]
    if state == DONE:
        name = "done"
    elif state in (FAILED, UNREADABLE):
        name = "failed" if state == FAILED else "unreadable"
    else:
        name = "running" if running else "missing"
    return block(
        [
            STATES.index(name),
            tally.shards[at],
            round(tally.seconds[at], 1),
            round(took, 1) if took == took else None,
            tally.why[at],
            int(paged),
            key if state == DONE else "",
            path,
        ]
    )


def render(
    summary: BatchSummary, rows: Iterable[Markup], reasons: Sequence[MissingResult], templates: Mapping[str, str]
) -> Iterator[str]:
    """The page, piece by piece: a hundred thousand rows are never in memory together.

    Args:
        rows: of :func:`row`.
        reasons: the tally's, to which rows refer by number.
        templates: the texts of TEMPLATES, by name.
    """
    # HTML reads every line end as one character, so hashes are taken of what a browser will see.
    script, style = (templates[name].replace("\r\n", "\n") for name in ("batch.js", "batch.css"))
    for piece in _template(templates["batch.html.j2"]).generate(
        summary=summary,
        rows=rows,
        columns=COLUMNS,
        reasons=[[reason.stage, reason.text] for reason in reasons],
        policy=policy(script, style, beside=False),
        script=Markup(script),
        style=Markup(style),
    ):
        yield piece.encode("utf-8", "replace").decode()  # a folder's name may be no UTF-8


def hours(seconds: float) -> str:
    """``0:07:30``: hours, minutes and seconds, however many hours."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


@functools.cache
def _template(text: str) -> jinja2.Template:
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"hours": hours, "block": block}
    return environment.from_string(text)
