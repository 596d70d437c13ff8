"""metadata: what a recording is called, and who plays whom, by its name, its tags and what services said of it.

There is no network here: the tags, and what TMDB and MusicBrainz said, lie beside the recordings since the job was made.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from hashlib import sha256
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import contract
import filename
from contract import Recording, StageJob

FILE = "metadata.json"
"""Beside the recordings: recording -> its tags and its work."""

LONGEST = 200
"""Characters of a text."""

MOST = 200
"""People of a cast."""

TEXTS = ("service", "id", "title", "artist", "album")
"""Of a work."""


def work(job: StageJob) -> None:
    known = told(job)
    with job.timed("work"):
        for recording in job.inputs:
            heard = job.load("demux", recording)
            entry, named = known.get(recording.id, {}), said(job, recording)
            job.save(recording, described(named, entry, picture=bool(heard["video"])))
            job.progress(recording, heard["duration"], heard["duration"])


def said(job: StageJob, recording: Recording) -> dict[str, Any]:
    """What the recording's name says; nothing, and a note, where guessit breaks at it."""
    try:
        return filename.said(recording.name)
    except Exception as error:  # noqa: BLE001  a name is anybody's, and guessit's rules raise anything
        job.note(recording, f"nothing is read from its name: {type(error).__name__}")
        return {}


def described(named: dict[str, Any], entry: dict[str, Any], *, picture: bool) -> dict[str, Any]:
    """``work/metadata/<in>.json``: a service's word goes before the name of a film and before the tags of a song."""
    tags = texts(entry.get("tags"))
    found = about(entry.get("work"))
    name, tag = line(named.get("title")), tags.get("title", "")
    title = (name or tag) if picture else (tag or name)
    year = number(named.get("year")) or number(tags.get("date", "")[:4])
    series = picture and named.get("type") == "episode"
    return {
        "kind": "series" if series else "film" if picture else "sound",
        "title": (found or {}).get("title") or title,
        "year": (found or {}).get("year") or year,
        "season": number(named.get("season")) if series else None,
        "episode": number(named.get("episode")) if series else None,  # a song's number is one by its name, too
        "tags": tags,
        "work": found,
    }


def about(value: Any) -> dict[str, Any] | None:
    """A film, a series or a song as a service has it; None: none is known, or it has another shape."""
    if not isinstance(value, dict) or not line(value.get("title")):
        return None
    roles = value.get("cast")
    cast = [
        {"name": line(role.get("name")), "character": line(role.get("character"))}
        for role in (roles if isinstance(roles, list) else [])[:MOST]
        if isinstance(role, dict) and line(role.get("name"))
    ]
    return {key: line(value.get(key)) for key in TEXTS} | {"year": number(value.get("year")), "cast": cast}


def texts(value: Any) -> dict[str, str]:
    """Tags whose values say something, each on one line."""
    found = value if isinstance(value, dict) else {}
    return {line(key): text for key, entry in list(found.items())[:MOST] if (text := line(entry)) and line(key)}


def line(value: Any) -> str:
    """A text on one line, without control characters, of at most :data:`LONGEST` characters."""
    whole = value[: 4 * LONGEST] if isinstance(value, str) else ""
    kept = "".join(" " if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") else c for c in whole)
    return " ".join(kept.split())[:LONGEST]


def number(value: Any) -> int | None:
    """A year, a season; None: it is none."""
    text = str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 6 else None


def told(job: StageJob) -> dict[str, dict[str, Any]]:
    """What the job was made with, by recording; none, and a note, where its file is another."""
    if not job.settings.get("known"):
        return {}
    data = job.beside(FILE)
    if data is None or sha256(data).hexdigest() != job.settings["known"]:
        job.note(job.inputs[0], "its tags and what services said are not those that this job was made with")
        return {}
    try:
        whole = json.loads(data)
        if whole["schema"] != 1:
            raise ValueError("another schema")
        return {str(key): dict(entry) for key, entry in whole["recordings"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        job.note(job.inputs[0], "what was known of it is damaged")
        return {}


if __name__ == "__main__":
    contract.main("metadata", work)
