"""A film, a series or a song: what a file's name and two services say of it. Pure.

The services' answers are anybody's: each is read by a shape, bounded, and on one line. TMDB's version 3 and MusicBrainz' web
service version 2 are read as their documentation has them (developer.themoviedb.org, musicbrainz.org/doc/MusicBrainz_API).
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

LONGEST = 200
"""Characters that are kept of a text."""

MOST = 200
"""People of one cast, or songs of one answer, that are kept."""

TAGS = ("title", "artist", "album", "album_artist", "composer", "date", "show", "genre", "language")
"""A file's own tags that are told."""

TMDB, MUSICBRAINZ = "tmdb", "musicbrainz"
"""The services, and the folders of their answers in the cache."""


def text(value: object) -> str:
    """A text on one line, without control characters, of at most :data:`LONGEST` characters."""
    whole = str(value)[: 4 * LONGEST] if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
    kept = "".join(" " if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") else c for c in whole)
    return " ".join(kept.split())[:LONGEST]


def few(value: object) -> object:
    """A list without what is behind :data:`MOST`: the rest isn't even looked at."""
    return value[:MOST] if isinstance(value, list) else value


Line = Annotated[str, BeforeValidator(text)]


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


@dataclass(frozen=True, kw_only=True)
class Named:
    """What a file's name says, by guessit."""

    title: str = ""
    year: int | None = None
    season: int | None = None
    episode: int | None = None
    series: bool = False
    """It is of a series, by its name."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """What a service is asked."""

    service: str
    title: str
    year: int | None = None
    series: bool = False
    artist: str = ""

    @property
    def key(self) -> str:
        """The stem of its answer's file: the same question has the same."""
        facts = [self.title.casefold(), self.year, self.series, self.artist.casefold()]
        return hashlib.sha256(json.dumps(facts, ensure_ascii=False).encode()).hexdigest()[:32]

    @property
    def said(self) -> str:
        """For people."""
        by = f" by {self.artist}" if self.artist else ""
        return f"{self.title}{by}{f' ({self.year})' if self.year else ''}"

    @property
    def path(self) -> str:
        """The address of the search, after the service's own."""
        if self.service == TMDB:
            return f"/3/search/{'tv' if self.series else 'movie'}"
        return "/ws/2/recording"

    @property
    def parameters(self) -> dict[str, str]:
        """Of the search."""
        if self.service == TMDB:
            field = "first_air_date_year" if self.series else "year"
            return {"query": self.title} | ({field: str(self.year)} if self.year else {})
        by = f' AND artist:"{_lucene(self.artist)}"' if self.artist else ""
        return {"fmt": "json", "limit": "5", "query": f'recording:"{_lucene(self.title)}"{by}'}


def _lucene(words: str) -> str:
    """Words that stand in quotes in a search."""
    return words.replace("\\", "\\\\").replace('"', '\\"')


@dataclass(frozen=True, kw_only=True)
class Role:
    """Who plays whom."""

    name: str
    character: str


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a service says of a film, a series or a song."""

    service: str
    id: str
    title: str
    year: int | None = None
    artist: str = ""
    album: str = ""
    cast: tuple[Role, ...] = ()


def named(answer: object) -> Named:
    """What stages/metadata/filename.py says of a name."""
    found = answer if isinstance(answer, dict) else {}
    return Named(
        title=text(found.get("title")),
        year=_number(found.get("year"), most=9999),
        season=_number(found.get("season")),
        episode=_number(found.get("episode")),
        series=found.get("type") == "episode",
    )


def tags(answer: object) -> dict[str, str]:
    """A file's own tags, of which those of :data:`TAGS` count."""
    found = answer if isinstance(answer, dict) else {}
    lower = {str(key).lower().replace(" ", "_"): value for key, value in found.items()}
    return {name: value for name in TAGS if (value := text(lower.get(name)))}


def query(name: Named, own: Mapping[str, str], *, picture: bool) -> Query | None:
    """What to ask about a file; None where neither its name nor its tags have a title.

    Args:
        own: its tags.
        picture: it is a film; else a song, whose tags say more than its name.
    """
    if picture:
        year = name.year or _number(own.get("date", "")[:4], most=9999)
        title = name.title or own.get("title", "")
        return Query(service=TMDB, title=title, year=year, series=name.series) if title else None
    title = own.get("title") or name.title
    return Query(service=MUSICBRAINZ, title=title, artist=own.get("artist", "")) if title else None


class _Found(_Shape):
    id: int


class _Search(_Shape):
    results: Annotated[list[_Found], BeforeValidator(few)]


def first(answer: Any) -> int | None:
    """The id of the first result of TMDB's search; None: it has none.

    Raises:
        ValueError: it is no answer of TMDB.
    """
    found = _read(_Search, answer).results
    return found[0].id if found else None


class _Actor(_Shape):
    name: Line
    character: Line = ""


class _Credits(_Shape):
    cast: Annotated[list[_Actor], BeforeValidator(few)] = []


class _Film(_Shape):
    id: int
    title: Line = ""
    name: Line = ""
    release_date: Line = ""
    first_air_date: Line = ""
    credits: _Credits = _Credits()


def film(answer: Any) -> Work:
    """A film or a series of TMDB.

    Raises:
        ValueError: it is no answer of TMDB.
    """
    found = _read(_Film, answer)
    title = found.title or found.name
    if not title:
        raise ValueError("no title")
    date = found.release_date or found.first_air_date
    cast = [Role(name=one.name, character=one.character) for one in found.credits.cast if one.name]
    year = _number(date[:4], most=9999)
    return Work(service=TMDB, id=str(found.id), title=title, year=year, cast=tuple(cast))


class _Artist(_Shape):
    name: Line = ""
    joinphrase: Annotated[str, BeforeValidator(lambda value: str(value)[:20])] = ""


class _Release(_Shape):
    title: Line = ""


class _Song(_Shape):
    id: Line
    title: Line
    artists: Annotated[list[_Artist], BeforeValidator(few)] = Field(default=[], alias="artist-credit")
    releases: Annotated[list[_Release], BeforeValidator(few)] = []
    date: Line = Field(default="", alias="first-release-date")


class _Songs(_Shape):
    recordings: list[dict[str, Any]]


def song(answer: Any) -> Work | None:
    """The first recording of MusicBrainz' search; None: it has none.

    Raises:
        ValueError: it is no answer of MusicBrainz.
    """
    recordings = _read(_Songs, answer).recordings
    if not recordings:
        return None
    found = _read(_Song, recordings[0])
    if not found.title:
        raise ValueError("no title")
    artist = text("".join(one.name + (one.joinphrase or " ") for one in found.artists))
    year = _number(found.date[:4], most=9999)
    album = found.releases[0].title if found.releases else ""
    return Work(service=MUSICBRAINZ, id=found.id, title=found.title, year=year, artist=artist, album=album)


def _read(shape: type[Any], answer: Any) -> Any:
    try:
        return shape.model_validate(answer)
    except ValidationError as error:
        raise ValueError(f"{error.error_count()} values are not what they should be") from None


def _number(value: object, *, most: int = 100_000) -> int | None:
    digits = value if isinstance(value, str) else str(value) if isinstance(value, int) else ""
    return int(digits) if re.fullmatch(r"[0-9]{1,6}", digits) and int(digits) <= most else None


def characters(works: Iterable[Work]) -> list[str]:
    """Names of the characters, each once, in the order of the casts: those that :func:`glossary` has."""
    return [name for name, _ in _roles(works)]


def glossary(works: Iterable[Work]) -> str:
    """Characters as a glossary's table: names that a translation keeps, each once.

    A role's remarks are left out (``(voice)``), roles without a name of their own too (``Self``, ``Man #2``).
    """
    rows = (f"{name}\tyes\tplayed by {note}" for name, note in _roles(works))
    return "\n".join(["term\tkeep\tnote", *rows]) + "\n"


def _roles(works: Iterable[Work]) -> list[tuple[str, str]]:
    """Each character, and by whom it is played where."""
    rows: dict[str, tuple[str, str]] = {}  # by names whose capitals don't count
    for work in works:
        for role in work.cast:
            for part in re.split(r"\s*/\s*", re.sub(r"\([^)]*\)", "", role.character)):
                name = part.strip(" \"'")
                if name and name[:1].isupper() and "#" not in name and name not in ("Self", "Himself", "Herself"):
                    rows.setdefault(name.casefold(), (name[:100], f"{role.name}, {work.title}"))
    return list(rows.values())
