"""demux: any audio or video to 16 kHz mono WAV, on the recording's own timeline."""

from __future__ import annotations

import sys
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import contract
from contract import RATE, InputFault, Recording, StageJob

LONGEST = 36 * 3600
"""Seconds. A WAV file counts its bytes in 32 bits: 37 hours of 16 kHz mono."""

GAP = 0.1
"""Seconds. A jump in the timestamps below this is rounding, above it a hole that silence must fill."""


def work(job: StageJob) -> None:
    with job.timed("imports"):
        import av  # noqa: F401
    with job.timed("work"):
        for recording in job.inputs:
            demux(job, recording)


def demux(job: StageJob, recording: Recording) -> None:
    """Write ``<id>.wav`` and ``<id>.json`` (duration in seconds, streams, container format)."""
    import av

    path = job.recording(recording)
    if path.stat().st_size == 0:
        raise InputFault(f"{recording.name}: the file is empty (zero bytes)")
    try:
        container = av.open(f"file:{path}")  # "file:" keeps any name a name
    except (av.FFmpegError, ValueError) as error:
        raise InputFault(f"{recording.name}: not a media file that can be read ({_reason(error)})") from error
    with container:
        if not container.streams.audio:
            raise InputFault(f"{recording.name}: no audio stream")
        index = job.settings.get("stream") or 0
        if index >= len(container.streams.audio):
            raise InputFault(f"{recording.name}: audio stream {index} asked for, {len(container.streams.audio)} there")
        with job.writing(f"{recording.id}.wav") as temporary, wave.open(str(temporary), "wb") as wav:
            wav.setnchannels(1)
            wav.setsampwidth(2)
            wav.setframerate(RATE)
            samples = 0
            expected = (container.duration or 0) / 1e6
            for chunk in sound(job, recording, container, index):
                samples += len(chunk) // 2
                if samples > LONGEST * RATE:
                    raise InputFault(
                        f"{recording.name}: longer than {LONGEST // 3600} hours; cut it with --start/--end"
                    )
                wav.writeframes(chunk)
                job.progress(recording, samples / RATE, max(expected, samples / RATE))
            if not samples:
                raise InputFault(f"{recording.name}: the audio stream holds no sound that can be decoded")
        job.save(recording, describe(container, samples / RATE))


def sound(job: StageJob, recording: Recording, container: Any, index: int) -> Iterator[bytes]:
    """16 kHz mono s16 chunks of one audio stream.

    The first sample stands for the container's start: a stream that begins later is padded with silence, and a hole
    between packets is filled, so that a time in the sound is a time in the video.
    """
    import av

    stream = container.streams.audio[index]
    stream.thread_type = "AUTO"
    origin = (container.start_time or 0) / 1e6
    layout = "mono"
    resampler = av.AudioResampler(format="s16", layout=layout, rate=RATE)
    position = 0  # samples written
    broken = 0
    demuxer = container.demux(stream)
    while True:
        try:
            packet = next(demuxer)
        except StopIteration:
            break
        except av.FFmpegError as error:
            job.note(recording, f"the file ends early: read up to {position / RATE:.1f} s ({_reason(error)})")
            break
        try:
            frames = packet.decode()
        except av.FFmpegError:
            broken += 1
            continue
        for frame in frames:
            if frame.time is not None:
                lag = round((frame.time - origin) * RATE) - position
                if lag > GAP * RATE:
                    yield from silence(min(lag, LONGEST * RATE))
                    position += lag
            try:
                pieces = resampler.resample(frame)
            except ValueError:  # the format changed in mid-stream
                resampler = av.AudioResampler(format="s16", layout=layout, rate=RATE)
                pieces = resampler.resample(frame)
            for piece in pieces:
                data = bytes(piece.planes[0])[: piece.samples * 2]
                position += piece.samples
                yield data
    if position:
        for piece in resampler.resample(None):
            yield bytes(piece.planes[0])[: piece.samples * 2]
    if broken:
        job.note(recording, f"{broken} broken packets were left out")
    whole = (container.duration or 0) / 1e6
    if position and whole - position / RATE > max(2.0, 0.02 * whole) and stream.duration is not None:
        promised = float(stream.duration * stream.time_base)
        if promised - position / RATE > max(2.0, 0.02 * promised):
            job.note(
                recording, f"the file is cut short: {position / RATE:.1f} s of {promised:.1f} s of sound are there"
            )


def silence(samples: int) -> Iterator[bytes]:
    """Zeros, a minute at a time."""
    minute = 60 * RATE
    while samples > 0:
        count = min(samples, minute)
        yield b"\0\0" * count
        samples -= count


def describe(container: Any, duration: float) -> dict[str, Any]:
    """What later stages and the user may want to know of the recording."""
    streams = [
        {"index": s.index, "type": s.type, "codec": s.codec_context.name if s.codec_context else None,
         "language": s.metadata.get("language")}
        for s in container.streams
    ]  # fmt: skip
    return {
        "duration": round(duration, 3),
        "video": has_video(container),
        "format": container.format.name,
        "streams": streams,
    }


def has_video(container: Any) -> bool:
    """Moving pictures: an attached cover is a video stream as well, but not a video."""
    import av

    cover = av.stream.Disposition.attached_pic
    return any(not (s.disposition & cover) for s in container.streams.video)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


if __name__ == "__main__":
    contract.main("demux", work)
