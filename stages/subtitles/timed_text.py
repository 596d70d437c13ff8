"""Reads the subtitles of a TTML file (W3C TTML 2: IMSC, EBU-TT-D, DFXP): their times and lines, no styles. Standard library only.

No tree is built, and a document type, which can define entities, is refused: such a file may be anybody's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction
from xml.parsers import expat

NAMESPACES = ("http://www.w3.org/ns/ttml ", "http://www.w3.org/2006/10/ttaf1 ", "http://www.w3.org/2006/04/ttaf1 ")
"""Of TTML, and of its drafts, which DFXP files have."""

DEEPEST = 100
"""Elements within each other."""

_CLOCK = re.compile(r"(\d{2,4}):(\d\d):(\d\d)(?:\.(\d{1,9})|:(\d{1,3}))?$")
_OFFSET = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(h|ms|m|s|f|t)$")


@dataclass
class _Reader:
    """Takes what expat finds."""

    most: int
    found: list[tuple[float, float, tuple[str, ...]]] = field(default_factory=list)
    begins: list[Fraction] = field(default_factory=list)
    """When each open element begins."""
    lines: list[list[str]] | None = None
    """Those of the paragraph that is read, in pieces."""
    times: tuple[Fraction, Fraction] = (Fraction(0), Fraction(0))
    units: dict[str, Fraction] = field(default_factory=dict)
    """Seconds of each unit."""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if not self.begins:
            if name not in [f"{namespace}tt" for namespace in NAMESPACES]:
                raise ValueError("it is XML, and not TTML")
            self.units = _units(attributes)
        if len(self.begins) == DEEPEST:
            raise ValueError(f"it has more than {DEEPEST} elements within each other")
        above = self.begins[-1] if self.begins else Fraction(0)
        kind = name.rpartition(" ")[2]
        timed = kind in ("body", "div", "p")
        begin = above + (self.seconds(attributes.get("begin")) or 0) if timed else above
        self.begins.append(begin)
        if kind == "p":
            end, lasts = self.seconds(attributes.get("end")), self.seconds(attributes.get("dur"))
            ends = [
                t
                for t in (None if end is None else above + end, None if lasts is None else begin + lasts)
                if t is not None
            ]
            self.lines = [[]] if ends else None  # without an end it is shown as long as what it lies in
            self.times = begin, min(ends, default=begin)
        elif kind == "br" and self.lines is not None:
            self.lines.append([])

    def end(self, name: str) -> None:
        self.begins.pop()
        if name.rpartition(" ")[2] == "p" and self.lines is not None:
            if len(self.found) == self.most:
                raise ValueError(f"it has more than {self.most} subtitles")
            lines = tuple(" ".join("".join(line).split()) for line in self.lines)
            self.found.append((float(self.times[0]), float(self.times[1]), lines))
            self.lines = None

    def data(self, text: str) -> None:
        if self.lines is not None:
            self.lines[-1].append(text)

    def doctype(self, *_: object) -> None:
        raise ValueError("it has a document type, which isn't read")

    def seconds(self, text: str | None) -> Fraction | None:
        """A time expression (TTML 2, section 12.3.1) in seconds; None where there is none that is known."""
        if text is None:
            return None
        if clock := _CLOCK.match(text.strip()):
            hours, minutes, whole, fraction, frames = clock.groups()
            time = Fraction(int(hours) * 3600 + int(minutes) * 60 + int(whole))
            return time + Fraction(f"0.{fraction or 0}") + int(frames or 0) * self.units["f"]
        if offset := _OFFSET.match(text.strip()):
            return Fraction(offset[1]) * self.units[offset[2]]
        return None


def _units(attributes: dict[str, str]) -> dict[str, Fraction]:
    """Seconds of each unit, by the parameters of the document: frames and ticks a second."""

    given = {
        key.rpartition("#parameter ")[2]: value.strip() for key, value in attributes.items() if "#parameter " in key
    }

    def number(name: str, otherwise: int) -> int:
        text = given.get(name, "")
        return int(text) if re.fullmatch(r"[1-9]\d{0,8}", text) else otherwise

    rate = Fraction(number("frameRate", 30))
    if times := re.fullmatch(r"([1-9]\d{0,8})\s+([1-9]\d{0,8})", given.get("frameRateMultiplier", "")):
        rate *= Fraction(int(times[1]), int(times[2]))
    known = {"h": Fraction(3600), "m": Fraction(60), "s": Fraction(1), "ms": Fraction(1, 1000)}
    return known | {"f": 1 / rate, "t": Fraction(1, number("tickRate", 1))}


def subtitles(data: bytes, most: int) -> list[tuple[float, float, tuple[str, ...]]]:
    """Begin, end (seconds) and lines of each paragraph that has an end, in the order of the file.

    Args:
        most: subtitles that a file may have.

    Raises:
        ValueError: it is no TTML, or more than is read; the text says why.
    """
    reader = _Reader(most)
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler, parser.EndElementHandler = reader.start, reader.end
    parser.CharacterDataHandler, parser.buffer_text = reader.data, True
    parser.StartDoctypeDeclHandler = reader.doctype
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise ValueError(f"it is no well-formed XML: {expat.ErrorString(error.code)}, line {error.lineno}") from None
    except LookupError:
        raise ValueError("its encoding isn't known") from None
    return reader.found
