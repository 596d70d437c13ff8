"""subtitles: words and turns to SRT, WebVTT, ASS, text, JSON and RTTM."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import contract
import cues as cue
import formats
from contract import Recording, StageJob
from sentences import read_words, sentences


def work(job: StageJob) -> None:
    with job.timed("work"):
        for recording in job.inputs:
            write(job, recording)


def write(job: StageJob, recording: Recording) -> None:
    """All formats of one recording into ``output/``, and the cues for mux into ``work/``."""
    source = "align" if "align" in job.stages else "asr"
    result = job.load(source, recording)
    diarization: dict[str, Any] | None = job.load("diarize", recording) if "diarize" in job.stages else None
    turns = diarization["turns"] if diarization else None
    rules = cue.Rules(**{k: v for k, v in job.settings.items() if k in cue.Rules.__dataclass_fields__})
    prefix = bool(job.settings["prefix"])
    said = sentences(read_words(result["segments"]), turns)
    shown = cue.cues(said, rules, duration=result["duration"], label=prefix)
    speakers = sorted({s.speaker for s in said if s.speaker}, key=lambda s: int(s[1:]))
    if not said:
        job.note(recording, "no speech found: the subtitles are empty")
    models: dict[str, Any] = job.settings.get("models", {})
    name = recording.output
    for suffix, text in (
        ("srt", formats.srt(shown, prefix=prefix)),
        ("vtt", formats.vtt(shown)),
        ("ass", formats.ass(shown, speakers)),
        ("txt", formats.txt(said)),
        ("json", contract.dump(formats.whole(result, said, diarization, models))),
    ):
        job.write(f"{name}.{suffix}", text, output=True)
    if turns is not None:
        job.write(f"{name}.rttm", formats.rttm(name, turns), output=True)
    job.save(recording, {"language": result["language"], "prefix": prefix, "cues": [asdict(c) for c in shown]})


if __name__ == "__main__":
    contract.main("subtitles", work)
