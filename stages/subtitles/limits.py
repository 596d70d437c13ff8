"""Limits for subtitles that can be read, and how text is measured. Pure."""

from __future__ import annotations

import unicodedata
from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache

FRAME = 1000 / 24
"""Milliseconds of a frame at 24 a second."""

EARLY, LATE = 0.5, 0.5
"""Seconds by which a cue may begin before its first word, or after it, so that it or the one before can be read: twelve frames,
by which Netflix lets a subtitle outlast its words. The BBC's Subtitle Guidelines (5.2) allow 1.5 s on both sides."""

SCRIPTS = {"zh": (32, 1.1), "ja": (26, 0.7), "ko": (32, 1.4), "th": (35, 1.0), "ar": (42, 1.15), "hi": (42, 1.25)}
"""Writing -> columns of a line where the rules allow more, and its columns a second as a share of those of Latin letters.

They are those of Netflix's Timed Text Style Guides for subtitles in the language that is spoken (SDH), as Subtitle Edit's check
has them: 20 letters a second, Chinese 11, Japanese 7, Korean 14 (of two columns each), Arabic 23, Hindi 25; lines of 42, of 16
Chinese or Korean letters, 13 Japanese and 35 Thai ones.
"""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Reading limits, in columns, columns a second and seconds."""

    line_chars: int = 42
    lines: int = 2
    chars_per_second: float = 17.0
    min_duration: float = 1.0
    max_duration: float = 7.0
    gap: float = 0.083
    """Seconds without text between two cues; 0: they may touch."""
    chain: float = 0.5
    """Seconds: a shorter silence between two cues than this is filled, up to ``gap``."""
    by_script: bool = True
    """Whether :data:`SCRIPTS` counts, too."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name not in ("gap", "chain", "by_script") and not value > 0:
                raise ValueError(f"subtitles: {name} must be more than 0, not {value}")
        if self.min_duration > self.max_duration:
            raise ValueError("subtitles: min_duration must not be more than max_duration")

    def for_text(self, text: str) -> Rules:
        """The rules for a text's writing."""
        script = writing(text)
        if not self.by_script or script not in SCRIPTS:
            return self
        columns, share = SCRIPTS[script]
        return replace(
            self,
            line_chars=min(self.line_chars, columns),
            chars_per_second=round(self.chars_per_second * share, 3),
            by_script=False,
        )


def writing(text: str) -> str:
    """The writing of most of a text's letters that :data:`SCRIPTS` names, else nothing. Kana make Chinese letters Japanese."""
    found = Counter(_writing(c) for c in text if c.isalpha())
    kana, han = found["ja"], found["zh"]
    if kana + han > max((n for name, n in found.items() if name not in ("ja", "zh")), default=0):
        return "ja" if kana * 10 > han else "zh"
    return max(("ko", "th", "ar", "hi", ""), key=lambda name: found[name])


@lru_cache(maxsize=4096)
def _writing(char: str) -> str:
    code = ord(char)
    if 0x3040 <= code <= 0x30FF:
        return "ja"
    if 0x3400 <= code <= 0x9FFF or 0x20000 <= code <= 0x323AF:
        return "zh"
    if 0xAC00 <= code <= 0xD7FF or 0x1100 <= code <= 0x11FF:
        return "ko"
    if 0x0600 <= code <= 0x06FF or 0x0750 <= code <= 0x077F or 0x08A0 <= code <= 0x08FF:
        return "ar"
    if 0x0900 <= code <= 0x097F:
        return "hi"
    return "th" if 0x0E00 <= code <= 0x0E7F else ""


def width(text: str) -> int:
    """Columns of a text: East Asian wide characters have two, combining and invisible marks none."""
    if text.isascii():
        return len(text)
    return sum(_columns(c) for c in text)


@lru_cache(maxsize=4096)
def _columns(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
