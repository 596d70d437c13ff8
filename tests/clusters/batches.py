"""What tests of clusters share: clips of speech, build.py's batches, and what they came to."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
import wave
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from builder.node.results.folder import LONGEST_SILENCE
from tests.shared import ROOT, Ran

SENTENCES = (
    "the committee heard the first witness on Monday morning",
    "nobody in the room had seen the letter before",
    "please state your name and your address for the record",
    "we found the tapes in a cellar below the library",
    "the river rose by two metres in a single night",
    "she asked him twice and got no answer",
    "the train to the coast leaves at a quarter past nine",
    "it was the third winter that the bridge was closed",
)

VOICES = ("en-us", "en-gb", "en-gb-scotland", "en-us+f3", "en-gb+m3", "en-us+f2")

SHORTEST, LONGEST = 3.0, 10.0
"""Seconds of a clip."""


def clips(folder: Path, count: int, seed: int = 17) -> list[Path]:
    """``count`` WAV files of 3–10 s of speech, the same each time on one machine."""
    chance = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    made: list[Path] = []
    while len(made) < count:
        path = folder / f"clip-{len(made):04}.wav"
        said = ", ".join(chance.sample(SENTENCES, chance.choice((1, 1, 2, 2, 3))))
        words = ["espeak-ng", "-w", str(path), "-v", chance.choice(VOICES), "-s", str(chance.randint(130, 190)), said]
        subprocess.run(words, check=True)
        with wave.open(str(path)) as wav:
            seconds = wav.getnframes() / wav.getframerate()
        if SHORTEST <= seconds <= LONGEST:
            made.append(path)
    return made


def bake(*arguments: str | Path, env: dict[str, str] | None = None, codes: Sequence[int] = (0,)) -> Ran:
    """Run ``build.py batch …`` without an engine for containers; its code must be one of ``codes``."""
    mine = {k: v for k, v in os.environ.items() if not k.startswith(("BAKE_", "HF_", "SLURM_"))}
    done = subprocess.run(
        [sys.executable, str(ROOT / "build.py"), "batch", *map(str, arguments)],
        env={**mine, "DOCKER_HOST": "unix:///nowhere.sock", **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in codes, (
        f"batch {' '.join(map(str, arguments))}: {done.returncode}\n{done.stdout}{done.stderr}"
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def items(batch: Path) -> list[dict[str, object]]:
    """The lines of items.jsonl."""
    return [json.loads(line) for line in (batch / "items.jsonl").read_text().splitlines()]


def digests(results: Path) -> dict[str, str]:
    """An item's key -> the digest of its published result."""
    return {path.parent.name: json.loads(path.read_text())["digest"] for path in results.glob("??/*/result.json")}


def different(one: Path, other: Path) -> list[str]:
    """Files of results that both folders have an item of, and that differ: those that the digest is of."""
    found = []
    for key, digest in digests(one).items():
        if digests_of(other, key) not in (None, digest):
            mine, theirs = one / key[:2] / key, other / key[:2] / key
            names = {p.relative_to(f).as_posix() for f in (mine, theirs) for p in f.glob("*/**/*") if p.is_file()}
            for name in sorted(names - {n for n in names if n.endswith("manifest.json") or n.startswith("logs/")}):
                both = [f / name for f in (mine, theirs)]
                if not all(p.exists() for p in both) or both[0].read_bytes() != both[1].read_bytes():
                    found.append(f"{key}/{name}")
    return found


def digests_of(results: Path, key: str) -> str | None:
    """The digest of an item's published result; None where it has none."""
    path = results / key[:2] / key / "result.json"
    return str(json.loads(path.read_text())["digest"]) if path.exists() else None


def events(results: Path) -> Counter[str]:
    """How often each event stands in the journals; a torn last line counts for nothing, ``done`` with ``kept`` is kept."""
    found: Counter[str] = Counter()
    for path in results.glob("journal/*.jsonl"):
        for line in path.read_text().splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            found["kept" if event.get("kept") else event["event"]] += 1
    return found


def collect_late(batch: Path) -> None:
    """Collect when whatever runs in the batch's results has been silent for long."""
    for temporary in (batch / "results").glob(".tmp-*"):
        os.utime(temporary, (time.time() - 2 * LONGEST_SILENCE,) * 2)
    bake("collect", batch, "--no-pages")


def leftovers(results: Path) -> list[str]:
    """What is in the results that no item's folder, failure or journal is."""
    return sorted(p.name for p in results.iterdir() if p.name != "journal" and len(p.name) != 2)
