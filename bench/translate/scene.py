"""A scene full of terms that no model knows, spoken by espeak-ng's voices: how many a glossary brings back.

The text is this project's own, and so are the names. Bar: 40 points more of the terms with the glossary, and as few
errors in the other words.
"""

from __future__ import annotations

import json
import random
import subprocess
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jiwer
from harness import WORK
from speech import product

from translate.script import Script

RATE = 16_000

MENTIONS = 2
"""Times that each term is said."""

HISS = 8.0
"""Standard deviation of the noise behind everything, of 32768: about -72 dB of full scale."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A sentence."""

    text: str
    term: str
    """In it; empty: none."""
    voice: str
    pause: float
    """Behind it; its share of all pauses."""


@dataclass(frozen=True)
class Scene:
    """A recording and what is said in it."""

    path: Path
    said: tuple[tuple[str, str], ...]
    """Each line, and the term in it; empty: none."""
    seconds: float


def written(script: Script) -> list[Line]:
    """The lines of a scene: talks of two voices each, in which each term is said twice, in two sentences."""
    chance = random.Random(script.name)
    texts: list[tuple[str, str]] = []
    before: dict[str, str] = {}
    for term in [term for _ in range(MENTIONS) for term in chance.sample(script.terms, len(script.terms))]:
        before[term] = chance.choice([line for line in script.lines if line != before.get(term)])
        texts.append((before[term].format(term), term))
    for text in chance.sample(script.others, len(script.others)):
        texts.insert(chance.randrange(len(texts) + 1), (text, ""))
    lines: list[Line] = []
    while texts:
        talk, texts = texts[: (length := chance.randint(5, 9))], texts[length:]
        pair = chance.sample(script.voices, 2)
        for k, (text, term) in enumerate(talk):
            pause = chance.uniform(3, 8) if k == len(talk) - 1 else chance.uniform(0.4, 1.4)
            lines.append(Line(text=text, term=term, voice=pair[k % 2], pause=pause))
    return lines


def made(script: Script) -> Scene:
    """The scene as sound: the pauses are stretched until it lasts as long as it shall."""
    import numpy as np

    lines = written(script)
    spoken = []
    for line in lines:
        words = ["espeak-ng", "-v", line.voice, "-s", "155", "--stdout", line.text]
        spoken.append(resampled(subprocess.run(words, capture_output=True, check=True).stdout))
    stretch = (script.seconds - sum(map(len, spoken)) / RATE) / sum(line.pause for line in lines)
    parts = []
    for line, samples in zip(lines, spoken, strict=True):
        parts += [samples, np.zeros(round(line.pause * stretch * RATE))]
    whole = np.concatenate(parts)
    whole += np.random.default_rng(len(whole)).normal(0, HISS, len(whole))  # no room is without any sound
    path = WORK / f"scene-{script.name}.wav"
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(np.clip(whole, -32768, 32767).astype("<i2").tobytes())
    return Scene(path, tuple((line.text, line.term) for line in lines), len(whole) / RATE)


def resampled(raw: bytes) -> Any:
    """espeak-ng's 22 050 Hz as float64 samples at 16 kHz, of the size of 16 bits."""
    import numpy as np

    data = np.frombuffer(raw[44:], dtype="<i2").astype(np.float64)
    at = np.arange(int(len(data) * RATE / 22_050)) * 22_050 / RATE
    return np.interp(at, np.arange(len(data)), data)


def plain(text: str) -> str:
    """Lower case, words alone."""
    return " ".join("".join(c if c.isalnum() or c == "'" else " " for c in text.casefold()).split())


@dataclass(frozen=True)
class Score:
    """What became of the terms, and of the words around them."""

    right: int
    """Terms that stand in the text, of those that are said."""
    total: int
    wrong: float
    """Word error rate without the words of the terms."""
    invented: int
    """Times that a term stands in the text more often than it is said."""


def scored(scene: Scene, text: str) -> Score:
    """Compare a text with what is said: each term once, in its place by an alignment of the words."""
    reference: list[str] = []
    owners: list[int] = []
    for number, (line, term) in enumerate(scene.said):
        before, _, after = plain(line).partition(plain(term)) if term else (plain(line), "", "")
        for part, owner in ((before, -1), (plain(term), number), (after, -1)):
            reference += part.split()
            owners += [owner] * len(part.split())
    heard = plain(text).split()
    aligned = jiwer.process_words(" ".join(reference), " ".join(heard))
    wrong: set[int] = set()
    errors = 0
    for chunk in aligned.alignments[0]:
        if chunk.type == "equal":
            continue
        mine = range(chunk.ref_start_idx, chunk.ref_end_idx)
        near = owners[min(chunk.ref_start_idx, len(owners) - 1)], owners[max(chunk.ref_start_idx - 1, 0)]
        wrong |= {owners[k] for k in mine if owners[k] >= 0}
        errors += sum(owners[k] < 0 for k in mine)
        if chunk.type == "insert" and max(near) >= 0:  # a name in pieces
            wrong |= {max(near)}
        elif chunk.type == "insert":
            errors += chunk.hyp_end_idx - chunk.hyp_start_idx
    count = sum(bool(term) for _, term in scene.said)
    names = [plain(term) for _, term in scene.said if term]
    whole = f" {' '.join(heard)} "
    invented = sum(max(0, whole.count(f" {name} ") - names.count(name)) for name in set(names))
    return Score(count - len(wrong), count, errors / sum(owner < 0 for owner in owners), invented)


def rows(script: Script, *, preset: str = "starter") -> list[str]:
    """Terms right and other words wrong, without and with a glossary."""
    scene = made(script)
    glossary = WORK / f"{script.name}-glossary.txt"
    glossary.write_text("\n".join(script.terms) + "\n")
    found = []
    for what, flags in (("without", ("--glossary", "none")), ("with", ("--glossary", str(glossary)))):
        with product.jobs() as folder:
            words = (*flags, "--language", "en", "--no-diarization", "--formats", "json")
            job = product.run([scene.path], product.Setup(preset, words), folder)
            said = json.loads((job / "output" / f"{scene.path.stem}.json").read_text())
        mine = scored(scene, " ".join(s["text"] for s in said["segments"]))
        found.append(
            f"glossary, {script.name}, {len(script.terms)} terms in {scene.seconds:.0f} s, {preset}, {what}: {mine.right} of "
            f"{mine.total} right ({mine.right / mine.total:.0%}), other words {mine.wrong:.1%} wrong, {mine.invented} invented"
        )
    return found
