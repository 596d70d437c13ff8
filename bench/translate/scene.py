"""A scene full of terms that no model knows, spoken by espeak-ng's voices: how many a glossary brings back.

The text is this project's own, and so are the names. Bar: 40 points more of the terms with the glossary, and as few
errors in the other words.
"""

from __future__ import annotations

import json
import random
import subprocess
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jiwer
from harness import WORK
from speech import product

TERMS = (
    *("Brannoch", "Quillaree", "Tessaveth", "Morwenstow", "Ilkarim", "Zhadunov", "Pellandrine", "Osteric", "Vantreel"),
    *("Kethmarra", "Dunharrow", "Sylvarine", "Gorbachevka", "Halvicente", "Nyrothis", "Ferrigan Tooley", "Marchetti"),
    *("Lumivox", "Krellford", "Abernathia", "Wexcombe", "Thaddeus Orne", "Corvannis", "Jellicoe Strand", "Mirandola"),
    *("Petrovasky", "Ulmgard", "Barrowmere", "Castellane", "Hedgerley", "Oxnarvik", "Saltfleet", "Tirzavel"),
    *("Rosencamp", "Yarrowick", "Delphinar", "Eskermont", "Quorndale", "Inverlochy", "Baskerway"),
)
"""Forty names of people and places."""

LINES = (
    "Did you see what {} wrote about the harbour last night?",
    "I told {} that the bridge would not hold until the spring.",
    "Nobody in {} wants to talk about the money any more.",
    "When we came to {}, the doors were open and the lights were on.",
    "If {} is right, we have two hours before the water comes.",
    "The letter from {} was lying under the table the whole time.",
    "My brother worked for {} before the war, and he never said why he left.",
    "Put the boxes in the car and drive to {} as fast as you can.",
    "It was {} who gave me the key and asked me to wait.",
    "There is a small hotel near {} where they still remember her.",
    "You can't trust {} with a secret, and you know it.",
    "We lost the road somewhere behind {} and slept in the car.",
    "The doctor says {} will be able to walk again in a month.",
    "Call {} and tell them that the train is late again.",
    "She bought the old house in {} for almost nothing.",
    "I have never been to {}, but my mother told me stories about it.",
)

FILLERS = (
    "The weather was bad, and nobody had slept for two days.",
    "Are you sure that this is the right door?",
    "He took the last piece of bread and closed the window.",
    "We should have called the police on the first evening.",
    "Please sit down, the meeting will begin in ten minutes.",
    "The children were playing in the garden behind the school.",
)

VOICES = ("en-us", "en-gb", "en-us+f3", "en-gb+m3", "en-gb-scotland", "en-us+m7")

RATE = 16_000


@dataclass(frozen=True)
class Scene:
    """A recording and what is said in it."""

    path: Path
    said: tuple[tuple[str, str], ...]
    """Each line, and the term in it; empty: none."""
    seconds: float


def made(terms: Sequence[str], name: str, *, mentions: int = 1) -> Scene:
    """A scene in which each term is said so often, and every fourth line has none."""
    chance = random.Random(name)
    lines: list[tuple[str, str]] = []
    for term in [term for _ in range(mentions) for term in chance.sample(terms, len(terms))]:
        if len(lines) % 4 == 3:
            lines.append((chance.choice(FILLERS), ""))
        lines.append((chance.choice(LINES).format(term), term))
    path = WORK / f"scene-{name}-{mentions}.wav"
    frames = b""
    for k, (line, _) in enumerate(lines):
        words = ["espeak-ng", "-v", VOICES[k % len(VOICES)], "-s", "155", "--stdout", line]
        raw = subprocess.run(words, capture_output=True, check=True).stdout
        frames += resampled(raw) + bytes(RATE)  # half a second of silence
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(frames)
    return Scene(path, tuple(lines), len(frames) / 2 / RATE)


def resampled(raw: bytes) -> bytes:
    """espeak-ng's 22 050 Hz as 16 kHz samples of 16 bits."""
    import numpy as np

    data = np.frombuffer(raw[44:], dtype="<i2").astype(np.float64)
    at = np.arange(int(len(data) * RATE / 22_050)) * 22_050 / RATE
    return np.interp(at, np.arange(len(data)), data).astype("<i2").tobytes()


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


def rows(terms: Sequence[str] = TERMS, name: str = "scene", *, mentions: int = 1, preset: str = "starter") -> list[str]:
    """Terms right and other words wrong, without and with a glossary."""
    scene = made(terms, name, mentions=mentions)
    glossary = WORK / f"{name}-glossary.txt"
    glossary.write_text("\n".join(terms) + "\n")
    found = []
    for what, flags in (("without", ("--glossary", "none")), ("with", ("--glossary", str(glossary)))):
        with product.jobs() as folder:
            words = (*flags, "--language", "en", "--no-diarization", "--formats", "json")
            job = product.run([scene.path], product.Setup(preset, words), folder)
            said = json.loads((job / "output" / f"{scene.path.stem}.json").read_text())
        mine = scored(scene, " ".join(s["text"] for s in said["segments"]))
        found.append(
            f"glossary, {len(terms)} terms in {scene.seconds:.0f} s, {preset}, {what}: {mine.right} of {mine.total} right "
            f"({mine.right / mine.total:.0%}), other words {mine.wrong:.1%} wrong, {mine.invented} invented"
        )
    return found
