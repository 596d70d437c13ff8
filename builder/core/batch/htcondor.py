"""A batch as jobs of HTCondor that need no shared disk: a submit file, and the shards as a table. Pure.

No name of a recording stands in the submit language, which has no quoting for commas and line ends: a shard's recordings
are links in a folder that is transferred whole, and its items a file.
"""

from __future__ import annotations

from collections.abc import Mapping

from builder.core.batch import rendering
from builder.core.batch.rendering import RenderedBatch, ShardNeeds
from builder.core.quoting import environment

FILES = ("batch.sub", "shards.txt")

FOLDERS = ("logs", "input", "shards")
"""Folders beside the submit file."""

ARRIVED = "arrived"
"""Folder of a batch that packed results are transferred to; beside the submit file it is a link."""

RETRIES = 5
"""How often a shard is tried again after a machine's fault."""


def render(batch: RenderedBatch, templates: Mapping[str, str], *, beside: bool) -> dict[str, str]:
    """The submit file and its table, by name.

    Args:
        beside: jobs get files beside their recordings.
    """
    made = environment(templates).get_template("batch/htcondor/batch.sub.j2")
    submit = made.render(
        batch=batch,
        name=f"whisperbake-{batch.name}",
        memory=rendering.mebibytes(batch.memory),
        beside=beside,
        node=rendering.NODE,
        retries=RETRIES,
    )
    rows = [
        f"{shard.number}, {shard_name(shard.number)}, {_kibibytes(shard)}\n" for shard in batch.shards if shard.items
    ]
    return {"batch.sub": submit, "shards.txt": "".join(rows)}


def shard_name(number: int) -> str:
    """What a shard's files are called: ``00012``."""
    return f"{number:05d}"


def _kibibytes(shard: ShardNeeds) -> int:
    return -(-shard.disk // 1024)
