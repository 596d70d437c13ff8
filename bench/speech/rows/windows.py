"""Words that are lost where speech without a pause is cut: synthetic speech for hours, against the same with pauses."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import jiwer
import numpy as np
from harness import WORK

from speech import corpus, peers, product, sound
from speech.report import Line, Options

PLACE = WORK / "continuous"

MINUTES = 20
"""Of a recording."""

HOURS = 100

VOICES = ("en-us", "en-gb", "en-us+f2", "en-gb+m3", "en-us+m7", "en-gb+f4")

LOST = 3
"""So many words that are missing one after the other are a hole: a model that just doesn't hear a word misses one or two."""


def windows(options: Options) -> list[Line]:
    """The row: words in holes, and all that are missing, with pauses between the sentences and without; ``--count``: hours."""
    number = max(1, round((options.count or HOURS) * 60 / MINUTES))
    seeds = range(1000, 1000 + number) if options.final else range(number)
    setup = product.Setup("tiny-en", ("--no-diarization",))
    holes, missing, words = [0, 0], [0, 0], 0
    for seed in seeds:
        for side, pause in enumerate((0.0, 0.9)):
            path, text = continuous(seed, pause)
            (said,) = product.heard(f"windows, {seed}", [path], setup)
            (truth, heard) = peers.normalised([("en", text), ("en", product.text(said))])
            lost = deletions(truth, heard)
            holes[side] += sum(n for n in lost if n >= LOST)
            missing[side] += sum(lost)
            words += len(truth.split()) if not side else 0
        print(f"windows: {seed}: holes {holes}, missing {missing} of {words}", file=sys.stderr)
    figure = f"{holes[0]} of {words} ({missing[0]} words missing in all)"
    peer = f"with pauses {holes[1]} ({missing[1]})"
    hours = number * MINUTES / 60
    return [Line("windows", f"words in holes, {hours:g} h of speech without a pause", figure, "0", not holes[0], peer)]


def deletions(truth: str, heard: str) -> list[int]:
    """How many words are missing, for each place where some are; a place where others were heard instead counts the rest."""
    found = []
    run = 0
    for chunk in jiwer.process_words(truth, heard or " ").alignments[0]:
        if chunk.type == "delete":
            run += chunk.ref_end_idx - chunk.ref_start_idx
        elif chunk.type == "equal" and run:
            found.append(run)
            run = 0
    return [*found, run] if run else found


@cache
def sentences() -> list[str]:
    """What is said: the texts of prompts and readings, without marks at which a synthesiser pauses."""
    texts = [p.text for p in (*corpus.lj(), *corpus.prompts("en"), *corpus.novel())]
    return ["".join(c if c.isalnum() or c in " '" else " " for c in text) for text in texts]


def spoken(text: str, voice: str, speed: int) -> sound.Samples:
    """A sentence by espeak-ng without the silence around it."""
    part = PLACE / "part.wav"
    PLACE.mkdir(parents=True, exist_ok=True)
    words = ["espeak-ng", "-v", voice, "-s", str(speed), "-w", str(part), text]
    subprocess.run(words, check=True, capture_output=True)
    samples = sound.levelled(sound.load(part))
    spans = sound.speech(samples, pause=10.0, below=35.0)
    return samples if not spans else samples[round(spans[0][0] * sound.RATE) : round(spans[-1][1] * sound.RATE)]


def continuous(seed: int, pause: float) -> tuple[Path, str]:
    """A recording by seed and its text; the same sentences whatever the pause between them."""
    chance = np.random.default_rng([seed, 17])
    path = PLACE / f"{seed:04}{'-pauses' if pause else ''}.wav"
    texts: list[str] = []
    pieces: list[sound.Samples] = []
    length, voice = 0.0, VOICES[0]
    while length < MINUTES * 60:
        if len(texts) % 12 == 0:
            voice = str(chance.choice(VOICES))
        text, speed = str(chance.choice(sentences())), int(chance.integers(150, 185))
        texts.append(text)
        length += 60 / speed * len(text.split())
        if not path.exists():
            pieces += [spoken(text, voice, speed), sound.silence(pause)]
    if pieces:
        sound.write(path, np.concatenate(pieces))
    return path, " ".join(texts)
