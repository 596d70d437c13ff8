"""manifest.json, which a stage wrote: read as what may be anything. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

MOST_NOTES = 1000
"""Notes that are kept of a stage."""

LONGEST_NOTE = 2000
"""Characters that are kept of a note."""

PATH = re.compile(r"(?:input|output|work/[a-z0-9-]{1,64})/([^/\0]{1,255})")
"""The files of a job that stages read and write (docs/job-format.md)."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a stage says that it did."""

    code: str
    settings: Mapping[str, Any]
    models: Mapping[str, str]
    """Purpose -> digest."""
    inputs: Mapping[str, str]
    """Path in the job -> ``sha256:…``."""
    outputs: Mapping[str, str]
    notes: tuple[str, ...] = ()
    timings: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """Seconds of its parts; ``total`` is all of them."""
    peak_bytes: int | None = None
    """Most memory that it held."""
    cpu_seconds: float | None = None
    """Of the processors, in all its threads."""

    @property
    def results(self) -> tuple[str, ...]:
        """Paths of its files in ``output``."""
        return tuple(path for path in self.outputs if path.startswith("output/"))


Seconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class _Shape(BaseModel):
    """manifest.json. Names that are not known are of later versions."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    version: Literal[1] = Field(alias="schema")
    code: str
    settings: dict[str, Any]
    models: dict[str, str]
    inputs: dict[str, str]
    outputs: dict[str, str]
    notes: list[str] = []
    timings: dict[str, Seconds] = {}
    peak_bytes: Annotated[int, Field(ge=0, lt=1 << 60)] | None = None
    cpu_seconds: Seconds | None = None


def parsed(data: Any, stage: str) -> Manifest | None:
    """A stage's manifest; None when no stage of ours wrote this.

    Args:
        data: its JSON.
    """
    try:
        shape = _Shape.model_validate(data)
    except ValidationError:
        return None
    own = ("output/", f"work/{stage}/")
    if not all(map(inside, shape.inputs)) or not all(inside(path) and path.startswith(own) for path in shape.outputs):
        return None
    return Manifest(
        code=shape.code,
        settings=shape.settings,
        models=shape.models,
        inputs=shape.inputs,
        outputs=shape.outputs,
        notes=tuple(note[:LONGEST_NOTE] for note in shape.notes[:MOST_NOTES]),
        timings=shape.timings,
        peak_bytes=shape.peak_bytes,
        cpu_seconds=shape.cpu_seconds,
    )


def inside(path: str) -> bool:
    """Whether a path is one of a file that stages may name: in the job's folder, and of characters that show."""
    match = PATH.fullmatch(path)
    return match is not None and match[1] not in (".", "..") and path.isprintable()
