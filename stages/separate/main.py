"""separate: the sound without its noise, where that helps whoever writes words down."""

from __future__ import annotations

import sys
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import contract
from contract import RATE, ModelFault, Recording, StageJob

if TYPE_CHECKING:
    from deepfilter import Cleaner, Samples

FULL = 32768.0
"""The largest sample of 16 bits, and one more."""

READ = RATE * 10
"""Samples that are read at once."""

NOISY = 6.0
"""dB below which ``auto`` takes noise out. Speech with noise at 0 dB had 0 to 6 here, at 5 dB 3 to 9, at 10 dB 6 to 12, clean
recordings 14 to 35."""

PIECES, PIECE = 12, 10
"""How many pieces of a recording are listened to, and their seconds, for what ``auto`` decides."""


def work(job: StageJob) -> None:
    with job.timed("imports"):
        import deepfilter
        import onnxruntime
    with job.timed("load"):
        options = onnxruntime.SessionOptions()
        # One thread: the recurrent part can't use more, and the results are the same on every machine.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = options.enable_mem_pattern = False  # else a third more memory stays with it
        folder, name = job.model("separation"), job.uses["separation"]["id"]
        archive = next(folder.glob("*.tar.gz"), None)
        if archive is None:
            raise ModelFault(f"model {name}: no .tar.gz file in its folder")
        try:
            sessions = {
                part: onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
                for part, data in deepfilter.networks(archive).items()
            }
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise ModelFault(f"model {name} can't be loaded: {error}") from error
    with job.timed("work"):
        for recording in job.inputs:
            job.save(recording, separated(job, recording, lambda: deepfilter.Cleaner(sessions)))


def separated(job: StageJob, recording: Recording, cleaner: Callable[[], Cleaner]) -> dict[str, Any]:
    """The result of one recording: whether its noise was taken out, and why. The sound itself where it was.

    Args:
        cleaner: one for each sound: it remembers what it heard.
    """
    sounds = job.sounds(recording)
    ratios = [ratio(path, cleaner()) for path in sounds]
    known = [r for r in ratios if r is not None]
    lowest = min(known) if known else None
    clean, why = decided(job.settings["mode"], lowest)
    job.note(recording, why)
    if clean:
        for number, path in enumerate(sounds):
            name = path.name
            with job.writing(name) as target:

                def progress(seconds: float, total: float, number: int = number) -> None:
                    job.progress(recording, (number * total + seconds) / len(sounds), total)

                write(path, target, cleaner(), progress)
    return {"cleaned": clean, "why": why, "ratio": None if lowest is None else round(lowest, 1)}


def decided(mode: str, lowest: float | None) -> tuple[bool, str]:
    """Whether noise is taken out, and why.

    Args:
        lowest: what :func:`ratio` says of the noisiest sound.
    """
    if lowest is None:
        return False, "noise is left in: there is nothing else"
    heard = f"speech is {lowest:.0f} dB above the noise"
    if mode == "on":
        return True, f"noise is taken out, as asked; {heard}"
    if lowest < NOISY:
        return True, f"noise is taken out: {heard}"
    return False, f"noise is left in: {heard}, and taking it out can cost words"


def ratio(path: Path, cleaner: Cleaner) -> float | None:
    """How far sound is above noise where there is more than noise, in dB; None where there is nothing else.

    The median of the network's own ratio in the windows of at most :data:`PIECES` pieces, but those that are noise alone.
    """
    import numpy as np

    found = [np.zeros(0, np.float32)]
    with wave.open(str(path), "rb") as wav:
        count = wav.getnframes()
        length = min(PIECE * RATE, count)
        places = np.linspace(0, count - length, PIECES if count > PIECES * length else max(count // max(length, 1), 1))
        for place in places:
            wav.setpos(int(place))
            samples = samples_of(wav.readframes(length))
            if samples.any():
                found.append(cleaner.ratios(samples))
    heard = np.concatenate(found)
    return float(np.median(heard)) if len(heard) else None


def samples_of(data: bytes) -> Samples:
    """16-bit little-endian samples as numbers from -1 to 1."""
    import numpy as np

    return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(FULL)


def write(path: Path, target: Path, cleaner: Cleaner, progress: Callable[[float, float], None]) -> None:
    """The sound of ``path`` without noise, as a WAV file of the same length.

    Args:
        progress: takes the seconds that are done, and all.
    """
    import numpy as np

    with wave.open(str(path), "rb") as wav, wave.open(str(target), "wb") as out:
        out.setparams(wav.getparams())
        total = wav.getnframes()
        left = total

        def blocks() -> Iterator[Samples]:
            while data := wav.readframes(READ):
                yield samples_of(data)

        for cleaned in cleaner.cleaned(blocks()):
            part = cleaned[:left]
            left -= len(part)
            out.writeframesraw(np.clip(np.rint(part * FULL), -FULL, FULL - 1).astype("<i2").tobytes())
            progress((total - left) / RATE, total / RATE)


if __name__ == "__main__":
    contract.main("separate", work)
