"""The slim backend: forced alignment with pocketsphinx, English only."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

from contract import RATE, Recording, StageJob
from rules import adopt, spellable, tidy

TRIES = ((0.15, 0.3), (0.3, 0.5))
"""Seconds of sound before and after a segment that the aligner hears too; the second pair is for segments that
fail with the first. Measured on LibriVox clips and synthetic speech: with both, 86–92 % of words are within 0.1 s of
the truth; of Whisper base's own times, 67 % are."""

FRAME = 0.01
"""Seconds of a frame of pocketsphinx."""

# With the default beams most segments fail. A best-path pass or phones would undo the wide beams.
DECODER = {"samprate": RATE, "beam": 1e-80, "wbeam": 1e-60, "pbeam": 1e-80, "bestpath": False, "loglevel": "FATAL"}


def load(job: StageJob, language: str) -> Any:
    """A decoder, or None without pocketsphinx: it has no wheel for 64-bit ARM with Python 3.10 and 3.12."""
    try:
        with job.timed("imports"):
            from pocketsphinx import Decoder
    except ImportError:
        return None
    with job.timed("load"):
        return Decoder(lm=None, **DECODER)


def refine(job: StageJob, recording: Recording, decoder: Any, result: dict[str, Any], path: Path) -> None:
    """Give the words of ``result`` exact times where :func:`rules.adopt` trusts them.

    Args:
        path: the sound that they were heard in.
    """
    with wave.open(str(path), "rb") as wav:
        for segment in result["segments"]:
            words = segment["words"]
            known = [k for k, w in enumerate(words) if spellable(w["word"]) and decoder.lookup_word(tidy(w["word"]))]
            if known:
                for before, after in TRIES:
                    times = force(decoder, wav, [tidy(words[k]["word"]) for k in known], segment, before, after)
                    if times is not None:
                        adopt(words, dict(zip(known, times, strict=True)), result["duration"])
                        break
            if words:
                segment["start"], segment["end"] = words[0]["start"], words[-1]["end"]
            job.progress(recording, segment["end"], result["duration"])
    job.progress(recording, result["duration"], result["duration"])


def force(
    decoder: Any, wav: wave.Wave_read, texts: list[str], segment: dict[str, Any], before: float, after: float
) -> list[tuple[float, float]] | None:
    """Start and end in seconds of each of ``texts``, or None unless the aligner finds them all, in order."""
    start = max(segment["start"] - before, 0.0)
    first = round(start * RATE)
    wav.setpos(min(first, wav.getnframes()))
    pcm = wav.readframes(round((segment["end"] + after) * RATE) - first)
    try:
        decoder.set_align_text(" ".join(texts))
        decoder.start_utt()
        try:
            # full_utt normalises over the whole segment; without it word starts are off by 0.1 s.
            decoder.process_raw(pcm, full_utt=True)
        finally:
            decoder.end_utt()  # also after an error: a decoder inside an utterance refuses another one
        aligned = [(s.word, s.start_frame, s.end_frame) for s in decoder.seg() or ()]
    except RuntimeError:
        return None
    # "hello(2)" is the dictionary's second pronunciation; "<sil>" and "[NOISE]" are not words.
    spoken = [(w.split("(")[0], a, b) for w, a, b in aligned if w[0] not in "<[+("]
    if [w for w, _, _ in spoken] != texts:
        return None
    return [(start + a * FRAME, start + (b + 1) * FRAME) for _, a, b in spoken]
