"""From sentences to cues that can be read: short lines, long enough on screen, two at once only where two speak."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby

from breaks import CLINGING, UNKNOWN, Language
from breaks import language as known
from limits import EARLY, LATE, Rules, width
from lyrics import COLUMNS, noted
from sentences import CARRIES, CLINGS, Sentence, Word, is_mark, unspaced, with_text

FLASH = 83
"""Milliseconds: a shorter gap than two frames is seen as a flash, so cues touch, or lie further apart."""

SLOT = 200
"""Milliseconds that a cue lasts at least, also where alignment puts many words at one moment."""

CLOSE = 0.6
"""Seconds between two sentences of one speaker that may share a cue."""

JOINED, PARTED = 170.0, 60.0
"""Prices of two sentences in one cue, and of one that begins or ends in the middle of another then: rather two cues than
that, unless one of them couldn't be read. A cue costs 100."""

TORN = 200.0
"""Price of a cue whose two lines can only be broken within a phrase."""

BRIEF, FAST, FASTER = 400.0, 400.0, 300.0
"""Prices of a cue that is gone at once, of one that is too fast, and of each time that it would need more."""

COARSE = (round(-EARLY * 1000), 0, round(LATE * 1000))
"""Milliseconds by which a cue may begin later than it is spoken (earlier where negative) while text is cut into cues."""

SHIFTS = (0, *range(-round(EARLY * 1000), 0, 100), *range(100, round(LATE * 1000) + 1, 100))
"""The same when cues get their times."""


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
    mark: str = ""
    """What stands before its text in formats that have no other way to say that another speaks."""
    sung: bool = False
    """Whether it is of a song; its text stands between notes then."""


@dataclass(frozen=True, kw_only=True)
class _Block:
    words: list[Word]
    speaker: str | None
    changed: bool
    mark: str = ""
    columns: int = 80
    """Those of a line."""

    @property
    def prefix(self) -> int:
        """Columns of the first line that are kept for the mark: half a line at most; with a longer one it is too long."""
        return min(width(self.mark), self.columns // 2)


def title(speaker: str | None) -> str:
    """``Speaker 1`` for ``S1``."""
    return f"Speaker {speaker[1:]}" if speaker and speaker[0] == "S" and speaker[1:].isdigit() else speaker or ""


def cues(
    sentences: list[Sentence],
    rules: Rules,
    *,
    duration: float,
    label: bool,
    dash: bool = False,
    language: Language = UNKNOWN,
) -> list[Cue]:
    """Cues with every word once, in order.

    Args:
        rules: their limits; those of the text's writing are added.
        duration: of the recording in seconds; no cue ends after it.
        label: mark where the speaker changes: ``Speaker 1: ``, or with ``dash`` a dash.
    """
    rules = rules.for_text("".join(s.text for s in sentences))
    blocks: list[_Block] = []
    last: str | None = None
    shifts = (0,) if any(s.words[0].channel is not None for s in sentences) else COARSE
    runs = [
        list(group)
        for _, group in groupby(sentences, key=lambda s: (s.speaker, s.words[0].channel, s.language, s.sung))
    ]
    for k, run in enumerate(runs):
        who = run[0].speaker
        changed = who is not None and who != last
        last = who or last
        mark = ("- " if dash else f"{title(who)}: ") if label and changed and who else ""
        head = _Block(words=[], speaker=who, changed=changed, mark=mark, columns=rules.line_chars)
        following = runs[k + 1][0].start if k + 1 < len(runs) else duration
        own = replace(rules, line_chars=max(rules.line_chars - COLUMNS, 1)) if run[0].sung else rules
        said = _Run(run, own, following, _spoken_in(run[0], language), final=k + 1 == len(runs))
        for j, group in enumerate(divide(said, own, head.prefix, shifts)):
            group = noted(group) if run[0].sung else group
            blocks.append(replace(head, words=group) if j == 0 else replace(head, words=group, changed=False, mark=""))
    return timed(blocks, rules, duration, language)


def _spoken_in(said: Sentence | _Block, language: Language) -> Language:
    """The language of what is said: its own, where it has one."""
    own = next((word.language for word in said.words if word.language), None)
    return language if own in (None, language.code) else known(own)


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


class _Run:
    """Words of one person, measured once."""

    def __init__(
        self, sentences: list[Sentence], rules: Rules, following: float, language: Language, *, final: bool = False
    ) -> None:
        """
        Args:
            sentences: of one person, in one go.
            following: when somebody else begins, in seconds.
            final: whether nobody does.
        """
        words: list[Word] = []
        ends: set[int] = set()
        for sentence in sentences:
            words += (part for word in sentence.words for part in parted(word, rules.line_chars))
            ends.add(len(words))
        self.words, self.ends, self.final = words, ends, final
        """``ends``: where sentences end: the numbers of words before."""
        self.widths = [width(w.text) for w in words]
        self.heads = [width(w.text.lstrip()) for w in words]
        self.sums = list(accumulate(self.widths, initial=0))
        self.starts = [word.start for word in words] + [max(following, words[-1].end)]
        """When each word begins, and what follows the last one."""
        inner = range(1, len(words))
        self.cuts = [0.0, *(0.0 if k in ends else _cut(words, k, language) for k in inner), 0.0]
        """How bad a cut before each word is."""
        good = accumulate(range(len(words) + 1), lambda last, k: k if self.cuts[k] < CLINGING else last)
        self.good = list(good)
        """The last place up to each word at which a line may end."""

    def columns(self, start: int, end: int) -> int:
        """Columns of some words on a line of their own."""
        return self.sums[end] - self.sums[start] - self.widths[start] + self.heads[start]


def divide(run: _Run, rules: Rules, prefix: int, shifts: Sequence[int] = (0,)) -> list[list[Word]]:
    """Cut words into cues that fit: few, evenly filled, long enough to be read, cut at sentences, marks or pauses.

    Dynamic programming from the end finds the cheapest cuts together with when their cues begin; linear in the number of
    words. The times are found again by :func:`_shifted`, which knows the neighbours.

    Args:
        shifts: milliseconds by which a cue may begin earlier (negative) or later than its words, in order.
    """
    words, ends = run.words, run.ends
    best = [*(_Rest(shifts, math.inf) for _ in words), _Rest(shifts, 0.0)]
    best[-1].begin([math.inf if run.final and shift else _moved(shift, 0) for shift in shifts])
    for start in range(len(words) - 1, -1, -1):
        inner, rest = 0.0, best[start]
        for end, used, torn in _fitting(run, start, rules, prefix if start == 0 else 0):
            if end - 1 > start and end - 1 in ends:
                if words[end - 1].start - words[end - 2].end > CLOSE:
                    break
                inner += JOINED
            part = PARTED if inner and (end not in ends or (start and start not in ends)) else 0.0
            empty = max(0.0, 1 - used / (rules.line_chars * rules.lines))
            price = 100 + 60 * empty**2 + run.cuts[end] + inner + part + (TORN if torn else 0.0)
            rest.consider(end, price, best[end], used, run.starts[end] - run.starts[start] - rules.gap, rules)
        silence = round(1000 * (words[start].start - words[start - 1].end - rules.gap)) if start else 0
        rest.begin([_moved(shift, max(silence, 0)) for shift in shifts])
    groups, at, where = [], 0, best[0].first()
    while at < len(words):
        end, then = best[at].ways[where]
        groups.append(words[at:end])
        at, where = end, then
    return groups


class _Rest:
    """The cheapest way to cut what begins at a word, for each shift of its first cue."""

    def __init__(self, shifts: Sequence[int], cost: float) -> None:
        self.shifts = shifts
        self.costs = [cost] * len(shifts)
        self.ways = [(0, 0)] * len(shifts)
        """Where the first cue ends, and the shift of the next."""
        self.least: list[tuple[float, int]] = []
        """The cheapest shift of each one and all later ones, with the price of beginning so."""

    def first(self) -> int:
        """The cheapest shift."""
        return self.least[0][1]

    def begin(self, prices: Sequence[float]) -> None:
        """Add what it costs to begin at each shift."""
        self.costs = [cost + price for cost, price in zip(self.costs, prices, strict=True)]
        ways = list(zip(self.costs, range(len(self.costs)), strict=True))
        self.least = list(accumulate(reversed(ways), min))[::-1]

    def consider(self, end: int, price: float, then: _Rest, columns: int, seconds: float, rules: Rules) -> None:
        """Try a first cue up to word ``end``.

        Args:
            price: of the cue, but for its time.
            columns: that it uses.
            seconds: that it has when neither it nor the next is shifted.
        """
        needed = max(rules.min_duration, columns / rules.chars_per_second)
        for k, shift in enumerate(self.shifts):
            if price + then.least[0][0] >= self.costs[k]:
                continue
            has = seconds - shift / 1000
            enough = bisect_left(self.shifts, (needed - has) * 1000)
            cost, way = then.least[enough] if enough < len(self.shifts) else (math.inf, 0)
            for other in range(enough):
                lacking = then.costs[other] + _hurry(columns, has + self.shifts[other] / 1000, rules)
                if lacking < cost:
                    cost, way = lacking, other
            if price + cost < self.costs[k]:
                self.costs[k], self.ways[k] = price + cost, (end, way)


def _fitting(run: _Run, start: int, rules: Rules, prefix: int) -> Iterator[tuple[int, int, bool]]:
    """The ends that a cue may have that begins with word ``start``: the first word after it, the columns that it uses, and
    whether two lines of it can only be broken within a phrase."""
    line, lines = run.heads[start] + prefix, 1
    used, first, least = line, 0, start + 1
    for end in range(start + 1, len(run.words) + 1):
        if end > start + 1:
            used += run.widths[end - 1]
            line += run.widths[end - 1]
            if line > rules.line_chars:
                line, lines, first = run.heads[end - 1], lines + 1, first or end - 1
            if lines > rules.lines or line > rules.line_chars:
                return
            if run.words[end - 1].end - run.words[start].start > rules.max_duration:
                return
        while least < end and run.columns(least, end) > rules.line_chars:
            least += 1
        yield end, used, lines == 2 and run.good[first] < least


def _hurry(columns: int, seconds: float, rules: Rules) -> float:
    """The price of a cue that has too little time: to be seen at all, and to be read."""
    price = 0.0
    if seconds < rules.min_duration:
        price += BRIEF * (1 - max(seconds, 0.0) / rules.min_duration)
    needed = columns / rules.chars_per_second
    if needed > seconds:
        price += FAST + FASTER * min(needed / max(seconds, 0.1) - 1, 2.0)
    return price


def _cut(words: list[Word], at: int, language: Language) -> float:
    """How bad it is to break before word ``at``."""
    before, word = words[at - 1], words[at]
    return language.price(before.text, word.text, word.start - before.end)


def layout(words: list[Word], rules: Rules, prefix: int, language: Language) -> tuple[str, ...]:
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
            ragged = max(0, rules.line_chars - used) ** 2 + (6 * _cut(words, end, language) if end < count else 0)
            options.append((best[end][0] + 1, best[end][1] + ragged, end))
        best[start] = min(options)
    lines, at = [], 0
    while at < count:
        lines.append("".join(w.text for w in words[at : best[at][2]]).strip())
        at = best[at][2]
    return tuple(lines)


def timed(blocks: list[_Block], rules: Rules, duration: float, language: Language) -> list[Cue]:
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
    if len(channels) == 1:
        shifted = _shifted([start for start, _ in begun], [block for _, block in begun], rules, total)
        begun = [(start, block) for start, (_, block) in zip(shifted, begun, strict=True)]
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
    return [
        _shown(block, start, _end(block, start, after, rules, total), rules, language)
        for (start, block), after in zip(begun, following, strict=True)
    ]


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


def _shifted(starts: list[int], blocks: list[_Block], rules: Rules, total: int) -> list[int]:
    """The starts of cues, some a little earlier or later, so that as many as possible can be read; in milliseconds.

    The cheapest of all combinations, by dynamic programming over :data:`SHIFTS`.
    """
    gap = round(rules.gap * 1000)
    needs = [_needed(block, rules) for block in blocks]
    silences = [start - _spoken(before) for start, before in zip(starts[1:], blocks, strict=False)]
    costs = [_moved(shift, starts[0]) if starts and starts[0] + shift >= 0 else math.inf for shift in SHIFTS]
    came: list[list[int]] = []
    for k in range(1, len(starts)):
        apart = min(SLOT, starts[k] - starts[k - 1])
        row, origin = [], []
        for shift in SHIFTS:
            best, best_from = math.inf, 0
            for j, before in enumerate(SHIFTS):
                has = starts[k] + shift - starts[k - 1] - before
                if has < apart and (shift or before):
                    continue
                price = costs[j] + _lacking(has - gap, needs[k - 1])
                if price < best:
                    best, best_from = price, j
            row.append(best + _moved(shift, max(silences[k - 1] - gap, 0)))
            origin.append(best_from)
        costs = row
        came.append(origin)
    if not starts:
        return []
    for j, shift in enumerate(SHIFTS):
        has = total - starts[-1] - shift
        costs[j] += math.inf if shift > 0 and has < SLOT else _lacking(has, needs[-1])
    at = min(range(len(SHIFTS)), key=costs.__getitem__)
    path = [at]
    for origin in reversed(came):
        path.append(origin[path[-1]])
    return [start + SHIFTS[k] for start, k in zip(starts, reversed(path), strict=True)]


def _moved(shift: int, silence: int) -> float:
    """The price of a cue that begins earlier or later than its words; ``silence``: milliseconds without a word before."""
    if shift < 0:
        return -shift * (0.05 if -shift <= silence else 0.15)
    return shift * 0.1


def _lacking(has: int, needs: tuple[int, int]) -> float:
    """The price of a cue that is on screen for less than it needs to be seen, or to be read; in milliseconds."""
    price = 0.0
    for needed in needs:
        if has < needed:
            price += 200 + 300 * (needed - has) / needed
    return price


def _needed(block: _Block, rules: Rules) -> tuple[int, int]:
    """Milliseconds that a cue lasts at least: to be seen, and to be read."""
    columns = width("".join(w.text for w in block.words).strip()) + block.prefix
    return round(rules.min_duration * 1000), math.ceil(columns / rules.chars_per_second * 1000)


def _spoken(block: _Block) -> int:
    """When the last word of a cue ends, in milliseconds."""
    return round(max(w.end for w in block.words) * 1000)


def _end(block: _Block, start: int, following: int | None, rules: Rules, total: int) -> int:
    """When a cue ends that begins at ``start``, and leaves room for the one that begins at ``following``; in milliseconds."""
    longest, gap = round(rules.max_duration * 1000), round(rules.gap * 1000)
    end = min(max(_spoken(block), start + max(_needed(block, rules))), start + longest)
    if following is None:
        return min(end, max(total, start + 1))
    # The gap is taken from a cue's end, but not so that the cue is gone at once: then the two touch.
    latest = following - gap if following - gap >= start + SLOT else following
    end = min(end, latest)
    if following - end < max(FLASH, gap, round(rules.chain * 1000)):
        if latest - start <= longest:
            return latest
        if 0 < following - end < max(FLASH, gap):
            return following - max(FLASH, gap)
    return end


def _shown(block: _Block, start: int, end: int, rules: Rules, language: Language) -> Cue:
    """A cue with its lines."""
    return Cue(
        start=start / 1000,
        end=end / 1000,
        lines=layout(block.words, rules, block.prefix, _spoken_in(block, language)),
        words=tuple(block.words),
        speaker=block.speaker,
        changed=block.changed,
        mark=block.mark,
        sung=all(word.sung for word in block.words),
    )
