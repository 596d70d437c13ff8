"""What a transcript says its recording is: a film, an episode, a song, and who is in it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

ROLES = 30
"""Of a cast, that are shown."""

LONGEST = 200
"""Characters of a text."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A film, an episode, a song."""

    title: str
    facts: tuple[str, ...] = ()
    """The year, the season, the artist; and who says so."""
    cast: tuple[tuple[str, str], ...] = ()
    """(character, actor); the character may be empty."""
    more: int = 0
    """How many others there are."""


def parsed(data: Any) -> Subject | None:
    """The value of a transcript's ``metadata``, which may be anything; None: it has no title."""
    found = data if isinstance(data, dict) else {}
    if not (title := _text(found.get("title"))):
        return None
    work = found["work"] if isinstance(found.get("work"), dict) else {}
    year, season, episode = (_text(found.get(key)) for key in ("year", "season", "episode"))
    tags = found["tags"] if isinstance(found.get("tags"), dict) else {}
    artist, album = (_text(work.get(key) or tags.get(key)) for key in ("artist", "album"))
    source = " ".join(filter(None, (_text(work.get("service")), _text(work.get("id")))))
    facts = (year, season and f"season {season}", episode and f"episode {episode}", artist, album, source)
    roles = work["cast"] if isinstance(work.get("cast"), list) else []
    cast = [
        (_text(role.get("character")), actor)
        for role in roles[:ROLES]
        if isinstance(role, dict) and (actor := _text(role.get("name")))
    ]
    more = max(len(roles) - ROLES, 0)
    return Subject(title=title, facts=tuple(fact for fact in facts if fact), cast=tuple(cast), more=more)


def _text(value: Any) -> str:
    """A text or a number as a text."""
    return str(value)[:LONGEST] if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
