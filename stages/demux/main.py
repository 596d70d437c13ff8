"""demux: any audio or video to 16 kHz mono WAV, on the recording's own timeline."""

from __future__ import annotations

import sys
import wave
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import confined
import contract
import media
from contract import RATE, InputFault, Recording, StageJob
from decode import Track, blocks, sounds, together
from timeline import GAP, data
from tracks import ENOUGH, HEARD, Choice, NoSuchTrack, asked, choose

LONGEST = 36 * 3600
"""Seconds. A WAV file counts its bytes in 32 bits: 37 hours of 16 kHz mono."""


def work(job: StageJob) -> None:
    with job.timed("imports"):
        ready()
    with job.timed("work"):
        for recording in job.inputs:
            demux(job, recording)


def ready() -> None:
    """Import and find out what each recording needs."""
    import av  # noqa: F401
    import mix  # noqa: F401  # NumPy

    media.decoders()


def demux(job: StageJob, recording: Recording) -> None:
    """Write ``<id>.wav`` and ``<id>.json`` (docs/job-format.md), and ``<id>.c1.wav`` … where channels are heard apart.

    Raises:
        InputFault: the recording has no sound that can be used.
    """
    with job.reading(recording) as path:
        hear(job, recording, path)


def hear(job: StageJob, recording: Recording, path: Path) -> None:
    """The same, of a recording whose file is at ``path``."""
    if path.stat().st_size == 0:
        raise InputFault(f"{recording.name}: the file is empty (zero bytes)")
    confined.begin(recording.name, path.stat().st_size)
    container = opened(recording, path)
    try:
        chosen = selected(recording, container, job.settings.get("track"))
        if chosen.read:
            container.close()
            container = opened(recording, path)
        take(job, recording, path, container, chosen)
    finally:
        container.close()


def take(job: StageJob, recording: Recording, path: Path, container: Any, chosen: Choice) -> None:
    """Write the sound of a container of which nothing was read yet."""
    if recording.lead > GAP:
        early = f"{recording.lead:.1f} s before the start, at a key frame"
        job.note(recording, f"the cut film begins {early}; its sound begins at the start")
    if chosen.note:
        job.note(recording, chosen.note)
    heard = write(job, recording, container, chosen.indices)
    change = heard.loudness.adjustment()
    if change is not None:  # rare: what doesn't fit 16 bits is decoded again
        job.note(recording, change[2])
        with opened(recording, path) as again:
            heard = write(job, recording, again, chosen.indices, offset=change[0], factor=change[1])
    if job.settings.get("channels") == "split" and (why := heard.one()):
        job.note(recording, f"--channels split: {why}")
        for name in voices(recording, heard.described["voices"]):
            job.withdraw(name)
        heard.described["voices"] = 0
    for note in heard.notes():
        job.note(recording, note)
    job.save(recording, heard.described)


def opened(recording: Recording, path: Path) -> Any:
    """The recording's container, which has sound that can be decoded.

    Raises:
        InputFault: it is not media, or has no such sound.
    """
    import av

    try:
        container = media.open_media(path)
    except (av.FFmpegError, ValueError) as error:
        raise InputFault(f"{recording.name}: not a media file that can be read ({media.reason(error)})") from error
    if not container.streams.audio:
        container.close()
        raise InputFault(f"{recording.name}: no audio stream")
    if all(s.codec_context is None for s in container.streams.audio):
        container.close()
        raise InputFault(f"{recording.name}: its sound is in a format that can't be decoded")
    return container


def selected(recording: Recording, container: Any, track: int | str | None) -> Choice:
    """Which of a container's tracks are heard.

    Raises:
        InputFault: it has none that can be decoded, or not the one that is asked for.
    """
    streams = list(container.streams.audio)
    try:
        wanted = asked(streams, track)
    except NoSuchTrack as error:
        raise InputFault(f"{recording.name}: {error}") from error
    if wanted is not None:
        usable = tuple(s for s in wanted if s.codec_context is not None)
        if not usable:
            raise InputFault(f"{recording.name}: this track is in a format that can't be decoded")
        return Choice(indices=tuple(s.index for s in usable))
    numbers, streams = zip(*((n, s) for n, s in enumerate(streams, 1) if s.codec_context is not None), strict=True)
    if len(streams) == 1:
        return Choice(indices=(streams[0].index,))
    return replace(choose(streams, values(container, streams), numbers), read=True)


def values(container: Any, streams: Sequence[Any]) -> list[float]:
    """How much each stream sounds like speech, by its first minutes; longer where there is hardly a sound."""
    import numpy as np
    from mix import AUDIBLE, liveliness

    levels: dict[int, list[float]] = {s.index: [] for s in streams}
    tracks = {s.index: Track(s, container) for s in streams}
    audible = 0.0
    for track, sound in sounds(container, tracks):
        mine = levels[track.stream.index]
        for at in range(0, len(sound), 512):
            power = (sound[at : at + 512] ** 2).mean(axis=0).max()
            mine.append(float(10 * np.log10(power + 1e-10)))
            audible += (mine[-1] > AUDIBLE) * 512 / RATE
        positions = [t.timeline.position for t in tracks.values()]
        if audible >= ENOUGH and (min(positions) > HEARD * RATE or max(positions) > 2 * HEARD * RATE):
            break
    return [liveliness(levels[s.index]) for s in streams]


@dataclass(kw_only=True)
class Heard:
    """What was written of a recording, and what was seen of it."""

    tracks: Sequence[Track]
    loudness: Any
    mixers: Sequence[Any]
    promised: float | None
    described: dict[str, Any]

    def notes(self) -> list[str]:
        """What the user should know, without repetitions."""
        first, *_ = self.tracks
        notes = first.timeline.notes(self.promised)
        if not self.described["voices"]:
            notes += [note for mixer in self.mixers for note in mixer.notes()]
            if len(self.tracks) == 1 and any(mixer.differ for mixer in self.mixers):
                notes.append("its two channels carry different sound: --channels split hears each on its own")
        notes += [note for track in self.tracks for note in track.notes()]
        return list(dict.fromkeys(notes))

    def one(self) -> str:
        """Why the recording's channels are not heard apart although that was asked for; empty when they are."""
        if not self.described["voices"]:
            return "the recording has one channel"
        if len(self.tracks) == 1 and all(mixer.same for mixer in self.mixers):
            return "its channels carry the same sound, and are heard as one"
        return ""


def write(
    job: StageJob,
    recording: Recording,
    container: Any,
    numbers: Sequence[int],
    *,
    offset: float = 0.0,
    factor: float = 1.0,
) -> Heard:
    """Write the sound of streams, each sample less ``offset`` and times ``factor``.

    Raises:
        InputFault: they have no sound that can be decoded, or more than fits a WAV file.
    """
    from mix import Loudness, Mixer, pcm

    loudness, samples = Loudness(), 0
    with ExitStack() as files:
        expected = media.whole(container)
        tracks = {n: Track(container.streams[n], container) for n in numbers}
        mixers = {n: Mixer(names=t.names) for n, t in tracks.items()}
        first, whole = tracks[numbers[0]], mixers[numbers[0]]
        source = (sound for _, sound in sounds(container, tracks))
        if len(tracks) > 1:
            source = together(container, tracks, mixers)
            whole = mixers[-1] = Mixer(names=["?"] * len(tracks))
        outputs: list[wave.Wave_write] = []
        for block in blocks(source):
            if not outputs:
                apart = block.shape[1] if job.settings.get("channels") == "split" and block.shape[1] > 1 else 0
                names = [f"{recording.id}.wav", *voices(recording, apart)]
                outputs = [files.enter_context(wav(job, name)) for name in names]
            mixed = (whole.mix(block) - offset) * factor
            loudness.hear(mixed)
            outputs[0].writeframesraw(pcm(mixed))  # the header is corrected once, at the end
            for k, out in enumerate(outputs[1:]):
                channel = block[:, k] if k < block.shape[1] else block[:, 0] * 0
                out.writeframesraw(pcm((channel - offset) * factor))
            samples += len(block)
            if samples > LONGEST * RATE:
                raise InputFault(f"{recording.name}: longer than {LONGEST // 3600} hours; cut it with --start/--end")
            job.progress(recording, samples / RATE, max(expected, samples / RATE))
        if not samples:
            raise InputFault(f"{recording.name}: the audio stream holds no sound that can be decoded")
        described = describe(container, samples / RATE) | data(first.timeline)
        described |= {"tracks": list(numbers), "voices": len(outputs) - 1}
        promised = media.sound_length(container, first.stream)
        if promised is None and container.format.name == "flv" and first.furthest < expected - 2:
            promised = expected  # Flash announces the whole; its picture ends early, too
    return Heard(
        tracks=list(tracks.values()),
        loudness=loudness,
        mixers=list(mixers.values()),
        promised=promised,
        described=described,
    )


def voices(recording: Recording, count: int) -> list[str]:
    """Names of the files of channels that are heard apart."""
    return [f"{recording.id}.c{k}.wav" for k in range(1, count + 1)]


@contextmanager
def wav(job: StageJob, name: str) -> Iterator[wave.Wave_write]:
    """A 16 kHz mono WAV file of this stage, whole or not at all."""
    with job.writing(name) as path, wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        yield file


def describe(container: Any, duration: float) -> dict[str, Any]:
    """What later stages and the user may want to know about the recording (docs/job-format.md)."""
    streams = [
        {
            "index": s.index,
            "type": s.type,
            "codec": s.codec_context.name if s.codec_context else None,
            "language": s.metadata.get("language"),
        }
        for s in container.streams
    ]
    return {
        "duration": round(duration, 3),
        "video": media.has_video(container),
        "format": container.format.name,
        "streams": streams,
    }


if __name__ == "__main__":
    contract.main("demux", work, media=True, ready=ready)
