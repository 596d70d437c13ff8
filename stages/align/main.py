"""align: exact word times, by a model for the language: wav2vec2 (in full by WhisperX), or pocketsphinx's kind.

pocketsphinx has one for English itself. Languages without a model, and translations, keep Whisper's own times.
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
from loading import carried

Loaded = tuple[ModuleType, Any] | str
"""A module and its aligner, or why a language has none."""


def work(job: StageJob) -> None:
    heard = {r.id: job.load("asr", r) for r in job.inputs}
    loaded: dict[str, Loaded] = {}
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
    job: StageJob, recording: Recording, loaded: dict[str, Loaded], result: dict[str, Any], language: str
) -> None:
    """Give the words of one language their times; what can't be aligned keeps Whisper's, and a note says why.

    Args:
        loaded: aligners by language; what isn't there is loaded.
    """
    mine = result | {"segments": [s for s in result["segments"] if s.get("language", result["language"]) == language]}
    if language not in loaded:
        loaded[language] = load(job, language)
    match loaded[language]:
        case str(why):
            job.note(recording, f"word times are Whisper's own: {why}")
        case module, aligner:
            with job.timed("work"):
                for path, part in parts(job.sounds(recording), mine):
                    module.refine(job, recording, aligner, part, path)


def load(job: StageJob, language: str) -> Loaded:
    """The module that aligns a language and its aligner, or why there is none: Whisper's times are a result, too."""
    try:
        name = backend(job, language)
        if name is None:
            return f"no acoustic alignment for {language!r}"
        module = importlib.import_module(name)
        # One model for all of its languages, where that is so: it would be here once for each.
        aligner = carried(job, name, lambda: module.load(job, language), *(() if name == "ctc" else (language,)))
    except ModelFault as fault:
        return str(fault)
    return (module, aligner) if aligner is not None else "pocketsphinx is not installed here"


def parts(paths: list[Path], result: dict[str, Any]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Each sound with the part of the result that was heard in it; the segments are the result's own."""
    for number, path in enumerate(paths, 1):
        mine = [s for s in result["segments"] if s.get("channel", number) == number]
        if mine:
            yield path, result | {"segments": mine}


MODULES = {"mdef": "slim", "**/*.onnx": "ctc"}
"""What aligns by a model, by files that only its kind has; any other is WhisperX's."""


def backend(job: StageJob, language: str) -> str | None:
    """The name of the module that aligns ``language``; None: none does.

    Raises:
        ModelFault: the language's model is not there.
    """
    use = job.uses.get("alignment")
    if use is not None and language in use["languages"]:
        folder = job.model("alignment")
        for pattern, module in MODULES.items():
            if any(folder.glob(pattern)):
                return module
        if job.variant == "full":
            return "full"
    return "slim" if language == "en" else None


if __name__ == "__main__":
    contract.main("align", work)
