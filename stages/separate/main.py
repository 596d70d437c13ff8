"""separate: the sound without its noise, or its voice without music, where that helps whoever writes words down."""

from __future__ import annotations

import sys
import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import contract
from contract import RATE, ModelFault, Recording, StageJob
from loading import carried

if TYPE_CHECKING:
    from deepfilter import Cleaner, Samples
    from htdemucs import Separator

FULL = 32768.0
"""The largest sample of 16 bits, and one more."""

READ = RATE * 10
"""Samples that are read at once."""

NOISE, VOICE = "separation", "vocals"
"""What the stage's two models are for. The second is there where somebody chose one."""

MUSICAL = 0.2
"""The part of a recording with music from which on ``auto`` takes the voice out of it: less is a signature tune."""

NOISY = 6.0
"""dB below which ``auto`` takes noise out. Speech with noise at 0 dB had 0 to 6 here, at 5 dB 3 to 9, at 10 dB 6 to 12, clean
recordings 14 to 35."""

PIECES, PIECE = 12, 10
"""How many pieces of a recording are listened to, and their seconds, for what ``auto`` decides."""


@dataclass(frozen=True)
class Networks:
    """What this job's models do; each sound has a cleaner of its own, which remembers what it heard."""

    noise: Callable[[], Cleaner]
    """Takes noise out."""
    voice: Callable[[], Separator] | None
    """Takes all but voices out; None: the job has no model for that."""


@dataclass(frozen=True)
class Decision:
    """What becomes of a recording's sound."""

    way: str | None
    """:data:`NOISE` or :data:`VOICE`; None: it stays as it is."""
    why: str


def work(job: StageJob) -> None:
    networks = carried(job, "networks", lambda: opened(job))
    with job.timed("work"):
        for recording in job.inputs:
            job.save(recording, separated(job, recording, networks))


def opened(job: StageJob) -> Networks:
    """The job's models.

    Raises:
        ModelFault: one is missing or broken.
    """
    with job.timed("imports"):
        import deepfilter
        import htdemucs
        import onnxruntime  # noqa: F401
    with job.timed("load"):
        archive = file_of(job, NOISE, "*.tar.gz")
        parts = loaded(job, NOISE, lambda: {k: session(v) for k, v in deepfilter.networks(archive).items()})
        voice = None
        if VOICE in job.uses:
            network = file_of(job, VOICE, "*.onnx")
            separator = loaded(job, VOICE, lambda: htdemucs.Separator(session(str(network))))
            voice = lambda: separator  # noqa: E731
    return Networks(lambda: deepfilter.Cleaner(parts), voice)


def session(network: str | bytes) -> Any:
    """An inference session of an ONNX file, or of its bytes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # One thread: the recurrent part can't use more, and the results are the same on every machine.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False  # else a third more memory stays with it
    return onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])


def file_of(job: StageJob, purpose: str, pattern: str) -> Path:
    """The one file of a model.

    Raises:
        ModelFault: its folder has none.
    """
    found = next(job.model(purpose).glob(pattern), None)
    if found is None:
        raise ModelFault(f"model {job.uses[purpose]['id']}: no {pattern.lstrip('*')} file in its folder")
    return found


def loaded(job: StageJob, purpose: str, load: Callable[[], Any]) -> Any:
    """What ``load`` makes of a model.

    Raises:
        ModelFault: it can't.
    """
    try:
        return load()
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise ModelFault(f"model {job.uses[purpose]['id']} can't be loaded: {error}") from error


def separated(job: StageJob, recording: Recording, networks: Networks) -> dict[str, Any]:
    """The result of one recording: what was taken out of its sound, and why. The sound itself where something was."""
    sounds = job.sounds(recording)
    ratios = [ratio(path, networks.noise()) for path in sounds]
    known = [r for r in ratios if r is not None]
    lowest = min(known) if known else None
    music = None
    if job.has("music"):
        found = job.load("music", recording)
        music = max(each["share"]["music"] for each in found.get("channels") or [found])
    decision = decided(job.settings["mode"], lowest, music, voices=networks.voice is not None)
    job.note(recording, decision.why)
    make = networks.voice if decision.way == VOICE else networks.noise
    if decision.way and make:
        for number, path in enumerate(sounds):
            name = path.name
            with job.writing(name) as target:

                def progress(seconds: float, total: float, number: int = number) -> None:
                    job.progress(recording, (number * total + seconds) / len(sounds), total)

                write(path, target, make(), progress)
    return {
        "cleaned": decision.way is not None,
        "by": job.uses[decision.way]["id"] if decision.way else None,
        "why": decision.why,
        "ratio": None if lowest is None else round(lowest, 1),
        "music": music,
    }


def decided(mode: str, lowest: float | None, music: float | None, *, voices: bool) -> Decision:
    """What is taken out, and why.

    Args:
        lowest: what :func:`ratio` says of the noisiest sound.
        music: the part of the recording in which there is music; None: nobody looked for it.
        voices: the job has a model that knows voices from music.
    """
    if mode == "on" and voices:
        return Decision(VOICE, "the voice is taken out of everything else, as asked")
    share = 0.0 if music is None else music
    played = f"there is music in {share:.0%} of it"
    if share >= MUSICAL and voices:
        return Decision(VOICE, f"the voice is taken out of the music: {played}")
    unseen = f"; {played}, and no model for voices is chosen" if share >= MUSICAL else ""
    if lowest is None:
        return Decision(None, f"noise is left in: there is nothing else{unseen}")
    heard = f"speech is {lowest:.0f} dB above the noise"
    if mode == "on":
        return Decision(NOISE, f"noise is taken out, as asked; {heard}{unseen}")
    if lowest < NOISY:
        return Decision(NOISE, f"noise is taken out: {heard}{unseen}")
    return Decision(None, f"noise is left in: {heard}, and taking it out can cost words{unseen}")


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


def write(path: Path, target: Path, cleaner: Cleaner | Separator, progress: Callable[[float, float], None]) -> None:
    """What ``cleaner`` leaves of the sound of ``path``, as a WAV file of the same length.

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
