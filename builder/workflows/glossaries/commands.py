"""The command glossary learn: what models made of terms, as a glossary for the next job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.core import glossary as spec
from builder.core.glossary import Term, learned
from builder.core.glossary.learned import Mishearing
from builder.edges.jobs import listing
from builder.edges.jobs.record import misheard
from builder.edges.machine import terms as named
from builder.edges.system import files
from builder.errors import UsageError
from builder.workflows.session import Session


@dataclass(frozen=True, kw_only=True)
class GlossaryLearned:
    """A glossary that was written."""

    file: Path
    terms: int
    mishearings: tuple[Mishearing, ...]
    """Those that are in it, and those that aren't."""


def learn(session: Session, names: Sequence[str], *, glossary: str, out: Path) -> GlossaryLearned:
    """Write a glossary with what jobs wrote in the place of its terms.

    Args:
        names: of jobs.
        glossary: the file that it grows from, ``auto`` or ``none``; terms that the jobs had besides are in it, too.

    Raises:
        UsageError: there is no such job, it has no transcript, no terms are known, or the file can't be read or written.
        ConfigError: a line of the file is wrong.
    """
    config = session.config
    jobs = [listing.find(config, name) for name in dict.fromkeys(names)]
    terms: dict[str, Term] = {term.text.casefold(): term for term in named.find(glossary, config.root).terms}
    for job in jobs:
        for term in misheard.terms(config, job):
            terms.setdefault(term.text.casefold(), term)
    if not terms:
        raise UsageError("these jobs were made without a glossary", where=jobs[0].id, hint="--glossary FILE names one")
    base = tuple(terms.values())[: spec.MOST]
    found = learned.learned([one for job in jobs for one in misheard.transcripts(config, job)], base)
    grown = learned.with_learned(base, found)
    file = files.write_output(out, spec.table(grown), instead="--out FILE")
    return GlossaryLearned(file=file, terms=len(grown), mishearings=found)
