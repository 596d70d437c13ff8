"""The transcript as a document for a word processor (DOCX): a paragraph for each turn, with its time and speaker."""

from __future__ import annotations

import io
import re
import unicodedata
import zipfile

from cues import title
from formats import paragraphs
from sentences import Sentence

NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 can't hold (section 2.2)."""


def docx(name: str, sentences: list[Sentence]) -> bytes:
    """A DOCX file; the same sentences give the same bytes.

    Args:
        name: of the recording, as its title.
    """
    from docx import Document
    from docx.oxml import OxmlElement

    document = Document()
    document.core_properties.title = clear(name)[:255]
    document.core_properties.author = ""
    document.core_properties.comments = ""
    document.add_heading(clear(name), level=1)
    for who, said in paragraphs(sentences):
        text = clear("".join(w.text for s in said for w in s.words).strip())
        paragraph = document.add_paragraph()
        if right_to_left(text):
            paragraph._p.get_or_add_pPr().append(OxmlElement("w:bidi"))
        paragraph.add_run(f"[{clock(said[0].start)}] ").italic = True
        if who:
            paragraph.add_run(f"{clear(title(who))}: ").bold = True
        paragraph.add_run(text)
    out = io.BytesIO()
    document.save(out)
    return undated(out.getvalue())


def clear(text: str) -> str:
    """Text without what XML can't hold."""
    return NOT_XML.sub("\ufffd", text)


def clock(seconds: float) -> str:
    """``0:01:02``."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def right_to_left(text: str) -> bool:
    """Whether the first letter that has a direction runs from right to left (Unicode UAX #9, rule P2)."""
    strong = (unicodedata.bidirectional(c) for c in text)
    return next((d for d in strong if d in ("L", "R", "AL")), "L") != "L"


def undated(data: bytes) -> bytes:
    """A ZIP archive without the time at which it was made."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as before, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as after:
        for entry in before.infolist():
            info = zipfile.ZipInfo(entry.filename, date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            after.writestr(info, before.read(entry))
    return out.getvalue()
