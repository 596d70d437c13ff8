"""A comparison as one HTML page: the figures, and the words with their differences marked. Pure: data in, text out.

The page has no script and asks for nothing; its policy allows its own style alone. All text is escaped by the template.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import jinja2
from markupsafe import Markup

from builder.core.compare.figures import PresetFigures, RecordingCompared
from builder.core.compare.words import Edit, Kind, SpokenWord
from builder.core.jobs.page import clock, took
from builder.core.text import format_size

TEMPLATES = ("compare.html.j2", "compare.css")
"""What the page is rendered from, below templates/compare."""

SHORT, LONG = 12, 40
"""Words of a passage: after so many it ends with a sentence, and after so many anywhere."""

ENDS = (".", "!", "?", "。", "！", "？", "…", "।", "؟")


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Words of a passage that became the same: as they were, others, more, or left out."""

    kind: Kind
    text: str
    """What was heard; of words that were left out, these."""
    instead: str = ""
    """Of others: the base's words."""

    @property
    def marked(self) -> str:
        """The words, without the space behind them."""
        return self.text.rstrip()

    @property
    def space(self) -> str:
        """What is behind the words."""
        return self.text[len(self.marked) :]


@dataclass(frozen=True, kw_only=True)
class Passage:
    """Some words of the base, and what each preset made of them."""

    start: float | None
    """Seconds, where they are known."""
    base: str
    heard: tuple[tuple[str, tuple[Piece, ...]], ...]
    """(preset, its words), in the order of the presets."""

    @property
    def same(self) -> bool:
        """Whether all presets heard what the base says."""
        return all(piece.kind == "equal" for _, pieces in self.heard for piece in pieces)


def passages(recording: RecordingCompared) -> tuple[Passage, ...]:
    """A recording's words in passages of a sentence or some, with every preset's beside them."""
    base = recording.base_words
    starts = _starts(base)
    heard = {a.preset: a.heard.words for a in recording.attempts if a.heard is not None and a.preset != recording.base}
    parts = {preset: _parted(recording.edits[preset], starts) for preset in heard}
    found = []
    for number, begin in enumerate(starts):
        end = starts[number + 1] if number + 1 < len(starts) else len(base)
        found.append(
            Passage(
                start=base[begin].start if base else None,
                base="".join(word.shown for word in base[begin:end]),
                heard=tuple((preset, _pieces(parts[preset][number], base, heard[preset])) for preset in heard),
            )
        )
    return tuple(found)


def _starts(words: Sequence[SpokenWord]) -> list[int]:
    """Where passages begin: at least one, also without a word."""
    starts = [0]
    for k in range(1, len(words)):
        length, before = k - starts[-1], words[k - 1]
        ended = before.shown.rstrip("\"'’”»)] \n").endswith(ENDS) or words[k].start != before.start
        if length >= LONG or (length >= SHORT and ended):
            starts.append(k)
    return starts


def _parted(edits: Sequence[Edit], starts: Sequence[int]) -> list[list[Edit]]:
    """The edits of each passage; words that are one more belong to the passage before them."""
    parts: list[list[Edit]] = [[] for _ in starts]
    number = 0
    for edit in edits:
        while edit.left is not None and number + 1 < len(starts) and edit.left >= starts[number + 1]:
            number += 1
        parts[number].append(edit)
    return parts


def _pieces(edits: Sequence[Edit], base: Sequence[SpokenWord], heard: Sequence[SpokenWord]) -> tuple[Piece, ...]:
    return tuple(_joined(edits, base, heard))


def _joined(edits: Sequence[Edit], base: Sequence[SpokenWord], heard: Sequence[SpokenWord]) -> Iterator[Piece]:
    """Neighbours of one kind as one piece."""
    waiting: list[Edit] = []
    for edit in [*edits, None]:
        if waiting and (edit is None or edit.kind != waiting[0].kind):
            left = "".join(base[e.left].shown for e in waiting if e.left is not None)
            right = "".join(heard[e.right].shown for e in waiting if e.right is not None)
            kind = waiting[0].kind
            instead = left.strip() if kind == "substituted" else ""
            yield Piece(kind=kind, text=left if kind == "deleted" else right, instead=instead)
            waiting = []
        if edit is not None:
            waiting.append(edit)


def render(
    presets: Sequence[PresetFigures], recordings: Sequence[RecordingCompared], templates: Mapping[str, str]
) -> str:
    """The page.

    Args:
        templates: the texts of TEMPLATES, by name.
    """
    # HTML reads every line end as one character, so the hash is taken of what a browser will see.
    style = templates["compare.css"].replace("\r\n", "\n")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    text = _template(templates["compare.html.j2"]).render(
        presets=presets,
        recordings=[(recording, passages(recording)) for recording in recordings],
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        style=Markup(style),
        shows_words=any(one.words is not None for one in presets),
        shows_speakers=any(one.speakers is not None for one in presets),
        shows_agreement=any(one.agreement is not None for one in presets),
    )
    # UTF-8 can't encode a lone surrogate, which a transcript might have.
    return text.encode("utf-8", "replace").decode()


@functools.cache
def _template(text: str) -> jinja2.Template:
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"clock": clock, "took": took, "size": format_size, "percent": percent}
    return environment.from_string(text)


def percent(rate: float | None) -> str:
    """``4.5 %``; a dash where there is none."""
    return "–" if rate is None else f"{100 * rate:.1f} %"
