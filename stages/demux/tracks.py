"""Which of a recording's tracks is heard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from languages import SAME
from media import default_of

HEARD = 300.0
"""Seconds of each track that are compared where the file doesn't say which one counts."""

ENOUGH = 10.0
"""Seconds of sound, on all tracks together, without which they are compared further."""

LIVELY = 0.25
"""Share of the liveliest track's value below which the file's default is not the one with the speech."""

ALL = "all"


class NoSuchTrack(ValueError):
    """The recording doesn't have what --track asks for."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which streams are heard, and what the user should know of it."""

    indices: tuple[int, ...]
    """Of the streams in their container: they outlive it."""
    note: str | None = None
    read: bool = False
    """Whether some of the container was read for it."""


def asked(streams: Sequence[Any], track: int | str | None) -> tuple[Any, ...] | None:
    """The audio streams that ``--track`` names: a number from 1 on, a language, or ``all``; None: it names none.

    Raises:
        NoSuchTrack: there is none like that.
    """
    if track is None or track == "auto":
        return None
    if track == ALL:
        return tuple(streams)
    text = str(track).strip().lower()
    if text.isdigit():
        if not 1 <= int(text) <= len(streams):
            raise NoSuchTrack(f"it has no audio track {text}; it has {described(streams)}")
        return (streams[int(text) - 1],)
    same = [s for s in streams if speaks(s.metadata.get("language", ""), text)]
    if not same:
        raise NoSuchTrack(f'it has no audio track in "{text}"; it has {described(streams)}')
    return (default_of(same) or same[0],)


def speaks(tag: str, language: str) -> bool:
    """Whether a track's tag, such as ``ger`` or ``de-AT``, is of a language, whichever code that has."""
    codes = next((codes for codes in SAME.values() if language in codes), {language})
    return tag.lower().replace("_", "-").split("-")[0] in codes


def described(streams: Sequence[Any]) -> str:
    """``1 (eng), 2 (fra)``."""
    words = []
    for number, stream in enumerate(streams, 1):
        language = stream.metadata.get("language", "")
        words.append(f"{number} ({language})" if language.isalpha() and language != "und" else str(number))
    return ", ".join(words)


def choose(streams: Sequence[Any], values: Sequence[float], numbers: Sequence[int]) -> Choice:
    """The file's default, or the track that sounds most like speech where there is none, or the default has none.

    Args:
        streams: that can be decoded; one at least.
        values: of each, how much it sounds like speech.
        numbers: of each among all audio tracks of the file, as ``--track`` has them.
    """
    liveliest = max(range(len(streams)), key=lambda k: (values[k], -k))
    default = default_of(streams)
    marked = None if default is None else streams.index(default)
    many = f"it has {len(streams)} audio tracks: "
    other = "; --track takes a number, a language or all"
    if marked is not None and values[marked] >= LIVELY * values[liveliest]:
        return Choice(indices=(default.index,), note=f"{many}the default one, {numbers[marked]}, is heard{other}")
    if values[liveliest] == 0.0:
        first = marked or 0
        return Choice(
            indices=(streams[first].index,), note=f"{many}all are silent, and {numbers[first]} is heard{other}"
        )
    return Choice(
        indices=(streams[liveliest].index,),
        note=f"{many}{numbers[liveliest]} sounds most like speech and is heard{other}",
    )
