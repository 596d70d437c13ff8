"""The command metadata: what files, their names, and TMDB and MusicBrainz say of films and songs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from builder.core.metadata import works
from builder.core.metadata.works import TMDB, Named, Query
from builder.edges.jobs import prepare
from builder.edges.metadata import filenames, services
from builder.edges.metadata.services import Kept, KeptFile, Services
from builder.edges.system import files
from builder.edges.weights import access
from builder.errors import BakeError, UsageError
from builder.workflows import host as hosts
from builder.workflows.session import Session


@dataclass(frozen=True, kw_only=True)
class FileDescribed:
    """What is known of one file."""

    file: Path
    named: Named
    tags: dict[str, str]
    query: Query | None
    found: Kept | None
    problem: BakeError | None = None
    """Why the file or the service said nothing."""


@dataclass(frozen=True, kw_only=True)
class MetadataFound:
    """What is known of files, in their order."""

    files: tuple[FileDescribed, ...]
    glossary: Path | None
    """The table that was written of the casts."""
    now: float
    """Seconds since 1970."""

    @property
    def failure(self) -> BakeError | None:
        """The first problem."""
        return next((entry.problem for entry in self.files if entry.problem), None)


@dataclass(frozen=True, kw_only=True)
class AnswersKept:
    """Answers of services in the cache."""

    answers: tuple[KeptFile, ...]
    forgotten: bool
    """They are gone now."""
    now: float


def describe(session: Session, paths: Sequence[Path], *, online: bool, glossary: Path | None) -> MetadataFound:
    """What is known of files.

    Args:
        online: TMDB is asked about films, MusicBrainz about songs; else only what they have answered before is known.
        glossary: where a table of the characters is written.

    Raises:
        ConfigError: the secrets file is open to others.
        UsageError: there are no characters to write.
    """
    config, env = session.config, session.env
    said = filenames.read(config, [path.name for path in paths], env=env, on_progress=session.on_progress)
    token = access.find_secret(env, config.home, f"{TMDB.upper()}_TOKEN") if online else None
    asking = Services(config.paths.cache, env=env, token=token, online=online)
    media = hosts.choose(session).media
    found = tuple(_described(path, name, media, asking) for path, name in zip(paths, said, strict=True))
    if glossary is not None:
        works_ = [entry.found.work for entry in found if entry.found and entry.found.work and entry.found.work.cast]
        if not works_:
            raise next((entry.problem for entry in found if entry.problem), None) or UsageError(
                "no characters are known", where="--glossary-out", hint="--online asks TMDB"
            )
        files.write_output(glossary, works.glossary(works_), instead="--glossary-out")
    return MetadataFound(files=found, glossary=glossary, now=time.time())


def _described(path: Path, named: Named, media: prepare.Media, asking: Services) -> FileDescribed:
    tags: dict[str, str] = {}
    query: Query | None = None
    try:
        look = prepare.look(media, path)
        tags = works.tags(look.get("tags"))
        query = works.query(named, tags, picture=bool(look.get("video")))
        found = asking.find(query) if query else None
    except BakeError as problem:
        return FileDescribed(file=path, named=named, tags=tags, query=query, found=None, problem=problem)
    return FileDescribed(file=path, named=named, tags=tags, query=query, found=found)


def kept(session: Session, *, forget: bool) -> AnswersKept:
    """The answers in the cache, those of language models in one row; they may be forgotten."""
    cache = session.config.paths.cache
    answers = tuple(services.kept(cache))
    if forget:
        services.forget(cache)
    models = [answer for answer in answers if answer.service == services.LLM]
    rows = [answer for answer in answers if answer.service != services.LLM]
    if models:
        said = f"lines of films, {len(models)} times"
        rows.append(replace(models[0], path=models[0].path.parent, said=said, size=sum(one.size for one in models)))
    return AnswersKept(answers=tuple(rows), forgotten=forget, now=time.time())
