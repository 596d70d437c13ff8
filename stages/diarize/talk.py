"""Turns, which may overlap, from what windows heard and whose voice each stretch is."""

from __future__ import annotations

from typing import Any

import numpy as np
import powerset
from powerset import FRAMES, HOP, LOCAL, RATE, STEP, Heard

PAUSE = 0.5
"""Seconds without speech up to which one person's turn goes on."""

SHORT = 0.1
"""Seconds of a turn at least."""

NEAR = 1.0
"""Seconds up to which speech that only the speech detection heard belongs to whoever speaks next to it."""

FAR = 2.0
"""Seconds from detected speech where nobody is believed to speak: voices in music. Nearer, it is mostly quiet speech that the
detection missed (measured on clips of meetings)."""

BLOCK = 1 << 16
"""Frames that are handled at once: hours of them take no more memory."""


def speaking(heard: Heard, owners: list[tuple[int, Any]], labels: Any) -> Any:
    """Who speaks when, bool [frames, people].

    As many as the windows count on the average (pyannote.audio's way of joining windows), and of all those whom they
    name, the most often named.

    Args:
        owners: of each stretch, its window and the window's frames that it stands for.
        labels: whose voice each stretch is.
    """
    people = int(labels.max()) + 1 if len(labels) else 0
    named = np.zeros((len(heard.classes) * HOP + FRAMES, people), dtype=np.uint8)
    alone = np.full(len(named), -1, dtype=np.int16)
    for (window, part), label in zip(owners, labels, strict=True):
        alone[window * HOP + part.astype(np.int64)] = label
    for window in range(len(heard.classes)):
        at = slice(window * HOP, window * HOP + FRAMES)
        _name(heard.active(window), alone[at], named[at])
    count, out = heard.count(), np.zeros((heard.frames, people), dtype=bool)
    for start in range(0, heard.frames, BLOCK):
        block = named[start : min(start + BLOCK, heard.frames)]
        order = np.argsort(-block.astype(np.int16), axis=1, kind="stable")
        for rank in range(min(people, LOCAL)):
            rows = np.flatnonzero(count[start : start + len(block)] > rank)
            who = order[rows, rank]
            known = block[rows, who] > 0
            out[start + rows[known], who[known]] = True
    _second(out, count)
    return out


def _second(out: Any, count: Any) -> None:
    """Name a second person where two speak at once and only one is known: who else spoke last or speaks next."""
    lacking = np.flatnonzero((count > 1) & (out.sum(axis=1) == 1))
    if out.shape[1] < 2 or not len(lacking):
        return
    away = np.full((len(lacking), out.shape[1]), len(out))
    for who in range(out.shape[1]):
        known = np.flatnonzero(out[:, who])
        if len(known):
            away[:, who] = np.abs(known[_nearest(known, lacking)] - lacking)
    away[out[lacking]] = len(out)
    out[lacking, away.argmin(axis=1)] = True


def _name(active: Any, alone: Any, named: Any) -> None:
    """Add to ``named`` [FRAMES, people] whom each voice of a window is in each frame.

    A voice is the person of the nearest moment at which it speaks alone: a window may take two people for one voice.
    """
    single = active.sum(axis=1) == 1
    for local in range(LOCAL):
        known = np.flatnonzero(active[:, local] & single & (alone >= 0))
        frames = np.flatnonzero(active[:, local])
        if len(known):
            named[frames, alone[known[_nearest(known, frames)]]] += 1


def _nearest(known: Any, wanted: Any) -> Any:
    """For each wanted number, the index of the nearest known one, both in order; of two, the earlier."""
    after = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    before = np.maximum(after - 1, 0)
    return np.where(np.abs(known[before] - wanted) <= np.abs(known[after] - wanted), before, after)


def with_speech(out: Any, speech: list[list[float]]) -> Any:
    """The same, in agreement with where speech was detected (regions in seconds).

    Nobody speaks far from it; where nobody was named in it, whoever is near; all of it is one person's if nobody is known.
    """
    if not out.any():
        return framed(speech, len(out))[:, None]
    out = out & framed(speech, len(out), FAR)[:, None]
    known = np.flatnonzero(out.any(axis=1))
    lacking = np.flatnonzero(framed(speech, len(out)) & ~out.any(axis=1))
    if len(known):
        near = known[_nearest(known, lacking)]
        close = np.abs(near - lacking) * STEP <= NEAR * RATE
        out[lacking[close]] = out[near[close]]
    return out


def framed(speech: list[list[float]], frames: int, grown: float = 0.0) -> Any:
    """The frames of regions, bool [frames]; each region grown on both sides, in seconds."""
    out = np.zeros(frames, dtype=bool)
    for start, end in speech:
        a, b = ((t * RATE - powerset.FIRST) / STEP for t in (start - grown, end + grown))
        out[max(0, round(a)) : max(0, round(b) + 1)] = True
    return out


def turns(out: Any, duration: float) -> list[dict[str, Any]]:
    """Turns in order of their starts; speakers are S1, S2… by first appearance.

    Args:
        out: who speaks when, bool [frames, people].
    """
    found: list[tuple[float, float, int]] = []
    for who in range(out.shape[1]):
        edges = np.flatnonzero(np.diff(out[:, who].astype(np.int8), prepend=0, append=0))
        spans: list[list[float]] = []
        for first, last in edges.reshape(-1, 2):
            start, end = powerset.time_of(first - 0.5), min(powerset.time_of(last - 0.5), duration)
            if spans and start - spans[-1][1] <= PAUSE:
                spans[-1][1] = end
            elif end > start:
                spans.append([start, end])
        found += [(start, end, who) for start, end in spans if end - start >= SHORT]
    names: dict[int, str] = {}
    return [
        {
            "start": round(max(0.0, start), 3),
            "end": round(end, 3),
            "speaker": names.setdefault(who, f"S{len(names) + 1}"),
        }
        for start, end, who in sorted(found)
    ]
