"""Subtitles as pictures: shaped and drawn by Pillow, which has HarfBuzz, with the fonts that lie in the job."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

SIZE = 0.05
"""Height of a letter, as a part of the picture's shorter side."""

MARGIN = 0.05
"""Room below the text, as a part of the picture's height."""

OUTLINE = 0.08
"""Width of the outline, as a part of the letter's height."""

SMALLEST = 0.5
"""Part of its size down to which a text that is too wide becomes smaller."""

INDIC = range(0x0900, 0x1200)
"""Code points of scripts whose letters are set in another order than they are written."""


class Unwritable(Exception):
    """The text can't be drawn; the user reads why."""


@dataclass(frozen=True)
class Picture:
    """A drawn text: rows of alpha (0…255) of the letters, and of them with their outline."""

    fill: Any
    """numpy array, uint8, rows by columns."""
    shape: Any
    """Likewise."""
    left: int
    top: int


@cache
def font(path: Path, size: int) -> Any:
    """A font at a size in pixels."""
    from PIL import ImageFont

    return ImageFont.truetype(str(path), size)


@cache
def has(path: Path, char: str) -> bool:
    """Whether a font has a character. What a font lacks, it draws as what no font has."""
    drawn = font(path, 32).getmask(char)
    missing = font(path, 32).getmask("\U0010ffff")
    return (drawn.size, bytes(drawn)) != (missing.size, bytes(missing))


def needs_shaping(text: str) -> bool:
    """Whether letters change their shape or order with their neighbours, or run from right to left."""
    return any(unicodedata.bidirectional(c) in ("R", "AL") or ord(c) in INDIC for c in text)


def fitting(fonts: Sequence[Path], text: str) -> Path:
    """The first font that has all of a line's characters.

    Raises:
        Unwritable: none has.
    """
    shown = [c for c in dict.fromkeys(text) if not c.isspace() and unicodedata.category(c) not in ("Cf", "Mn", "Me")]
    best, lacking = None, shown
    for path in fonts:
        missing = [c for c in shown if not has(path, c)]
        if not missing:
            return path
        if best is None or len(missing) < len(lacking):
            best, lacking = path, missing
    name = unicodedata.name(lacking[0], f"U+{ord(lacking[0]):04X}") if lacking else "anything"
    raise Unwritable(f"no font of this job has {name}")


def check(fonts: Sequence[Path], texts: Iterable[str]) -> None:
    """Make sure that all texts can be drawn before a film is decoded.

    Raises:
        Unwritable: a character is in no font, or FriBiDi, which orders letters, is not here.
    """
    from PIL import features

    if not fonts:
        raise Unwritable("the job has no font")
    for text in texts:
        for line in text.split("\n"):
            fitting(fonts, line)
            if needs_shaping(line) and not features.check("raqm"):
                raise Unwritable("its script needs FriBiDi to be drawn (libfribidi0), which is not here")


def draw(text: str, fonts: Sequence[Path], width: int, height: int, *, aspect: float = 1.0) -> Picture:
    """A text of several lines at the bottom of a picture, centred.

    Args:
        width: of the picture, in pixels.
        height: likewise.
        aspect: how much wider than high a pixel is shown.

    Raises:
        Unwritable: a character is in no font.
    """
    import numpy as np
    from PIL import Image, ImageDraw

    shown = max(1, round(width * aspect))
    size = max(8, round(min(shown, height) * SIZE))
    lines = text.split("\n")
    chosen = [fitting(fonts, line) for line in lines]
    widest = max(font(path, size).getlength(line) for path, line in zip(chosen, lines, strict=True))
    if widest > shown * 0.94:
        size = max(8, int(size * max(SMALLEST, shown * 0.94 / widest)))
    outline = max(1, round(size * OUTLINE))
    step = round(size * 1.25)
    high = min(height, step * len(lines) + 2 * outline + size // 3)
    fill, whole = Image.new("L", (shown, high)), Image.new("L", (shown, high))
    for k, (path, line) in enumerate(zip(chosen, lines, strict=True)):
        at = (shown / 2, outline + step * k + size)
        ImageDraw.Draw(fill).text(at, line, 255, font=font(path, size), anchor="ms")
        ImageDraw.Draw(whole).text(at, line, 255, font=font(path, size), anchor="ms", stroke_width=outline)
    if shown != width:
        fill, whole = fill.resize((width, high)), whole.resize((width, high))
    left, top, right, bottom = whole.getbbox() or (0, 0, 1, 1)
    # Chroma has half the resolution, so the picture begins and ends at even pixels.
    left, right = left // 2 * 2, min(width // 2 * 2, (right + 1) // 2 * 2)
    place = max(0, height - high - round(height * MARGIN)) // 2 * 2
    top, bottom = top // 2 * 2, min((height - place) // 2 * 2, (bottom + 1) // 2 * 2)
    cut = (slice(top, bottom), slice(left, right))
    return Picture(np.asarray(fill)[cut], np.asarray(whole)[cut], left, place + top)


def blend(frame: Any, picture: Picture) -> None:
    """Draw white letters with a black outline into a frame (yuv420p), in its own memory."""
    import numpy as np

    rows, columns = picture.shape.shape
    bright, dark = (255, 0) if int(frame.color_range) == 2 else (235, 16)
    for k, plane in enumerate(frame.planes):
        half = 1 if k == 0 else 2
        pixels = np.frombuffer(plane, dtype=np.uint8).reshape(-1, plane.line_size)
        top, left = picture.top // half, picture.left // half
        part = pixels[top : top + rows // half, left : left + columns // half]
        shape, fill = (
            a if half == 1 else a.astype(np.uint16).reshape(rows // 2, 2, columns // 2, 2).sum(axis=(1, 3)) // 4
            for a in (picture.shape, picture.fill)
        )
        shape, fill = (a[: part.shape[0], : part.shape[1]].astype(np.int32) for a in (shape, fill))
        colour = (dark + (bright - dark) * fill // 255) if k == 0 else 128
        # The letters' own light, weighed by how much of a pixel the outline covers.
        part[:] = (part * (255 - shape) + colour * shape) // 255
