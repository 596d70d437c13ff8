"""Audio streams decoded: float32 sound at 16 kHz on each track's timeline, whatever is broken in the file."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import confined
import media
from contract import RATE
from timeline import GAP, Timeline

STUBBORN = 20
"""Read errors in a row that end a file."""

QUICK = 200.0
"""Seconds of silence in the place of what isn't there for which a recording gets one second of the processor more."""

APART = 60 * RATE
"""Samples by which one track may be ahead of another: what a track lacks by then is silence."""


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
    furthest: float = 0.0
    """The latest of these times."""
    _resampler: Any = None
    _kind: Any = None
    _held: Any = None
    _broken_at: int | None = None
    _begins: int | None = None
    _bytes: int = 0
    """Of packets, from the first one, which is at ``_begins``, on."""
    _gap: float = 0.0
    """Seconds of a raw stream's broken packets, by their bytes, since the last one with sound."""

    def __post_init__(self) -> None:
        joined = self.container.format.name in media.BROADCAST
        size = media.size(self.container)
        self.timeline = Timeline(whole=media.whole(self.container), size=size, joined=joined)
        self.origin = media.start(self.container)
        self._raw = self.container.format.name in media.RAW

    @property
    def names(self) -> list[str]:
        """Its channels, in FFmpeg's spelling."""
        return [channel.name for channel in self.stream.codec_context.layout.channels]

    def decode(self, packet: Any) -> Iterator[Any]:
        """The sound of a packet on the timeline: float32 [n, channels]."""
        import av

        if self._begins is None:
            self._begins = packet.pos
        self._bytes += packet.size
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            if error.errno == errno.ENOMEM:
                raise
            self.broken += 1
            said = self._length(packet)
            self.lost += said
            if self._raw:  # one packet is all up to the next frame that FFmpeg finds
                self._gap += max(0.0, self._seconds(packet.size) - said)
            return
        if frames:  # so the gap was not what stands behind the sound, such as tags
            self.lost, self._gap = self.lost + self._gap, 0.0
        for frame in frames:
            yield from self._take(frame)

    def _length(self, packet: Any) -> float:
        """Seconds of a broken packet: what it says, or the time since the broken packet before it."""
        said = float((packet.duration or 0) * (packet.time_base or 0))
        if packet.pts is None:
            return said
        before, self._broken_at = self._broken_at, packet.pts
        since = 0.0 if before is None else float((packet.pts - before) * packet.time_base)
        return said or (since if 0 < since < media.BACK else 0.0)

    def _seconds(self, count: int) -> float:
        """What ``count`` bytes would last at the pace of those that were read."""
        return count * self.timeline.position / RATE / max(1, self._bytes)

    def _left_out(self) -> float:
        """Seconds of bytes that were not even given as packets: FFmpeg looks for ADTS frames by itself."""
        if self.container.format.name != "aac" or self._begins is None:
            return 0.0
        return self._seconds(media.size(self.container) - self._begins - self._bytes)

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
            confined.earn(len(sound) / RATE / confined.SLOWEST)
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
        if (left_out := self._left_out()) > GAP:
            notes.append(f"some of the file is not sound that can be read (about {left_out:.2f} s)")
        return notes


def silence(samples: int, channels: int, track: Track) -> Iterator[Any]:
    """Zeros, at most a minute of one channel at a time."""
    import numpy as np

    while samples > 0:
        count = min(samples, max(RATE // 10, 60 * RATE // channels))
        track.timeline.position += count
        confined.earn(count / RATE / QUICK)
        yield np.zeros((count, channels), dtype=np.float32)
        samples -= count


def sounds(container: Any, tracks: dict[int, Track]) -> Iterator[tuple[Track, Any]]:
    """The sound of tracks, each on the timeline, in the order of the file; broken packets are skipped."""
    # Whether a hole is a jump, and whether a file is cut short, is seen from the other streams.
    watched = container.format.name in (*media.BROADCAST, "flv")
    streams = [s for s in container.streams if watched or s.index in tracks]
    for packet in packets(container, streams, tracks):
        track = tracks.get(packet.stream.index)
        if track is not None:
            for sound in track.decode(packet):
                yield track, sound
        elif packet.pts is not None:
            for each in tracks.values():
                each.others.append(float(packet.pts * packet.time_base) - each.origin)
                each.furthest = max(each.furthest, each.others[-1])
    for track in tracks.values():
        for sound in track.finish():
            yield track, sound


def packets(container: Any, streams: Sequence[Any], tracks: dict[int, Track]) -> Iterator[Any]:
    """Packets up to the end, or to the place from which nothing can be read."""
    import av

    failures = 0
    source = media.read(container, streams)
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
            source = media.read(container, streams)
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
