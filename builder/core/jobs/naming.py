"""What copies of results are called, and which there will be. Pure."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.core.jobs.formats import FILMS, FORMATS
from builder.errors import UsageError, did_you_mean
from builder.receiver.jobs.naming import output_stem, plain_stem

FIELDS: Mapping[str, str] = {
    "stem": "the recording's name without its suffix",
    "ext": "the kind of result: srt, words.vtt, mp4",
    "language": "the text's language: en",
    "preset": "the preset that was used",
    "number": "the recording's number in its job: 01",
}
"""What a pattern may name."""

NAMES = "names.tsv"
"""The kind of a result with the names that were found, as a glossary's table; no format that somebody asks for."""

LANGUAGE = re.compile(r"[a-z]{2,3}")
"""A language's code, as files are named by it."""

LONGEST = 255
"""Bytes of a file's name."""


@dataclass(frozen=True, kw_only=True)
class CopyOptions:
    """Where copies of results go, as it was asked for."""

    folder: Path | None
    """None: beside the recordings."""
    pattern: str | None = None
    """None: the recording's name, and ``.subtitled`` before a film's suffix, which may be the recording's own."""
    overwrite: bool = False


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the results of one recording go."""

    folder: Path
    stem: str
    """A plain name that no other recording's results in the folder have."""
    recording: Path | None
    """Never replaced; None where only its job is known."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Copies that one recording's results will have."""

    place: Place
    kinds: tuple[str, ...]
    """The results that there may be."""
    number: str
    language: str | None
    """Of the text; None: nobody knows yet."""
    preset: str

    def paths(self, pattern: str | None) -> tuple[Path, ...]:
        """Where they will be; none where the pattern has a language that nobody knows yet."""
        if self.language is None and "{language}" in (pattern or ""):
            return ()
        fields = {"stem": self.place.stem, "number": self.number, "preset": self.preset}
        known = {**fields, "language": self.language or "und"}
        return tuple(self.place.folder / file_name(pattern, kind, known) for kind in self.kinds)


def check_pattern(pattern: str) -> str:
    """A pattern of names that can be used.

    Raises:
        UsageError: a field is unknown, ``{ext}`` is missing, or it names a folder.
    """
    where = "--name"
    try:
        parts = list(string.Formatter().parse(pattern))
    except ValueError as error:
        raise UsageError(f"{error}: {pattern}", where=where, expected="{stem}.{ext}") from None
    named = [name for _, name, _, _ in parts if name is not None]
    known = ", ".join(f"{{{name}}}" for name in FIELDS)
    for name in named:
        if name not in FIELDS:
            raise UsageError(f"a name has no {{{name}}}", where=where, expected=known, hint=did_you_mean(name, FIELDS))
    if any(spec or conversion for _, _, spec, conversion in parts):
        raise UsageError("a field has nothing but its name", where=where, expected=known)
    if "ext" not in named:
        raise UsageError("without {ext} all results would have one name", where=where, expected="{stem}.{ext}")
    if any(c in "/\\" or not c.isprintable() for c in pattern):
        raise UsageError("this is a file's name, not a path", where=where, hint="--output DIR is for the folder")
    return pattern


def file_name(pattern: str | None, ext: str, fields: Mapping[str, str]) -> str:
    """A result's name; whatever the fields say, it stays in its folder, and isn't hidden.

    Args:
        fields: those of :data:`FIELDS` but ``ext``.
    """
    tag, rest = untagged(ext)
    if tag and "{language}" in (pattern or ""):
        ext, fields = rest, {**fields, "language": tag}
    if pattern is None:
        pattern = "{stem}.subtitled.{ext}" if ext in FILMS and "." not in ext else "{stem}.{ext}"
    values = {name: plain_stem(value) for name, value in fields.items()} | {"ext": ext}
    name = plain_stem(pattern.format_map(values))
    while len(name.encode()) > LONGEST and len(values["stem"]) > 1:
        values["stem"] = values["stem"][:-1]
        name = plain_stem(pattern.format_map(values))
    return name.encode()[:LONGEST].decode("utf-8", "ignore").rstrip(". ")


def places(delivery: CopyOptions, recordings: Sequence[tuple[str, Path | None]]) -> tuple[Place, ...]:
    """A place for each recording; two of one name in one folder get numbers.

    Args:
        recordings: names, and their paths where they are known.
    """
    taken: dict[Path, set[str]] = {}
    found = []
    for name, path in recordings:
        folder = delivery.folder or (path.parent if path is not None else Path())
        found.append(Place(folder=folder, stem=output_stem(name, taken.setdefault(folder, set())), recording=path))
    return tuple(found)


def expected(
    formats: str, *, speakers: bool, film: bool, languages: Sequence[str] = (), names: bool = False
) -> tuple[str, ...]:
    """The kinds of results that a job may have.

    Args:
        formats: the stage's setting.
        speakers: with diarization.
        film: it may be a video.
        languages: of the text, where a job has several: most kinds are then one for each, such as ``en.srt``.
        names: they are looked for.
    """
    kinds = [name for name in FORMATS if name in formats.split(",") and (speakers or name != "rttm")]
    if languages:
        kinds = [
            tagged for name in kinds for tagged in ([f"{c}.{name}" for c in languages] if name != "rttm" else [name])
        ]
    return (*kinds, *([NAMES] if names else []), *(FILMS if film else ()))


def kind(name: str, stem: str) -> str | None:
    """The kind of a result by its name in the job, with its language where that has one (``en.srt``); None for what is no
    result of that recording."""
    ext = name.removeprefix(f"{stem}.")
    known = {*FORMATS, *FILMS, NAMES}
    return ext if name == f"{stem}.{ext}" and (ext in known or untagged(ext)[1] in FORMATS) else None


def untagged(ext: str) -> tuple[str, str]:
    """The language of a kind of result, and the kind without it; no language where it has none."""
    tag, _, rest = ext.partition(".")
    return (tag, rest) if LANGUAGE.fullmatch(tag) and rest in FORMATS else ("", ext)


def clashes(names: Iterable[Path]) -> list[Path]:
    """Names that two results would have, however the file system writes them."""
    seen: set[tuple[Path, str]] = set()
    twice = []
    for path in names:
        key = (path.parent, path.name.casefold())
        if key in seen:
            twice.append(path)
        seen.add(key)
    return twice
