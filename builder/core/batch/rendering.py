"""What the files for an engine are made from: the shards, and what each stage of one takes. Pure."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from builder.core.config.types import StageSpec
from builder.core.jobs import compose, sandbox
from builder.core.jobs.job import Job, JobInput, JobStage, ModelUse

ENGINES = ("kubernetes", "slurm", "htcondor")
"""What ``--for`` may be."""

NODE = "batch.pyz"
"""The node program."""

FINAL = (2, 5, 8)
"""Exit codes of a node program that another try would not change."""

MACHINE = 3
"""Its exit code for a machine's fault."""

ENDLESS = 1 << 50
"""Bytes of a machine that limits nothing: nobody knows the nodes here."""

SOUND = 96_000
"""Bytes on a node's disk for a second of a recording: three copies of 16 kHz mono (as heard, cleaned, one channel apart)."""

COPIES = 3
"""How often a recording's own size is needed: its copy, a film with subtitles, and what is packed."""

SPARE = 1_000_000_000
"""Bytes of a node's disk that are asked for whatever the recordings have."""

LONGEST_NAME = 24
"""Characters of a batch's name in names of engines."""


@dataclass(frozen=True, kw_only=True)
class ShardNeeds:
    """One shard's recordings together."""

    number: int
    items: int
    seconds: float
    bytes: int

    @property
    def disk(self) -> int:
        """Bytes of a node's disk that its recordings and everything made of them take."""
        return int(COPIES * self.bytes + SOUND * self.seconds) + SPARE


@dataclass(frozen=True, kw_only=True)
class StepNeeds:
    """What one stage takes on a node."""

    stage: str
    threads: int
    request: int
    """Bytes of memory that it counts for."""
    limit: int
    """Bytes of memory at which it is ended."""
    gpu: bool
    models: bool
    """Whether it loads any."""
    image: str = ""
    """Reference in a registry, or id; empty in native batches."""


@dataclass(frozen=True, kw_only=True)
class RenderedBatch:
    """All that templates know of a batch."""

    name: str
    """Lower-case letters, digits and ``-``: from the folder's name, with digits that tell two of one name apart."""
    version: str
    created: str
    first: int
    """Number of the first shard that is rendered."""
    shards: tuple[ShardNeeds, ...]
    """By number, without gaps."""
    steps: tuple[StepNeeds, ...]
    parallelism: int
    """Shards that run at once."""
    gpus: int
    """GPUs of one shard."""

    @property
    def items(self) -> int:
        """Recordings of all shards."""
        return sum(shard.items for shard in self.shards)

    @property
    def hours(self) -> float:
        """Of sound in all shards."""
        return sum(shard.seconds for shard in self.shards) / 3600

    @property
    def memory(self) -> int:
        """Bytes of memory for a shard whose stages run one after the other on one machine."""
        return max((step.limit for step in self.steps), default=0)

    @property
    def threads(self) -> int:
        """Processor threads of one shard."""
        return max((step.threads for step in self.steps), default=1)

    @property
    def disk(self) -> int:
        """Bytes of disk for the largest shard."""
        return max((shard.disk for shard in self.shards), default=SPARE)

    @property
    def minutes(self) -> int:
        """A guess of how long the longest shard may take on a slow machine: an hour, and eight times its sound."""
        return 60 + int(8 * max((shard.seconds for shard in self.shards), default=0.0) / 60)


def batch_name(folder: str, created: str) -> str:
    """A batch's name for engines: ``tapes-2f9c41``.

    Args:
        folder: the batch's folder; any text.
        created: when it was planned.
    """
    plain = unicodedata.normalize("NFKD", PurePosixPath(folder).name).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:LONGEST_NAME].strip("-") or "batch"
    salt = hashlib.sha256(f"{folder}\0{created}".encode("utf-8", "surrogateescape")).hexdigest()[:6]
    return f"{slug}-{salt}"


class ShardTable:
    """Adds up items line by line, in memory that grows with shards and not with items."""

    def __init__(self, first: int, end: int) -> None:
        """
        Args:
            first: number of the first shard that counts.
            end: number after the last one.
        """
        self._numbers = range(first, end)
        self._items, self._bytes = [0] * len(self._numbers), [0] * len(self._numbers)
        self._seconds = [0.0] * len(self._numbers)
        self.longest = 0.0
        """Seconds of the longest recording."""

    def add(self, shard: int, seconds: float, size: int) -> None:
        """Count one recording of ``size`` bytes."""
        if shard in self._numbers:
            at = self._numbers.index(shard)
            self._items[at] += 1
            self._seconds[at] += seconds
            self._bytes[at] += size
            self.longest = max(self.longest, seconds)

    @property
    def shards(self) -> tuple[ShardNeeds, ...]:
        """All of them by number, also those that have no recording (any more)."""
        sums = zip(self._numbers, self._items, self._seconds, self._bytes, strict=True)
        return tuple(ShardNeeds(number=n, items=items, seconds=s, bytes=size) for n, items, s, size in sums)


def stages_of(job: Mapping[str, Any]) -> tuple[JobStage, ...]:
    """The stages of batch.yaml's job template, which was checked when it was read."""
    return tuple(
        JobStage(
            name=stage["name"],
            needs=tuple(stage["needs"]),
            settings=stage["settings"],
            models={
                purpose: ModelUse(**{**use, "languages": tuple(use.get("languages", ()))})
                for purpose, use in stage["models"].items()
            },
            optional=stage["optional"],
        )
        for stage in job["stages"]
    )


def longest_job(job: Mapping[str, Any], seconds: float) -> Job:
    """A job of one recording, for what its stages take.

    Args:
        job: the template.
        seconds: of the recording.
    """
    recording = JobInput(id="01", name="", path="", sha256="", size=0, output="", duration=seconds)
    return Job(
        id="",
        created="",
        workflow=job["workflow"],
        variant=job["variant"],
        preset=job["preset"],
        key="",
        inputs=(recording,),
        stages=stages_of(job),
    )


def step_needs(
    job: Mapping[str, Any],
    *,
    longest: float,
    specs: Mapping[str, StageSpec],
    sizes: Mapping[str, int],
    images: Mapping[str, str],
) -> tuple[StepNeeds, ...]:
    """What the stages take on a node: they work on one recording after the other, so the longest one decides.

    Args:
        job: the template.
        longest: seconds of the longest recording.
        specs: the project's stages.
        sizes: bytes of models, by id.
        images: stage -> reference; empty for a native batch.
    """
    one = longest_job(job, longest)
    return tuple(
        StepNeeds(
            stage=stage.name,
            threads=int(stage.settings.get("threads") or 1),
            request=compose.memory(one, stage, spec=specs.get(stage.name), sizes=sizes, machine=ENDLESS),
            limit=compose.limit(one, stage, spec=specs.get(stage.name), sizes=sizes, machine=ENDLESS),
            gpu=compose.needs_gpu(stage),
            models=bool(stage.models),
            image=images.get(stage.name, ""),
        )
        for stage in one.stages
    )


def mebibytes(size: int) -> int:
    """Bytes as MiB, rounded up."""
    return -(-size // (1 << 20))


def tmpfs_bytes() -> int:
    """Bytes of /tmp in a container."""
    found = re.search(r"size=([0-9]+)m", sandbox.RIGHTS.tmpfs)
    return int(found[1]) << 20 if found else 256 << 20
