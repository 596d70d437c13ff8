"""music: where there is music in a recording, and where somebody sings."""

from __future__ import annotations

import sys
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import contract
from contract import RATE, ModelFault, Recording, StageJob
from loading import carried

if TYPE_CHECKING:
    from yamnet import Samples, Tagger

READ = RATE * 10
"""Samples that are read at once."""


def work(job: StageJob) -> None:
    tagger = carried(job, "tagger", lambda: opened(job))
    with job.timed("work"):
        for recording in job.inputs:
            heard = [listened(job, recording, tagger, path) for path in job.sounds(recording)]
            job.note(recording, told(heard))
            result = heard[0] | {"lyrics": job.settings["lyrics"]}
            job.save(recording, result | ({"channels": heard} if len(heard) > 1 else {}))


def opened(job: StageJob) -> Tagger:
    """The job's model.

    Raises:
        ModelFault: it is missing or broken.
    """
    with job.timed("imports"):
        import onnxruntime  # noqa: F401
        import yamnet
    with job.timed("load"):
        folder, name = job.model("tagging"), job.uses["tagging"]["id"]
        archive = next(folder.glob("*.zip"), None)
        if archive is None:
            raise ModelFault(f"model {name}: no .zip file in its folder")
        try:
            return yamnet.Tagger(yamnet.session(archive))
        except yamnet.Broken as error:
            raise ModelFault(f"model {name} can't be loaded: {error}") from error


def listened(job: StageJob, recording: Recording, tagger: Tagger, path: Path) -> dict[str, Any]:
    """Where there is music in a WAV file, and where somebody sings."""
    import numpy as np
    import spans

    with wave.open(str(path), "rb") as wav:
        total = wav.getnframes()

        def blocks() -> Iterator[Samples]:
            done = 0
            while data := wav.readframes(READ):
                yield np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)
                done += len(data) // 2
                job.progress(recording, done / RATE, total / RATE)

        odds = list(tagger.heard(blocks()))
    return spans.found(np.stack(odds), total / RATE)


def told(heard: list[dict[str, Any]]) -> str:
    """What a person is told: the shares of the sound with most of it."""
    music, singing = (max(each["share"][kind] for each in heard) for kind in ("music", "singing"))
    if not music:
        return "no music was found"
    return f"there is music for {music:.0%} of the time, and singing for {singing:.0%}"


if __name__ == "__main__":
    contract.main("music", work)
