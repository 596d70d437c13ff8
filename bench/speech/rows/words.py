"""Word error rates on real speech, beside faster-whisper with the same weights."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import jiwer

from speech import corpus, peers, product
from speech.report import Line, Options

MODELS = {"base": "starter", "tiny.en": "tiny-en"}
"""Weights -> the preset that has them."""

BEHIND = 1.0
"""Points of word error rate that a file may be behind the best peer."""


@dataclass(frozen=True)
class Score:
    """Edits, and how many words are true."""

    wrong: int
    count: int

    @property
    def rate(self) -> float:
        """Percent."""
        return 100 * self.wrong / max(self.count, 1)


def words(options: Options) -> list[Line]:
    """The row: English and six more languages with base, English with tiny.en."""
    chosen = corpus.readings(final=options.final)[: options.count]
    lines: list[Line] = []
    for model, preset in MODELS.items():
        known = [r for r in chosen if r.language == "en" or not model.endswith(".en")]
        lines += compared(model, preset, known)
    return lines


def compared(model: str, preset: str, readings: Sequence[corpus.Reading]) -> list[Line]:
    """The product and faster-whisper in both its ways on one set of weights."""
    ours = {}
    for language in dict.fromkeys(r.language for r in readings):
        files = [r for r in readings if r.language == language]
        setup = product.Setup(preset, ("--language", language, "--no-diarization"))
        said = product.heard(f"words, {model}, {language}", [r.path for r in files], setup)
        ours.update({r.name: product.text(s) for r, s in zip(files, said, strict=True)})
    pairs = [(r.path, r.language) for r in readings]
    texts = {"ours": [ours[r.name] for r in readings]}
    for name, batch in (("faster-whisper", 0), ("batched", 8)):
        texts[name] = [peers.text(s) for s in peers.transcribed(f"words, {model}", model, pairs, batch=batch)]
    scores = {name: scored(readings, said) for name, said in texts.items()}
    show(model, readings, scores)
    english = [k for k, r in enumerate(readings) if r.language == "en"]
    others = [k for k, r in enumerate(readings) if r.language != "en"]
    lines = [line(f"{model}, {len(english)} English recordings", scores, english)] if english else []
    if others:
        tongues = len({readings[k].language for k in others})
        lines.append(line(f"{model}, {len(others)} recordings in {tongues} other languages", scores, others))
    for kind in ("clean", "telephone", "noise", "music"):
        some = [k for k in english if readings[k].kind == kind]
        if some:
            lines.append(line(f"{model}, English, {kind} ({len(some)})", scores, some, bar=False))
    return [*lines, farthest(model, readings, scores)]


def scored(readings: Sequence[corpus.Reading], texts: Sequence[str]) -> list[Score]:
    """Edits between what is true and what was heard, both as Whisper's evaluation compares them."""
    true = peers.normalised([(r.language, r.text) for r in readings])
    heard = peers.normalised([(r.language, t) for r, t in zip(readings, texts, strict=True)])
    found = []
    for truth, said in zip(true, heard, strict=True):
        edits = jiwer.process_words(truth, said)
        wrong = edits.substitutions + edits.insertions + edits.deletions
        found.append(Score(wrong, len(truth.split())))
    return found


def total(scores: Sequence[Score], chosen: Sequence[int]) -> Score:
    """Of several recordings together."""
    return Score(sum(scores[k].wrong for k in chosen), sum(scores[k].count for k in chosen))


def line(what: str, scores: dict[str, list[Score]], chosen: Sequence[int], *, bar: bool = True) -> Line:
    """Ours against the better of the peers, over all of the chosen."""
    mine = total(scores["ours"], chosen)
    theirs = {name: total(found, chosen).rate for name, found in scores.items() if name != "ours"}
    shown = ", ".join(f"{name} {rate:.2f} %" for name, rate in theirs.items())
    figure = f"{mine.rate:.2f} % of {mine.count} words"
    if not bar:
        return Line("words", what, figure, peer=shown)
    return Line("words", what, figure, "≤ the best of them", mine.rate <= min(theirs.values()), shown)


def farthest(model: str, readings: Sequence[corpus.Reading], scores: dict[str, list[Score]]) -> Line:
    """The recording that is farthest behind the peer that is best over all."""
    best = min((name for name in scores if name != "ours"), key=lambda n: total(scores[n], range(len(readings))).rate)
    behind = [(a.rate - b.rate, r.name) for a, b, r in zip(scores["ours"], scores[best], readings, strict=True)]
    points, name = max(behind)
    over = sum(p > BEHIND for p, _ in behind)
    figure = f"{over} of {len(behind)}; at most {points:.1f} points ({name})"
    return Line("words", f"{model}, recordings more than 1 point behind", figure, "0", over == 0, best)


def show(model: str, readings: Sequence[corpus.Reading], scores: dict[str, list[Score]]) -> None:
    """Each recording, on standard error."""
    for k, one in enumerate(readings):
        rates = "  ".join(f"{name} {found[k].rate:5.1f}" for name, found in scores.items())
        print(f"{model:8} {one.name:28} {one.language} {scores['ours'][k].count:4} words  {rates}", file=sys.stderr)
