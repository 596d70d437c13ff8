"""What a node is told: the batch, the stages' commands, the recordings of one shard."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder import __version__
from builder.node.faults import DIFFERS, MACHINE, WRONG, NodeFault
from builder.node.items import LONGEST_ITEM, Item, from_line
from builder.receiver.jobs.untrusted import LARGEST_JSON, parse_json

BATCH, ITEMS, RESULTS = "batch.yaml", "items.jsonl", "results"
"""Names in a batch's folder."""

SCHEMA = 1

NUMBERS = ("JOB_COMPLETION_INDEX", "SLURM_ARRAY_TASK_ID", "AWS_BATCH_JOB_ARRAY_INDEX")
"""Variables with which engines number the parts of a job: Kubernetes, Slurm, AWS Batch."""

STAGE = re.compile(r"[a-z][a-z0-9-]{0,63}")

AGAIN = "plan the batch again, or use the version that planned it"


@dataclass(frozen=True)
class ShardBatch:
    """batch.yaml, as far as a node needs it."""

    folder: Path
    root: Path
    """The recordings' paths begin here, on the machine that planned."""
    identity: str
    """``mtime`` or ``sha256``: what tells that a recording is the one that was planned."""
    created: str
    job: Mapping[str, Any]
    """What job.yaml says of every recording alike."""
    models: Mapping[str, str]
    """Id -> digest."""
    rounds: tuple[tuple[int, int], ...]
    """First shard and number of shards of each round of planning."""
    beside: Mapping[str, str]
    """Name of a file in ``beside/``, which each job gets in ``input/`` -> hex sha256."""
    transferred: bool = False
    """The recordings here are copies that an engine made, with times of their own."""


@dataclass(frozen=True)
class NodeStep:
    """How a stage is started; ``{scratch}``, ``{list}``, ``{pid}`` and ``{run}`` are filled in."""

    stage: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    inherit: tuple[str, ...] = ()
    """Variables of the node that it also gets."""
    end: tuple[str, ...] = ()
    """What ends it by force where the program that was started isn't the one that works: a container's client."""
    cidfile: str = ""
    """The file that an engine's client writes once there is a container; until then it isn't asked to end."""


@dataclass(frozen=True)
class NodeSteps:
    """steps.json."""

    job: Mapping[str, Any]
    models: Mapping[str, str]
    steps: tuple[NodeStep, ...]


def read_batch(folder: Path) -> ShardBatch:
    """batch.yaml of a folder.

    Raises:
        NodeFault: there is none, it isn't one, or another version wrote it.
    """
    file = folder / BATCH
    data = _object(file, "batch")
    if data.get("schema") != SCHEMA:
        raise NodeFault(WRONG, f"{file} has schema {data.get('schema')!r}; this program reads {SCHEMA}", AGAIN)
    if data.get("version") != __version__:
        said = str(data.get("version"))[:40]
        raise NodeFault(WRONG, f"{file} is of version {said}, and this program is {__version__}", AGAIN)
    try:
        rounds = tuple((int(one["first"]), int(one["shards"])) for one in data["rounds"])
        return ShardBatch(
            folder=folder,
            root=Path(data["root"]),
            identity=str(data["identity"]),
            created=str(data["created"]),
            job=dict(data["job"]),
            models=dict(data["models"]),
            rounds=rounds,
            beside=dict(data.get("beside", {})),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise NodeFault(WRONG, f"{file} is not what plan writes: {_words(error)}", "plan the batch again") from error


def read_steps(file: Path) -> NodeSteps:
    """steps.json.

    Raises:
        NodeFault: it is missing, or not what render writes.
    """
    data = _object(file, "steps")
    try:
        if data["schema"] != SCHEMA:
            raise ValueError(f"schema {data['schema']!r}")
        steps = tuple(
            NodeStep(
                stage=str(one["stage"]),
                argv=tuple(map(str, one["argv"])),
                env={str(name): str(value) for name, value in one.get("env", {}).items()},
                inherit=tuple(map(str, one.get("inherit", ()))),
                end=tuple(map(str, one.get("end", ()))),
            )
            for one in data["steps"]
        )
        return NodeSteps(job=dict(data["job"]), models=dict(data["models"]), steps=steps)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise NodeFault(
            WRONG, f"{file} is not what render writes: {_words(error)}", "render the batch again"
        ) from error


def require_same(batch: ShardBatch, steps: NodeSteps) -> None:
    """Refuse stages that would do something else than was planned.

    Raises:
        NodeFault: 5 where the models are others, 2 where anything else is.
    """
    if dict(steps.models) != dict(batch.models):
        odd = sorted(i for i in {*steps.models, *batch.models} if steps.models.get(i) != batch.models.get(i))
        raise NodeFault(
            DIFFERS, f"the models here are not the batch's: {', '.join(odd)}", "models fetch, or plan again"
        )
    if steps.job != batch.job:
        raise NodeFault(WRONG, "the stages' commands are those of another plan", "render the batch again")
    named = [stage["name"] for stage in batch.job["stages"]]
    if named != [step.stage for step in steps.steps] or not all(map(STAGE.fullmatch, named)):
        raise NodeFault(WRONG, "the stages' commands are not those of the batch", "render the batch again")


def shard_number(given: int | None, first: int, env: Mapping[str, str]) -> int:
    """The shard that this run is for: what was typed, else what an engine counts, from ``first`` on.

    Raises:
        NodeFault: nobody says which.
    """
    if given is None:
        said = next((env[name] for name in NUMBERS if env.get(name)), "")
        if not re.fullmatch(r"[0-9]{1,9}", said):
            raise NodeFault(WRONG, f"no shard is named, and none of {', '.join(NUMBERS)} has a number", "--shard N")
        given = int(said)
    return first + given


def require_shard(batch: ShardBatch, number: int) -> None:
    """Refuse a shard that was never planned.

    Raises:
        NodeFault: there is no such shard.
    """
    if any(first <= number < first + count for first, count in batch.rounds):
        return
    last = max((first + count for first, count in batch.rounds), default=0) - 1
    known = (
        f"this batch has the shards 0 to {last}"
        if last > 0
        else "this batch has shard 0"
        if last == 0
        else "it has none"
    )
    raise NodeFault(WRONG, f"there is no shard {number}: {known}", "--shard N")


def read_items(file: Path, number: int) -> tuple[Item, ...]:
    """The recordings of a shard, in the order of items.jsonl.

    Raises:
        NodeFault: the file is missing, or not what plan writes.
    """
    found, count, mark = [], 0, b'"shard":%d' % number
    try:
        with file.open("rb") as lines:
            for count, line in enumerate(iter(lambda: lines.readline(LONGEST_ITEM + 2), b""), 1):  # noqa: B007
                # Only lines that may be of the shard are read: a batch has a hundred thousand.
                if mark in line and (item := from_line(line)).shard == number:
                    found.append(item)
    except ValueError as error:
        what = f"line {count} of {file} is not what plan writes: {_words(error)}"
        raise NodeFault(WRONG, what, "plan the batch again") from error
    except OSError as error:
        raise _unreadable(file, error) from error
    if len({item.key for item in found}) != len(found):
        raise NodeFault(WRONG, f"{file} names a recording twice", "plan the batch again")
    return tuple(found)


def _object(file: Path, what: str) -> dict[str, Any]:
    try:
        with file.open("rb") as source:
            value = parse_json(source.read(LARGEST_JSON))
    except OSError as error:
        raise _unreadable(file, error) from error
    except ValueError as error:
        raise NodeFault(WRONG, f"{file} is damaged: {_words(error)}", f"write the {what} again") from error
    if not isinstance(value, dict):
        raise NodeFault(WRONG, f"{file} is no {what}", f"write the {what} again")
    return value


def _unreadable(file: Path, error: OSError) -> NodeFault:
    gone = isinstance(error, (FileNotFoundError, NotADirectoryError))
    if gone and os.path.isdir(file.parent):  # noqa: PTH112 - Path.is_dir raises where a folder can't be entered
        return NodeFault(WRONG, f"there is no {file}", "batch render writes steps.json, batch plan the others")
    return NodeFault(MACHINE, f"{file} can't be read: {error.strerror}", "see that this machine has the batch's folder")


def _words(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:200]
