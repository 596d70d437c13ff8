"""What a job is told of its recordings before it is made: by their tags, and by services that were asked or are now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from builder.core import glossary
from builder.core.config.types import Config
from builder.core.jobs.request import JobOptions, Request
from builder.core.metadata import about, works
from builder.core.metadata.about import Known
from builder.core.metadata.works import TMDB, Named
from builder.core.progress import OnProgress, Progress
from builder.edges.metadata import filenames
from builder.edges.metadata.services import Services
from builder.edges.weights import access
from builder.errors import InputError, SourceError

Look = Callable[[Path], Mapping[str, Any]]
"""What a recording's container says: ``video``, ``tags``; raises InputError for what is none."""


def informant(
    config: Config, asked: JobOptions, *, look: Look, env: Mapping[str, str], on_progress: OnProgress
) -> Callable[[Request, Sequence[Path]], Request]:
    """What makes the request of one job of the request of all, by the job's recordings.

    Its result raises MissingError where TMDB wants a token. A service that can't be reached is a warning, and isn't asked
    again.

    Raises:
        ConfigError: the secrets file is open to others.
    """
    word = about.chosen(asked.metadata)
    if word is None:
        return lambda request, _: request
    informed = Informed(config, look=look, env=env, on_progress=on_progress, online=word == about.ONLINE)
    terms = asked.glossary != glossary.NONE

    def tell(request: Request, paths: Sequence[Path]) -> Request:
        return about.with_metadata(request, informed.known(paths), terms=terms)

    return tell


class Informed:
    """Reads names and tags, and knows the answers of services."""

    def __init__(
        self, config: Config, *, look: Look, env: Mapping[str, str], on_progress: OnProgress, online: bool
    ) -> None:
        self._config, self._look, self._env, self._on_progress = config, look, env, on_progress
        token = access.find_secret(env, config.home, f"{TMDB.upper()}_TOKEN") if online else None
        self._services = Services(config.paths.cache, env=env, token=token, online=online)

    def known(self, paths: Sequence[Path]) -> list[Known]:
        """What is known of each of a job's recordings."""
        names = [path.name for path in paths]
        said = filenames.read(self._config, names, env=self._env, on_progress=self._on_progress)
        return [self.of(path, named) for path, named in zip(paths, said, strict=True)]

    def of(self, path: Path, named: Named) -> Known:
        """What is known of one recording, whose name says what ``named`` has."""
        try:
            look = self._look(path)
        except InputError:
            return Known()  # whoever makes the job says why it can't be used
        known = Known(tags=works.tags(look.get("tags")))
        query = works.query(named, known.tags, picture=bool(look.get("video")))
        if query is None:
            return known
        try:
            found = self._services.find(query)
        except SourceError as error:
            self._tell("warning", f"{query.service} says nothing of {query.said}: {error.what}")
            self._services = Services(self._config.paths.cache, env=self._env)
            return known
        if found is None or found.work is None:
            return known
        work = found.work
        year = f" ({work.year})" if work.year else ""
        self._tell("metadata", f"{path.name}: {work.service} {work.id}, {work.title}{year}")
        return replace(known, work=work)

    def _tell(self, what: str, note: str) -> None:
        self._on_progress(Progress(what=what, note=note, finished=True))
