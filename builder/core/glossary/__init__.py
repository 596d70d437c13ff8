"""A glossary: terms, what is heard in their place, and how they are translated; as YAML, TSV or a plain list. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from builder.core import translation
from builder.core.jobs.request import Request
from builder.core.yaml_document import Document, Strict
from builder.errors import ConfigError
from builder.receiver.jobs import terms as plain
from builder.receiver.jobs.terms import MOST_TERMS as MOST
from builder.receiver.jobs.terms import TERMS_FILE as FILE
from builder.receiver.jobs.terms import TERMS_SETTING as SETTING
from builder.receiver.jobs.terms import BrokenTerm, Term
from builder.receiver.jobs.terms import terms_for_job as for_job

__all__ = ["AUTO", "FILE", "MOST", "NONE", "OWN", "SETTING", "SUFFIXES", "Term", "for_job", "from_job", "of_job"]
__all__ += ["parse", "table", "with_glossary"]

AUTO, NONE = "auto", "none"
"""What ``--glossary`` takes beside a file: the one that lies beside bake.yaml, if there is one; and none."""

OWN = "glossary"
"""The stem of the file beside bake.yaml."""

SUFFIXES = (".yaml", ".yml", ".tsv", ".txt")
"""Of files that are read: YAML, a table with tabs, a term a line."""


class TermShape(Strict):
    """A term in YAML."""

    term: str
    heard: list[str] = []
    doubtful: list[str] = []
    translate: dict[str, str] = {}
    keep: bool = False
    note: str = ""


class GlossaryShape(Strict):
    """glossary.yaml."""

    terms: list[TermShape | str]


def parse(name: str, text: str) -> tuple[Term, ...]:
    """The terms of a file, in its order.

    Args:
        name: the file's; its suffix says what it is, and any but :data:`SUFFIXES` is a plain list.
        text: without what isn't UTF-8.

    Raises:
        ConfigError: with the file and the line.
    """
    suffix = name.lower().rpartition(".")[2]
    try:
        if suffix in ("yaml", "yml"):
            return plain.distinct_terms(_yaml(name, text.removeprefix("\ufeff")))
        return plain.terms_of(text, table=suffix == "tsv")
    except BrokenTerm as broken:
        where = f"{name}:{broken.line}"
        raise ConfigError(
            broken.what, where=where, expected=broken.expected or None, hint=broken.hint or None
        ) from broken


def _yaml(name: str, text: str) -> Iterator[Term]:
    document = Document(name, text)
    for k, entry in enumerate(document.read(GlossaryShape).terms):
        line = int(document.where(("terms", k)).rpartition(":")[2])
        if isinstance(entry, str):
            yield Term(text=entry.strip(), line=line)
            continue
        yield _of_shape(entry, line)


def _of_shape(entry: TermShape, line: int) -> Term:
    return Term(
        text=entry.term.strip(),
        heard=tuple(entry.heard),
        doubtful=tuple(entry.doubtful),
        translations=MappingProxyType(dict(entry.translate)),
        keep=entry.keep,
        note=entry.note,
        line=line,
    )


def of_job(data: bytes) -> tuple[Term, ...]:
    """The terms of what :func:`for_job` made, or of nothing."""
    return from_job(json.loads(data)) if data else ()


def from_job(data: Any) -> tuple[Term, ...]:
    """The terms of a job's :data:`FILE`, which may be anything: what isn't a term is left out."""
    listed = data.get("terms") if isinstance(data, dict) else None
    found: list[Term] = []
    for entry in listed[:MOST] if isinstance(listed, list) else ():
        with suppress(ValidationError, BrokenTerm):
            term = _of_shape(TermShape.model_validate(entry), 0)
            plain.check_term(term)
            found.append(term)
    return tuple(found)


def table(terms: Sequence[Term]) -> str:
    """The terms as :func:`parse` reads them in a file whose name ends with ``.tsv``."""
    languages = sorted({code for term in terms for code in term.translations})
    rows = [("keep", "term", "heard", "doubtful", *languages, "note")]  # a line that begins with # would be for people
    for t in terms:
        translated = (t.translations.get(code, "") for code in languages)
        kept = plain.YES_WORDS[0] if t.keep else plain.NO_WORDS[0]
        cells = (
            kept,
            t.text,
            plain.BETWEEN_HEARD.join(t.heard),
            plain.BETWEEN_HEARD.join(t.doubtful),
            *translated,
            t.note,
        )
        rows.append(cells)
    return "".join("\t".join(row) + "\n" for row in rows)


def with_glossary(request: Request, terms: Sequence[Term], *, warning: str = "") -> Request:
    """A request whose stages read these terms.

    Args:
        warning: what a person should know of the glossary.
    """
    told = "; ".join(filter(None, (request.warning, warning, *_idle(request, terms))))
    if not terms:
        return replace(request, warning=told)
    data = for_job(terms)
    mine = {SETTING: plain.terms_digest(data)}
    readers = ("asr", *((translation.STAGE,) if request.languages else ()))
    settings = {**request.settings, **{stage: {**request.settings.get(stage, {}), **mine} for stage in readers}}
    return replace(request, glossary=data, warning=told, settings=settings)


def _idle(request: Request, terms: Sequence[Term]) -> Iterator[str]:
    """Languages that are asked for, into which no term is translated."""
    for language in request.languages if terms else ():
        if all(term.wanted(language) is None for term in terms):
            yield f"no term of the glossary says how it is in {language}"
