"""The formats by name: which file has what in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import broadcast
import document
import formats
import lyrics
import wordwise
from cues import Cue
from sentences import Sentence

DEFAULT = "srt,vtt,ass,txt,json,rttm"
"""What is written unless a job asks for something else."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What is known of one recording, from which each format takes its part; all times are those that files show."""

    recording: str
    """Its name."""
    stem: str
    """Of its files."""
    tag: str = ""
    """What stands behind it in the names of files that are in one language: ``.en``, where a job has several."""
    sentences: list[Sentence]
    """With the names that speakers were given."""
    cues: list[Cue]
    speakers: list[str]
    turns: list[dict[str, Any]] | None
    """None: without speakers."""
    whole: str
    """The JSON of it all."""
    prefix: bool
    """Whether a cue begins with its speaker where that changes."""
    language: str | None
    recut: Callable[[list[Sentence], int], list[Cue]]
    """Cues of sentences for lines of some columns, by the job's rules otherwise."""
    note: Callable[[str], None]
    """Takes what a format can't hold."""


WRITERS: Mapping[str, Callable[[Result], str | bytes | None]] = {
    "srt": lambda r: formats.srt(r.cues, prefix=r.prefix),
    "vtt": lambda r: formats.vtt(r.cues),
    "words.vtt": lambda r: wordwise.vtt(r.cues),
    "ass": lambda r: formats.ass(r.cues, r.speakers),
    "karaoke.ass": lambda r: wordwise.karaoke(r.cues, r.speakers),
    "ttml": lambda r: broadcast.ttml(r.cues, r.language, prefix=r.prefix),
    "scc": lambda r: broadcast.scc(r.sentences, r.recut, r.note, prefix=r.prefix),
    "txt": lambda r: formats.txt(lyrics.shown(r.sentences)),
    "csv": lambda r: formats.table(lyrics.shown(r.sentences), separator=","),
    "tsv": lambda r: formats.table(lyrics.shown(r.sentences), separator="\t"),
    "docx": lambda r: document.docx(r.recording, lyrics.shown(r.sentences)),
    "json": lambda r: r.whole,
    "rttm": lambda r: None if r.turns is None else formats.rttm(r.stem, r.turns),
}
"""The end of a file's name -> its content; None where the format can't hold it, which is noted."""


def chosen(setting: str) -> list[str]:
    """The formats that a setting names, in the order of :data:`WRITERS`.

    Raises:
        ValueError: there is no such format.
    """
    asked = {name.strip() for name in setting.split(",") if name.strip()}
    if unknown := asked - set(WRITERS):
        raise ValueError(f"subtitles: there is no format {min(unknown)!r}, only {', '.join(WRITERS)}")
    return [name for name in WRITERS if name in asked]
