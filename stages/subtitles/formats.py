"""Cues and sentences as files. Speech never becomes markup: each format escapes what it would read as such.

Written by hand: docs/dependencies.md says what pysubs2 would do.
"""

from __future__ import annotations

import csv
import io
import unicodedata
from typing import Any

from cues import Cue, title
from sentences import Sentence

_COLOURS = ("FFFFFF", "80D8FF", "FFD180", "B9F6CA", "FF9E80", "EA80FC")
"""RRGGBB, for one speaker after another."""

LYRICS = "Lyrics"
"""The style of what is sung in ASS."""

TABLE_HEAD = ("number", "start", "end", "speaker", "text")
"""Times in seconds."""

FORMULA = tuple("=+-@＝＋－＠\t\r")
"""A cell that begins with one of these is a formula to a spreadsheet (OWASP, "CSV Injection")."""


def stamp(seconds: float, separator: str) -> str:
    """``00:01:02,345``."""
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{separator}{rest % 1000:03}"


RIGHT_TO_LEFT, POP = "\u202b", "\u202c"
"""What begins and ends text that runs from right to left (Unicode Standard Annex 9: RLE, PDF)."""


def directed(text: str) -> str:
    """A text, its lines marked where most of its letters run from right to left.

    Players lay out a line of a subtitle from left to right: a full stop of Hebrew would stand at the wrong end of it, and
    numbers or Latin words would change places with their neighbours.
    """
    if not backwards(text):
        return text
    return "\n".join(f"{RIGHT_TO_LEFT}{line}{POP}" for line in text.split("\n"))


def backwards(text: str) -> bool:
    """Whether most of a text's letters run from right to left."""
    if text.isascii():
        return False
    kinds = [unicodedata.bidirectional(c) for c in text]
    return sum(kind in ("R", "AL") for kind in kinds) > kinds.count("L")


def srt(cues: list[Cue], *, prefix: bool) -> str:
    """SubRip; with ``prefix``, the mark where the speaker changes."""
    return "\n".join(
        f"{number}\n{stamp(cue.start, ',')} --> {stamp(cue.end, ',')}\n{plain(cue, prefix=prefix)}\n"
        for number, cue in enumerate(cues, 1)
    )


def plain(cue: Cue, *, prefix: bool) -> str:
    """A cue's text in SubRip and in the soft track.

    Players read ``<`` as a tag, ``-->`` as a time and ``{\\`` as a command. SubRip has no escapes, so similar characters
    take their place.
    """
    text = "\n".join(cue.lines)
    if prefix:
        text = cue.mark + text
    return directed(text.replace("-->", "→").replace("<", "‹").replace(">", "›").replace("{\\", "{∖"))


def vtt(cues: list[Cue]) -> str:
    """WebVTT, with a voice span in every cue that has a speaker, and a language span where windows have their own (W3C WebVTT,
    section 4.2)."""
    blocks = ["WEBVTT\n"]
    for cue in cues:
        text = directed("\n".join(map(vtt_text, cue.lines)))
        if cue.words and cue.words[0].language:
            text = f"<lang {vtt_text(cue.words[0].language)}>{text}</lang>"
        text = voiced(f"<i.lyrics>{text}</i>" if cue.sung else text, cue.speaker)
        blocks.append(f"{stamp(cue.start, '.')} --> {stamp(cue.end, '.')}\n{text}\n")
    return "\n".join(blocks)


def vtt_text(text: str) -> str:
    """A text in WebVTT."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def voiced(text: str, speaker: str | None) -> str:
    """WebVTT text in a voice span."""
    return f"<v {vtt_text(title(speaker))}>{text}</v>" if speaker else text


def ass(cues: list[Cue], speakers: list[str]) -> str:
    """Advanced SubStation Alpha, with a style for each speaker."""
    texts = [directed("\n".join(map(ass_text, cue.lines))).replace("\n", r"\N") for cue in cues]
    lines = [ass_line(cue, speakers, text) for cue, text in zip(cues, texts, strict=True)]
    return ass_file(speakers, lines, lyrics=any(cue.sung for cue in cues))


def ass_text(text: str) -> str:
    """A text in ASS, where braces and backslashes would be commands."""
    return text.replace("\\", "∖").replace("{", "(").replace("}", ")")


def _ass_name(speaker: str | None) -> str:
    """A speaker in a line of ASS, whose fields are divided by commas."""
    return ass_text(title(speaker)).replace(",", "‚").lstrip("*")


def ass_line(cue: Cue, speakers: list[str], text: str) -> str:
    """One line of dialogue; ``text`` is ASS already."""
    style = LYRICS if cue.sung else _ass_name(cue.speaker) if cue.speaker in speakers else "Default"
    return f"Dialogue: 0,{_centi(cue.start)},{_centi(cue.end)},{style},{_ass_name(cue.speaker)},0,0,0,,{text}"


def ass_file(speakers: list[str], lines: list[str], *, waiting: str = "FF0000", lyrics: bool = False) -> str:
    """A whole ASS file.

    Args:
        lines: of dialogue.
        waiting: RRGGBB of words of karaoke that are not said yet.
        lyrics: whether some of them are sung: those have a style of their own, in italics.
    """
    named = [(name, _bgr(k), 0) for k, name in enumerate(["Default", *map(_ass_name, speakers)])]
    styles = [
        f"Style: {name},Arial,54,&H00{colour},&H00{waiting[4:]}{waiting[2:4]}{waiting[:2]},&H00000000,&H80000000,"
        f"0,{italic},0,0,100,100,0,0,1,3,1,2,60,60,50,1"
        for name, colour, italic in [*named, *([(LYRICS, _bgr(0), -1)] if lyrics else [])]
    ]
    return "\n".join(
        [
            "[Script Info]",
            "ScriptType: v4.00+",
            "PlayResX: 1920",
            "PlayResY: 1080",
            "WrapStyle: 2",
            "ScaledBorderAndShadow: yes",
            "",
            "[V4+ Styles]",
            "Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, "
            "Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, "
            "MarginR, MarginV, Encoding",
            *styles,
            "",
            "[Events]",
            "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text",
            *lines,
            "",
        ]
    )


def paragraphs(sentences: list[Sentence]) -> list[tuple[str | None, list[Sentence]]]:
    """What each speaker says in one go."""
    found: list[tuple[str | None, list[Sentence]]] = []
    for sentence in sentences:
        if not found or found[-1][0] != sentence.speaker:
            found.append((sentence.speaker, []))
        found[-1][1].append(sentence)
    return found


def txt(sentences: list[Sentence]) -> str:
    """Plain text: a paragraph for each turn."""
    # Joined without a space: Chinese and Japanese have none between sentences, other words begin with theirs.
    return "\n".join(
        (f"{title(who)}: " if who else "") + "".join(w.text for s in said for w in s.words).strip() + "\n"
        for who, said in paragraphs(sentences)
    )


def rttm(name: str, turns: list[dict[str, Any]]) -> str:
    """NIST Rich Transcription Time Marked, where names can't have spaces."""

    def safe(text: str) -> str:
        return "".join(c if c.isalnum() or c in "-_." else "_" for c in text)

    return "".join(
        f"SPEAKER {safe(name)} 1 {t['start']:.3f} {t['end'] - t['start']:.3f} <NA> <NA> {safe(t['speaker'])} <NA> <NA>\n"
        for t in turns
    )


def cell(text: str) -> str:
    """Text that no spreadsheet computes: an apostrophe before what would be a formula."""
    return f"'{text}" if text.lstrip().startswith(FORMULA) or text.startswith(FORMULA) else text


def table(sentences: list[Sentence], *, separator: str) -> str:
    """A row for each sentence, as RFC 4180 has it. The byte order mark tells spreadsheets that it is UTF-8."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=separator, lineterminator="\r\n")
    writer.writerow(TABLE_HEAD)
    for number, said in enumerate(sentences, 1):
        writer.writerow(
            (
                number,
                f"{said.start:.3f}",
                f"{said.end:.3f}",
                cell(title(said.speaker)),
                cell(said.text.replace("\t", " ")),
            )
        )
    return "\ufeff" + out.getvalue()


def whole(
    result: dict[str, Any],
    sentences: list[Sentence],
    diarization: dict[str, Any] | None,
    models: dict[str, Any],
    clip: dict[str, Any] | None = None,
    names: dict[str, str] | None = None,
    coverage: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The whole result for ``output/<name>.json``; times in seconds.

    Args:
        clip: for a cut recording the ``start`` that was cut at, the film's ``lead`` before it, and the ``offset`` that the
            times here have against the cut.
        names: what people call the speakers.
        coverage: what became of the speech (ledger.py); None: it isn't known where there is any.
    """
    return {
        "schema": 1,
        "language": result["language"],
        **{key: result[key] for key in ("spoken_language",) if key in result},  # of a translation
        "language_probability": result["language_probability"],
        "duration": result["duration"],
        "clip": clip,
        "speech": bool(sentences),
        "notes": [] if sentences else ["no speech found"],
        "speakers": None if diarization is None else {"count": diarization["speakers"], "guess": diarization["guess"]},
        "names": names or {},
        "models": models,
        "coverage": coverage,
        "segments": [
            {
                "id": k,
                "start": round(s.start, 3),
                "end": round(s.end, 3),
                "speaker": s.speaker,
                **({"language": s.language} if s.language else {}),
                **({"lyrics": True} if s.sung else {}),
                "text": s.text,
                "words": [
                    {
                        "word": w.text,
                        "start": round(w.start, 3),
                        "end": round(w.end, 3),
                        "probability": w.probability,
                        "source": w.source,
                        **({"unsure": True} if w.unsure else {}),
                    }
                    for w in s.words
                ],
            }
            for k, s in enumerate(sentences)
        ],
    }


def _centi(seconds: float) -> str:
    hundredths = round(seconds * 100)
    minutes, rest = divmod(hundredths, 6000)
    return f"{minutes // 60}:{minutes % 60:02}:{rest // 100:02}.{rest % 100:02}"


def _bgr(k: int) -> str:
    colour = _COLOURS[(k - 1) % len(_COLOURS)] if k else "FFFFFF"
    return colour[4:] + colour[2:4] + colour[:2]
