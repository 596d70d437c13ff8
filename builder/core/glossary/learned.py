"""What models wrote in the place of a glossary's terms, out of finished jobs: for its column ``doubtful``. Pure.

A model that mishears a name does so again. What was corrected is told to the next job as a part of its glossary, a file that a
person reads, and not by a cache behind it: the same command on the same files makes the same job.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from builder.core.compare.words import edits_between
from builder.core.jobs.record.changes import Change
from builder.receiver.jobs.terms import BETWEEN_HEARD, LONGEST_TERM, MOST_HEARD, MOST_TERMS, Term

FEWEST = 4
"""Letters below which a text is like too many others (stages/asr/sounding.py)."""

PART = 5
"""Letters of a word in a name from which it stands for itself (stages/asr/corrections.py)."""

WIDEST = 8
"""Words that a term can take the place of (there, too)."""

MOST_WORDS = 50_000
"""Words of a recording up to which an edited text is compared with what was heard: some six hours."""

MARK = "-"
"""What words without a letter are compared as."""

GENITIVE = re.compile("['’]s$")

SHORT, ORDINARY, ELSEWHERE = "too short", "in small letters: other words", "said elsewhere, and left"
SEVERAL, BACK, WRITING = "heard for several terms", "changed back by hand", "no text for a table"
FULL = "more than a term can have"
"""Why something isn't learnt."""


@dataclass(frozen=True, kw_only=True)
class HeardWord:
    """A word as a stage wrote it; times in seconds."""

    text: str
    start: float
    end: float


@dataclass(frozen=True, kw_only=True)
class HeardText:
    """What is known of a recording."""

    changes: Sequence[Change]
    """Terms in the place of words."""
    words: Sequence[HeardWord]
    """After these changes."""
    edited: Sequence[str] | None = None
    """The words after a person changed them; None: nobody did."""


@dataclass(frozen=True, kw_only=True)
class Mishearing:
    """What was written in the place of a term."""

    heard: str
    term: str
    times: int
    why_not: str = ""
    """Why it isn't learnt; empty: it is."""


def words_of(result: Any) -> tuple[HeardWord, ...] | None:
    """The words of a recognition's result, which may be anything; None where it is none."""
    try:
        return tuple(
            HeardWord(text=str(word["word"]), start=float(word["start"]), end=float(word["end"]))
            for segment in result["segments"]
            for word in segment["words"]
        )
    except (KeyError, TypeError, ValueError):
        return None


def learned(transcripts: Sequence[HeardText], terms: Sequence[Term]) -> tuple[Mishearing, ...]:
    """What is to be known of mishearings, the most frequent first.

    Args:
        terms: of the glossary: nothing else is learnt.
    """
    known = _known(terms)
    counts: Counter[tuple[str, str]] = Counter()
    back: set[tuple[str, str]] = set()
    for one in transcripts:
        edits = tuple(_edits(one))
        for change in one.changes:
            pair = _pair(change.before, change.after, known)
            if pair is None:
                continue
            counts[pair] += 1
            if any(a < change.end and change.start < b and _key(pair[1]) not in _key(new) for a, b, _, new in edits):
                back.add(pair)
        counts.update(pair for _, _, old, new in edits if (pair := _pair(old, new, known)))
    spread: dict[str, set[str]] = {}
    for heard, term in counts:
        spread.setdefault(_key(heard), set()).add(term)
    said = _said(transcripts, {_key(heard): len(heard.split()) for heard, _ in counts})
    found, room = [], Counter({term.text: MOST_HEARD - len(term.doubtful) for term in terms})
    for (heard, term), times in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        why = BACK if (heard, term) in back else _why_not(heard, term, len(spread[_key(heard)]), said)
        if not why and room.get(term, MOST_HEARD) <= 0:
            why = FULL
        if not why:
            room[term] = room.get(term, MOST_HEARD) - 1
        found.append(Mishearing(heard=heard, term=term, times=times, why_not=why))
    return tuple(found)


def with_learned(terms: Sequence[Term], found: Sequence[Mishearing]) -> tuple[Term, ...]:
    """The terms with what is learnt; a word of a name that stands for itself is a term of its own, behind the others."""
    forms: dict[str, list[str]] = {}
    for one in found:
        if not one.why_not:
            forms.setdefault(one.term, []).append(one.heard)
    grown = [replace(t, doubtful=_joined(t, forms.pop(t.text, ()))) for t in terms]
    parents = {word: t for t in reversed(terms) for word in t.text.split()}
    for text, heard in forms.items():
        if len(grown) < MOST_TERMS:
            grown.append(Term(text=text, doubtful=tuple(heard), keep=text in parents and parents[text].keep))
    return tuple(grown)


def _joined(term: Term, heard: Sequence[str]) -> tuple[str, ...]:
    """What a term is taken for, each spelling once."""
    there = {_key(text) for text in (*term.heard, *term.doubtful)}
    return (*term.doubtful, *(text for text in heard if _key(text) not in there))


def _known(terms: Sequence[Term]) -> dict[str, str]:
    """How a term may stand in a text -> what it is called."""
    known: dict[str, str] = {}
    for term in terms:
        for text in (term.text, *term.translations.values()):
            known.setdefault(text, term.text)
    for term in terms:
        for word in term.text.split():
            if word[:1].isupper() and len(_key(word)) >= PART:
                known.setdefault(word, word)
    return known


def _pair(before: str, after: str, known: Mapping[str, str]) -> tuple[str, str] | None:
    """What was heard, and the term; None where it is none, or differs in capitals and marks only."""
    heard, term = _bare(before), _bare(after)
    if term not in known and GENITIVE.search(term):
        heard, term = GENITIVE.sub("", heard), GENITIVE.sub("", term)
    if term not in known or not _key(heard) or _key(heard) == _key(term) or len(heard.split()) > WIDEST:
        return None
    return heard, known[term]


def _edits(one: HeardText) -> Iterator[tuple[float, float, str, str]]:
    """What a person wrote for what: start and end in seconds, the old words and the new."""
    if one.edited is None or max(len(one.edited), len(one.words)) > MOST_WORDS:
        return
    old = [_key(word.text) or MARK for word in one.words]
    new = [_key(word) or MARK for word in one.edited]
    for same, run in groupby(edits_between(old, new), key=lambda edit: edit.kind == "equal"):
        edits = [] if same else list(run)
        part = [one.words[edit.left] for edit in edits if edit.left is not None]
        written = [one.edited[edit.right] for edit in edits if edit.right is not None]
        if part and written:
            yield part[0].start, part[-1].end, " ".join(w.text.strip() for w in part), " ".join(written)


def _said(transcripts: Sequence[HeardText], widths: Mapping[str, int]) -> set[str]:
    """Those of the mishearings that stand in the texts as they are: somebody says just this."""
    found: set[str] = set()
    for one in transcripts:
        keys = [_key(text) for text in (one.edited if one.edited is not None else [w.text for w in one.words])]
        for width in set(widths.values()):
            runs = ("".join(keys[k : k + width]) for k in range(len(keys) - width + 1))
            found.update(run for run in runs if run in widths)
    return found


def _why_not(heard: str, term: str, terms: int, said: set[str]) -> str:
    if len(_key(heard)) < FEWEST:
        return SHORT
    if len(heard) > LONGEST_TERM or BETWEEN_HEARD in heard or any(unicodedata.category(c)[0] == "C" for c in heard):
        return WRITING
    if heard.islower() and not term.islower():
        return ORDINARY
    if terms > 1:
        return SEVERAL
    return ELSEWHERE if _key(heard) in said else ""


def _key(text: str) -> str:
    """What spellings of a text have in common (as stages/asr/sounding.py has it)."""
    plain = (c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    return "".join(c for c in plain if c.isalnum())


def _bare(text: str) -> str:
    """A text without the marks around it."""
    text = " ".join(text.split())
    inner = [k for k, c in enumerate(text) if unicodedata.category(c)[0] not in "PSZC"]
    return text[inner[0] : inner[-1] + 1] if inner else ""
