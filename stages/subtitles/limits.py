"""Limits for subtitles that can be read, and how text is measured. Pure."""

from __future__ import annotations

import unicodedata
from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache

FRAME = 1000 / 24
"""Milliseconds of a frame at 24 a second."""

EARLY, LATE = 0.2, 0.3
"""Seconds by which a cue may begin before its first word, or after it, so that it or the one before can be read."""

SCRIPTS = {"zh": (32, 18.0), "ja": (26, 8.0), "ko": (32, 24.0), "th": (35, 17.0)}
"""Writing -> columns of a line and columns a second where the rules allow more.

In letters, each of two columns: Chinese 16 and 9 a second, Japanese 13 and 4, Korean 16 and 12; Thai 35 and 17 of one column.
They are those of Netflix's Timed Text Style Guides for these languages.
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
    """Whether the limits of :data:`SCRIPTS` count, too."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name not in ("gap", "chain", "by_script") and not value > 0:
                raise ValueError(f"subtitles: {name} must be more than 0, not {value}")
        if self.min_duration > self.max_duration:
            raise ValueError("subtitles: min_duration must not be more than max_duration")

    def for_text(self, text: str) -> Rules:
        """The rules for a text's writing."""
        columns, speed = SCRIPTS.get(writing(text), (self.line_chars, self.chars_per_second))
        if not self.by_script:
            return self
        return replace(
            self, line_chars=min(self.line_chars, columns), chars_per_second=min(self.chars_per_second, speed)
        )


def writing(text: str) -> str:
    """The writing of most of a text's letters that :data:`SCRIPTS` names, else nothing. Kana make Chinese letters Japanese."""
    found = Counter(_writing(c) for c in text if c.isalpha())
    kana, han = found["ja"], found["zh"]
    if kana + han > max(found["ko"], found["th"], found[""]):
        return "ja" if kana * 10 > han else "zh"
    most = max(("ko", "th", ""), key=lambda name: found[name])
    return most


@lru_cache(maxsize=4096)
def _writing(char: str) -> str:
    code = ord(char)
    if 0x3040 <= code <= 0x30FF:
        return "ja"
    if 0x3400 <= code <= 0x9FFF or 0x20000 <= code <= 0x323AF:
        return "zh"
    if 0xAC00 <= code <= 0xD7FF or 0x1100 <= code <= 0x11FF:
        return "ko"
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
