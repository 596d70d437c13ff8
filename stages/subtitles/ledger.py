"""What became of every second of speech: in a cue, at a word's edge, or in a gap that has a name. Pure; times in seconds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from cues import Cue
from sentences import Sentence
from speakers import Floor

Span = tuple[float, float]

EDGE = 0.5
"""Seconds of speech beside a cue that count as the edges of its words: detection begins early and ends late."""

SLIVER = 0.3
"""Seconds: a shorter part of a gap has its neighbour's name."""

LINGER = 0.5
"""Seconds after its last word for which a cue stands for what is heard; afterwards it only stays to be read."""

UNKNOWN = "no words found"
CUT = "cut by the user"


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Speech without a word."""

    start: float
    end: float
    why: str
    channel: int | None = None
    """Where channels are heard apart."""


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """Seconds of speech: ``speech`` is the sum of ``shown``, ``edges`` and the gaps."""

    speech: float
    shown: float
    edges: float
    """In pieces of less than :data:`EDGE` beside what is shown."""
    gaps: tuple[Gap, ...]
    unsure: int
    """Words that lie outside speech, or that the recognition marked."""

    def data(self, offset: float = 0.0) -> dict[str, Any]:
        """As JSON; ``offset`` is added to the times."""
        gaps: list[dict[str, Any]] = []
        for gap in self.gaps:
            entry = {"start": round(gap.start + offset, 3), "end": round(gap.end + offset, 3), "why": gap.why}
            gaps.append(entry if gap.channel is None else entry | {"channel": gap.channel})
        return {
            "speech": round(self.speech, 3),
            "shown": round(self.shown, 3),
            "edges": round(self.edges, 3),
            "gaps": gaps,
            "unsure": self.unsure,
        }


def marked(said: Iterable[Sentence], speech: Mapping[int | None, Sequence[Span]]) -> list[Sentence]:
    """The sentences; words without speech are marked. What a person wrote isn't.

    Args:
        speech: as in :func:`ledger`.
    """
    floors = {channel: Floor(list(spans)) for channel, spans in speech.items()}
    everywhere = Floor([span for spans in speech.values() for span in spans])
    marked = []
    for sentence in said:
        words = []
        for word in sentence.words:
            floor = floors.get(word.channel, everywhere)
            supported = floor.common(word.start, max(word.end, word.start + 0.001)) > 0
            words.append(word if supported or word.source == "edited" else replace(word, unsure=True))
        marked.append(replace(sentence, words=tuple(words)))
    return marked


def ledger(
    speech: Mapping[int | None, Sequence[Span]],
    cues: Sequence[Cue],
    unheard: Sequence[Mapping[str, Any]],
    cut: Sequence[Sentence] = (),
) -> Ledger:
    """Account for all speech.

    Args:
        speech: channel (None: all of them together) -> detected speech.
        unheard: ``{"start", "end", "why"}`` of the recognition, perhaps with ``"channel"``.
        cut: what was heard before a person edited it.
    """
    total = shown = edges = 0.0
    gaps: list[Gap] = []
    for channel, spans in speech.items():
        regions = Floor(list(spans)).turns
        covered = Floor([span for cue in cues if _is_of(channel, cue) for span in _stands(cue)]).turns
        names = [((s.start, s.end), CUT) for s in cut if channel in (None, s.words[0].channel)]
        for entry in unheard:
            if channel is None or entry.get("channel") in (None, channel):
                names.append(((float(entry["start"]), float(entry["end"])), str(entry["why"])))
        total += sum(b - a for a, b in regions)
        edges_before = edges
        lost = 0.0
        for start, end, whole in _outside(regions, covered):
            if not whole and end - start < EDGE:
                edges += end - start
                continue
            lost += end - start
            gaps += [Gap(start=a, end=b, why=why, channel=channel) for a, b, why in _named((start, end), names)]
        shown += sum(b - a for a, b in regions) - lost - (edges - edges_before)
    unsure = sum(word.unsure for cue in cues for word in cue.words)
    gaps.sort(key=lambda gap: (gap.start, gap.channel or 0))
    return Ledger(speech=total, shown=max(shown, 0.0), edges=edges, gaps=tuple(gaps), unsure=unsure)


def _is_of(channel: int | None, cue: Cue) -> bool:
    """Whether a cue may show what was said on a channel; words that a person wrote have none."""
    return channel is None or not cue.words or cue.words[0].channel in (None, channel)


def _stands(cue: Cue) -> Iterator[Span]:
    """The time for which a cue stands for what is heard: from its first word until shortly after its last one."""
    spoken = max((word.end for word in cue.words), default=cue.end)
    begins = cue.words[0].start if cue.words else cue.start
    yield begins, max(begins, min(cue.end, spoken + LINGER))
    for word in cue.words:  # also where a cue had to end before its last word does
        yield word.start, word.end


def _outside(regions: Sequence[Span], covered: Sequence[Span]) -> Iterator[tuple[float, float, bool]]:
    """The parts of regions that nothing covers, and whether each is a whole region; both are sorted and apart."""
    k = 0
    for start, end in regions:
        while k < len(covered) and covered[k][1] <= start:
            k += 1
        at, j = start, k
        while j < len(covered) and covered[j][0] < end:
            if covered[j][0] > at:
                yield at, covered[j][0], False
            at = max(at, covered[j][1])
            j += 1
        if at < end:
            yield at, end, at == start


def _named(gap: Span, names: Sequence[tuple[Span, str]]) -> list[tuple[float, float, str]]:
    """The parts of a gap with their names; where several fit, the first."""
    edges = {gap[0], gap[1]}
    near = [(span, why) for span, why in names if span[0] < gap[1] and span[1] > gap[0]]
    for (start, end), _ in near:
        edges |= {min(max(start, gap[0]), gap[1]), min(max(end, gap[0]), gap[1])}
    points = sorted(edges)
    parts: list[tuple[float, float, str]] = []
    for a, b in pairwise(points):
        middle = (a + b) / 2
        why = next((why for (start, end), why in near if start <= middle <= end), UNKNOWN)
        if parts and (parts[-1][2] == why or b - a < SLIVER):
            parts[-1] = parts[-1][0], b, parts[-1][2]
        elif parts and parts[-1][1] - parts[-1][0] < SLIVER:
            parts[-1] = parts[-1][0], b, why
        else:
            parts.append((a, b, why))
    return parts
