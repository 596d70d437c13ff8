"""From sentences to cues that can be read: short lines, long enough on screen, two at once only where two speak."""

from __future__ import annotations

import unicodedata
from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache

from sentences import CARRIES, CLINGS, Sentence, Word, is_mark, unspaced, with_text

GAP = 83
"""Milliseconds between two cues that don't touch: two frames at 24 a second, so that the eye sees the text change."""

SLOT = 200
"""Milliseconds that a cue lasts at least, also where alignment puts many words at one moment."""

CLOSE = 0.6
"""Seconds between two sentences of one speaker that may share a cue."""

_BEFORE = {"and", "but", "or", "because", "that", "which", "who", "when", "where", "while", "if", "so", "to", "with"}
"""English words that rather begin a line than end one."""

_BREAKS = (",", ";", ":", "-", "–", "—", "、", "，", "；", "：", "،", ".", "?", "!", "…", "。", "？", "！")
"""Marks after which a cue or a line ends well."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Reading limits, in columns, columns a second and seconds."""

    line_chars: int = 42
    lines: int = 2
    chars_per_second: float = 17.0
    min_duration: float = 1.0
    max_duration: float = 7.0
    gap: float = 0.0
    """Seconds without text between two cues; 0: they may touch."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0 and name != "gap":
                raise ValueError(f"subtitles: {name} must be more than 0, not {value}")
        if self.min_duration > self.max_duration:
            raise ValueError("subtitles: min_duration must not be more than max_duration")


@dataclass(frozen=True, kw_only=True)
class Cue:
    """What is on screen from ``start`` to ``end`` (seconds)."""

    start: float
    end: float
    lines: tuple[str, ...]
    words: tuple[Word, ...] = ()
    """Those of its lines, in order, with the times at which they are said."""
    speaker: str | None
    changed: bool
    """Whether the speaker isn't the previous cue's."""


@dataclass(frozen=True, kw_only=True)
class _Block:
    words: list[Word]
    speaker: str | None
    changed: bool
    prefix: int


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


def title(speaker: str | None) -> str:
    """``Speaker 1`` for ``S1``."""
    return f"Speaker {speaker[1:]}" if speaker and speaker[0] == "S" and speaker[1:].isdigit() else speaker or ""


def cues(sentences: list[Sentence], rules: Rules, *, duration: float, label: bool) -> list[Cue]:
    """Cues with every word once, in order.

    Args:
        duration: of the recording in seconds; no cue ends after it.
        label: keep room for ``Speaker 1: `` where the speaker changes.
    """
    blocks: list[_Block] = []
    last: str | None = None
    for sentence in sentences:
        changed = sentence.speaker is not None and sentence.speaker != last
        last = sentence.speaker or last
        # Room is kept for half a line at most: with a longer label the line is too long.
        prefix = width(f"{title(sentence.speaker)}: ") if label and changed else 0
        prefix = min(prefix, rules.line_chars // 2)
        words = [part for word in sentence.words for part in parted(word, rules.line_chars)]
        for k, group in enumerate(divide(words, rules, prefix)):
            first = k == 0
            block = _Block(
                words=group, speaker=sentence.speaker, changed=changed and first, prefix=prefix if first else 0
            )
            if first and blocks and (both := joined(blocks[-1], block, rules)):
                blocks[-1] = both
            else:
                blocks.append(block)
    return timed(blocks, rules, duration)


def parted(word: Word, columns: int) -> list[Word]:
    """A word that is too wide for a line, letter by letter if its script has no spaces; else the word itself."""
    text = word.text
    if width(text.strip()) <= columns or not any(map(unspaced, text)):
        return [word]
    parts: list[str] = []
    for char in text:
        glued = parts and (
            parts[-1].isspace()
            or char in CLINGS
            or parts[-1][-1] in CARRIES
            or is_mark(char)
            or not (unspaced(char) or unspaced(parts[-1][-1]))
        )
        if glued:
            parts[-1] += char
        else:
            parts.append(char)
    step = (word.end - word.start) / len(parts)
    return [with_text(word, p, word.start + k * step, word.start + (k + 1) * step) for k, p in enumerate(parts)]


def joined(before: _Block, block: _Block, rules: Rules) -> _Block | None:
    """Two short sentences of one speaker as one cue, when either alone would be gone before it is read; else None."""
    a, b = before.words, block.words
    if block.changed or before.speaker != block.speaker or b[0].start - a[-1].end > CLOSE:
        return None
    alone = rules.min_duration
    needed = sum(width(w.text) for w in a) / rules.chars_per_second
    if b[0].start - a[0].start >= max(alone, needed) and b[-1].end - b[0].start >= alone:
        return None
    words = [*a, *b]
    if len(divide(words, rules, before.prefix)) > 1:
        return None
    return _Block(words=words, speaker=before.speaker, changed=before.changed, prefix=before.prefix)


def divide(words: list[Word], rules: Rules, prefix: int) -> list[list[Word]]:
    """Cut a sentence into cues that fit: few, evenly filled, and cut at punctuation or a pause where possible.

    Dynamic programming from the end finds the cheapest cuts; linear in the number of words.
    """
    widths = [width(w.text) for w in words]
    heads = [width(w.text.lstrip()) for w in words]
    room = rules.line_chars * rules.lines
    cost = [0.0] * (len(words) + 1)
    until = [0] * (len(words) + 1)
    for start in range(len(words) - 1, -1, -1):
        cost[start] = float("inf")
        line, lines = heads[start] + (prefix if start == 0 else 0), 1
        used = line
        for end in range(start + 1, len(words) + 1):
            if end > start + 1:
                used += widths[end - 1]
                line += widths[end - 1]
                if line > rules.line_chars:
                    line, lines = heads[end - 1], lines + 1
                if lines > rules.lines or line > rules.line_chars:
                    break
                if words[end - 1].end - words[start].start > rules.max_duration:
                    break
            empty = max(0.0, 1 - used / room)
            price = 100 + 60 * empty**2 + (_cut(words, end) if end < len(words) else 0) + cost[end]
            if price < cost[start]:
                cost[start], until[start] = price, end
    groups, at = [], 0
    while at < len(words):
        groups.append(words[at : until[at]])
        at = until[at]
    return groups


def _cut(words: list[Word], at: int) -> float:
    """How bad it is to cut before word ``at``: from 0 (punctuation or a pause) to 25 (within a phrase)."""
    if words[at - 1].text.endswith(_BREAKS) or words[at].start - words[at - 1].end > 0.3:
        return 0.0
    return 12.0 if words[at].text.strip().lower() in _BEFORE else 25.0


def layout(words: list[Word], rules: Rules, prefix: int) -> tuple[str, ...]:
    """Break a cue into lines: the fewest that fit, then the most even, preferably at punctuation.

    A word that is wider than a line stays whole.
    """
    count = len(words)
    widths = [width(w.text) for w in words]
    heads = [width(w.text.lstrip()) for w in words]
    best: list[tuple[int, float, int]] = [(0, 0.0, 0)] * (count + 1)  # lines, cost, end of the first line
    for start in range(count - 1, -1, -1):
        used = heads[start] + (prefix if start == 0 else 0)
        options = []
        for end in range(start + 1, count + 1):
            if end > start + 1:
                used += widths[end - 1]
                if used > rules.line_chars:
                    break
            ragged = max(0, rules.line_chars - used) ** 2 + (6 * _cut(words, end) if end < count else 0)
            options.append((best[end][0] + 1, best[end][1] + ragged, end))
        best[start] = min(options)
    lines, at = [], 0
    while at < count:
        lines.append("".join(w.text for w in words[at : best[at][2]]).strip())
        at = best[at][2]
    return tuple(lines)


def timed(blocks: list[_Block], rules: Rules, duration: float) -> list[Cue]:
    """Give cues their times: as spoken, and on into the silence that follows when there is more to read.

    Cues lie within ``duration``. Two are on screen at once only where words of two channels are spoken at once. Where a
    bad alignment puts words at one moment, cues begin earlier, so that each has at least ``SLOT`` ms, or an equal share
    when there is less room.
    """
    total = int(duration * 1000)
    channels: dict[int | None, list[_Block]] = {}
    for block in blocks:
        channels.setdefault(block.words[0].channel, []).append(block)
    begun = [pair for lane in channels.values() for pair in zip(_starts(lane, total), lane, strict=True)]
    begun.sort(key=lambda pair: pair[0])
    starts = [start for start, _ in begun]
    own: dict[int | None, int] = {}
    following: list[int | None] = []
    for start, block in reversed(begun):
        spoken = _spoken(block)
        free = bisect_left(starts, max(spoken, start + 1))
        nexts = [own.get(block.words[0].channel), starts[free] if free < len(starts) else None]
        following.append(min((at for at in nexts if at is not None), default=None))
        own[block.words[0].channel] = start
    following.reverse()
    return [_shown(block, start, after, rules, total) for (start, block), after in zip(begun, following, strict=True)]


def _starts(blocks: list[_Block], total: int) -> list[int]:
    """When cues of one channel begin, in milliseconds."""
    slot = max(1, min(SLOT, total // len(blocks)))
    starts = [round(b.words[0].start * 1000) for b in blocks]
    latest = total
    for k in range(len(starts) - 1, -1, -1):
        latest = starts[k] = min(starts[k], latest - slot)
    at = -slot
    for k in range(len(starts)):
        at = starts[k] = max(starts[k], at + slot)
    return starts


def _spoken(block: _Block) -> int:
    """When the last word of a cue ends, in milliseconds."""
    return round(max(w.end for w in block.words) * 1000)


def _shown(block: _Block, start: int, following: int | None, rules: Rules, total: int) -> Cue:
    """A cue from ``start`` on, which leaves room for the one that begins at ``following``; in milliseconds."""
    lines = layout(block.words, rules, block.prefix)
    longest, gap = round(rules.max_duration * 1000), round(rules.gap * 1000)
    needed = max(rules.min_duration, sum(map(width, lines)) / rules.chars_per_second)
    end = min(max(_spoken(block), start + round(needed * 1000)), start + longest)
    if following is None:
        end = min(end, max(total, start + 1))
    else:
        # The distance is taken from a cue's end, but not so that the cue is gone at once.
        latest = max(following - gap, min(start + SLOT, following))
        end = min(end, latest)
        if 0 < following - end < max(GAP, gap):  # an empty flash between two cues is worse than none
            end = latest if latest - start <= longest else following - GAP
    return Cue(
        start=start / 1000,
        end=end / 1000,
        lines=lines,
        words=tuple(block.words),
        speaker=block.speaker,
        changed=block.changed,
    )
