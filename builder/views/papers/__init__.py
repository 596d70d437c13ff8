"""Results of ``images --sbom`` and ``bundle inspect --sbom``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import TypedDict

from builder.core.text import format_size, table
from builder.views import View

if TYPE_CHECKING:
    from builder.workflows.papers.commands import PapersShown


class PaperJson(TypedDict):
    """A paper."""

    about: str
    """The image that it is about, ``asr:slim-cpu``; or ``bundle``."""
    kind: str
    """``cyclonedx``, ``spdx``, ``slsa`` or ``vex``."""
    media_type: str
    """Of its file, and the artifact type that a registry lists it by."""
    digest: str
    """``sha256:…`` of its bytes."""
    bytes: int
    """How long it is."""
    file: str | None
    """Where it was written; null: nowhere, ``text`` has it."""
    text: str | None
    """The paper; null where it was written to a file."""


class PapersJson(TypedDict):
    """Papers of one or several kinds."""

    papers: list[PaperJson]
    """By image."""


def _data(shown: PapersShown) -> PapersJson:
    return {
        "papers": [
            {
                "about": row.paper.about,
                "kind": row.paper.kind.name,
                "media_type": row.paper.kind.media_type,
                "digest": row.paper.digest,
                "bytes": len(row.paper.data),
                "file": str(row.file) if row.file else None,
                "text": None if row.file else row.paper.data.decode("ascii"),
            }
            for row in shown.papers
        ]
    }


def _lines(shown: PapersShown) -> list[str]:
    """The one paper as it is, byte for byte; or where they were written."""
    if shown.papers and shown.papers[0].file is None:
        return shown.papers[0].paper.data.decode("ascii").rstrip("\n").split("\n")
    rows = [
        (
            row.paper.about,
            row.paper.digest.removeprefix("sha256:")[:12],
            format_size(len(row.paper.data)),
            str(row.file),
        )
        for row in shown.papers
    ]
    return table(("ABOUT", "DIGEST", "SIZE", "FILE"), rows)


PAPERS = View(command="images --sbom", shape=PapersJson, data=_data, lines=_lines)
BUNDLED = View(command="bundle inspect --sbom", shape=PapersJson, data=_data, lines=_lines)
