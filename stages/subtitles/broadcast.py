"""Subtitles for broadcasters, written by ttconv: TTML (IMSC 1.1, Text profile) and SCC (captions of CTA-608).

TTML holds whatever is said. SCC holds little: 32 columns, four rows, the letters of English and most of those of Spanish and
French, and two bytes a frame. What it can't hold is told, never dropped in silence.
"""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from cues import Cue, title
from document import clear
from formats import backwards
from sentences import Sentence

if TYPE_CHECKING:
    from ttconv.model import ContentDocument

HEAD = "Scenarist_SCC V1.0"

COLUMNS, ROWS = 32, 4
"""Of captions (CTA-608)."""

FPS = Fraction(30_000, 1001)
"""Frames a second of SCC; its time codes drop frames, so they agree with the clock."""

DAY = 24 * 3600
"""Seconds after which time codes begin again."""

FOREIGN = 0.02
"""Share of letters that captions don't have, and nothing near them, from which on the text isn't theirs."""

SOON = 0.25
"""Seconds of delay that nobody is told of."""

LEAST = 15
"""Frames that a caption is on screen at least."""

PART = 50
"""Captions that ttconv writes at once: its time grows with the square of their number."""

TRANSPORT = 10
"""Packets of a caption beside its rows: three commands, each sent twice, and one that clears the screen."""

NEAR = {
    **dict.fromkeys("’‘ʼ´`ʹ", "'"),
    **dict.fromkeys("“”„«»‟", '"'),
    **dict.fromkeys("–—―‑‐−_~", "-"),
    **dict.fromkeys("{‹", "("),
    **dict.fromkeys("}›", ")"),
    **dict.fromkeys("\\|∖", "/"),
    **dict.fromkeys("\u00a0\u2009\u202f", " "),
    **{
        "…": "...",
        "ß": "ss",
        "œ": "oe",
        "Œ": "OE",
        "æ": "ae",
        "Æ": "AE",
        "ø": "o",
        "Ø": "O",
        "ł": "l",
        "€": "EUR",
        "×": "x",
    },
}
"""What stands for characters that captions don't have."""


# TTML


def ttml(cues: Sequence[Cue], language: str | None, *, prefix: bool) -> bytes:
    """A document of the IMSC 1.1 Text profile (W3C), in UTF-8: one paragraph a cue, at the bottom, centred.

    Args:
        language: of the text (BCP 47); None: it isn't known.
        prefix: whether a cue begins with the mark where the speaker changes.
    """
    from ttconv.imsc import writer
    from ttconv.imsc.config import ContentProfilesSignaling, IMSCWriterConfiguration
    from ttconv.imsc.designators import IMSC_11_TEXT_PROFILE_DESIGNATOR

    shown = [
        _Shown(
            begin=Fraction(round(cue.start * 1000), 1000),
            end=Fraction(round(cue.end * 1000), 1000),
            lines=tuple(clear(line) for line in ((cue.mark if prefix else "") + "\n".join(cue.lines)).split("\n")),
            language=cue.words[0].language if cue.words else None,
            italic=cue.sung,
        )
        for cue in cues
    ]
    document = _document(shown, language)
    document.set_content_profiles({IMSC_11_TEXT_PROFILE_DESIGNATOR})
    config = IMSCWriterConfiguration(profile_signaling=ContentProfilesSignaling.CONTENT_PROFILES)
    out = io.BytesIO()
    writer.from_model(document, config).write(out, encoding="utf-8", xml_declaration=True)
    return out.getvalue() + b"\n"


@dataclass(frozen=True, kw_only=True)
class _Shown:
    """What is on screen from ``begin`` to ``end`` (seconds)."""

    begin: Fraction
    end: Fraction | None
    """None: until the next one."""
    lines: tuple[str, ...]
    language: str | None = None
    italic: bool = False
    """TTML's: captions would need room for it on each row, and a song has its notes."""


def _document(shown: Sequence[_Shown], language: str | None) -> ContentDocument:
    """ttconv's model of some cues."""
    from ttconv import model
    from ttconv import style_properties as styles
    from ttconv.style_properties import LengthType, StyleProperties

    def percent(value: float) -> Any:
        return LengthType(value, LengthType.Units.pct)

    document = model.ContentDocument()
    document.set_lang(language or "")
    region = model.Region("bottom", document)
    region.set_style(StyleProperties.Origin, styles.CoordinateType(x=percent(10), y=percent(10)))
    region.set_style(StyleProperties.Extent, styles.ExtentType(width=percent(80), height=percent(80)))
    region.set_style(StyleProperties.DisplayAlign, styles.DisplayAlignType.after)
    region.set_style(StyleProperties.TextAlign, styles.TextAlignType.center)
    region.set_style(StyleProperties.FontFamily, (styles.GenericFontFamilyType.proportionalSansSerif,))
    region.set_style(StyleProperties.LineHeight, percent(125))
    outline = styles.TextOutlineType(percent(5), styles.NamedColors.black.value)
    region.set_style(StyleProperties.TextOutline, outline)
    document.put_region(region)
    body, everything = model.Body(document), model.Div(document)
    body.set_region(region)
    body.push_child(everything)
    document.set_body(body)
    for each in shown:
        paragraph = model.P(document)
        paragraph.set_begin(each.begin)
        paragraph.set_end(each.end)
        if each.language:
            paragraph.set_lang(each.language)
        if backwards("\n".join(each.lines)):
            paragraph.set_style(StyleProperties.Direction, styles.DirectionType.rtl)
            paragraph.set_style(StyleProperties.UnicodeBidi, styles.UnicodeBidiType.embed)
        for k, line in enumerate(each.lines):
            if k:
                paragraph.push_child(model.Br(document))
            span = model.Span(document)
            if each.italic:
                span.set_style(StyleProperties.FontStyle, styles.FontStyleType.italic)
            span.push_child(model.Text(document, line))
            paragraph.push_child(span)
        everything.push_child(paragraph)
    return document


# SCC


def scc(
    sentences: Sequence[Sentence],
    recut: Callable[[list[Sentence], int], list[Cue]],
    note: Callable[[str], None],
    *,
    prefix: bool,
) -> str | None:
    """Pop-on captions of channel 1, at 29.97 frames a second with drop-frame time codes; None, and a note, where the text or
    the time is none of theirs.

    Args:
        recut: cues of sentences for lines of some columns.
        note: takes what the file has otherwise than it was said.
        prefix: whether a cue begins with the mark where the speaker changes.
    """
    from ttconv.scc import writer
    from ttconv.scc.config import SccWriterConfiguration

    letters = _Letters()
    said = letters.sentences(sentences)
    if letters.foreign:
        note("no .scc: captions (CTA-608) have no letters for this text")
        return None
    pages, cut = _pages(recut(said, COLUMNS), prefix=prefix)
    shown, late = _scheduled(pages)
    if shown and shown[-1].begin >= DAY:
        note("no .scc: its time codes end after 24 hours")
        return None
    if letters.changed + cut:
        count = _counted(letters.changed + cut, "character")
        note(f".scc has {count} otherwise, or not at all: captions (CTA-608) have no such")
    slow = [delay for delay in late if delay > SOON]
    if slow:
        count = _counted(len(slow), "caption")
        note(f".scc shows {count} up to {float(max(slow)):.1f} s late: captions carry two bytes a frame")
    if not shown:
        return f"{HEAD}\n"
    config = SccWriterConfiguration(allow_reflow=False, force_popon=True)
    written = [writer.from_model(_document(part, None), config) for part in _parts(shown)]
    return "\n\n".join([HEAD, *(text.removeprefix(HEAD).strip("\n") for text in written)]) + "\n"


def _parts(shown: Sequence[_Shown]) -> Iterator[list[_Shown]]:
    """Captions in parts that are sent one after another. The last of a part clears the screen unless the next part is on its
    way by then: the next caption takes its place."""
    for k in range(0, len(shown), PART):
        part = list(shown[k : k + PART])
        if k + PART < len(shown):
            following = shown[k + PART]
            sent = following.begin - _packets(following.lines) / FPS
            part[-1] = replace(part[-1], end=None) if (part[-1].end or sent) + 2 / FPS >= sent else part[-1]
        yield part


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


class _Letters:
    """Text in the characters of captions, and a count of what they don't have."""

    def __init__(self) -> None:
        from ttconv.scc.codes.special_characters import SccSpecialCharacter
        from ttconv.scc.codes.standard_characters import TO_SCC_BYTES

        special = {each.get_unicode_value() for each in SccSpecialCharacter}
        self.known = frozenset(TO_SCC_BYTES) | special
        self.changed = self.letters = self.lost = 0

    @property
    def foreign(self) -> bool:
        """Whether the text is of another script."""
        return self.lost > FOREIGN * self.letters

    def text(self, text: str) -> str:
        """A text without what captions don't have."""
        return "".join(map(self._char, text))

    def _char(self, char: str) -> str:
        self.letters += char.isalpha()
        if char in self.known:
            return char
        near = NEAR.get(char)
        if near is not None:
            return near
        kept = "".join(c for c in unicodedata.normalize("NFKD", char) if c in self.known)
        self.changed += unicodedata.category(char) != "Cf"
        self.lost += char.isalpha() and not kept
        return kept

    def sentences(self, sentences: Sequence[Sentence]) -> list[Sentence]:
        """Sentences in the characters of captions; words and sentences without any are left out."""
        found = []
        for sentence in sentences:
            words = tuple(replace(word, text=self.text(word.text)) for word in sentence.words)
            kept = tuple(word for word in words if word.text.strip())
            who = None if sentence.speaker is None else self.text(title(sentence.speaker))
            if kept:
                found.append(replace(sentence, words=kept, speaker=who))
        return found


def _pages(cues: Sequence[Cue], *, prefix: bool) -> tuple[list[_Shown], int]:
    """Captions in order, one at a time, and how many characters no row had room for: of words longer than a row."""
    pages, cut = [], 0
    for cue in cues:
        text = ((cue.mark if prefix else "") + "\n".join(cue.lines)).split("\n")
        rows = [line[k : k + COLUMNS] for line in text for k in range(0, len(line), COLUMNS)]
        cut += sum(map(len, rows[ROWS:]))
        pages.append(_Shown(begin=_frame(cue.start), end=_frame(cue.end), lines=tuple(rows[:ROWS])))
    return pages, cut


def _scheduled(pages: Sequence[_Shown]) -> tuple[list[_Shown], list[Fraction]]:
    """Captions at times by which their characters can have come, and by how many seconds each is late.

    A caption is sent before it is shown, two bytes a frame, and after the one before it is on screen.
    """
    at, begins = 0, []
    for page in pages:
        at = max(int(page.begin), at + _packets(page.lines) + 2)
        begins.append(at)
    shown, late = [], []
    for k, (page, begin) in enumerate(zip(pages, begins, strict=True)):
        end = max(int(page.end or 0), begin + LEAST)
        end = min(end, begins[k + 1]) if k + 1 < len(begins) else end
        shown.append(replace(page, begin=begin / FPS, end=end / FPS))
        late.append(max((begin - page.begin) / FPS, Fraction(0)))
    return shown, late


def _frame(seconds: float) -> Fraction:
    """The number of the frame at a time."""
    return Fraction(round(Fraction(round(seconds * 1000), 1000) * FPS))


def _packets(lines: Sequence[str]) -> int:
    """Packets of two bytes that a caption takes at most: a row's place is sent twice, and a special character alone."""
    special = sum(not char.isascii() for line in lines for char in line)
    return TRANSPORT + 2 * special + sum(2 + (len(line) + 4) // 2 for line in lines)
