"""Where words begin: against the instants at which a clean recording becomes loud after a pause."""

from __future__ import annotations

import bisect
import statistics
import sys
from collections.abc import Sequence

from speech import corpus, peers, product
from speech.report import Line, Options

FAR = 1.0
"""Seconds beyond which no word belongs to a start: it counts as this far."""

BARS = {"English": 15, "other languages": 45}
"""Milliseconds."""


def times(options: Options) -> list[Line]:
    """The row: medians of the distance, ours and faster-whisper's."""
    clean = [r for r in corpus.readings(final=options.final) if r.starts and r.kind in ("clean", "telephone")]
    chosen = clean[: options.count]
    ours: dict[str, list[float]] = {}
    for language in dict.fromkeys(r.language for r in chosen):
        files = [r for r in chosen if r.language == language]
        setup = product.Setup("starter", ("--language", language, "--no-diarization"))
        for r, said in zip(files, product.heard(f"times, {language}", [f.path for f in files], setup), strict=True):
            ours[r.name] = [w["start"] for w in product.words(said)]
    pairs = [(r.path, r.language) for r in chosen]
    theirs = [
        [w["start"] for s in said["segments"] for w in s["words"]]
        for said in peers.transcribed("times", "base", pairs, times=True)
    ]
    lines: list[Line] = []
    for group, bar in BARS.items():
        some = [k for k, r in enumerate(chosen) if (r.language == "en") == (group == "English")]
        if some:
            mine = [d for k in some for d in distances(chosen[k].starts, ours[chosen[k].name])]
            other = [d for k in some for d in distances(chosen[k].starts, theirs[k])]
            middle = 1000 * statistics.median(map(abs, mine))
            what = f"word starts, {group}, base, median of {len(mine)}"
            lines.append(
                Line("times", what, shown(mine), f"≤ {bar} ms", middle <= bar, f"faster-whisper {shown(other)}")
            )
    for one in chosen:
        print(f"{one.name:24} {one.language} {shown(distances(one.starts, ours[one.name]))}", file=sys.stderr)
    return lines


def distances(starts: Sequence[float], words: Sequence[float]) -> list[float]:
    """Seconds by which the nearest word begins late, for each start; early is negative."""
    ordered = sorted(words)
    found = []
    for start in starts:
        at = bisect.bisect(ordered, start)
        near = [w - start for w in ordered[max(0, at - 1) : at + 1]]
        best = min(near, key=abs, default=FAR)
        found.append(max(-FAR, min(FAR, best)))
    return found


def shown(found: Sequence[float]) -> str:
    """Median distance, which way, and how many are near."""
    if not found:
        return "–"
    middle = 1000 * statistics.median(map(abs, found))
    bias = 1000 * statistics.median(found)
    near = 100 * sum(abs(d) <= 0.1 for d in found) / len(found)
    return f"{middle:.0f} ms ({bias:+.0f} ms, {near:.0f} % within 0.1 s)"
