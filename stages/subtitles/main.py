"""subtitles: from words and turns to SRT, WebVTT, ASS, text, JSON and RTTM."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import contract
import cues as cue
import formats
from clock import Clock
from contract import Recording, StageJob
from sentences import Sentence, read_words, sentences


def work(job: StageJob) -> None:
    rules = cue.Rules(**{k: v for k, v in job.settings.items() if k in cue.Rules.__dataclass_fields__})
    with job.timed("work"):
        for recording in job.inputs:
            write(job, recording, rules)


def write(job: StageJob, recording: Recording, rules: cue.Rules) -> None:
    """Write one recording in all formats into ``output/``, and the cues for mux into ``work/``."""
    aligned, diarized = job.has("align"), job.has("diarize")
    result = job.load("align" if aligned else "asr", recording)
    diarization: dict[str, Any] | None = job.load("diarize", recording) if diarized else None
    if not aligned and "align" in job.stages:
        job.note(recording, "the times of words are those of the recognition: the stage align failed")
    if not diarized and "diarize" in job.stages:
        job.note(recording, "there are no speakers: the stage diarize failed")
    turns = diarization["turns"] if diarization else None
    prefix = bool(job.settings.get("prefix", True))
    clock = Clock(job.load("demux", recording).get("clock") or [])
    duration = clock.at(result["duration"])
    words = [clock.word(word) for word in read_words(result["segments"], result["duration"])]
    turns = None if turns is None else [clock.turn(turn) for turn in turns]
    said = sentences(words, turns)
    if turns is not None and not any(word.channel for word in words):  # a channel's number is its speaker's
        names = numbered(said, turns)
        said = [replace(s, speaker=names.get(s.speaker or "")) for s in said]
        turns = [turn | {"speaker": names[turn["speaker"]]} for turn in turns]
    shown = cue.cues(said, rules, duration=duration, label=prefix)
    speakers = list(dict.fromkeys(s.speaker for s in sorted(said, key=lambda s: s.speaker or "") if s.speaker))
    if not said:
        job.note(recording, "no speech found: the subtitles are empty")
    track = [asdict(c) | {"text": formats.plain(c, prefix=prefix)} for c in shown]  # a cut film's own time
    clip = None
    if recording.start is not None:
        moved = Clock([], offset=recording.offset if job.settings.get("times") != "clip" else 0.0)
        said = [replace(s, words=tuple(map(moved.word, s.words))) for s in said]
        shown = [replace(c, start=moved.at(c.start), end=moved.at(c.end)) for c in shown]
        turns = None if turns is None else [moved.turn(turn) for turn in turns]
        clip = {"start": recording.start, "lead": recording.lead, "offset": moved.offset}
    name = recording.output
    for suffix, text in (
        ("srt", formats.srt(shown, prefix=prefix)),
        ("vtt", formats.vtt(shown)),
        ("ass", formats.ass(shown, speakers)),
        ("txt", formats.txt(said)),
        ("json", contract.dump(formats.whole(result, said, diarization, models(job), clip))),
    ):
        job.write(f"{name}.{suffix}", text, output=True)
    if turns is not None:
        job.write(f"{name}.rttm", formats.rttm(name, turns), output=True)
    job.save(recording, {"language": result["language"], "cues": track})
    job.progress(recording, duration, duration)


def numbered(said: list[Sentence], turns: list[dict[str, Any]]) -> dict[str, str]:
    """New names of the speakers: S1 speaks the first words of the text. Those without words come last.

    Args:
        turns: in the order of time, which may begin with a sound that is no word.
    """
    heard = [s.speaker for s in said if s.speaker] + [turn["speaker"] for turn in turns]
    return {speaker: f"S{number}" for number, speaker in enumerate(dict.fromkeys(heard), 1)}


def models(job: StageJob) -> dict[str, Any]:
    """Purpose -> the model behind the result: what the job tells this stage, else the digests in the manifests."""
    if "models" in job.settings:
        return dict(job.settings["models"])
    digests: dict[str, Any] = {}
    for stage in job.stages:
        try:
            digests |= json.loads((job.root / "work" / stage / "manifest.json").read_bytes())["models"]
        except (OSError, ValueError, KeyError):
            continue  # a stage that has not run yet
    return digests


if __name__ == "__main__":
    contract.main("subtitles", work)
