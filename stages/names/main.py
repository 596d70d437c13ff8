"""names: people, places and organisations that are spoken of, and how they are spelt."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import contract
import finder
import people
from contract import Recording, StageJob
from loading import carried
from passages import passages
from people import Book, Cast

FILE = "cast.json"
"""Beside the recordings: the names that the text is spelt by."""

MOST = 5000
"""Names of it."""

LONGEST = 100
"""Letters of one."""

KNOWN = "en"
"""The language that spaCy's small model knows."""


def work(job: StageJob) -> None:
    find = None
    cast = told(job)
    for recording in job.inputs:
        heard = job.load("align" if job.has("align") else "asr", recording)
        book = Book()
        if not heard["segments"]:
            pass
        elif heard["language"] != KNOWN:
            job.note(recording, f"names are found in English alone, and this is {heard['language'] or 'unknown'}")
        else:
            if find is None:
                find = carried(job, "names", lambda: opened(job))
            with job.timed("work"):
                parts = list(passages(heard["segments"]))
                for passage, found in zip(parts, find(p.text for p in parts), strict=True):
                    book.add(passage, found, cast)
                    job.progress(recording, min(passage.words[-1].start, heard["duration"]), heard["duration"])
        save(job, recording, book, cast, language=heard["language"])
        job.progress(recording, heard["duration"], heard["duration"])


def opened(job: StageJob) -> Callable[[Iterable[str]], Iterator[finder.Found]]:
    """What finds names in texts; raises ModelFault."""
    with job.timed("load"):
        return finder.load()


def save(job: StageJob, recording: Recording, book: Book, cast: Cast, *, language: str | None) -> None:
    """Write a recording's names, and tell of those that are spelt anew."""
    made = people.spellings(book, cast)
    found = people.entities(book, made)
    applied = [entry for entry in made if entry.applied]
    for entry in applied:
        places = f"{len(entry.places)} times" if len(entry.places) > 1 else "once"
        job.note(recording, f'"{entry.before}" is now "{entry.after}" ({places}): it {entry.why}')
    result: dict[str, Any] = {
        "language": language,
        "entities": found,
        "spelling": [entry.data() for entry in made],
        "changes": [change for entry in applied for change in entry.changes()],
        "keep": people.kept(found, cast, str(job.settings.get("keep") or "people")),
    }
    job.save(recording, result)


def told(job: StageJob) -> Cast:
    """The names that the job was made with; none, and a note, where its file is another."""
    if not job.settings.get("cast"):
        return Cast()
    data = job.beside(FILE)
    if data is None or sha256(data).hexdigest() != job.settings["cast"]:
        job.note(job.inputs[0], "no name is spelt anew: the list of names is not the one that this job was made with")
        return Cast()
    try:
        whole = json.loads(data)
        names = [str(name)[:LONGEST] for name in whole["names"]]
        if whole["schema"] != 1 or len(names) > MOST:
            raise ValueError("another schema, or too many")
    except (ValueError, KeyError, TypeError, RecursionError):
        job.note(job.inputs[0], "no name is spelt anew: the list of names is damaged")
        return Cast()
    return Cast(names)


if __name__ == "__main__":
    contract.main("names", work)
