"""The subtitles drawn into the picture, for players that show no track: a new picture, the sound copied."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import takewhile
from pathlib import Path
from typing import Any

import confined
import lettering
import media
from contract import Recording, StageJob
from lettering import Picture
from retiming import Retiming

QUALITY = {"crf": "20", "preset": "veryfast", "rc-lookahead": "12", "bf": "2"}
"""Options of x264. Few pictures wait for their turn, so that memory doesn't grow with the picture's size too much."""

MEMORY = 5_000_000_000
"""Bytes for a decoder and an encoder with all their threads; measured with 3840 x 2160: 0.7 GB."""

LARGER = 50
"""How many times as large as the recording the drawn film may become: old codecs make larger files of new ones' films."""

SLOW = 60.0
"""Seconds of the processor for one of the film."""

FATAL = {errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EFBIG, errno.EROFS}

TICK = Fraction(1, 90_000)
"""Time base of the new picture, in seconds: any frame rate, also one that changes."""


def burn(job: StageJob, recording: Recording, source: Path) -> None:
    """Write ``output/<name>.burned.mp4``, or ``.burned.mkv`` where MP4 can't hold the sound.

    What can't be drawn or written is a note: the film with a track is there already.
    """
    import av

    subtitles = job.load("subtitles", recording)
    cues = (subtitles.get("translations") or [subtitles])[0]["cues"]  # a picture has room for one language
    jumps = job.load("demux", recording)["jumps"]
    fonts = sorted((job.root / "input").glob("font-[0-9][0-9].*"))
    for path in fonts:
        job.beside(path.name)
    try:
        lettering.check(fonts, (cue["text"] for cue in cues))
    except (lettering.Unwritable, OSError) as fault:
        job.note(recording, f"the subtitles are not drawn into the picture: {fault}")
        return
    why = ""
    for suffix, form in ((".mp4", "mp4"), (".mkv", "matroska")):
        try:
            write(job, recording, source, cues, fonts, jumps, (suffix, form))
        except (av.FFmpegError, ValueError, LookupError) as error:
            if getattr(error, "errno", None) in FATAL:
                raise
            why = media.reason(error)
            continue
        return
    job.note(recording, f"the subtitles are not drawn into the picture: {why}")


def write(
    job: StageJob,
    recording: Recording,
    source: Path,
    cues: list[dict[str, Any]],
    fonts: list[Path],
    jumps: list[list[float]],
    kind: tuple[str, str],
) -> None:
    """Decode the picture, draw, encode; copy the sound.

    Args:
        kind: the file's suffix, and FFmpeg's name of the container.
    """
    import av

    suffix, form = kind
    options = {"fflags": "+bitexact"} | ({"movflags": "+faststart"} if form == "mp4" else {})
    with (
        media.open_media(source, pictures=True) as inside,
        job.writing(f"{recording.output}.burned{suffix}", output=True) as path,
        av.open(f"file:{path}", "w", options=options, format=form) as outside,
    ):
        picture = next((s for s in inside.streams.video if not media.is_cover(s)), None)
        if picture is None:
            raise ValueError("the recording has no picture")
        picture.thread_type = "AUTO"
        Burner(job, recording, inside, outside, picture, cues, fonts, jumps).run()


class Burner:
    """One film on its way through decoder, pen and encoder."""

    def __init__(
        self,
        job: StageJob,
        recording: Recording,
        inside: Any,
        outside: Any,
        picture: Any,
        cues: list[dict[str, Any]],
        fonts: list[Path],
        jumps: list[list[float]],
    ) -> None:
        self._job, self._recording, self._inside, self._outside = job, recording, inside, outside
        self._picture, self._cues, self._fonts = picture, cues, fonts
        self._sounds: dict[int, Any] = {}
        self._origin, self._total = media.start(inside), media.whole(inside)
        self._clock = Retiming(origin=self._origin, whole=self._total, shifts=[by for _, by in jumps])
        self._track: Any = None
        self._last, self._at = -1, 0.0
        self._turn: Any = None
        self._next = 0
        self._shown: tuple[str, Picture] | None = None
        self._waiting: list[Any] = []
        """Sound, until the first picture says how large the film is."""

    def run(self) -> None:
        """Everything, up to the first packet that can't be read; then there is a note.

        Raises:
            ValueError: no picture could be decoded.
        """
        import av

        demuxer = media.read(self._inside, [self._picture, *self._inside.streams.audio])
        try:
            for packet in demuxer:
                if packet.size and packet.dts is not None:
                    self._clock.mend(packet)
                if packet.stream is self._picture:
                    for frame in self._decoded(packet):
                        self._add(frame)
                elif packet.size:
                    self._copy(packet)
        except av.FFmpegError as error:
            if error.errno in FATAL:
                raise
            self._job.note(self._recording, f"the file ends early, and so does the drawn film ({media.reason(error)})")
        if self._track is None:
            raise ValueError("no picture could be decoded")
        for packet in self._track.encode(None):
            self._outside.mux(packet)
        self._job.progress(self._recording, self._total, self._total)

    def _decoded(self, packet: Any) -> Iterator[Any]:
        """The pictures of a packet; one that is damaged is left out."""
        import av

        with suppress(av.InvalidDataError):
            yield from packet.decode()

    def _copy(self, packet: Any) -> None:
        if self._track is None:
            self._waiting.append(packet)
        elif packet.dts is not None:
            packet.stream = self._sounds[packet.stream.index]
            self._outside.mux(packet)

    def _add(self, frame: Any) -> None:
        """Draw what is said into a picture and encode it."""
        if frame.pts is None:
            return
        seconds = float(frame.pts * frame.time_base)
        at = seconds - self._origin
        frame = self._upright(frame)
        if self._track is None:
            self._track = self._opened(frame)
            self._add_sounds()
            for early in self._waiting:
                self._copy(early)
            self._waiting.clear()
        frame = frame.reformat(width=self._track.width, height=self._track.height, format="yuv420p")
        frame.make_writable()
        if (picture := self._lettering(at, frame)) is not None:
            lettering.blend(frame, picture)
        self._last = max(self._last + 1, round(seconds / TICK))
        frame.pts, frame.time_base = self._last, TICK
        frame.pict_type = 0
        for packet in self._track.encode(frame):
            self._outside.mux(packet)
        confined.earn(min(max(0.0, at - self._at), 1.0) * SLOW)
        self._at = max(self._at, at)
        if self._total:
            self._job.progress(self._recording, min(max(at, 0.0), self._total), self._total)

    def _upright(self, frame: Any) -> Any:
        """A picture as it is shown: phones film sideways and say so."""
        turn = round(frame.rotation) % 360
        if turn not in (90, 180, 270):
            return frame
        if self._turn is None:
            self._turn = turned(self._picture, frame, turn)
        self._turn.push(frame)
        return self._turn.pull()

    def _opened(self, frame: Any) -> Any:
        """The new picture's stream, with the colours and the shape of the first frame."""
        stream = self._picture.codec_context
        track = self._outside.add_stream("libx264", rate=self._picture.average_rate or 25, options=dict(QUALITY))
        track.width, track.height = max(2, frame.width // 2 * 2), max(2, frame.height // 2 * 2)
        track.pix_fmt = "yuv420p"
        track.time_base = track.codec_context.time_base = TICK
        for name in ("color_range", "colorspace", "color_primaries", "color_trc"):
            with suppress(ValueError, TypeError):
                setattr(track.codec_context, name, getattr(stream, name))
        shape = stream.sample_aspect_ratio
        if shape:
            turned_shape = 1 / shape if self._turn is not None and frame.rotation % 180 else shape
            track.codec_context.sample_aspect_ratio = turned_shape
        track.metadata.update(media.tags(self._picture.metadata))
        return track

    def _add_sounds(self) -> None:
        """The streams of sound, behind that of the picture.

        Raises:
            ValueError: the container can't hold one.
        """
        for stream in self._inside.streams.audio:
            twin = media.copied(self._outside, self._inside, stream)
            if twin is None:
                raise ValueError("its sound doesn't fit into the new film")
            twin.metadata.update(media.tags(stream.metadata))
            twin.disposition = stream.disposition
            self._sounds[stream.index] = twin

    def _lettering(self, at: float, frame: Any) -> Picture | None:
        """What is drawn at a time in seconds; several cues may be shown at once."""
        cues = self._cues
        while self._next < len(cues) and cues[self._next]["end"] <= at:
            self._next += 1
        shown = takewhile(lambda cue: cue["start"] <= at, cues[self._next : self._next + 8])
        text = "\n".join(cue["text"] for cue in shown if cue["end"] > at)
        if not text:
            return None
        if self._shown is None or self._shown[0] != text:
            shape = float(self._track.codec_context.sample_aspect_ratio or 1)
            drawn = lettering.draw(text, self._fonts, frame.width, frame.height, aspect=shape)
            self._shown = text, drawn
        return self._shown[1]


def turned(stream: Any, frame: Any, turn: int) -> Any:
    """A filter that turns pictures by degrees against the clock."""
    import av

    graph = av.filter.Graph()
    steps = {90: ["cclock"], 270: ["clock"], 180: ["clock", "clock"]}[turn]
    before = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base, name=None
    )
    for step in steps:
        following = graph.add("transpose", step)
        before.link_to(following)
        before = following
    before.link_to(graph.add("buffersink"))
    graph.configure()
    return graph
