"""Whether every second of detected speech is in a cue or in a gap with a reason, told from the files a person gets."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any

from speech import product
from speech.report import Line, Options
from speech.rows import attribution

PIECE = 0.5
"""Seconds: shorter pieces beside words are their edges (docs/job-format.md, ``coverage``)."""

Span = tuple[float, float]


def ledger(options: Options) -> list[Line]:
    """The row: seconds of speech that nothing accounts for, and words outside of speech without a mark."""
    names, said = attribution.heard(options)
    left = outside = 0.0
    speech = words = 0.0
    for name, each in zip(names, said, strict=True):
        spans = [(a, b) for a, b in each["vad"]["speech"]]
        rest = beyond(spans, [*cue_spans(each["srt"]), *gaps(each)])
        bare = [w for w in product.words(each) if not w.get("unsure") and not touches((w["start"], w["end"]), spans)]
        if rest or bare:
            print(f"{name}: {rest} {[w['word'] for w in bare]!a}", file=sys.stderr)
        left += sum(b - a for a, b in rest)
        outside += len(bare)
        speech += sum(b - a for a, b in spans)
        words += len(product.words(each))
    return [
        Line("ledger", "speech in no cue and no gap", f"{left:.1f} s of {speech:.0f} s", "0 s", not left),
        Line("ledger", "words outside of speech, unmarked", f"{outside:.0f} of {words:.0f}", "0", not outside),
    ]


def cue_spans(srt: str) -> list[Span]:
    """When the cues of a SubRip file are shown, seconds."""
    stamps = re.findall(r"(\d+):(\d\d):(\d\d),(\d{3}) --> (\d+):(\d\d):(\d\d),(\d{3})", srt)
    return [(seconds(stamp[:4]), seconds(stamp[4:])) for stamp in stamps]


def seconds(stamp: Sequence[str]) -> float:
    """Hours, minutes, seconds, milliseconds."""
    h, m, s, ms = map(int, stamp)
    return 3600 * h + 60 * m + s + ms / 1000


def gaps(said: dict[str, Any]) -> list[Span]:
    """The gaps that have a reason."""
    coverage = said["transcript"].get("coverage") or {}
    return [(gap["start"], gap["end"]) for gap in coverage.get("gaps", []) if gap["why"]]


def beyond(spans: Sequence[Span], covered: Sequence[Span]) -> list[Span]:
    """What is left of spans without what is covered, in pieces of at least :data:`PIECE`."""
    found: list[Span] = []
    for start, end in spans:
        at = start
        for a, b in sorted(covered):
            if a >= end:
                break
            if a - at >= PIECE:
                found.append((at, a))
            at = max(at, b)
        if end - at >= PIECE:
            found.append((at, end))
    return found


def touches(span: Span, others: Sequence[Span]) -> bool:
    """Whether they share a moment."""
    return any(a < span[1] and b > span[0] for a, b in others)
