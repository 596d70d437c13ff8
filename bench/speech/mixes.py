"""Conversations of real voices, made by seed, with who speaks when.

A voice is a reader of LibriSpeech: sentences that end at pauses are the turns, and what is quiet inside of one is nobody's.
A third of the voices and of the seeds is kept for ``--final``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from harness import WORK

from builder.core.compare.speakers import SpeakerTurn
from speech import kept, sound, sources

PLACE = WORK / "mixes"

KINDS = ("clean", "overlap", "noise", "music")

LENGTH = 75.0
"""Seconds of a mix, about; 12 for each who speaks where that is more."""

SEEDS = 48


@dataclass(frozen=True)
class Mix:
    """A conversation."""

    name: str
    path: Path
    turns: tuple[SpeakerTurn, ...]
    kind: str

    @property
    def people(self) -> int:
        """How many speak."""
        return len({t.speaker for t in self.turns})


def kept_back(name: str) -> bool:
    """Whether a voice is one of the third for the final figure."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % 3 == 0


@cache
def voices(final: bool) -> dict[str, list[Path]]:
    """Reader -> recordings."""
    found: dict[str, list[Path]] = {}
    for path in sorted(sources.folder("voices").rglob("*.flac")):
        reader = path.name.split("-")[0]
        if kept_back(reader) == final:
            found.setdefault(reader, []).append(path)
    return found


def plan(seed: int) -> tuple[int, str, bool]:
    """How many speak in a mix, its kind, and whether it is for the final figure."""
    return seed % 10 + 1, KINDS[(seed + seed // 10) % len(KINDS)], seed % 3 == 2


def seeds(*, final: bool) -> list[int]:
    """The seeds of one part, so that the first few of them differ in everything."""
    return [seed for seed in range(SEEDS) if plan(seed)[2] == final]


def made(seed: int) -> Mix:
    """A mix; the same for the same seed, whatever was made before."""
    name = kept.key(kept.recipe("mixes.py", *sources.digests("voices", "sentences", "music")), "mix", seed)
    path = PLACE / f"mix-{seed:02}-{name[:8]}.wav"
    turns = kept.once(name, lambda: compose(seed, path), path)
    kind = plan(seed)[1]
    return Mix(f"mix-{seed:02}", path, tuple(SpeakerTurn(start=a, end=b, speaker=who) for a, b, who in turns), kind)


def compose(seed: int, path: Path) -> list[tuple[float, float, str]]:
    """Write a mix; its turns."""
    count, kind, final = plan(seed)
    chance = np.random.default_rng([seed, 15])
    known = voices(final)
    readers = [str(r) for r in chance.choice(sorted(known), size=count, replace=False)]
    pools = {reader: utterances(known[reader], chance) for reader in readers}
    overlap = 0.3 if kind == "overlap" else 0.05
    turns, samples = conversation(pools, readers, max(LENGTH, 12.0 * count), overlap, chance)
    sound.write(path, with_background(samples, kind, chance))
    return [(t.start, t.end, t.speaker) for t in turns]


def utterances(paths: Sequence[Path], chance: np.random.Generator) -> list[sound.Samples]:
    """Up to 90 s of a reader's sentences in turns of 1 to 9 s, cut where nothing is said."""
    found: list[sound.Samples] = []
    for wav in sound.decoded(paths[:8]):
        samples = sound.levelled(sound.read(wav))
        spans = sound.speech(samples, pause=0.15)
        longest = float(chance.uniform(1.5, 9.0))
        group: tuple[float, float] | None = None
        for a, b in spans:
            if group and b - group[0] > longest:
                found.append(cut(samples, *group))
                group, longest = None, float(chance.uniform(1.5, 9.0))
            group = (group[0], b) if group else (a, b)
        if group and group[1] - group[0] >= 1.0:
            found.append(cut(samples, *group))
    return [u for u in found if len(u) >= sound.RATE] or found


def cut(samples: sound.Samples, start: float, end: float) -> sound.Samples:
    """A part, faded in and out over 10 ms."""
    part = samples[round(start * sound.RATE) : round(end * sound.RATE)].copy()
    ramp = np.linspace(0, 1, sound.RATE // 100, dtype=np.float32)
    if len(part) > 2 * len(ramp):
        part[: len(ramp)] *= ramp
        part[-len(ramp) :] *= ramp[::-1]
    return part


def order(readers: Sequence[str], weights: dict[str, float], before: str, chance: np.random.Generator) -> str:
    """Who speaks next: nobody twice in a row where others are there."""
    others = [r for r in readers if r != before] or list(readers)
    total = np.array([weights[r] for r in others])
    return str(chance.choice(others, p=total / total.sum()))


def conversation(
    pools: dict[str, list[sound.Samples]],
    readers: Sequence[str],
    length: float,
    overlap: float,
    chance: np.random.Generator,
) -> tuple[list[SpeakerTurn], sound.Samples]:
    """Turns of the readers one after the other, some of them before the last has ended.

    Each reader has at least one turn; some speak more than others. A reader whose sentences are used up begins anew.
    """
    weights = {r: float(chance.uniform(0.3, 1.0)) for r in readers}
    waiting, used = list(readers), dict.fromkeys(readers, 0)
    placed: list[tuple[float, str, sound.Samples]] = []
    ends: dict[str, float] = {}
    end, before = 0.3, ""
    while end < length or waiting:
        who = waiting.pop(0) if waiting and chance.random() < 0.6 else order(readers, weights, before, chance)
        waiting = [r for r in waiting if r != who]
        said = pools[who][used[who] % len(pools[who])]
        used[who] += 1
        seconds = len(said) / sound.RATE
        pause = float(chance.uniform(0.1, 1.2))
        if placed and chance.random() < overlap:
            pause = -float(chance.uniform(0.3, min(1.6, seconds / 2)))
        start = max(end + pause, ends.get(who, 0.0) + 0.1, 0.0)
        placed.append((start, who, said))
        ends[who] = start + seconds
        end, before = max(end, start + seconds), who
    samples = sound.silence(end + 0.3)
    turns: list[SpeakerTurn] = []
    for start, who, said in placed:
        at = round(start * sound.RATE)
        samples[at : at + len(said)] += said
        turns += [
            SpeakerTurn(start=round(start + a, 3), end=round(start + b, 3), speaker=who) for a, b in sound.speech(said)
        ]
    return turns, samples


def with_background(samples: sound.Samples, kind: str, chance: np.random.Generator) -> sound.Samples:
    """Noise or music under it, 10 to 18 dB below."""
    if kind == "noise":
        noises = sorted((sources.folder("sentences") / "tests/samples/noise").glob("*.wav"))
        return sound.under(
            samples, sound.load(noises[int(chance.integers(len(noises)))]), float(chance.uniform(10, 18))
        )
    if kind == "music":
        tunes = sorted(sources.folder("music").rglob("*.wav"))
        return sound.under(samples, sound.load(tunes[int(chance.integers(len(tunes)))]), float(chance.uniform(10, 18)))
    return samples


def alone(*, final: bool, count: int) -> list[Path]:
    """One voice for 3 to 15 s, ``count`` different voices."""
    chance = np.random.default_rng([15, final])
    known = voices(final)
    found: list[Path] = []
    for reader in [str(r) for r in chance.permutation(sorted(known))][:count]:
        samples = sound.levelled(sound.load(known[reader][0]))
        length = float(chance.uniform(3.0, 15.0))
        path = PLACE / f"alone-{reader}.wav"
        if not path.exists():
            sound.write(path, np.concatenate([samples[: round(length * sound.RATE)], sound.silence(0.3)]))
        found.append(path)
    return found
