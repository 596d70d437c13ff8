"""align: exact word times, by WhisperX with a model for the language (full) or by pocketsphinx for English.

Other languages, and translations, keep Whisper's own times.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import contract
import rules
from contract import ModelFault, Recording, StageJob


def work(job: StageJob) -> None:
    heard = {r.id: job.load("asr", r) for r in job.inputs}
    loaded: dict[tuple[str, str], Any] = {}
    for recording in job.inputs:
        result = heard[recording.id]
        for segment in result["segments"]:
            for word in segment["words"]:
                word["source"] = "whisper"
        spoken = result.get("spoken_language", result["language"])
        if result["segments"] and spoken != result["language"]:
            job.note(recording, "word times are Whisper's own: a translation is not what is heard")
        else:
            for language in sorted({s.get("language", result["language"]) for s in result["segments"]}):
                align(job, recording, loaded, result, language)
        rules.apart(result["segments"], result["duration"])
        job.save(recording, result)


def align(
    job: StageJob, recording: Recording, loaded: dict[tuple[str, str], Any], result: dict[str, Any], language: str
) -> None:
    """Give the words of one language their times; what can't be aligned keeps Whisper's, and a note says why.

    Args:
        loaded: aligners by module and language; what isn't there is loaded.
    """
    mine = result | {"segments": [s for s in result["segments"] if s.get("language", result["language"]) == language]}
    name = backend(job, language)
    aligner = None
    if name is None:
        job.note(recording, f"word times are Whisper's own: no acoustic alignment for {language!r}")
    else:
        module = importlib.import_module(name)
        if (name, language) not in loaded:
            loaded[name, language] = load(job, recording, module, language)
        aligner = loaded[name, language]
    if aligner is None:
        return
    with job.timed("work"):
        for path, part in parts(job.sounds(recording), mine):
            module.refine(job, recording, aligner, part, path)


def load(job: StageJob, recording: Recording, module: ModuleType, language: str) -> Any:
    """A module's aligner; None where it can't be had, and a note says why: Whisper's times are a result, too."""
    try:
        aligner = module.load(job, language)
    except ModelFault as fault:
        job.note(recording, f"word times are Whisper's own: {fault}")
        return None
    if aligner is None:
        job.note(recording, "word times are Whisper's own: pocketsphinx is not installed here")
    return aligner


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
