"""demux: any audio or video to 16 kHz mono WAV, on the recording's own timeline."""

from __future__ import annotations

import errno
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
"""Seconds. A smaller jump in the timestamps is rounding; a larger one is a hole that silence must fill."""

BACK = 1.0
"""Seconds. A clock that goes back by more has started again; when it goes back by less, the sound overlaps."""

BEYOND = 10.0
"""Seconds. A clock that is this far beyond the end that the file names has jumped."""

STUBBORN = 20
"""Read errors in a row that end a file."""

PLAYLISTS = {"hls", "dash", "concat", "imf", "sdp", "rtsp", "vobsub", "image2"}
"""Formats that name other files. A recording is one file, and must not choose what else is read."""

OPTIONS = {
    "protocol_whitelist": "file",  # no network, whatever the file names
    "analyzeduration": "30000000",  # µs, for broadcasts whose sound begins late; read only while a stream is unknown
    "probesize": "20000000",  # bytes, likewise
}


def work(job: StageJob) -> None:
    with job.timed("imports"):
        import av  # noqa: F401
    with job.timed("work"):
        for recording in job.inputs:
            demux(job, recording)


def demux(job: StageJob, recording: Recording) -> None:
    """Write ``<id>.wav`` and ``<id>.json`` (duration in seconds, streams, container format).

    Raises:
        InputFault: the recording has no sound that can be used.
    """
    import av

    path = job.recording(recording)
    if path.stat().st_size == 0:
        raise InputFault(f"{recording.name}: the file is empty (zero bytes)")
    try:
        container = open_media(path)
    except (av.FFmpegError, ValueError) as error:
        raise InputFault(f"{recording.name}: not a media file that can be read ({_reason(error)})") from error
    with container:
        if not container.streams.audio:
            raise InputFault(f"{recording.name}: no audio stream")
        index = job.settings.get("stream") or 0
        if index >= len(container.streams.audio):
            count = len(container.streams.audio)
            raise InputFault(f"{recording.name}: it has no audio stream {index}; its {count} are counted from 0")
        if container.streams.audio[index].codec_context is None:
            raise InputFault(f"{recording.name}: its sound is in a format that can't be decoded")
        with job.writing(f"{recording.id}.wav") as temporary, wave.open(str(temporary), "wb") as wav:
            wav.setnchannels(1)
            wav.setsampwidth(2)
            wav.setframerate(RATE)
            if recording.lead > GAP:
                early = f"{recording.lead:.1f} s before the start, at a key frame"
                job.note(recording, f"the cut film begins {early}; its sound begins at the start")
            samples = 0
            expected = (container.duration or 0) / 1e6
            for chunk in sound(job, recording, container, index):
                samples += len(chunk) // 2
                if samples > LONGEST * RATE:
                    raise InputFault(
                        f"{recording.name}: longer than {LONGEST // 3600} hours; cut it with --start/--end"
                    )
                wav.writeframesraw(chunk)  # the header is corrected once, at the end
                job.progress(recording, samples / RATE, max(expected, samples / RATE))
            if not samples:
                raise InputFault(f"{recording.name}: the audio stream holds no sound that can be decoded")
        job.save(recording, describe(container, samples / RATE))


def open_media(path: Path) -> Any:
    """An open container.

    Raises:
        av.FFmpegError: it can't be read, or isn't media.
        ValueError: it names other files.
    """
    import av

    # With "file:" a name such as "concat:a" is a file's name. Old tags may be in any encoding.
    container = av.open(f"file:{path}", options=OPTIONS, metadata_errors="replace")
    if container.format.name in PLAYLISTS:
        container.close()
        raise ValueError("a list of other files")
    return container


def sound(job: StageJob, recording: Recording, container: Any, index: int) -> Iterator[bytes]:
    """16 kHz mono s16 chunks of one audio stream.

    The first sample is the container's start, and a time in the sound is the same time in the video: silence stands
    before a stream that begins later and in holes between packets; what overlaps is cut.
    """
    stream = container.streams.audio[index]
    origin = (container.start_time or 0) / 1e6
    whole = (container.duration or 0) / 1e6
    position = 0  # samples yielded so far
    shift = 0  # samples by which timestamps are moved after jumps
    drop = 0  # samples still to skip
    jumps: list[float] = []
    for frame, pieces in resampled(believed(decoded(job, recording, container, stream))):
        if frame is not None and frame.time is not None:
            lag = round((frame.time - origin) * RATE) + shift - position
            if lag > GAP * RATE and (not whole or (position + lag) / RATE < whole + BEYOND):
                yield from silence(min(lag, LONGEST * RATE))
                position += lag
            elif lag > GAP * RATE or (position and lag < -BACK * RATE):
                jumps.append(position / RATE)
                shift -= lag
            elif lag < -GAP * RATE:
                drop = -lag
        for piece in pieces:
            skipped = min(drop, piece.samples)
            drop -= skipped
            position += piece.samples - skipped
            yield bytes(piece.planes[0])[skipped * 2 : piece.samples * 2]
    if jumps:
        job.note(recording, f"its timestamps jump at {jumps[0]:.1f} s: later times are counted from the sound itself")
    promised = length(stream) or 0.0
    if position and promised - position / RATE > max(2.0, 0.02 * promised):
        job.note(recording, f"the file is cut short: it has {position / RATE:.1f} s of {promised:.1f} s of sound")


def decoded(job: StageJob, recording: Recording, container: Any, stream: Any) -> Iterator[Any]:
    """Frames of ``stream``; broken packets are skipped, with a note."""
    import av

    broken = 0
    failures = 0
    packets = container.demux(stream)
    while failures < STUBBORN:
        try:
            packet = next(packets)
        except StopIteration:
            break
        except av.FFmpegError as error:
            if error.errno == errno.ENOMEM:
                raise
            failures += 1
            if failures == STUBBORN:
                job.note(recording, f"the rest of the file can't be read ({_reason(error)})")
            packets = container.demux(stream)
            continue
        failures = 0
        try:
            yield from packet.decode()
        except av.FFmpegError:
            broken += 1
    if broken:
        job.note(recording, f"{broken} broken packet{'s were' if broken > 1 else ' was'} skipped")


def believed(frames: Iterator[Any]) -> Iterator[Any]:
    """Frames, without their time where the next doesn't begin at their end: a damaged timestamp must not move sound."""
    before: Any = None
    for frame in frames:
        if before is not None:
            if before.time is not None and frame.time is not None:
                end = before.time + before.samples / before.sample_rate
                if abs(frame.time - end) > GAP:
                    before.pts = None
            yield before
        before = frame
    if before is not None:
        yield before


def resampled(frames: Iterator[Any]) -> Iterator[tuple[Any, list[Any]]]:
    """Each frame with the 16 kHz mono frames that it completes; at the end (None, the rest)."""
    import av

    resampler: Any = None
    kind: Any = None
    for frame in frames:
        now = (frame.format.name, frame.layout.name, frame.layout.nb_channels, frame.sample_rate)
        rest: list[Any] = []
        if now != kind:  # at the start, and in mid-stream where broadcasts and joined files change
            rest = resampler.resample(None) if resampler else []
            resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
            kind = now
        yield frame, rest + resampler.resample(frame)
    if resampler:
        yield None, resampler.resample(None)


def length(stream: Any) -> float | None:
    """Seconds of sound that the file announces for this stream; None when it doesn't."""
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    parts = stream.metadata.get("DURATION", "").split(":")  # Matroska: 00:00:31.200000000
    try:
        return int(parts[0]) * 3600 + int(parts[1]) * 60 + float(parts[2])
    except (ValueError, IndexError):
        return None


def silence(samples: int) -> Iterator[bytes]:
    """16-bit zeros, at most a minute at a time."""
    minute = 60 * RATE
    while samples > 0:
        count = min(samples, minute)
        yield b"\0\0" * count
        samples -= count


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
        "video": has_video(container),
        "format": container.format.name,
        "streams": streams,
    }


def has_video(container: Any) -> bool:
    """Whether there are moving pictures: an attached cover is a video stream, but not a video."""
    import av

    cover = av.stream.Disposition.attached_pic
    return any(not (s.disposition & cover) for s in container.streams.video)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


if __name__ == "__main__":
    contract.main("demux", work)
