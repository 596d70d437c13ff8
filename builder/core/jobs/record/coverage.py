"""What a transcript says became of the speech in its recording (docs/job-format.md): read as what may be anything. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

MOST_GAPS = 10_000
"""Gaps that are kept of a recording."""

LONGEST_WHY = 200
"""Characters that are kept of a gap's name."""


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Speech without a word; times in seconds, as the results have them."""

    start: float
    end: float
    why: str

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.end - self.start


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What became of one recording's speech, in seconds."""

    recording: str
    """Its name."""
    speech: float
    """What was detected; the sum of the others and of the gaps."""
    shown: float
    """In subtitles."""
    edges: float
    """Beside words, in pieces that are too short for one."""
    gaps: tuple[Gap, ...]
    unsure: int
    """Words that lie outside speech, or that the recognition doubts."""

    @property
    def lost(self) -> float:
        """Seconds of all gaps."""
        return sum(gap.seconds for gap in self.gaps)

    def longer(self, seconds: float) -> tuple[Gap, ...]:
        """The gaps that are longer; what a person cut is none."""
        return tuple(gap for gap in self.gaps if gap.seconds > seconds and gap.why != CUT)


CUT = "cut by the user"
"""The name of a gap where a person took the words away (stages/subtitles/ledger.py)."""

Seconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class _GapShape(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    start: Seconds
    end: Seconds
    why: str


class _Shape(BaseModel):
    """``coverage`` of a transcript. Names that are not known are of later versions."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    speech: Seconds
    shown: Seconds
    edges: Seconds
    gaps: list[_GapShape]
    unsure: Annotated[int, Field(ge=0, lt=1 << 40)]


def parsed(transcript: Any, recording: str) -> Coverage | None:
    """What a transcript says of its recording's speech; None where it says nothing that a stage of ours would.

    Args:
        transcript: its JSON.
        recording: its name.
    """
    try:
        shape = _Shape.model_validate(transcript["coverage"])
    except (ValidationError, KeyError, TypeError):
        return None
    gaps = sorted(shape.gaps, key=lambda gap: gap.start - gap.end)[:MOST_GAPS]  # the longest
    return Coverage(
        recording=recording,
        speech=shape.speech,
        shown=shape.shown,
        edges=shape.edges,
        gaps=tuple(
            Gap(start=gap.start, end=gap.end, why=gap.why[:LONGEST_WHY])
            for gap in sorted(gaps, key=lambda gap: (gap.start, gap.end))
            if gap.end > gap.start
        ),
        unsure=shape.unsure,
    )


def gaps_longer(coverages: Sequence[Coverage], seconds: float) -> list[tuple[str, Gap]]:
    """(recording, gap) of all that are longer than so many seconds."""
    return [(coverage.recording, gap) for coverage in coverages for gap in coverage.longer(seconds)]


def span(gap: Gap) -> str:
    """``0:41.2-0:45.0``: minutes and seconds."""

    def at(seconds: float) -> str:
        tenths = round(seconds * 10)
        return f"{tenths // 600}:{tenths // 10 % 60:02}.{tenths % 10}"

    return f"{at(gap.start)}-{at(gap.end)}"
