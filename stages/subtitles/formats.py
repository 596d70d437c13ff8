"""Cues and sentences as files. Speech never becomes markup: each format escapes what it would read as such.

Written by hand: docs/dependencies.md says what pysubs2 would do.
"""

from __future__ import annotations

from typing import Any

from cues import Cue, title
from sentences import Sentence

_COLOURS = ("FFFFFF", "80D8FF", "FFD180", "B9F6CA", "FF9E80", "EA80FC")
"""RRGGBB, for one speaker after another."""


def stamp(seconds: float, separator: str) -> str:
    """``00:01:02,345``."""
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{separator}{rest % 1000:03}"


def srt(cues: list[Cue], *, prefix: bool) -> str:
    """SubRip: ``Speaker 1: `` where the speaker changes."""
    return "\n".join(
        f"{number}\n{stamp(cue.start, ',')} --> {stamp(cue.end, ',')}\n{plain(cue, prefix=prefix)}\n"
        for number, cue in enumerate(cues, 1)
    )


def plain(cue: Cue, *, prefix: bool) -> str:
    """A cue's text in SubRip and in the soft track.

    Players read ``<`` as a tag, ``-->`` as a time and ``{\\`` as a command. SubRip has no escapes, so similar characters
    take their place.
    """
    text = "\n".join(
        line.replace("-->", "→").replace("<", "‹").replace(">", "›").replace("{\\", "{∖") for line in cue.lines
    )
    return f"{title(cue.speaker)}: {text}" if prefix and cue.changed and cue.speaker else text


def vtt(cues: list[Cue]) -> str:
    """WebVTT, with a voice span in every cue that has a speaker (W3C WebVTT, section 4.2)."""
    blocks = ["WEBVTT\n"]
    for cue in cues:
        text = "\n".join(line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") for line in cue.lines)
        if cue.speaker:
            text = f"<v {title(cue.speaker)}>{text}</v>"
        blocks.append(f"{stamp(cue.start, '.')} --> {stamp(cue.end, '.')}\n{text}\n")
    return "\n".join(blocks)


def ass(cues: list[Cue], speakers: list[str]) -> str:
    """Advanced SubStation Alpha, with a style for each speaker. Braces and backslashes would be commands."""
    styles = [
        f"Style: {name},Arial,54,&H00{_bgr(k)},&H000000FF,&H00000000,&H80000000,0,0,0,0,100,100,0,0,1,3,1,2,60,60,50,1"
        for k, name in enumerate(["Default", *map(title, speakers)])
    ]
    lines = []
    for cue in cues:
        text = r"\N".join(line.replace("\\", "∖").replace("{", "(").replace("}", ")") for line in cue.lines)
        style = title(cue.speaker) if cue.speaker in speakers else "Default"
        lines.append(f"Dialogue: 0,{_centi(cue.start)},{_centi(cue.end)},{style},{title(cue.speaker)},0,0,0,,{text}")
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


def txt(sentences: list[Sentence]) -> str:
    """Plain text: a paragraph for each turn."""
    paragraphs: list[tuple[str | None, list[str]]] = []
    for sentence in sentences:
        if not paragraphs or paragraphs[-1][0] != sentence.speaker:
            paragraphs.append((sentence.speaker, []))
        # Joined without a space: Chinese and Japanese have none between sentences, other words begin with theirs.
        paragraphs[-1][1].extend(w.text for w in sentence.words)
    return "\n".join((f"{title(who)}: " if who else "") + "".join(texts).strip() + "\n" for who, texts in paragraphs)


def rttm(name: str, turns: list[dict[str, Any]]) -> str:
    """NIST Rich Transcription Time Marked, where a file's name can't have spaces."""
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
    return "".join(
        f"SPEAKER {safe} 1 {t['start']:.3f} {t['end'] - t['start']:.3f} <NA> <NA> {t['speaker']} <NA> <NA>\n"
        for t in turns
    )


def whole(
    result: dict[str, Any],
    sentences: list[Sentence],
    diarization: dict[str, Any] | None,
    models: dict[str, Any],
    clip: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The whole result for ``output/<name>.json``; times in seconds.

    Args:
        clip: for a cut recording the ``start`` that was cut at, the film's ``lead`` before it, and the ``offset`` that the
            times here have against the cut.
    """
    return {
        "schema": 1,
        "language": result["language"],
        "language_probability": result["language_probability"],
        "duration": result["duration"],
        "clip": clip,
        "speech": bool(sentences),
        "notes": [] if sentences else ["no speech found"],
        "speakers": None if diarization is None else {"count": diarization["speakers"], "guess": diarization["guess"]},
        "models": models,
        "segments": [
            {
                "id": k,
                "start": round(s.start, 3),
                "end": round(s.end, 3),
                "speaker": s.speaker,
                "text": s.text,
                "words": [
                    {
                        "word": w.text,
                        "start": round(w.start, 3),
                        "end": round(w.end, 3),
                        "probability": w.probability,
                        "source": w.source,
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
