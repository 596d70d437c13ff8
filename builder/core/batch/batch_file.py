"""batch.yaml: what a batch is made of and with, written by ``batch plan`` and read with doubt. Pure.

Its text is JSON, which is YAML too: nodes read it with nothing but the standard library, and people may edit it as either.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import Field

from builder.core.jobs.job_file import EntryShape
from builder.core.text import visible
from builder.core.yaml_document import Document, Strict
from builder.errors import ConfigError, UsageError
from builder.node.items import MOST_SHARDS
from builder.program import shell_word
from builder.receiver.jobs.untrusted import parse_json

SCHEMA = 1
"""The form of batch.yaml, items.jsonl and the journals."""

NAME, ITEMS = "batch.yaml", "items.jsonl"
"""Files of a batch's folder."""

BESIDE = "beside"
"""Folder of a batch: files that each job gets in its ``input/``."""

IDENTITIES = ("mtime", "sha256")
"""What tells, beside a size, that a recording is another one."""

LONGEST = 2_000_000
"""Characters of batch.yaml; a usual one has 10,000."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """Shards that were made at one time."""

    first: int
    """Number of the first one."""
    shards: int
    """How many."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """batch.yaml."""

    version: str
    """Of whisperbake."""
    created: str
    """ISO 8601, UTC."""
    root: str
    """Absolute path of the folder that all recordings are below."""
    identity: str
    shard_minutes: float
    options: Mapping[str, Any]
    """The options of jobs as they were typed: name -> value."""
    mode: str
    variant: str
    preset: str
    workflow: str
    images: Mapping[str, str]
    """Stage -> digest or id of its image; empty where stages run natively."""
    models: Mapping[str, str]
    """Model's id -> digest."""
    job: Mapping[str, Any]
    """What job.yaml says of every job alike: schema, workflow, mode, variant, preset, stages."""
    rounds: tuple[Round, ...] = ()
    beside: Mapping[str, str] = field(default_factory=dict)
    """Name of a file in ``beside/``, which each job gets in ``input/`` -> hex sha256."""

    @property
    def shards(self) -> int:
        """The number that the next shard gets: all before it were given."""
        return max((each.first + each.shards for each in self.rounds), default=0)


class RoundShape(Strict):
    """One of ``rounds``."""

    first: int = Field(ge=0, lt=MOST_SHARDS)
    shards: int = Field(ge=1, lt=MOST_SHARDS)


class TemplateShape(Strict):
    """``job``."""

    schema_: int = Field(alias="schema", ge=1, le=1)
    workflow: str
    mode: str | None = None
    variant: str
    preset: str
    stages: list[EntryShape] = Field(min_length=1)


class BatchShape(Strict):
    """batch.yaml."""

    schema_: int = Field(alias="schema", ge=SCHEMA, le=SCHEMA)
    version: str
    created: str
    root: str = Field(pattern=r"^/")
    identity: str = Field(pattern=f"^({'|'.join(IDENTITIES)})$")
    shard_minutes: float = Field(gt=0, allow_inf_nan=False)
    options: dict[str, Any]
    mode: str
    variant: str
    preset: str
    workflow: str
    images: dict[str, str]
    models: dict[str, str]
    rounds: list[RoundShape]
    beside: dict[str, str] = {}
    job: TemplateShape


def to_text(batch: Batch) -> str:
    """batch.yaml."""
    data = {"schema": SCHEMA, **{name: value for name, value in asdict(batch).items() if name != "job"}}
    data["job"] = dict(batch.job)
    text = json.dumps(data, indent=2, ensure_ascii=False)
    return visible(text, keep="\n", escape=lambda character: json.dumps(character)[1:-1]) + "\n"


def from_text(text: str, where: str) -> Batch:
    """Read batch.yaml.

    Raises:
        ConfigError: it has another form; with the line.
    """
    document = Document(where, text, longest=LONGEST)
    if isinstance(document.data, dict) and (found := document.data.get("schema")) != SCHEMA:
        raise document.error(
            f"this batch is of another version (schema {found!r})",
            ("schema",),
            expected=str(SCHEMA),
            hint="use the version that planned it, or plan into another folder",
        )
    with contextlib.suppress(ValueError):  # somebody wrote it as YAML, which reads \ud83d\ude00 as two characters
        document.data = parse_json(text.encode("utf-8", "surrogatepass"))
    shape = document.read(BatchShape)
    if len(shape.rounds) > 1:
        for before, after in zip(shape.rounds, shape.rounds[1:], strict=False):
            if after.first < before.first + before.shards:
                raise ConfigError("two rounds have the same shards", where=document.where(("rounds",)))
    if any("/" in name or name.startswith(".") or not name for name in shape.beside):
        raise ConfigError("a file in beside/ has a path", where=document.where(("beside",)))
    data = {name: getattr(shape, name) for name in Batch.__dataclass_fields__ if name not in ("rounds", "job")}
    return Batch(
        **data,
        rounds=tuple(Round(first=each.first, shards=each.shards) for each in shape.rounds),
        job=shape.job.model_dump(by_alias=True),
    )


def require_version(batch: Batch, version: str, where: str) -> None:
    """Refuse to work on a batch with code that may make other results.

    Raises:
        UsageError: another version of whisperbake planned it.
    """
    if batch.version != version:
        raise UsageError(
            f"whisperbake {batch.version} planned this batch, and this is {version}",
            where=where,
            hint="use that version, or plan into another folder",
        )


def typed(options: Mapping[str, Any]) -> list[str]:
    """Options of jobs as words of a command line."""
    words: list[str] = []
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        for one in value if isinstance(value, list) else [value]:
            words += [option] if one is True else [option, shell_word(one)]
    return words
