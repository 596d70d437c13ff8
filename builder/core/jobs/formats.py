"""The formats that a job writes: what is in each, and how browsers call it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from builder.errors import UsageError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class Format:
    """A kind of file in output/."""

    type: str
    """Its media type."""
    meaning: str
    """What is in it, in a few words."""


FORMATS: Mapping[str, Format] = {
    "srt": Format(type="application/x-subrip", meaning="subtitles"),
    "vtt": Format(type="text/vtt", meaning="subtitles for the web"),
    "words.vtt": Format(type="text/vtt", meaning="subtitles for the web, each word timed"),
    "ass": Format(type="text/x-ssa", meaning="styled subtitles"),
    "karaoke.ass": Format(type="text/x-ssa", meaning="styled subtitles, words light up"),
    "ttml": Format(type="application/ttml+xml", meaning="subtitles for broadcasters (IMSC 1.1)"),
    "scc": Format(type="text/plain", meaning="captions of 32 columns (CTA-608)"),
    "txt": Format(type="text/plain", meaning="plain text"),
    "docx": Format(
        type="application/vnd.openxmlformats-officedocument.wordprocessingml.document", meaning="a document"
    ),
    "csv": Format(type="text/csv", meaning="a table, separated by commas"),
    "tsv": Format(type="text/tab-separated-values", meaning="a table, separated by tabs"),
    "json": Format(type="application/json", meaning="all, with word times"),
    "rttm": Format(type="text/plain", meaning="who speaks when"),
}
"""What the subtitles stage writes, by the end of a file's name: its setting ``formats`` names those that a job has."""

FILMS: Mapping[str, Format] = {
    "mp4": Format(type="video/mp4", meaning="film with subtitles"),
    "mov": Format(type="video/quicktime", meaning="film with subtitles"),
    "mkv": Format(type="video/x-matroska", meaning="film with subtitles"),
    "mka": Format(type="audio/x-matroska", meaning="sound with subtitles"),
    "burned.mp4": Format(type="video/mp4", meaning="film, subtitles in the picture"),
    "burned.mkv": Format(type="video/x-matroska", meaning="film, subtitles in the picture"),
}
"""What the mux stage writes."""


def chosen(text: str) -> str:
    """The stage's setting from what was typed: known formats, each once, in the order of :data:`FORMATS`.

    Args:
        text: such as ``srt,docx``, or ``all``.

    Raises:
        UsageError: there is no such format, or none is named.
    """
    asked = {word.strip().lower().removeprefix(".") for word in text.split(",") if word.strip()}
    if asked == {"all"}:
        return ",".join(FORMATS)
    unknown = sorted(asked - set(FORMATS))
    if unknown or not asked:
        raise UsageError(
            f'"{unknown[0]}" is not a format' if unknown else "no format is named",
            where="--formats",
            expected=f"{', '.join(FORMATS)}, or all",
            hint=did_you_mean(unknown[0], FORMATS) if unknown else "--formats srt,vtt",
        )
    return ",".join(name for name in FORMATS if name in asked)
