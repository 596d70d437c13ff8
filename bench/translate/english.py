"""The stage asr in English beside faster-whisper's own translate: the same windows and weights; bar: the same text.

A window in which a text goes round in circles is heard again by both, at one other temperature. What still does then, the stage
leaves out: the texts differ, and both are printed.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from harness import whisper
from speech import corpus, peers, product

MODEL, BEAM = "base", 5


def beside(recording: Path, language: str) -> str:
    """A recording's figure."""
    with product.jobs() as folder:
        words = ("--language", language, "--to", "en", "--no-diarization", "--set", f"asr.beam_size={BEAM}")
        job = product.run([recording], product.Setup("starter", words, until="asr"), folder)
        told = json.loads((job / "work/asr/01.english.json").read_text())["segments"]
        command = [
            peers.python(),
            Path(__file__).with_name("beside_whisper.py"),
            whisper(MODEL),
            job,
            language,
            BEAM,
        ]
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr[-2000:])
    theirs = [json.loads(line) for line in done.stdout.splitlines()]
    ours = " ".join(" ".join(segment["text"] for segment in told).split())
    alike = ours == " ".join(" ".join(theirs).split())
    end = "the same text" if alike else f"ours: {ours}\ntheirs: {' | '.join(theirs)}"
    return f"whisper, {recording.stem}, {language}: {len(ours.split())} words of {len(theirs)} windows: {end} (bar: the same)"


def rows(count: int) -> list[str]:
    """So many recordings of the corpus in German, and in Spanish."""
    readings = corpus.readings()
    return [
        beside(recording.path, language)
        for language in ("de", "es")
        for recording in [r for r in readings if r.language == language][:count]
    ]
