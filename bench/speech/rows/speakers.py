"""Who speaks when: mixes by seed, one voice alone, meetings."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from harness import WORK
from metrics import diarization_error

from builder.core.compare.speakers import SpeakerErrors, SpeakerTurn, speaker_errors, turns_of_rttm
from speech import mixes, product, sound, sources
from speech.report import Line, Options

PRESET = "starter"

UNTIL = "diarize"
"""Text isn't needed: these rows run no further."""


def speakers(options: Options) -> list[Line]:
    """The row of the mixes: count found and given, and how often it is found right."""
    chosen = [mixes.made(seed) for seed in mixes.seeds(final=options.final)[: options.count]]
    found = [rate(m.turns, s) for m, s in zip(chosen, asked("speakers found", [m.path for m in chosen]), strict=True)]
    given = [0.0] * len(chosen)
    for people in sorted({m.people for m in chosen}):
        group = [k for k, m in enumerate(chosen) if m.people == people]
        said = asked(f"speakers given, {people}", [chosen[k].path for k in group], people)
        for k, each in zip(group, said, strict=True):
            given[k] = rate(chosen[k].turns, each)
    counts = [len({t.speaker for t in product.turns(s)}) for s in asked("speakers", [m.path for m in chosen])]
    right = sum(count == m.people for count, m in zip(counts, chosen, strict=True))
    for m, a, b, count in zip(chosen, found, given, counts, strict=True):
        print(
            f"{m.name} {m.kind:8} {m.people:2} people, {count:2} found: {a:5.1f} %, given {b:5.1f} %", file=sys.stderr
        )
    worse = max(b - a for a, b in zip(found, given, strict=True))
    share = 100 * right / len(chosen)
    middle = statistics.median
    return [
        Line(
            "speakers", f"DER of {len(chosen)} mixes, count found, median", spread(found), "≤ 6 %", middle(found) <= 6
        ),
        Line("speakers", "count given, median", spread(given), "≤ 3 %", middle(given) <= 3),
        Line("speakers", "given worse than found, at most", f"{worse:.1f} points", "≤ 1 point", worse <= 1),
        Line("speakers", "count right", f"{right} of {len(chosen)}, {share:.0f} %", "≥ 80 %", share >= 80),
        *(kind_line(kind, chosen, found, given) for kind in mixes.KINDS if any(m.kind == kind for m in chosen)),
    ]


def kind_line(kind: str, chosen: Sequence[mixes.Mix], found: Sequence[float], given: Sequence[float]) -> Line:
    """Medians of the mixes of one kind."""
    some = [k for k, m in enumerate(chosen) if m.kind == kind]
    a, b = (statistics.median(rates[k] for k in some) for rates in (found, given))
    return Line("speakers", f"{kind} ({len(some)}), found / given, median", f"{a:.1f} / {b:.1f} %")


def alone(options: Options) -> list[Line]:
    """The row of one voice for 3 to 15 s."""
    files = mixes.alone(final=options.final, count=options.count or 40)
    counts = [len({t.speaker for t in product.turns(s)}) for s in asked("alone", files)]
    right = sum(count == 1 for count in counts)
    for path, count in zip(files, counts, strict=True):
        if count != 1:
            print(f"{path.stem}: {count} speakers", file=sys.stderr)
    share = 100 * right / len(files)
    return [Line("alone", "one voice of 3–15 s is one", f"{right} of {len(files)}", "≥ 95 %", share >= 95)]


def meetings(options: Options) -> list[Line]:
    """The row of clips of meetings: errors over all of their time."""
    clips = meeting_clips()[: options.count]
    said = asked("meetings", [path for _, path, _ in clips])
    every = [speaker_errors(turns, product.turns(s)) for (_, _, turns), s in zip(clips, said, strict=True)]
    for (name, _, turns), one, each in zip(clips, every, said, strict=True):
        people, count = (len({t.speaker for t in some}) for some in (turns, product.turns(each)))
        print(f"{name}: {people} people, {count} found: {shares(one)}", file=sys.stderr)
    whole = sum(every, SpeakerErrors())
    rate = 100 * (whole.rate or 0.0)
    return [Line("meetings", f"DER of {len(clips)} clips, count found", shares(whole), "≤ 22 %", rate <= 22)]


def shares(errors: SpeakerErrors) -> str:
    """The error rate and its three parts."""
    parts = " / ".join(f"{100 * x / errors.total:.1f}" for x in (errors.missed, errors.invented, errors.confused))
    return f"{100 * (errors.rate or 0.0):.1f} % (missed, invented, confused: {parts})"


def meeting_clips() -> list[tuple[str, Path, list[SpeakerTurn]]]:
    """Name, recording and true turns of AMI clips of 30 or 60 s in which at least two people speak."""
    place = sources.folder("meetings") / "tests/data"
    found = []
    for rttm in sorted(place.glob("debug.*.rttm")):
        names = sorted({line.split()[1] for line in rttm.read_text().splitlines() if line.startswith("SPEAKER")})
        for name in names:
            wav = place / f"{name}.wav"
            turns = turns_of(rttm, name)
            if wav.exists() and len({t.speaker for t in turns}) > 1:
                found.append((name, clip(wav, turns), turns))
    return found


def clip(wav: Path, turns: Sequence[SpeakerTurn]) -> Path:
    """The part of a recording for which the turns are known: from its start to its last turn's end."""
    samples = sound.load(wav)
    last = max(t.end for t in turns)
    target = WORK / "meetings" / f"{wav.stem}.wav"
    known = 30.0 if last <= 30.0 else 60.0
    return sound.write(target, np.asarray(samples[: round(known * sound.RATE)]))


def turns_of(rttm: Path, name: str) -> list[SpeakerTurn]:
    """The turns of one recording of a file that has several."""
    lines = [line for line in rttm.read_text().splitlines() if line.split()[1:2] == [name]]
    return list(turns_of_rttm("\n".join(lines)))


def asked(what: str, files: Sequence[Path], people: int | None = None) -> list[dict[str, Any]]:
    """The product's turns; with the number of people, when it is given."""
    flags = ("--speakers", str(people)) if people else ()
    return product.heard(what, files, product.Setup(PRESET, flags, UNTIL))


def rate(truth: Sequence[SpeakerTurn], said: dict[str, Any]) -> float:
    """Percent."""
    return 100 * diarization_error(truth, product.turns(said))


def spread(rates: Sequence[float]) -> str:
    """Median, and all of them from the best to the worst quarter."""
    ordered = sorted(rates)
    low, high = ordered[len(ordered) // 4], ordered[3 * len(ordered) // 4]
    return f"{statistics.median(rates):.1f} % (quarters {low:.1f}, {high:.1f}; worst {ordered[-1]:.1f})"
