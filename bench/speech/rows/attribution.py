"""Words that the wrong speaker is given, on mixes and on a telephone call."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from builder.core.compare.speakers import SpeakerErrors, SpeakerTurn, speaker_errors, turns_of_rttm
from speech import mixes, product, sound, sources
from speech.report import Line, Options

MIXES = 12
"""How many mixes; text costs more than turns."""


def attribution(options: Options) -> list[Line]:
    """The row: mixes of at least two people, and the call; the count of speakers isn't given."""
    made, call = recordings(options)
    names, said = heard(options)
    truths = [*(m.turns for m in made), call[1]]
    every = [wrong(product.words(s), truth) for s, truth in zip(said, truths, strict=True)]
    for name, one in zip(names, every, strict=True):
        print(f"{name}: {shown(one)}", file=sys.stderr)
    groups = [(f"{len(made)} mixes", sum(every[:-1], SpeakerErrors())), ("the call", every[-1])]
    return [
        Line("attribution", f"words of the wrong speaker, {name}", shown(e), "≤ 2 %", share(e) <= 2)
        for name, e in groups
        if e.total
    ]


def recordings(options: Options) -> tuple[list[mixes.Mix], tuple[Path, Sequence[SpeakerTurn]]]:
    """The mixes, and the call with its turns."""
    seeds = [s for s in mixes.seeds(final=options.final) if mixes.plan(s)[0] > 1][: options.count or MIXES]
    place = sources.folder("meetings") / "src/pyannote/audio/sample"
    turns = turns_of_rttm((place / "sample.rttm").read_text())
    return [mixes.made(seed) for seed in seeds], (sound.decoded([place / "sample.wav"])[0], turns)


def heard(options: Options) -> tuple[list[str], list[dict[str, Any]]]:
    """Name of each recording, and what the product makes of it."""
    made, (call, _) = recordings(options)
    setup = product.Setup("starter", ("--language", "en"))
    said = product.heard("attribution", [*(m.path for m in made), call], setup)
    return [*(f"{m.name} ({m.kind}, {m.people})" for m in made), "the call"], said


def wrong(words: Sequence[dict[str, Any]], truth: Sequence[SpeakerTurn]) -> SpeakerErrors:
    """Errors counted in words, with the names that make them fewest. Words that two say at once, or nobody, don't count."""
    real: list[SpeakerTurn] = []
    found: list[SpeakerTurn] = []
    for number, word in enumerate(words):
        who = {t.speaker for t in truth if t.start < word["end"] and t.end > word["start"]}
        if len(who) == 1:
            real.append(SpeakerTurn(start=number, end=number + 1, speaker=who.pop()))
            if word.get("speaker"):
                found.append(SpeakerTurn(start=number, end=number + 1, speaker=str(word["speaker"])))
    return speaker_errors(real, found, collar=0.0)


def share(errors: SpeakerErrors) -> float:
    """Percent of words with a wrong speaker, or none."""
    return 100 * (errors.rate or 0.0)


def shown(errors: SpeakerErrors) -> str:
    """Percent, and of how many words."""
    return f"{share(errors):.1f} % of {errors.total:.0f}"
