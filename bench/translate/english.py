"""The stage asr in English beside faster-whisper's own translate: the same windows and weights; bar: the same text."""

from __future__ import annotations

import json
import subprocess
import wave
from pathlib import Path

from harness import WORK
from speech import corpus, peers, product
from speech.sound import RATE

from translate import scene

GERMAN = (
    "Guten Morgen. Hast du gesehen, was gestern Abend im Hafen passiert ist?",
    "Nein, ich war den ganzen Tag zu Hause und habe gearbeitet.",
    "Die Brücke ist gesperrt, und niemand weiß, wann der Zug wieder fährt.",
    "Wir sollten den Arzt anrufen, bevor es dunkel wird.",
)
"""This project's own lines, for espeak-ng."""

MODEL, BEAM = "base", 5


def spoken() -> Path:
    """The German lines by espeak-ng, with half a second of silence behind each."""
    path = WORK / "german.wav"
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        for k, line in enumerate(GERMAN):
            words = ["espeak-ng", "-v", ("de", "de+f3")[k % 2], "-s", "150", "--stdout", line]
            out.writeframes(
                scene.resampled(subprocess.run(words, capture_output=True, check=True).stdout) + bytes(RATE)
            )
    return path


def beside(recording: Path, language: str) -> str:
    """A recording's figure."""
    with product.jobs() as folder:
        words = ("--language", language, "--to", "en", "--no-diarization", "--set", f"asr.beam_size={BEAM}")
        job = product.run([recording], product.Setup("starter", words, until="asr"), folder)
        told = json.loads((job / "work/asr/01.english.json").read_text())["segments"]
        command = [
            peers.python(),
            Path(__file__).with_name("beside_whisper.py"),
            peers.weights(MODEL),
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
    """German by espeak-ng, and so many recordings of the corpus's Spanish."""
    spanish = [r for r in corpus.readings() if r.language == "es"][:count]
    return [beside(spoken(), "de"), *(beside(recording.path, "es") for recording in spanish)]
