"""demux: any audio or video to 16 kHz mono WAV, on the recording's own timeline."""

from __future__ import annotations

import errno
import sys
import wave
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import contract
import media
from contract import RATE, InputFault, Recording, StageJob
from timeline import GAP, Timeline, data
from tracks import HEARD, Choice, NoSuchTrack, asked, choose

LONGEST = 36 * 3600
"""Seconds. A WAV file counts its bytes in 32 bits: 37 hours of 16 kHz mono."""

STUBBORN = 20
"""Read errors in a row that end a file."""

APART = 60 * RATE
"""Samples by which one track may be ahead of another: what a track lacks by then is silence."""


def work(job: StageJob) -> None:
    with job.timed("imports"):
        import av
        import mix  # noqa: F401  # NumPy

        av.logging.set_level(av.logging.PANIC)
    with job.timed("work"):
        for recording in job.inputs:
            demux(job, recording)


def demux(job: StageJob, recording: Recording) -> None:
    """Write ``<id>.wav`` and ``<id>.json`` (docs/job-format.md), and ``<id>.c1.wav`` … where channels are heard apart.

    Raises:
        InputFault: the recording has no sound that can be used.
    """
    path = job.recording(recording)
    if path.stat().st_size == 0:
        raise InputFault(f"{recording.name}: the file is empty (zero bytes)")
    chosen = selected(recording, path, job.settings.get("track"))
    if recording.lead > GAP:
        early = f"{recording.lead:.1f} s before the start, at a key frame"
        job.note(recording, f"the cut film begins {early}; its sound begins at the start")
    if chosen.note:
        job.note(recording, chosen.note)
    heard = write(job, recording, path, chosen.indices)
    change = heard.loudness.adjustment()
    if change is not None:  # rare: what doesn't fit 16 bits is decoded again
        job.note(recording, change[2])
        heard = write(job, recording, path, chosen.indices, offset=change[0], factor=change[1])
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


def selected(recording: Recording, path: Path, track: int | str | None) -> Choice:
    """Which of the recording's tracks are heard.

    Raises:
        InputFault: it has none that can be decoded, or not the one that is asked for.
    """
    with opened(recording, path) as container:
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
        streams = [s for s in streams if s.codec_context is not None]
        if len(streams) == 1:
            return Choice(indices=(streams[0].index,))
        return choose(streams, values(container, streams))


def values(container: Any, streams: Sequence[Any]) -> list[float]:
    """How much each stream sounds like speech, by its first minutes."""
    import numpy as np
    from mix import liveliness

    levels: dict[int, list[float]] = {s.index: [] for s in streams}
    tracks = {s.index: Track(s, container) for s in streams}
    for track, sound in sounds(container, tracks):
        mine = levels[track.stream.index]
        for at in range(0, len(sound), 512):
            power = (sound[at : at + 512] ** 2).mean(axis=0).max()
            mine.append(float(10 * np.log10(power + 1e-10)))
        if (
            min(t.timeline.position for t in tracks.values()) > HEARD * RATE
            or track.timeline.position > 2 * HEARD * RATE
        ):
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
    job: StageJob, recording: Recording, path: Path, numbers: Sequence[int], *, offset: float = 0.0, factor: float = 1.0
) -> Heard:
    """Write the sound of streams, each sample less ``offset`` and times ``factor``.

    Raises:
        InputFault: they have no sound that can be decoded, or more than fits a WAV file.
    """
    from mix import Loudness, Mixer, pcm

    loudness = Loudness()
    with opened(recording, path) as container, ExitStack() as files:
        expected = media.whole(container)
        tracks = {n: Track(container.streams[n], container) for n in numbers}
        first = tracks[numbers[0]]
        apart = job.settings.get("channels") == "split"
        outputs: list[wave.Wave_write] = []
        mixer: Mixer | None = None
        samples = 0
        mixers = {n: Mixer(names=t.names) for n, t in tracks.items()} if len(tracks) > 1 else {}
        source = together(container, tracks, mixers) if mixers else (s for _, s in sounds(container, tracks))
        for block in blocks(source):
            if mixer is None or len(mixer.names) != block.shape[1]:
                mixer = Mixer(
                    names=first.names if not mixers and len(first.names) == block.shape[1] else ["?"] * block.shape[1]
                )
                mixers.setdefault(-len(mixers) - 1, mixer)
            if not outputs:
                count = block.shape[1] if apart and block.shape[1] > 1 else 0
                names = [f"{recording.id}.wav", *voices(recording, count)]
                outputs = [files.enter_context(wav(job, name)) for name in names]
            mixed = (mixer.mix(block) - offset) * factor
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
        described |= {"tracks": list(numbers), "voices": max(len(outputs) - 1, 0)}
        promised = media.sound_length(container, first.stream)
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


@dataclass
class Track:
    """One audio stream while it is decoded: its timeline, and what was broken."""

    stream: Any
    container: Any
    broken: int = 0
    lost: float = 0.0
    """Seconds of the packets that could not be decoded."""
    unreadable: str = ""
    late: int = 0
    """Samples that are left out, since other tracks in the file are far ahead of them."""
    others: deque[float] = field(default_factory=lambda: deque(maxlen=512))
    """Times (seconds from the start) of the last packets of other streams."""
    _resampler: Any = None
    _kind: Any = None
    _held: Any = None

    def __post_init__(self) -> None:
        joined = self.container.format.name in media.BROADCAST
        self.timeline = Timeline(whole=media.whole(self.container), joined=joined)
        self.origin = media.start(self.container)

    @property
    def names(self) -> list[str]:
        """Its channels, in FFmpeg's spelling."""
        return [channel.name for channel in self.stream.codec_context.layout.channels]

    def decode(self, packet: Any) -> Iterator[Any]:
        """The sound of a packet on the timeline: float32 [n, channels]."""
        import av

        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            if error.errno == errno.ENOMEM:
                raise
            self.broken += 1
            self.lost += float((packet.duration or 0) * (packet.time_base or 0))
            return
        for frame in frames:
            yield from self._take(frame)

    def finish(self) -> Iterator[Any]:
        """What is left at the end."""
        yield from self._take(None)
        if self._resampler is not None:
            yield from self._arrays(self._resampler.resample(None))

    def _take(self, following: Any) -> Iterator[Any]:
        """The frame before ``following``, without its time where that doesn't begin at its end.

        A single damaged timestamp must not move sound.
        """
        frame, self._held = self._held, following
        if frame is None:
            return
        trusted = frame.time is not None
        if trusted and following is not None and following.time is not None:
            trusted = abs(following.time - frame.time - frame.samples / frame.sample_rate) <= GAP
        if trusted:
            time = frame.time - self.origin
            end = self.timeline.position / RATE
            covered = any(end + 1 < other < time - 1 for other in self.others)
            yield from silence(self.timeline.place(time, covered=covered), frame.layout.nb_channels, self)
            self.others.clear()
        kind = (frame.format.name, frame.layout.name, frame.layout.nb_channels, frame.sample_rate)
        if kind != self._kind:  # at the start, and in mid-stream where broadcasts and joined files change
            yield from self._changed(frame)
            self._kind = kind
        yield from self._arrays(self._resampler.resample(frame))

    def _changed(self, frame: Any) -> Iterator[Any]:
        import av

        if self._resampler is not None:
            yield from self._arrays(self._resampler.resample(None))
        # Packed: PyAV's arrays have eight planes at most, and recorders have 24 channels.
        self._resampler = av.AudioResampler(format="flt", layout=frame.layout.name, rate=RATE)

    def _arrays(self, pieces: Sequence[Any]) -> Iterator[Any]:
        for piece in pieces:
            sound = piece.to_ndarray().reshape(-1, piece.layout.nb_channels)
            self.timeline.position += len(sound)
            yield sound

    def notes(self) -> list[str]:
        """What was lost of the track."""
        notes = []
        if self.unreadable:
            notes.append(f"the rest of the file can't be read ({self.unreadable})")
        if self.late:
            apart = f"it stands more than {APART // RATE} s of the other tracks' sound behind them in the file"
            notes.append(f"{self.late / RATE:.1f} s of a track's sound are left out: {apart}")
        if self.broken:
            were = "packets were" if self.broken > 1 else "packet was"
            notes.append(f"{self.broken} broken {were} skipped ({self.lost:.2f} s of sound)")
        return notes


def silence(samples: int, channels: int, track: Track) -> Iterator[Any]:
    """Zeros, at most a minute at a time."""
    import numpy as np

    while samples > 0:
        count = min(samples, 60 * RATE)
        track.timeline.position += count
        yield np.zeros((count, channels), dtype=np.float32)
        samples -= count


def sounds(container: Any, tracks: dict[int, Track]) -> Iterator[tuple[Track, Any]]:
    """The sound of tracks, each on the timeline, in the order of the file; broken packets are skipped."""
    watched = container.format.name in media.BROADCAST  # whether a hole is a jump is seen from the other streams
    streams = [s for s in container.streams if watched or s.index in tracks]
    for packet in packets(container, streams, tracks):
        track = tracks.get(packet.stream.index)
        if track is not None:
            for sound in track.decode(packet):
                yield track, sound
        elif packet.pts is not None:
            for each in tracks.values():
                each.others.append(float(packet.pts * packet.time_base) - each.origin)
    for track in tracks.values():
        for sound in track.finish():
            yield track, sound


def packets(container: Any, streams: Sequence[Any], tracks: dict[int, Track]) -> Iterator[Any]:
    """Packets up to the end, or to the place from which nothing can be read."""
    import av

    failures = 0
    source = container.demux(streams)
    while failures < STUBBORN:
        try:
            packet = next(source)
        except StopIteration:
            return
        except av.FFmpegError as error:
            if error.errno == errno.ENOMEM:
                raise
            failures += 1
            if failures == STUBBORN:
                for track in tracks.values():
                    track.unreadable = media.reason(error)
            source = container.demux(streams)
            continue
        failures = 0
        yield packet


def together(container: Any, tracks: dict[int, Track], mixers: dict[int, Any]) -> Iterator[Any]:
    """Several tracks side by side: float32 [n, tracks], each mixed to one channel."""
    import numpy as np

    waiting: dict[int, list[Any]] = {number: [] for number in tracks}
    have = dict.fromkeys(tracks, 0)
    given = 0

    def rows(count: int) -> Any:
        columns = []
        for number in tracks:
            whole = np.concatenate([*waiting[number], np.zeros(0, np.float32)])
            columns.append(np.pad(whole[:count], (0, max(0, count - len(whole)))))
            waiting[number] = [whole[count:]]
        return np.stack(columns, axis=1)

    for track, sound in sounds(container, tracks):
        number = track.stream.index
        if have[number] < given:  # others went on without it
            late = min(given - have[number], len(sound))
            have[number], sound = have[number] + late, sound[late:]
            track.late += late
        for block in blocks(iter([sound])):
            waiting[number].append(mixers[number].mix(block))
        have[number] += len(sound)
        ready = max(min(have.values()), max(have.values()) - APART)
        if ready - given >= RATE:
            yield rows(ready - given)
            given = ready
    if max(have.values()) > given:
        yield rows(max(have.values()) - given)


def blocks(source: Iterator[Any]) -> Iterator[Any]:
    """Sound cut and joined to blocks of ``mix.BLOCK`` samples; shorter at the end, and where the channels change."""
    import numpy as np
    from mix import BLOCK

    held: list[Any] = []
    count = 0
    for sound in source:
        if held and held[0].shape[1] != sound.shape[1]:
            yield np.concatenate(held)
            held, count = [], 0
        held.append(sound)
        count += len(sound)
        if count >= BLOCK:
            whole = np.concatenate(held)
            for at in range(0, count - BLOCK + 1, BLOCK):
                yield whole[at : at + BLOCK]
            rest = whole[count // BLOCK * BLOCK :]
            held, count = [rest], len(rest)
    if count:
        yield np.concatenate(held)


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
    contract.main("demux", work)
