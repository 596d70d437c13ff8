"""Forced alignment with pocketsphinx: English by the model that its package has, French by one of its kind."""

from __future__ import annotations

import json
import wave
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import french
from contract import RATE, ModelFault, Recording, StageJob
from rules import adopt, spellable, tidy

TRIES = ((0.15, 0.3), (0.3, 0.5))
"""Seconds of sound before and after a segment that the aligner hears too; the second pair is for segments that
fail with the first. Measured on LibriVox clips and synthetic speech: with both, 86–92 % of words are within 0.1 s of
the truth; of Whisper base's own times, 67 % are."""

FRAME = 0.01
"""Seconds of a frame of pocketsphinx."""

# With the default beams most segments fail. A best-path pass or phones would undo the wide beams.
DECODER = {"samprate": RATE, "beam": 1e-80, "wbeam": 1e-60, "pbeam": 1e-80, "bestpath": False, "loglevel": "FATAL"}


@dataclass(frozen=True)
class Aligner:
    """A decoder, and how a language's words are looked up in its dictionary."""

    decoder: Any
    entries: Callable[[StageJob, Aligner, str], list[str]]
    """The entries that a word is said by; [] for a word that can't be aligned."""
    added: dict[str, Path] = field(default_factory=dict)
    """What was added to the dictionary, and the last job that needed it: for another it isn't there."""

    def knows(self, job: StageJob, entry: str) -> bool:
        """Whether the dictionary has an entry, as far as this job is concerned."""
        if entry in self.added:
            return self.added[entry] == job.root
        return self.decoder.lookup_word(entry) is not None


def load(job: StageJob, language: str) -> Aligner | None:
    """A decoder, or None without pocketsphinx: it has no wheel for 64-bit ARM with Python 3.10 and 3.12.

    Raises:
        ModelFault: the model's folder has no acoustic model that pocketsphinx reads.
    """
    try:
        with job.timed("imports"):
            from pocketsphinx import Decoder
    except ImportError:
        return None
    with job.timed("load"):
        if language == "en":
            return Aligner(Decoder(lm=None, **DECODER), english_entries)
        folder = job.model("alignment")
        try:
            files = {"hmm": str(folder), "dict": str(folder / "dict.txt"), "fdict": str(folder / "noisedict.txt")}
            features = json.loads((folder / "feat_params.json").read_bytes())
            return Aligner(Decoder(lm=None, **files, **features, **DECODER), french_entries)
        except (OSError, RuntimeError, ValueError, TypeError) as error:
            raise ModelFault(f"model {job.uses['alignment']['id']} can't be loaded: {error}") from error


def english_entries(job: StageJob, aligner: Aligner, word: str) -> list[str]:
    """A word as the English dictionary has it."""
    return [tidy(word)] if spellable(word) and aligner.knows(job, tidy(word)) else []


def french_entries(job: StageJob, aligner: Aligner, word: str) -> list[str]:
    """A word's parts; what the dictionary lacks is added to it as it is spelled."""
    parts = french.pieces(tidy(word), lambda entry: aligner.knows(job, entry))
    for part in parts:
        if not aligner.knows(job, part):
            said = french.sounds(part)
            if not said:
                return []
            if part not in aligner.added:
                aligner.decoder.add_word(part, said, True)
            aligner.added[part] = job.root
    return parts


def refine(job: StageJob, recording: Recording, aligner: Aligner, result: dict[str, Any], path: Path) -> None:
    """Give the words of ``result`` exact times where :func:`rules.adopt` trusts them.

    Args:
        path: the sound that they were heard in.
    """
    aligner.decoder.reinit_feat()  # else its idea of the noise is that of whatever it heard before
    with wave.open(str(path), "rb") as wav:
        for segment in result["segments"]:
            words = segment["words"]
            entries = [aligner.entries(job, aligner, word["word"]) for word in words]
            for before, after in TRIES if any(entries) else ():
                times = force(aligner.decoder, wav, [e for some in entries for e in some], segment, before, after)
                if times is not None:
                    adopt(words, whole(entries, times), result["duration"])
                    break
            if words:
                segment["start"], segment["end"] = words[0]["start"], words[-1]["end"]
            job.progress(recording, segment["end"], result["duration"])
    job.progress(recording, result["duration"], result["duration"])


def whole(entries: list[list[str]], times: list[tuple[float, float]]) -> dict[int, tuple[float, float]]:
    """The times of words, by position, from the times of their parts."""
    found, at = {}, 0
    for k, some in enumerate(entries):
        if some:
            found[k] = (times[at][0], times[at + len(some) - 1][1])
            at += len(some)
    return found


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
