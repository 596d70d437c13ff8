"""Result of ``batch render``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import TypedDict

from builder.core.text import format_size, table
from builder.program import shell_word
from builder.views import View
from builder.views.batch.plan import counted

if TYPE_CHECKING:
    from builder.workflows.batch.render import BatchRendered


class RenderedStepJson(TypedDict):
    """What a stage takes on a node."""

    stage: str
    """Its name."""
    image: str
    """Reference by digest, or id; empty in native batches."""
    threads: int
    """Processor threads."""
    memory_bytes: int
    """Of memory, at which it is ended."""
    gpu: bool
    """Whether it computes on one."""


class BatchRenderJson(TypedDict):
    """The files for an engine."""

    engine: str
    """``kubernetes``, ``slurm`` or ``htcondor``."""
    folder: str
    """Where they are."""
    files: list[str]
    """Their names."""
    name: str
    """What the engine calls the batch, after ``whisperbake-``."""
    images: str
    """How nodes get what they run: ``native``, ``registry`` or ``loaded`` (by a bundle's loader)."""
    first: int
    """Number of the first shard."""
    shards: int
    """How many there are."""
    items: int
    """Recordings in them."""
    seconds: float
    """Of sound in them."""
    parallelism: int
    """Shards at once."""
    disk_bytes: int
    """Of a node's disk, for the largest shard."""
    steps: list[RenderedStepJson]
    """The stages, in order."""
    submit: list[str]
    """What to type in the folder."""


def _data(rendered: BatchRendered) -> BatchRenderJson:
    batch = rendered.batch
    return {
        "engine": rendered.engine,
        "folder": str(rendered.folder),
        "files": list(rendered.files),
        "name": batch.name,
        "images": rendered.way,
        "first": batch.first,
        "shards": len(batch.shards),
        "items": batch.items,
        "seconds": round(batch.hours * 3600, 3),
        "parallelism": batch.parallelism,
        "disk_bytes": batch.disk,
        "steps": [
            {
                "stage": step.stage,
                "image": step.image,
                "threads": step.threads,
                "memory_bytes": step.limit,
                "gpu": step.gpu,
            }
            for step in batch.steps
        ],
        "submit": list(rendered.submit),
    }


def _lines(rendered: BatchRendered) -> list[str]:
    batch = rendered.batch
    rows = [
        (
            step.stage,
            str(step.threads),
            format_size(step.limit),
            "yes" if step.gpu else "-",
            step.image[-12:] or "native",
        )
        for step in batch.steps
    ]
    last = batch.first + len(batch.shards) - 1
    numbers = f"shard {last}" if last == batch.first else f"shards {batch.first} to {last}"
    return [
        *table(("STAGE", "THREADS", "MEMORY", "GPU", "IMAGE"), rows),
        "",
        f"{rendered.folder}: {numbers}, {counted(batch.items, 'recording')}, {batch.hours:.1f} h of sound",
        f"next: cd {shell_word(rendered.folder)} && {rendered.submit[0]}",
        f"what else there is to know: {shell_word(rendered.folder / 'README.md')}",
    ]


RENDER = View(command="batch render", shape=BatchRenderJson, data=_data, lines=_lines)
