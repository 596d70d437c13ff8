"""The result of ``images --history``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import TypedDict

from builder.core.text import format_size, format_time, table
from builder.views import View

if TYPE_CHECKING:
    from builder.workflows.images import ImageHistory


class BuildRecordJson(TypedDict):
    """An image after a build that changed it."""

    at: str
    """ISO 8601, UTC."""
    tag: str
    """Its name on the engine."""
    id: str
    """The engine's id of it."""
    state: str
    """``built``, ``cached`` (every layer was there) or ``assembled`` (only weights are new)."""
    seconds: float
    """From the begin of the build until it was done."""
    size_bytes: int
    """Unpacked."""
    sent_bytes: int
    """Bytes of layers that went to the engine."""
    bytes_before: int | None
    """What the image that had its tag before it took unpacked; null for the first."""


def _history_data(past: ImageHistory) -> list[BuildRecordJson]:
    return [
        {
            "at": record.at,
            "tag": record.tag,
            "id": record.id,
            "state": record.state,
            "seconds": record.seconds,
            "size_bytes": record.size_bytes,
            "sent_bytes": record.sent_bytes,
            "bytes_before": before.size_bytes if before else None,
        }
        for record, before in zip(past.records, past.before, strict=True)
    ]


def _history_text(past: ImageHistory) -> list[str]:
    rows = [
        (
            record.at.replace("T", " ").removesuffix("Z"),
            record.tag,
            record.id.removeprefix("sha256:")[:12],
            format_size(record.size_bytes),
            f"{record.size_bytes / before.size_bytes - 1:+.1%}" if before and before.size_bytes else "",
            format_time(record.seconds),
            record.state,
        )
        for record, before in zip(past.records, past.before, strict=True)
    ]
    return (
        table(("BUILT (UTC)", "IMAGE", "ID", "SIZE", "CHANGE", "TIME", "STATE"), rows)
        if rows
        else ["nothing was built here"]
    )


HISTORY = View(command="images --history", shape=list[BuildRecordJson], data=_history_data, lines=_history_text)
