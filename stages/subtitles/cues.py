"""Sentences to cues that can be read: short lines, long enough on screen, never two at once."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, replace
from functools import lru_cache

from sentences import Sentence, Word

GAP = 0.083
"""Seconds between two cues that don't touch (two frames at 24 a second): the eye sees that the text changed."""

_BEFORE = {"and", "but", "or", "because", "that", "which", "who", "when", "where", "while", "if", "so", "to", "with"}
"""English words that a line may begin with rather than end."""


@dataclass(frozen=True)
class Rules:
    """Reading limits, in characters, characters a second and seconds."""

    line_chars: int = 42
    lines: int = 2
    chars_per_second: float = 17.0
    min_duration: float = 1.0
    max_duration: float = 7.0


@dataclass(frozen=True)
class Cue:
    """What is on screen from ``start`` to ``end`` (seconds)."""

    start: float
    end: float
    lines: tuple[str, ...]
    speaker: str | None
    changed: bool
    """The speaker is another than in the cue before."""


def width(text: str) -> int:
    """Columns of a text: East Asian wide characters take two, combining marks none."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def cues(sentences: list[Sentence], rules: Rules, *, duration: float, label: bool) -> list[Cue]:
    """Every word once, in order.

    Args:
        duration: of the recording in seconds; no cue ends after it.
        label: a ``Speaker 1: `` stands in front where the speaker changes; its room is kept.
    """
    found: list[Cue] = []
    last: str | None = None
    for sentence in sentences:
        changed = sentence.speaker is not None and sentence.speaker != last
        last = sentence.speaker if sentence.speaker is not None else last
        prefix = width(f"{title(sentence.speaker)}: ") if label and changed and sentence.speaker else 0
        for k, group in enumerate(blocks(list(sentence.words), rules, prefix)):
            found.append(
                Cue(group[0].start, group[-1].end, layout(group, rules, prefix if k == 0 else 0), sentence.speaker,
                    changed and k == 0)
            )  # fmt: skip
    return timed(found, rules, duration)


def title(speaker: str | None) -> str:
    """``Speaker 1`` for ``S1``."""
    return f"Speaker {speaker[1:]}" if speaker and speaker[0] == "S" and speaker[1:].isdigit() else speaker or ""


def blocks(words: list[Word], rules: Rules, prefix: int) -> list[list[Word]]:
    """Cut one sentence into cues: as few as fit, about equally long, cut at punctuation where there is some."""
    room = rules.line_chars * rules.lines
    total = width(_join(words)) + prefix
    length = words[-1].end - words[0].start
    parts = max(1, -(-total // room), -int(-length // rules.max_duration))
    while True:
        groups = _divide(words, parts)
        if parts >= len(words) or all(
            _fits(g, rules, prefix if k == 0 else 0) and g[-1].end - g[0].start <= rules.max_duration
            for k, g in enumerate(groups)
        ):
            return groups
        parts += 1


def _join(words: list[Word]) -> str:
    return "".join(w.text for w in words).strip()


def _divide(words: list[Word], parts: int) -> list[list[Word]]:
    """``parts`` consecutive groups, cut near equal lengths and rather after punctuation or a pause."""
    groups: list[list[Word]] = []
    rest = words
    for left in range(parts, 1, -1):
        if len(rest) <= 1:
            break
        target = width(_join(rest)) / left
        done = 0.0
        best, cost = 1, float("inf")
        for k in range(1, len(rest) - max(left - 2, 0)):
            done += width(rest[k - 1].text)
            bonus = 0.35 * target if rest[k - 1].text.rstrip().endswith((",", ";", ":", "-", "–", "—", "、", "，")) else 0
            bonus += 0.3 * target if rest[k].start - rest[k - 1].end > 0.3 else 0
            bonus += 0.1 * target if rest[k].text.strip().lower() in _BEFORE else 0
            if abs(done - target) - bonus < cost:
                best, cost = k, abs(done - target) - bonus
        groups.append(rest[:best])
        rest = rest[best:]
    groups.append(rest)
    return groups


def _fits(words: list[Word], rules: Rules, prefix: int) -> bool:
    lines = layout(words, rules, prefix)
    head = [prefix] + [0] * len(lines)
    return len(lines) <= rules.lines and all(
        width(line) + extra <= rules.line_chars for line, extra in zip(lines, head, strict=False)
    )


def layout(words: list[Word], rules: Rules, prefix: int) -> tuple[str, ...]:
    """Break a cue into lines: the fewest that fit, then the most even. A single word wider than a line stays whole."""
    texts = [w.text for w in words]

    def line(a: int, b: int) -> str:
        return "".join(texts[a:b]).strip()

    @lru_cache(maxsize=None)
    def best(start: int) -> tuple[float, float, tuple[int, ...]]:
        if start == len(texts):
            return (0, 0.0, ())
        options = []
        for end in range(start + 1, len(texts) + 1):
            used = width(line(start, end)) + (prefix if start == 0 else 0)
            if used > rules.line_chars and end > start + 1:
                break
            count, cost, cuts = best(end)
            ragged = (rules.line_chars - min(used, rules.line_chars)) ** 2
            options.append((count + 1, cost + ragged, (end, *cuts)))
        return min(options)

    cuts = best(0)[2]
    return tuple(line(a, b) for a, b in zip((0, *cuts[:-1]), cuts, strict=True))


def timed(found: list[Cue], rules: Rules, duration: float) -> list[Cue]:
    """Stretch cues that are too short to read into the silence after them; never over the next, never past the end."""
    out: list[Cue] = []
    for k, cue in enumerate(found):
        start = max(cue.start, out[-1].end if out else 0.0)
        limit = max(found[k + 1].start, start) if k + 1 < len(found) else max(duration, start)
        chars = sum(width(line) for line in cue.lines)
        wanted = max(cue.end, start + max(rules.min_duration, chars / rules.chars_per_second))
        wanted = min(wanted, max(start + rules.max_duration, cue.end))
        end = min(wanted, limit)
        if 0 < limit - end < GAP and k + 1 < len(found):
            end = limit  # a flash of nothing between two cues is worse than none
        # Two words at one time happen in bad alignments; a cue of no length would be invalid.
        out.append(replace(cue, start=round(start, 3), end=round(max(end, start + 0.001), 3)))
    return out
