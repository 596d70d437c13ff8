"""Who says each word: the cheapest way through the turns of diarization. Pure.

A word is rather its neighbour's speaker's than another's, most of all within a sentence: turns begin and end a little early
or late, and may overlap. The cheapest sequence of speakers is found by dynamic programming (Viterbi, 1967); its cost is linear
in the number of words.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from breaks import Language

if TYPE_CHECKING:
    from sentences import Word

CHANGE = 0.5
"""Price of another speaker in the middle of a phrase, in seconds of words outside their speaker's turns."""

CHANGE_AT_PAUSE = 0.25
"""The same where there is a pause of :data:`BREATH`, or a comma."""

CHANGE_AT_END = 0.05
"""The same after a sentence."""

BREATH = 0.25
"""Seconds without a word at which another speaker may well take over."""

LONGEST, SHORTEST = 0.6, 0.08
"""Seconds as which a word counts at most and at least: bad alignment makes words of seconds, or of no length."""

FAR = 0.1
"""Price of each second between a word that no turn covers and the nearest turn of a speaker, up to :data:`FARTHEST`."""

FARTHEST = 3.0


class Floor:
    """When one speaker has the floor: turns with an index, since a long recording has thousands."""

    def __init__(self, turns: list[tuple[float, float]]) -> None:
        self.turns: list[tuple[float, float]] = []
        for start, end in sorted(turns):
            if self.turns and start <= self.turns[-1][1]:
                self.turns[-1] = self.turns[-1][0], max(end, self.turns[-1][1])
            else:
                self.turns.append((start, end))
        self.starts = [start for start, _ in self.turns]
        self.ends = [end for _, end in self.turns]

    def common(self, start: float, end: float) -> float:
        """Seconds of a span that lie in the turns."""
        between = self.turns[bisect_right(self.ends, start) : bisect_left(self.starts, end)]
        return sum(min(end, b) - max(start, a) for a, b in between)

    def distance(self, time: float) -> float:
        """Seconds to the nearest turn."""
        k = bisect_right(self.starts, time)
        after = self.starts[k] - time if k < len(self.starts) else FARTHEST
        return min(after, max(0.0, time - self.ends[k - 1]) if k else FARTHEST)


def attributed(words: Sequence[Word], turns: Sequence[dict[str, Any]], language: Language) -> list[str]:
    """The speaker of each word.

    Args:
        words: in the order of time; times in seconds.
        turns: ``{"start", "end", "speaker"}``, at least one; they may overlap, and count for each of their speakers then.
        language: of the words, which says where a sentence ends.
    """
    # A speaker who speaks first wins where two cost the same, whatever the speakers are called.
    ordered = sorted(turns, key=lambda t: (t["start"], t["end"], t["speaker"]))
    names = list(dict.fromkeys(str(t["speaker"]) for t in ordered))
    floors = [Floor([(t["start"], t["end"]) for t in ordered if t["speaker"] == name]) for name in names]
    total = [0.0] * len(names)
    came: list[list[int]] = []
    for k, word in enumerate(words):
        prices = _prices(word, floors)
        if k == 0:
            total, origin = prices, list(range(len(names)))
        else:
            change = _change(words[k - 1], word, language)
            best = min(range(len(names)), key=total.__getitem__)
            ceiling = total[best] + change
            origin = [who if total[who] <= ceiling else best for who in range(len(names))]
            total = [min(total[who], ceiling) + price for who, price in enumerate(prices)]
        came.append(origin)
    if not words:
        return []
    path = [min(range(len(names)), key=total.__getitem__)]
    for origin in reversed(came[1:]):
        path.append(origin[path[-1]])
    return [names[who] for who in reversed(path)]


def _prices(word: Word, floors: list[Floor]) -> list[float]:
    """What a word costs as each speaker's: its seconds outside their turns, and the way to these where nobody speaks."""
    middle = (word.start + word.end) / 2
    half = max(word.end - word.start, SHORTEST) / 2
    covered = [floor.common(middle - half, middle + half) / (2 * half) for floor in floors]
    weight = min(2 * half, LONGEST)
    if any(covered):
        return [weight * (1 - share) for share in covered]
    return [weight + FAR * min(floor.distance(middle), FARTHEST) for floor in floors]


def _change(before: Word, word: Word, language: Language) -> float:
    """The price of another speaker from ``word`` on."""
    if language.ends(before.text, word.text):
        return CHANGE_AT_END
    if word.start - before.end >= BREATH or before.text.endswith((",", ";", ":", "、", "，")):
        return CHANGE_AT_PAUSE
    return CHANGE
