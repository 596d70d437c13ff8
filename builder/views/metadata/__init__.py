"""Results of the command metadata: what is known of files, and the answers that are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import TypedDict

from builder.core.text import format_size, table
from builder.views import View

if TYPE_CHECKING:
    from builder.core.metadata.works import Work
    from builder.edges.metadata.services import Kept
    from builder.workflows.metadata.commands import AnswersKept, FileDescribed, MetadataFound


class NamedJson(TypedDict):
    """What a file's name says, by guessit."""

    title: str
    """Empty: nothing."""
    year: int | None
    """When it came out."""
    season: int | None
    """Of a series."""
    episode: int | None
    """Of a season."""


class RoleJson(TypedDict):
    """Who plays whom."""

    name: str
    """The actor's."""
    character: str
    """The role's; may be empty."""


class WorkJson(TypedDict):
    """What a service says of a film, a series or a song."""

    service: str
    """tmdb or musicbrainz."""
    id: str
    """There."""
    title: str
    """As the service has it."""
    year: int | None
    """When it came out."""
    artist: str
    """Of a song."""
    album: str
    """Of a song."""
    cast: list[RoleJson]
    """Of a film or a series."""


class DescribedJson(TypedDict):
    """What is known of one file."""

    file: str
    """As it was named."""
    name: NamedJson
    """What its name says."""
    tags: dict[str, str]
    """Its own tags: title, artist, date…"""
    work: WorkJson | None
    """What a service says; null: nothing is known."""
    asked: float | None
    """When the service was asked, in seconds since 1970; null: it wasn't."""
    problem: str
    """Why the file or the service said nothing; empty: nothing is wrong."""


class MetadataJson(TypedDict):
    """What is known of files."""

    files: list[DescribedJson]
    """In the order in which they were named."""
    glossary: str | None
    """The table of characters that was written."""


def _work_data(work: Work) -> WorkJson:
    return {
        "service": work.service,
        "id": work.id,
        "title": work.title,
        "year": work.year,
        "artist": work.artist,
        "album": work.album,
        "cast": [{"name": role.name, "character": role.character} for role in work.cast],
    }


def _described_data(entry: FileDescribed) -> DescribedJson:
    name, kept = entry.named, entry.found
    return {
        "file": str(entry.file),
        "name": {"title": name.title, "year": name.year, "season": name.season, "episode": name.episode},
        "tags": entry.tags,
        "work": _work_data(kept.work) if kept and kept.work else None,
        "asked": kept.asked if kept else None,
        "problem": str(entry.problem.what) if entry.problem else "",
    }


def _metadata_data(found: MetadataFound) -> MetadataJson:
    table_ = None if found.glossary is None else str(found.glossary)
    return {"files": [_described_data(entry) for entry in found.files], "glossary": table_}


def _metadata_text(found: MetadataFound) -> list[str]:
    lines: list[str] = []
    for entry in found.files:
        name = entry.named
        part = f", season {name.season}" if name.season is not None else ""
        part += f", episode {name.episode}" if name.episode is not None else ""
        year = f" ({name.year})" if name.year else ""
        lines += [str(entry.file), f"  name: {name.title or 'no title'}{year}{part}"]
        lines += [f"  {key}: {value}" for key, value in entry.tags.items()]
        if entry.found is not None:
            lines += _work_text(entry.found, found.now)
        elif entry.problem:
            lines.append(f"  problem: {entry.problem.what}")
        else:
            lines.append("  no service was asked: --online asks" if entry.query else "  no title to ask about")
    return [*lines, *([str(found.glossary)] if found.glossary else [])]


def _work_text(kept: Kept, now: float) -> list[str]:
    when = f"asked {_age(now - kept.asked)} ago"
    if kept.work is None:
        return [f"  no service knows it ({when})"]
    work = kept.work
    facts = [work.artist, work.album, str(work.year or "")]
    shown = [f"  {work.service} {work.id}: {work.title}{''.join(f', {fact}' for fact in facts if fact)} ({when})"]
    shown += [f"    {role.character or '?'}: {role.name}" for role in work.cast[:MOST_ROLES]]
    more = len(work.cast) - MOST_ROLES
    return [*shown, *([f"    and {more} more: --json"] if more > 0 else [])]


MOST_ROLES = 15
"""Roles that people are shown."""


def _age(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


METADATA = View(command="metadata", shape=MetadataJson, data=_metadata_data, lines=_metadata_text)


class AnswerJson(TypedDict):
    """An answer of a service that is kept; those of language models are one entry."""

    service: str
    """tmdb, musicbrainz or llm."""
    said: str
    """What was asked."""
    asked: float
    """When, in seconds since 1970; of several the first."""
    size: int
    """Bytes."""


class AnswersJson(TypedDict):
    """Answers of services that are kept."""

    answers: list[AnswerJson]
    """The oldest first of each service."""
    forgotten: bool
    """They are gone now."""


def _answers_data(kept: AnswersKept) -> AnswersJson:
    answers: list[AnswerJson] = [
        {"service": one.service, "said": one.said, "asked": one.asked, "size": one.size} for one in kept.answers
    ]
    return {"answers": answers, "forgotten": kept.forgotten}


def _answers_text(kept: AnswersKept) -> list[str]:
    rows = [(one.service, one.said, f"{_age(kept.now - one.asked)} ago", format_size(one.size)) for one in kept.answers]
    size = format_size(sum(one.size for one in kept.answers))
    end = f"{len(rows)} answer{'' if len(rows) == 1 else 's'}, {size}{', removed' if kept.forgotten else ''}"
    return [*(table(("SERVICE", "ASKED ABOUT", "WHEN", "SIZE"), rows) if rows else []), end]


ANSWERS = View(command="metadata --cached", shape=AnswersJson, data=_answers_data, lines=_answers_text)
