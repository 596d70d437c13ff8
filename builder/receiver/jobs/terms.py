"""A glossary's terms, of a plain list or a table: one reader for the builder and the loader."""

from __future__ import annotations

import difflib
import hashlib
import json
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from builder.receiver.jobs.languages import LANGUAGES

TERMS_FILE = "input/glossary.json"
"""In a job's folder: the terms that its stages read."""

TERMS_SETTING = "glossary"
"""Of the stages that read :data:`TERMS_FILE`: its sha256."""

LARGEST_TERMS = 4 << 20
"""Bytes of a file."""

MOST_TERMS = 5000
"""Terms of one glossary."""

LONGEST_TERM = 100
"""Letters of a term, or of anything that stands for one."""

LONGEST_NOTE = 500
"""Letters of what is said about one."""

MOST_HEARD = 50
"""Texts that are heard in the place of one term (stages/glossary.py)."""

BETWEEN_HEARD = "|"
"""What stands between several words that are heard, in a cell of a table."""

YES_WORDS, NO_WORDS = ("yes", "true", "1", "x"), ("no", "false", "0", "")
"""What a cell of the column ``keep`` may have."""

TERM_COLUMNS = ("term", "heard", "doubtful", "keep", "note")
"""Columns of a table beside languages' codes."""


@dataclass(frozen=True)
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


class BrokenTerm(ValueError):
    """A line that can't be read."""

    def __init__(self, what: str, line: int, *, expected: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what, self.line, self.expected, self.hint = what, line, expected, hint


def terms_of(text: str, *, table: bool) -> tuple[Term, ...]:
    """The terms of a plain list or a table, in their order.

    Args:
        text: without what isn't UTF-8.

    Raises:
        BrokenTerm: with the line.
    """
    text = text.removeprefix("\ufeff")
    return distinct_terms(_tabled_terms(text) if table else _listed_terms(text))


def distinct_terms(terms: Iterable[Term]) -> tuple[Term, ...]:
    """The terms, of which each is good and none stands there twice.

    Raises:
        BrokenTerm: with the line.
    """
    found: dict[str, Term] = {}
    for term in terms:
        if len(found) == MOST_TERMS:
            raise BrokenTerm(f"more than {MOST_TERMS} terms", term.line)
        check_term(term)
        if (before := found.get(term.text.casefold())) is not None:
            what = f'"{term.text}" stands in line {before.line} too'
            raise BrokenTerm(what, term.line, hint="take one of them out")
        found[term.text.casefold()] = term
    return tuple(found.values())


def _listed_terms(text: str) -> Iterator[Term]:
    """A term a line; what begins with # is for people."""
    for number, line in _term_lines(text):
        if "\t" in line:
            raise BrokenTerm("a tab in a plain list", number, hint="a table is called .tsv")
        yield Term(text=line.strip(), line=number)


def _tabled_terms(text: str) -> Iterator[Term]:
    """A table: its first line names the columns."""
    rows = _term_lines(text)
    first, head = next(rows, (0, ""))
    columns = [cell.strip() for cell in head.split("\t")]
    _check_columns(columns, first)
    for number, line in rows:
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) > len(columns):
            raise BrokenTerm(f"{len(cells)} cells under {len(columns)} columns", number)
        row = dict(zip(columns, cells))
        keep = row.get("keep", "").lower()
        if keep not in YES_WORDS + NO_WORDS:
            raise BrokenTerm(f'keep: "{keep}"', number, expected="yes or no")
        yield Term(
            text=row.get("term", ""),
            heard=_several_heard(row.get("heard", "")),
            doubtful=_several_heard(row.get("doubtful", "")),
            translations=MappingProxyType({code: row[code] for code in columns if code in LANGUAGES and row.get(code)}),
            keep=keep in YES_WORDS,
            note=row.get("note", ""),
            line=number,
        )


def _check_columns(columns: Sequence[str], line: int) -> None:
    for column in columns if line else ():
        if column not in TERM_COLUMNS and column not in LANGUAGES:
            raise BrokenTerm(
                f'no column "{column}"',
                line,
                expected=f"{', '.join(TERM_COLUMNS)}, or a language's code",
                hint=_near_word(column, (*TERM_COLUMNS, *LANGUAGES)),
            )
    if line and (columns.count("term") != 1 or len(set(columns)) != len(columns)):
        raise BrokenTerm("the first line names each column once, and one of them is term", line)


def _near_word(word: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(word, known, 1)
    return f'did you mean "{near[0]}"?' if near else ""


def _several_heard(cell: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in cell.split(BETWEEN_HEARD) if word.strip())


def _term_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that aren't empty, with their numbers from 1 on."""
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line


def check_term(term: Term) -> None:
    """Refuse what can't be a term.

    Raises:
        BrokenTerm: with its line.
    """
    line = term.line
    if not term.text:
        raise BrokenTerm("a term without text", line)
    for code in term.translations:
        if code not in LANGUAGES:
            what = f'"{code}" is not a language code'
            raise BrokenTerm(what, line, expected="ISO 639-1", hint=_near_word(code, LANGUAGES))
    if term.keep and term.translations:
        raise BrokenTerm(f'"{term.text}" is kept and translated', line, hint="keep it, or say its translations")
    if (count := max(len(term.heard), len(term.doubtful))) > MOST_HEARD:
        raise BrokenTerm(f"{count} texts are heard in its place", line, expected=f"up to {MOST_HEARD}")
    texts = (term.text, *term.heard, *term.doubtful, *term.translations.values())
    if any(not text.strip() or len(text) > LONGEST_TERM for text in texts):
        raise BrokenTerm("a text is empty or too long", line, expected=f"1 to {LONGEST_TERM} letters")
    if len(term.note) > LONGEST_NOTE:
        raise BrokenTerm("the note is too long", line, expected=f"up to {LONGEST_NOTE} letters")
    if any(unicodedata.category(c) in ("Cc", "Cs", "Co", "Zl", "Zp") for text in (*texts, term.note) for c in text):
        raise BrokenTerm("a control character, or one of private use", line)


def terms_for_job(terms: Sequence[Term]) -> bytes:
    """:data:`TERMS_FILE`: without notes and lines, which no stage reads. The same terms make the same bytes."""
    data = {"schema": 1, "terms": [_term_for_job(term) for term in terms]}
    return json.dumps(data, ensure_ascii=False, sort_keys=True).encode() + b"\n"


def _term_for_job(term: Term) -> dict[str, Any]:
    plain = {"term": term.text, "heard": list(term.heard), "translate": dict(term.translations), "keep": term.keep}
    # Files of glossaries without it stay as they were.
    return {**plain, "doubtful": list(term.doubtful)} if term.doubtful else plain


def terms_digest(data: bytes) -> str:
    """What :data:`TERMS_SETTING` has of a file."""
    return hashlib.sha256(data).hexdigest()
