"""align: exact word times, by WhisperX with a model for the language (full) or by pocketsphinx for English.

Other languages, and translations, keep Whisper's own times.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import contract
from contract import StageJob


def work(job: StageJob) -> None:
    heard = {r.id: job.load("asr", r) for r in job.inputs}
    loaded: dict[str, Any] = {}
    for recording in job.inputs:
        result = heard[recording.id]
        for segment in result["segments"]:
            for word in segment["words"]:
                word["source"] = "whisper"
        if result["segments"]:
            spoken = result.get("spoken_language", result["language"])
            name = backend(job, result["language"]) if spoken == result["language"] else None
            if name is None and spoken != result["language"]:
                job.note(recording, "word times are Whisper's own: a translation is not what is heard")
            elif name is None:
                job.note(recording, f"word times are Whisper's own: no acoustic alignment for {result['language']!r}")
            else:
                module = importlib.import_module(name)
                if name not in loaded:
                    loaded[name] = module.load(job, result["language"])
                if loaded[name] is None:
                    job.note(recording, "word times are Whisper's own: pocketsphinx is not installed here")
                else:
                    with job.timed("work"):
                        for path, part in parts(job.sounds(recording), result):
                            module.refine(job, recording, loaded[name], part, path)
        job.save(recording, result)


def parts(paths: list[Path], result: dict[str, Any]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Each sound with the part of the result that was heard in it; the segments are the result's own."""
    for number, path in enumerate(paths, 1):
        mine = [s for s in result["segments"] if s.get("channel", number) == number]
        if mine:
            yield path, result | {"segments": mine}


def backend(job: StageJob, language: str) -> str | None:
    """The name of the module that aligns ``language``; None: none does."""
    use = job.uses.get("alignment")
    if job.variant == "full" and use is not None and language in use["languages"]:
        return "full"
    return "slim" if language == "en" else None


if __name__ == "__main__":
    contract.main("align", work)
