"""Sound in which nobody says what Whisper likes to invent: every word without a mark is one too many."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
from harness import WORK

from speech import corpus, kept, peers, product, sound, sources
from speech.report import Line, Options

PLACE = WORK / "provocations"

COUNT = 200


@dataclass(frozen=True)
class Provocation:
    """A recording and how its invented words are told."""

    name: str
    path: Path
    kind: str
    after: float = 0.0
    """Words that begin later are invented (seconds)."""
    text: str | None = None
    """What is said, where it is known; a word is allowed to be cut at each end."""


def provocations(options: Options) -> list[Line]:
    """The row: words that are there and not marked as unsure, by kind."""
    made = [one(seed, final=options.final) for seed in range(options.count or COUNT)]
    setup = product.Setup("starter", ("--no-diarization",))
    said = product.heard("provocations", [p.path for p in made], setup)
    bad: Counter[str] = Counter()
    files = 0
    for p, s in zip(made, said, strict=True):
        found = invented(p, product.words(s))
        bad[p.kind] += len(found)
        files += bool(found)
        if found:
            print(f"{p.name}: {' '.join(found)[:200]!a}", file=sys.stderr)
    number = sum(bad.values())
    kinds = ", ".join(f"{kind} {bad[kind]}" for kind in dict.fromkeys(p.kind for p in made))
    figure = f"{number} in {files} recordings ({kinds})"
    return [Line("provocations", f"words invented in {len(made)}, unmarked", figure, "0", number == 0)]


def invented(p: Provocation, words: list[dict[str, Any]]) -> list[str]:
    """The words that nobody said and that nothing marks."""
    sure = [w for w in words if not w.get("unsure")]
    if p.text is None:
        return [w["word"] for w in sure if w["start"] >= p.after]
    truth, heard = peers.normalised([("en", p.text), ("en", " ".join(w["word"] for w in sure))])
    extra = jiwer.process_words(truth, heard or " ")
    added = [
        word
        for chunk in extra.alignments[0]
        if chunk.type == "insert"
        for word in heard.split()[chunk.hyp_start_idx : chunk.hyp_end_idx]
    ]
    return added[2:]


def one(seed: int, *, final: bool) -> Provocation:
    """A recording; the same for the same seed."""
    kind = list(KINDS)[seed % len(KINDS)]
    chance = np.random.default_rng([seed, 16, final])
    name = kept.key(kept.recipe("rows/provocations.py", *sources.digests(*corpus.SOURCES)), "provocation", seed, final)
    path = PLACE / f"{kind}-{seed:03}-{name[:8]}.wav"

    def make() -> tuple[float, str | None]:
        samples, after, text = KINDS[kind](chance)
        sound.write(path, samples)
        return after, text

    after, text = kept.once(name, make, path)
    return Provocation(f"{kind}-{seed:03}", path, kind, after, text)


Made = tuple[sound.Samples, float, "str | None"]


def sentence(chance: np.random.Generator) -> tuple[sound.Samples, str]:
    """Something that somebody says, and the text."""
    parts = corpus.lj()
    part = parts[int(chance.integers(len(parts)))]
    return sound.levelled(sound.load(part.path)), part.text


def tail(chance: np.random.Generator) -> Made:
    """A sentence, then minutes of silence or of an empty room."""
    samples, _ = sentence(chance)
    seconds = float(chance.choice([60, 120, 300, 900]))
    room = sound.coloured("pink", round(seconds * sound.RATE), chance) * 10 ** (-float(chance.uniform(40, 60)) / 20)
    rest = sound.silence(seconds) if chance.random() < 0.5 else room
    return np.concatenate([samples, rest]), len(samples) / sound.RATE + 0.5, None


def music(chance: np.random.Generator) -> Made:
    """Music without a voice."""
    tunes = sorted(sources.folder("music").rglob("*.wav"))
    samples = sound.load(tunes[int(chance.integers(len(tunes)))])
    length = round(float(chance.uniform(10, 60)) * sound.RATE)
    start = int(chance.integers(max(1, len(samples) - length)))
    return samples[start : start + length], 0.0, None


def hum(chance: np.random.Generator) -> Made:
    """Mains and its harmonics."""
    t = np.arange(round(float(chance.uniform(10, 60)) * sound.RATE)) / sound.RATE
    base = float(chance.choice([50, 60]))
    waves = [np.sin(2 * np.pi * base * k * t + chance.uniform(0, 6)) / k for k in range(1, 9)]
    return (np.sum(waves, axis=0) * 10 ** (-float(chance.uniform(20, 45)) / 20)).astype(np.float32), 0.0, None


def noise(chance: np.random.Generator) -> Made:
    """White, pink or brown noise, or a recorded one."""
    recorded = sorted((sources.folder("sentences") / "tests/samples/ESC50/audio").glob("*.wav"))
    length = round(float(chance.uniform(10, 60)) * sound.RATE)
    kind = str(chance.choice(["white", "pink", "brown", "recorded"]))
    if kind == "recorded":
        return np.resize(sound.load(recorded[int(chance.integers(len(recorded)))]), length), 0.0, None
    return sound.coloured(kind, length, chance) * np.float32(chance.uniform(0.05, 1.0)), 0.0, None


def reverse(chance: np.random.Generator) -> Made:
    """Speech from its end to its start."""
    samples, _ = sentence(chance)
    return samples[::-1].copy(), 0.0, None


def foreign(chance: np.random.Generator) -> Made:
    """A prompt in another language, then half a minute of nothing."""
    language = str(chance.choice(["es", "fr", "it", "ru"]))
    known = corpus.prompts(language)
    samples = sound.levelled(sound.load(known[int(chance.integers(len(known)))].path))
    return np.concatenate([samples, sound.silence(30)]), len(samples) / sound.RATE + 0.5, None


def cut(chance: np.random.Generator) -> Made:
    """A sentence without its first and last moments: cut inside of words."""
    samples, text = sentence(chance)
    first, last = (round(float(chance.uniform(0.1, 0.8)) * sound.RATE) for _ in range(2))
    return samples[first:-last].copy(), 0.0, text


KINDS: dict[str, Callable[[np.random.Generator], Made]] = {
    "tail": tail,
    "music": music,
    "hum": hum,
    "noise": noise,
    "reversed": reverse,
    "foreign": foreign,
    "cut": cut,
}
