"""Who speaks when: mixes by seed, one voice alone, meetings."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from harness import WORK
from metrics import Turn, read_rttm

from speech import der, mixes, product, sound, sources
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
    every = [der.errors(turns, product.turns(s)) for (_, _, turns), s in zip(clips, said, strict=True)]
    for (name, _, turns), one, each in zip(clips, every, said, strict=True):
        people = len({t.speaker for t in turns})
        count = len({t.speaker for t in product.turns(each)})
        print(
            f"{name}: {people} people, {count} found: {100 * one.rate:.1f} % "
            f"(missed {one.missed:.1f} s, alarm {one.alarm:.1f} s, confused {one.confused:.1f} s of {one.total:.1f} s)",
            file=sys.stderr,
        )
    wrong = sum(e.missed + e.alarm + e.confused for e in every)
    whole = 100 * wrong / sum(e.total for e in every)
    missed, alarm, confused = (sum(getattr(e, kind) for e in every) for kind in ("missed", "alarm", "confused"))
    parts = " / ".join(f"{100 * x / sum(e.total for e in every):.1f}" for x in (missed, alarm, confused))
    figure = f"{whole:.1f} % (missed, alarm, confused: {parts})"
    return [Line("meetings", f"DER of {len(clips)} clips, count found", figure, "≤ 22 %", whole <= 22)]


def meeting_clips() -> list[tuple[str, Path, list[Turn]]]:
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


def clip(wav: Path, turns: Sequence[Turn]) -> Path:
    """The part of a recording for which the turns are known: from its start to its last turn's end."""
    samples = sound.load(wav)
    last = max(t.end for t in turns)
    target = WORK / "meetings" / f"{wav.stem}.wav"
    known = 30.0 if last <= 30.0 else 60.0
    return sound.write(target, np.asarray(samples[: round(known * sound.RATE)]))


def turns_of(rttm: Path, name: str) -> list[Turn]:
    """The turns of one recording of a file that has several."""
    lines = [line for line in rttm.read_text().splitlines() if line.split()[1:2] == [name]]
    part = WORK / "meetings" / f"{name}.rttm"
    part.parent.mkdir(parents=True, exist_ok=True)
    part.write_text("\n".join(lines) + "\n")
    return read_rttm(part)


def asked(what: str, files: Sequence[Path], people: int | None = None) -> list[dict[str, object]]:
    """The product's turns; with the number of people, when it is given."""
    flags = ("--speakers", str(people)) if people else ()
    return product.heard(what, files, product.Setup(PRESET, flags, UNTIL))


def rate(truth: Sequence[Turn], said: dict[str, object]) -> float:
    """Percent."""
    return 100 * der.errors(truth, product.turns(said)).rate


def spread(rates: Sequence[float]) -> str:
    """Median, and all of them from the best to the worst quarter."""
    ordered = sorted(rates)
    low, high = ordered[len(ordered) // 4], ordered[3 * len(ordered) // 4]
    return f"{statistics.median(rates):.1f} % (quarters {low:.1f}, {high:.1f}; worst {ordered[-1]:.1f})"
