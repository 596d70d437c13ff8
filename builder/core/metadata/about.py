"""What a job is told of its recordings: their tags, what services said of them, and terms of the casts. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType

from builder.core import glossary
from builder.core.glossary import Term
from builder.core.jobs.request import Request
from builder.core.metadata import works
from builder.core.metadata.works import Work
from builder.core.voices import cast
from builder.errors import UsageError, did_you_mean

FILE = "input/metadata.json"
"""In a job's folder."""

STAGE, SETTING = "metadata", "known"
"""Who reads :data:`FILE`, and the setting that has its sha256."""

CACHED, ONLINE = "cached", "online"
"""What ``--metadata`` takes: answers that are kept, or also new ones."""

CHARACTERS = 50
"""Of one recording that become terms, the first of the cast: as many as the prompt of asr has room for."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of one recording."""

    tags: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    work: Work | None = None


def chosen(word: str | None) -> str | None:
    """What ``--metadata`` says; None: nothing is asked for.

    Raises:
        UsageError: it says something else.
    """
    if word not in (None, CACHED, ONLINE):
        hint = did_you_mean(word, (CACHED, ONLINE))
        raise UsageError(f'"{word}" is neither', where="--metadata", expected=f"{CACHED} or {ONLINE}", hint=hint)
    return word


def for_job(known: Sequence[Known]) -> bytes:
    """:data:`FILE`, of a job's recordings in their order. The same answers make the same bytes, whenever they were given."""
    recordings = {
        f"{number:02}": {"tags": dict(one.tags), "work": None if one.work is None else asdict(one.work)}
        for number, one in enumerate(known, 1)
    }
    return json.dumps({"schema": 1, "recordings": recordings}, ensure_ascii=False, sort_keys=True).encode() + b"\n"


def with_metadata(request: Request, known: Sequence[Known], *, terms: bool) -> Request:
    """The request of a job of these recordings.

    Args:
        terms: characters become terms of the glossary, behind those that are there; where names are looked for, the text
            is spelt by them, too.
    """
    data = for_job(known)
    settings = {**request.settings, STAGE: {SETTING: hashlib.sha256(data).hexdigest()}}
    told = replace(request, about=data, settings=settings)
    found = characters(known)
    if not terms or not found:
        return told
    if told.names:
        told = cast.with_cast(told, [*cast.names(told), *found])
    own = glossary.of_job(told.glossary)
    have = {term.text.casefold() for term in own}
    more = [Term(text=name, keep=True) for name in found if name.casefold() not in have]
    return glossary.with_glossary(told, [*own, *more][: glossary.MOST])


def characters(known: Sequence[Known]) -> list[str]:
    """Names of the characters, each once, of each recording the first :data:`CHARACTERS`."""
    rows = (name for one in known if one.work for name in works.characters([one.work])[:CHARACTERS])
    return list({name.casefold(): name for name in rows}.values())
