"""A glossary: terms, what is heard in their place, and how they are translated; as YAML, TSV or a plain list. Pure."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from builder.core import translation
from builder.core.jobs.request import Request
from builder.core.yaml_document import Document, Strict
from builder.errors import ConfigError, did_you_mean
from builder.receiver.jobs.languages import LANGUAGES

FILE = "input/glossary.json"
"""In a job's folder: the terms that its stages read."""

SETTING = "glossary"
"""Of the stages that read :data:`FILE`: its sha256."""

AUTO, NONE = "auto", "none"
"""What ``--glossary`` takes beside a file: the one that lies beside bake.yaml, if there is one; and none."""

OWN = "glossary"
"""The stem of the file beside bake.yaml."""

SUFFIXES = (".yaml", ".yml", ".tsv", ".txt")
"""Of files that are read: YAML, a table with tabs, a term a line."""

MOST = 5000
"""Terms of one glossary."""

LONGEST = 100
"""Letters of a term, or of anything that stands for one."""

LONGEST_NOTE = 500
"""Letters of what is said about one."""

HEARD = 50
"""Texts that are heard in the place of one term (stages/glossary.py)."""

BETWEEN = "|"
"""What stands between several words that are heard, in a cell of a table."""

YES, NO = ("yes", "true", "1", "x"), ("no", "false", "0", "")
"""What a cell of the column ``keep`` may have."""

OWN_COLUMNS = ("term", "heard", "doubtful", "keep", "note")
"""Columns of a table beside languages' codes."""


@dataclass(frozen=True, kw_only=True)
class Term:
    """One entry."""

    text: str
    """As it is to be written."""
    heard: tuple[str, ...] = ()
    """What a model may write in its place, however sure it is."""
    doubtful: tuple[str, ...] = ()
    """The same, where it is in doubt: what was learnt of finished jobs."""
    translations: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Language (ISO 639-1, as Whisper has it) -> the term in it."""
    keep: bool = False
    """It isn't translated."""
    note: str = ""
    line: int = 0
    """Where it stands in the file."""

    def wanted(self, language: str) -> str | None:
        """What a translation into ``language`` shall have; None: what the backend makes of it."""
        return self.text if self.keep else self.translations.get(language)


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
    text = text.removeprefix("\ufeff")
    suffix = name.lower().rpartition(".")[2]
    if suffix in ("yaml", "yml"):
        found = _yaml(name, text)
    elif suffix == "tsv":
        found = _table(name, text)
    else:
        found = _list(name, text)
    terms: dict[str, Term] = {}
    for term in found:
        where = f"{name}:{term.line}"
        if len(terms) == MOST:
            raise ConfigError(f"more than {MOST} terms", where=where)
        _check(where, term)
        if (before := terms.get(term.text.casefold())) is not None:
            raise ConfigError(
                f'"{term.text}" stands in line {before.line} too', where=where, hint="take one of them out"
            )
        terms[term.text.casefold()] = term
    return tuple(terms.values())


def _list(name: str, text: str) -> Iterator[Term]:
    """A term a line; what begins with # is for people."""
    for number, line in _lines(text):
        if "\t" in line:
            raise ConfigError("a tab in a plain list", where=f"{name}:{number}", hint="a table is called .tsv")
        yield Term(text=line.strip(), line=number)


def _table(name: str, text: str) -> Iterator[Term]:
    """A table: its first line names the columns."""
    rows = _lines(text)
    first, head = next(rows, (0, ""))
    columns = [cell.strip() for cell in head.split("\t")]
    for column in columns if first else ():
        if column not in OWN_COLUMNS and column not in LANGUAGES:
            raise ConfigError(
                f'no column "{column}"',
                where=f"{name}:{first}",
                expected=f"{', '.join(OWN_COLUMNS)}, or a language's code",
                hint=did_you_mean(column, (*OWN_COLUMNS, *LANGUAGES)),
            )
    if first and (columns.count("term") != 1 or len(set(columns)) != len(columns)):
        raise ConfigError("the first line names each column once, and one of them is term", where=f"{name}:{first}")
    for number, line in rows:
        where = f"{name}:{number}"
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) > len(columns):
            raise ConfigError(f"{len(cells)} cells under {len(columns)} columns", where=where)
        row = dict(zip(columns, cells, strict=False))
        keep = row.get("keep", "").lower()
        if keep not in YES + NO:
            raise ConfigError(f'keep: "{keep}"', where=where, expected="yes or no")
        yield Term(
            text=row.get("term", ""),
            heard=_several(row.get("heard", "")),
            doubtful=_several(row.get("doubtful", "")),
            translations=MappingProxyType({code: row[code] for code in columns if code in LANGUAGES and row.get(code)}),
            keep=keep in YES,
            note=row.get("note", ""),
            line=number,
        )


def _several(cell: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in cell.split(BETWEEN) if word.strip())


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that aren't empty, with their numbers from 1 on."""
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line


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


def _check(where: str, term: Term) -> None:
    """Refuse what can't be a term, with its line."""
    if not term.text:
        raise ConfigError("a term without text", where=where)
    for code in term.translations:
        if code not in LANGUAGES:
            hint = did_you_mean(code, LANGUAGES)
            raise ConfigError(f'"{code}" is not a language code', where=where, expected="ISO 639-1", hint=hint)
    if term.keep and term.translations:
        raise ConfigError(f'"{term.text}" is kept and translated', where=where, hint="keep it, or say its translations")
    if (count := max(len(term.heard), len(term.doubtful))) > HEARD:
        raise ConfigError(f"{count} texts are heard in its place", where=where, expected=f"up to {HEARD}")
    texts = (term.text, *term.heard, *term.doubtful, *term.translations.values())
    if any(not text.strip() or len(text) > LONGEST for text in texts):
        raise ConfigError("a text is empty or too long", where=where, expected=f"1 to {LONGEST} letters")
    if len(term.note) > LONGEST_NOTE:
        raise ConfigError("the note is too long", where=where, expected=f"up to {LONGEST_NOTE} letters")
    if any(unicodedata.category(c) in ("Cc", "Cs", "Co", "Zl", "Zp") for text in (*texts, term.note) for c in text):
        raise ConfigError("a control character, or one of private use", where=where)


def for_job(terms: Sequence[Term]) -> bytes:
    """:data:`FILE`: without notes and lines, which no stage reads. The same terms make the same bytes."""
    data = {"schema": 1, "terms": [_for_job(term) for term in terms]}
    return json.dumps(data, ensure_ascii=False, sort_keys=True).encode() + b"\n"


def of_job(data: bytes) -> tuple[Term, ...]:
    """The terms of what :func:`for_job` made, or of nothing."""
    return from_job(json.loads(data)) if data else ()


def _for_job(term: Term) -> dict[str, Any]:
    plain = {"term": term.text, "heard": list(term.heard), "translate": dict(term.translations), "keep": term.keep}
    return plain | ({"doubtful": list(term.doubtful)} if term.doubtful else {})  # others' files stay as they were


def from_job(data: Any) -> tuple[Term, ...]:
    """The terms of a job's :data:`FILE`, which may be anything: what isn't a term is left out."""
    listed = data.get("terms") if isinstance(data, dict) else None
    found: list[Term] = []
    for entry in listed[:MOST] if isinstance(listed, list) else ():
        with suppress(ValidationError, ConfigError):
            shape = TermShape.model_validate(entry)
            term = _of_shape(shape, 0)
            _check("", term)
            found.append(term)
    return tuple(found)


def table(terms: Sequence[Term]) -> str:
    """The terms as :func:`parse` reads them in a file whose name ends with ``.tsv``."""
    languages = sorted({code for term in terms for code in term.translations})
    rows = [("keep", "term", "heard", "doubtful", *languages, "note")]  # a line that begins with # would be for people
    for t in terms:
        translated = (t.translations.get(code, "") for code in languages)
        kept = YES[0] if t.keep else NO[0]
        cells = (kept, t.text, BETWEEN.join(t.heard), BETWEEN.join(t.doubtful), *translated, t.note)
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
    mine = {SETTING: hashlib.sha256(data).hexdigest()}
    readers = ("asr", *((translation.STAGE,) if request.languages else ()))
    settings = {**request.settings, **{stage: {**request.settings.get(stage, {}), **mine} for stage in readers}}
    return replace(request, glossary=data, warning=told, settings=settings)


def _idle(request: Request, terms: Sequence[Term]) -> Iterator[str]:
    """Languages that are asked for, into which no term is translated."""
    for language in request.languages if terms else ():
        if all(term.wanted(language) is None for term in terms):
            yield f"no term of the glossary says how it is in {language}"
