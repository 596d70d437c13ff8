"""TMDB and MusicBrainz: asked only when somebody says so; what they answered is kept, and read without a network.

The bounds of every answer (bytes, seconds, redirects, networks) are those of :mod:`builder.edges.system.answers`. TMDB's token
goes to the address that it is for, over HTTPS alone.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx

from builder.core.metadata import works
from builder.core.metadata.works import MUSICBRAINZ, TMDB, Query, Role, Work
from builder.edges.system import answers, files, http
from builder.edges.weights.access import Token
from builder.errors import MissingError, SourceError
from builder.receiver.jobs.untrusted import parse_json

ENDPOINTS = {TMDB: "https://api.themoviedb.org", MUSICBRAINZ: "https://musicbrainz.org"}
"""The services, unless TMDB_ENDPOINT and MUSICBRAINZ_ENDPOINT name others."""

LLM = "llm"
"""The folder of answers of language models (:mod:`builder.edges.jobs.correct`)."""

ANSWERERS = (*ENDPOINTS, LLM)
"""Whose answers are kept, each in a folder of its name."""

PATIENCE = 10.0
"""Seconds without an answer, or without more of it, until a service is given up."""

LONGEST_WAIT = 20.0
"""Seconds that a service may ask us to wait before the second try."""

APART = 1.0
"""Seconds between two questions to MusicBrainz, which allows one a second."""

LARGEST = 1 << 20
"""Bytes of an answer that is kept."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """An answer."""

    work: Work | None
    """None: the service knows nothing of it."""
    asked: float
    """When, in seconds since 1970."""


@dataclass(frozen=True, kw_only=True)
class KeptFile:
    """An answer in the cache."""

    service: str
    path: Path
    said: str
    """What was asked; empty: that isn't told."""
    asked: float
    size: int
    """Bytes."""


Understood = TypeVar("Understood")


class Services:
    """What services say, from the cache or from them."""

    def __init__(
        self,
        cache: Path,
        *,
        env: Mapping[str, str],
        token: Token | None = None,
        online: bool = False,
        patience: float = PATIENCE,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        """
        Args:
            cache: the folder of caches; each service has a folder in it.
            token: TMDB's.
            online: services may be asked.
            patience: seconds without an answer, until a service is given up.
            wait: waits so many seconds.
        """
        self._cache, self._env, self._token = cache, env, token
        self._online, self._patience, self._wait = online, patience, wait
        self._last: float | None = None

    def find(self, query: Query) -> Kept | None:
        """What is known of a film or a song; None: nothing is kept, and nobody is asked.

        Raises:
            SourceError: the service can't be reached, or its answer can't be used.
            MissingError: it wants a token.
        """
        place = self._cache / query.service / f"{query.key}.json"
        if (kept := _read(place)) is not None or not self._online:
            return kept
        work = self._tmdb(query) if query.service == TMDB else self._musicbrainz(query)
        found = Kept(work=work, asked=time.time())
        place.parent.mkdir(parents=True, exist_ok=True)
        data = {"schema": 1, "said": query.said, "asked": found.asked, "work": None if work is None else asdict(work)}
        files.write_atomic(place, json.dumps(data, ensure_ascii=False, indent=1) + "\n")
        return found

    def _tmdb(self, query: Query) -> Work | None:
        if self._token is None:
            raise MissingError(
                "TMDB wants a token",
                where="TMDB_TOKEN",
                expected="the API read access token of an account at themoviedb.org",
                hint="TMDB_TOKEN=… in the environment, or as a line of .bake/secrets",
            )
        number = _understood(TMDB, works.first, self._ask(TMDB, query.path, query.parameters))
        if number is None:
            return None
        kind = "tv" if query.series else "movie"
        return _understood(TMDB, works.film, self._ask(TMDB, f"/3/{kind}/{number}", {"append_to_response": "credits"}))

    def _musicbrainz(self, query: Query) -> Work | None:
        if self._last is not None and (left := self._last + APART - time.monotonic()) > 0:
            self._wait(left)
        self._last = time.monotonic()
        return _understood(MUSICBRAINZ, works.song, self._ask(MUSICBRAINZ, query.path, query.parameters))

    def _ask(self, service: str, path: str, parameters: Mapping[str, str]) -> Any:
        """The JSON behind an address; once more where the service asks for patience.

        Raises:
            SourceError: it can't be reached, refuses, or answers with something else.
        """
        named = (self._env.get(f"{service.upper()}_ENDPOINT") or ENDPOINTS[service]).rstrip("/")
        client = answers.shared(named, self._env)
        headers = {"Accept": "application/json"}
        if service == TMDB and self._token is not None:
            headers["Authorization"] = f"Bearer {self._token.value}"
            if not client.may_hear(named):
                raise SourceError("the token is not sent over plain HTTP", where=http.origin(named), hint="use https")
        for again in (True, False):
            try:
                answer = answers.ask(
                    client, "GET", named + path, params=dict(parameters), headers=headers, timeout=self._patience
                )
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise SourceError(
                    f"it can't be reached ({http.short(error)})", where=http.origin(named), hint="leave out --online"
                ) from None
            pause = http.retry_after(answer.headers.get("Retry-After", "")) or APART
            if not (again and answer.status_code in (429, 503) and pause <= LONGEST_WAIT):
                break
            self._wait(pause)
        return _json(answer, named)


def _json(answer: httpx.Response, named: str) -> Any:
    where = http.origin(named)
    if answer.status_code in (401, 403):
        raise SourceError(f"it refuses the token (HTTP {answer.status_code})", where=where, hint="check TMDB_TOKEN")
    if answer.status_code in (429, 503):
        raise SourceError("it wants fewer questions", where=where, hint="run this again in a while")
    if answer.status_code != 200:
        raise SourceError(f"it answers HTTP {answer.status_code}", where=where)
    try:
        return parse_json(answer.content)
    except ValueError:
        raise SourceError("its answer is not JSON", where=where) from None


def _understood(service: str, reader: Callable[[Any], Understood], answer: Any) -> Understood:
    try:
        return reader(answer)
    except ValueError as error:
        raise SourceError(f"{service}'s answer can't be used: {error}", hint="leave out --online") from None


def _read(place: Path) -> Kept | None:
    """An answer that was kept; None: there is none, or it is damaged."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        with files.open_regular(place) as source:
            data = parse_json(source.read(LARGEST))
        entry = data["work"]
        asked = float(data["asked"])
        if entry is None:
            return Kept(work=None, asked=asked)
        cast = tuple(Role(name=works.text(r["name"]), character=works.text(r["character"])) for r in entry["cast"])
        year = entry["year"] if isinstance(entry["year"], int) else None
        facts = {name: works.text(entry[name]) for name in ("service", "id", "title", "artist", "album")}
        return Kept(work=Work(**facts, year=year, cast=cast), asked=asked)
    return None


def kept(cache: Path) -> Iterator[KeptFile]:
    """All answers that are kept, the oldest first of each of :data:`ANSWERERS`."""
    for service in ANSWERERS:
        found = [_kept(service, path) for path in (cache / service).glob("*.json")]
        yield from sorted(found, key=lambda entry: (entry.asked, entry.said))


def _kept(service: str, path: Path) -> KeptFile:
    """An answer; of a language model's, which hold the lines of films, just how old and large it is."""
    facts = path.lstat()
    data = {} if service == LLM else files.read_object(path)
    asked = facts.st_mtime if service == LLM else data.get("asked")
    when = float(asked) if isinstance(asked, (int, float)) else 0.0
    return KeptFile(service=service, path=path, said=works.text(data.get("said")), asked=when, size=facts.st_size)


def old(cache: Path, *, age: float, now: float) -> list[KeptFile]:
    """The answers that were given ``age`` seconds before ``now`` or earlier."""
    return [entry for entry in kept(cache) if now - entry.asked >= age]


def forget(cache: Path) -> None:
    """Remove all answers."""
    for service in ANSWERERS:
        shutil.rmtree(cache / service, ignore_errors=True)
