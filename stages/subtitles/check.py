"""A program that says which subtitles of SubRip, WebVTT and TTML files break rules; also of files that others made.

The request comes as JSON on standard input: ``{"files": [path, …], "rules": {…}, "language": code or null}``. The answer goes to
standard output, in the order of the files: ``{"format", "cues", "breaking", "breached", "breaches": [{"cue", "start", "end",
"rule", "value", "limit"}]}``, or ``{"error"}``. The rules are those by which this stage makes subtitles, so there is one copy of
them. The program needs the standard library only, so the builder runs it with its own interpreter.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from breaks import Language, language
from limits import FRAME, Rules, width
from timed_text import subtitles

LARGEST = 16 << 20
"""Bytes of a file; a film has 100 kB."""

MOST_CUES = 100_000
MOST_LINES = 100
"""Lines of one cue that are read."""

MOST_BREACHES = 10_000
"""Breaches of a file that are named; all are counted."""

LATEST = 360_000.0
"""Seconds: 100 hours."""

NEAR = 0.0015
"""Seconds by which times may miss a limit: files round to milliseconds."""

MARKUP = re.compile(
    rb"(?:\xef\xbb\xbf)?\s{0,9}<\?xml|(?:\xef\xbb\xbf)?\s{0,9}<(?:\w{1,9}:)?tt[\s>]|(?:\xff\xfe<\0|\xfe\xff\0<)"
)
"""How a file of XML begins."""

_TIMES = re.compile(
    r"\s*(?:(\d{1,4}):)?(\d{1,2}):(\d{1,2})[.,](\d{1,3})\s{0,9}-->\s{0,9}(?:(\d{1,4}):)?(\d{1,2}):(\d{1,2})[.,](\d{1,3})(?:\s|$)"
)
_TAG = re.compile(r"<[^<>]{0,200}>|\{\\[^{}]{0,200}\}")
_ENTITIES = {"&amp;": "&", "&lt;": "<", "&gt;": ">", "&nbsp;": " ", "&lrm;": "\u200e", "&rlm;": "\u200f"}
_ENTITY = re.compile("|".join(_ENTITIES))


class NotSubtitles(ValueError):
    """A file can't be read as subtitles; the text says why."""


@dataclass(frozen=True)
class Shown:
    """One cue of a file."""

    number: int
    """In the order of the file, from 1 on."""
    start: float
    end: float
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Breach:
    """One rule that one cue breaks."""

    cue: Shown
    rule: str
    value: float | str
    limit: float | str


def read(path: str) -> bytes:
    """The bytes of a regular file; a FIFO isn't waited for.

    Raises:
        NotSubtitles: it is no regular file, too large, or can't be read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as source:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise NotSubtitles("it is no regular file")
            data = source.read(LARGEST + 1)
    except OSError as error:
        raise NotSubtitles(error.strerror or str(error)) from error
    if len(data) > LARGEST:
        raise NotSubtitles(f"it has more than {LARGEST >> 20} MiB")
    return data


def decoded(data: bytes) -> str:
    """The text of a file: UTF-8, UTF-16 where a byte order mark says so, else Windows-1252, as old files have it."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def parsed(text: str) -> tuple[str, list[Shown]]:
    """``srt`` or ``vtt``, and the cues in the order of the file.

    A block without times is a comment or a style of WebVTT. An empty SubRip file has no cues.

    Raises:
        NotSubtitles: it is something else, or has too many cues.
    """
    form = "vtt" if text.startswith("WEBVTT") else "srt"
    cues: list[Shown] = []
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    at = 0
    while at < len(lines):
        times = _TIMES.match(lines[at][:200])
        at += 1
        if times is None:
            continue
        if len(cues) == MOST_CUES:
            raise NotSubtitles(f"it has more than {MOST_CUES} subtitles")
        first = at
        while at < len(lines) and lines[at].strip() and not _TIMES.match(lines[at][:200]):
            at += 1
        last = at
        if at < len(lines) and lines[at].strip() and last > first and lines[last - 1].strip().isdigit():
            last -= 1  # the next one's number: the empty line between them is missing
        shown = tuple(bare(line, form) for line in lines[first : min(last, first + MOST_LINES)])
        cues.append(Shown(len(cues) + 1, _seconds(*times.groups()[:4]), _seconds(*times.groups()[4:]), shown))
    if not cues and text.strip() and form == "srt":
        raise NotSubtitles("it is neither SubRip, WebVTT nor TTML: no line has times")
    return form, cues


def timed_text(data: bytes) -> tuple[str, list[Shown]]:
    """``ttml`` and the cues of such a file.

    Raises:
        NotSubtitles: it is something else, or has too many cues.
    """
    try:
        found = subtitles(data, MOST_CUES)
    except ValueError as error:
        raise NotSubtitles(str(error)) from error
    return "ttml", [
        Shown(number, min(start, LATEST), min(end, LATEST), tuple(bare(line, "srt") for line in lines[:MOST_LINES]))
        for number, (start, end, lines) in enumerate(found, 1)
    ]


def bare(line: str, form: str) -> str:
    """A line as it is read: without tags and commands, in WebVTT with the signs that its entities stand for."""
    text = _TAG.sub("", line)
    if form == "vtt":
        text = _ENTITY.sub(lambda found: _ENTITIES[found[0]], text)
    return text.strip()


def _seconds(hours: str | None, minutes: str, seconds: str, fraction: str) -> float:
    whole = int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds)
    return min(whole + int(fraction.ljust(3, "0")) / 1000, LATEST)


def breaches(cues: Sequence[Shown], rules: Rules, known: Language | None) -> Iterator[Breach]:
    """The rules that cues break.

    Args:
        known: the text's language; None: lines aren't looked at for bad breaks.
    """
    rules = rules.for_text("".join(line for cue in cues for line in cue.lines))
    ordered = sorted(cues, key=lambda cue: (cue.start, cue.end))
    for k, cue in enumerate(ordered):
        following = ordered[k + 1] if k + 1 < len(ordered) else None
        if cue.end <= cue.start:
            yield Breach(cue, "ends before it begins", round(cue.end - cue.start, 3), 0.0)
            continue
        if not any(cue.lines):
            yield Breach(cue, "empty", 0, 1)
            continue
        yield from _of_text(cue, rules, known)
        yield from _of_time(cue, rules, free=_free(cue, following, rules))
        if following is not None:
            yield from _of_distance(cue, following, rules)


def _of_text(cue: Shown, rules: Rules, known: Language | None) -> Iterator[Breach]:
    if len(cue.lines) > rules.lines:
        yield Breach(cue, "too many lines", len(cue.lines), rules.lines)
    widest = max(map(width, cue.lines))
    if widest > rules.line_chars:
        yield Breach(cue, "line too long", widest, rules.line_chars)
    if known is None:
        return
    for line, following in zip(cue.lines[:-1], cue.lines[1:], strict=True):
        if line.split() and following.split():
            last, first = line.split()[-1], following.split()[0]
            if known.clinging(last, first):
                yield Breach(cue, "line broken within a phrase", f"{last} / {first}"[:80], "")


def _of_time(cue: Shown, rules: Rules, *, free: float) -> Iterator[Breach]:
    """``free``: seconds after the cue that it could have had."""
    lasts = cue.end - cue.start
    if lasts < rules.min_duration - NEAR:
        yield Breach(cue, "too short", round(lasts, 3), rules.min_duration)
    if lasts > rules.max_duration + NEAR:
        yield Breach(cue, "too long", round(lasts, 3), rules.max_duration)
    columns = sum(map(width, cue.lines))
    if columns > rules.chars_per_second * (lasts + NEAR):
        room = columns <= rules.chars_per_second * min(lasts + free, rules.max_duration)
        rule = "too fast to read" if room else "spoken faster than the limit"
        yield Breach(cue, rule, round(columns / lasts, 1), rules.chars_per_second)


def _of_distance(cue: Shown, following: Shown, rules: Rules) -> Iterator[Breach]:
    distance = following.start - cue.end
    if distance < -NEAR:
        yield Breach(cue, "overlaps the next", round(-distance, 3), 0.0)
    elif distance < rules.gap - NEAR:
        yield Breach(cue, "too close to the next", round(distance, 3), rules.gap)
    elif NEAR < distance < 2 * FRAME / 1000 - NEAR and not rules.gap:
        yield Breach(cue, "a flash before the next", round(distance, 3), round(2 * FRAME / 1000, 3))


def _free(cue: Shown, following: Shown | None, rules: Rules) -> float:
    """Seconds without text after a cue that it could have. Before it there is no more: a cue begins with its words, which a
    file doesn't say."""
    after = rules.max_duration if following is None else following.start - cue.end - rules.gap
    return max(0.0, after)


def checked(path: str, rules: Rules, known: Language | None) -> dict[str, Any]:
    """One file's answer."""
    try:
        data = read(path)
        form, cues = timed_text(data) if MARKUP.match(data) else parsed(decoded(data))
    except NotSubtitles as error:
        return {"error": str(error)}
    found = sorted(breaches(cues, rules, known), key=lambda breach: breach.cue.number)
    return {
        "format": form,
        "cues": len(cues),
        "breaking": len({breach.cue.number for breach in found}),
        "breached": len(found),
        "breaches": [
            {
                "cue": breach.cue.number,
                "start": breach.cue.start,
                "end": breach.cue.end,
                "rule": breach.rule,
                "value": breach.value,
                "limit": breach.limit,
            }
            for breach in found[:MOST_BREACHES]
        ],
    }


def main() -> None:
    request = json.load(sys.stdin)
    rules = Rules(**{name: value for name, value in request["rules"].items() if name in Rules.__dataclass_fields__})
    known = language(request["language"]) if request["language"] else None
    json.dump([checked(path, rules, known) for path in request["files"]], sys.stdout)


if __name__ == "__main__":
    main()
