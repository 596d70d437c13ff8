"""mux: the subtitles as a soft track beside the unchanged video and audio, in MKV or MP4."""

from __future__ import annotations

import errno
import heapq
import itertools
import struct
import sys
from collections import deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import confined
import contract
import media
from contract import InputFault, Recording, StageJob
from languages import THREE
from retiming import Retiming

MP4 = {".mp4", ".m4v", ".mov"}
"""Recordings that stay MP4; everything else becomes Matroska, which holds any codec."""

WAIT = 500
"""The most packets that wait for a decoding time."""

TICK = Fraction(1, 1000)
"""Time base of the subtitle track, in seconds."""

HEADER = (
    "[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\n"
    "Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, "
    "Italic, Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, "
    "MarginL, MarginR, MarginV, Encoding\n"
    "Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,0\n\n"
    "[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
)
"""An ASS header, from which FFmpeg's text encoders take the style; without a style line the text is invisible."""

OWN = {"major_brand", "minor_version", "compatible_brands", "encoder"}
"""Metadata of the recording's file, not of the film."""


def work(job: StageJob) -> None:
    with job.timed("imports"):
        ready()
    with job.timed("work"):
        for recording in job.inputs:
            mux(job, recording)


def ready() -> None:
    """Import and find out what each recording needs."""
    import av  # noqa: F401

    media.decoders()


def mux(job: StageJob, recording: Recording) -> None:
    """Write ``output/<name>.mkv``, ``.mp4`` or, for sound alone, ``.mka``; nothing where no container takes a codec.

    Raises:
        InputFault: the recording can't be read.
    """
    with job.reading(recording) as source:
        size = source.stat().st_size
        if job.settings.get("burn"):
            import burn

            confined.begin(recording.name, size, memory=burn.MEMORY, larger=burn.LARGER, copies=True)
            burn.burn(job, recording, source)
        confined.begin(recording.name, size, copies=True)
        add(job, recording, source)


def add(job: StageJob, recording: Recording, source: Path) -> None:
    """The same, without the subtitles in the picture, of a recording whose file is at ``source``."""
    import av

    subtitles = job.load("subtitles", recording)
    jumps = job.load("demux", recording)["jumps"]
    try:
        inside = media.open_media(source)
    except (av.FFmpegError, ValueError) as error:
        raise InputFault(f"{recording.name}: not a media file that can be read ({media.reason(error)})") from error
    with inside:
        video = media.has_video(inside)
    suffixes = [".mkv" if video else ".mka"]
    if video and source.suffix.lower() in MP4:
        suffixes = [".mp4", ".mkv", ".mov"]
    why = ""
    for suffix, direct in itertools.product(suffixes, (True, False)):
        try:
            unfit = write(job, recording, source, subtitles, jumps, suffix, direct=direct)
        except Refused as refused:
            why = str(refused)
            continue
        if suffix != suffixes[0]:
            kind = {".mkv": "an MKV", ".mov": "a QuickTime file"}[suffix]
            job.note(recording, f"MP4 can't hold one of its codecs: the film with subtitles is {kind}")
        for name in unfit:
            job.note(recording, f"{name} stream does not fit into {suffix} and was left out")
        return
    job.note(recording, f"there is no copy with the subtitles inside, since {why}: they are in the files beside")


class Refused(Exception):
    """A container can't hold one of the recording's codecs; the user reads the text."""


FATAL = {errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EFBIG, errno.EROFS}
"""Errors that another container would have too."""


def write(
    job: StageJob,
    recording: Recording,
    source: Path,
    subtitles: dict[str, Any],
    jumps: list[list[float]],
    suffix: str,
    *,
    direct: bool,
) -> list[str]:
    """Copy every stream packet by packet, and add a subtitle track.

    Args:
        subtitles: the ``language`` and the ``cues``, and those of ``translations``, as the subtitles stage saved them.
        jumps: of the recording's clock, as the demux stage saved them.
        direct: let PyAV say which codecs a format takes. It asks for those that the format has names for; Matroska
            takes those of AVI and WAV too, which only its muxer knows, and FFmpeg's fifo muxer passes them on.

    Returns:
        the kinds of the streams that it can't hold, such as "a data".

    Raises:
        Refused: this container can't hold a stream; there is no file.
    """
    import av

    # bitexact leaves out dates and random ids: the same job gives the same file.
    options = {"fflags": "+bitexact"} | ({"movflags": "+faststart"} if suffix in MP4 else {})
    form = FORMATS[suffix]
    if not direct:
        inner = ":".join(f"{key}={value}" for key, value in options.items())
        form, options = "fifo", {"fifo_format": form, "format_opts": inner}
    try:
        with (
            media.open_media(source, pictures=True) as inside,
            job.writing(f"{recording.output}{suffix}", output=True) as path,
        ):
            with av.open(f"file:{path}", "w", options=options, format=form) as outside:
                outside.metadata.update({k: v for k, v in media.tags(inside.metadata).items() if k.lower() not in OWN})
                outside.set_chapters([c | {"metadata": media.tags(c["metadata"])} for c in inside.chapters()])
                copies, unfit = copy_streams(outside, inside, suffix)
                tracks = add_tracks(outside, copies, subtitles, mp4=suffix in MP4)
                outside.start_encoding()
                written = interleave(job, recording, inside, outside, copies, tracks, jumps)
            if not direct and readable(path) < written:
                raise Refused(f"{suffix[1:].upper()} can't hold it as it is")
            # An MP4's chapter titles are a data stream, which set_chapters writes again.
            return [f"a {s.type}" for s in unfit if s.type != "data" or not inside.chapters()]
    except (av.FFmpegError, ValueError, LookupError) as error:
        if getattr(error, "errno", None) in FATAL:
            raise
        raise Refused(f"{suffix[1:].upper()} can't hold it as it is ({media.reason(error)})") from error


FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".mka": "matroska"}


def copy_streams(outside: Any, inside: Any, suffix: str) -> tuple[dict[int, Any], list[Any]]:
    """The new streams by the index of the recording's, and those that the container can't hold.

    Raises:
        Refused: it can't hold the picture or the sound.
    """
    copies: dict[int, Any] = {}
    unfit = []
    for stream in inside.streams:
        codec = stream.codec_context.name if stream.codec_context else None
        fits = stream.type in ("video", "audio", "subtitle", "attachment")
        if suffix in MP4:
            fits = stream.type in ("video", "audio") or (stream.type == "subtitle" and codec == "mov_text")
        elif codec == "mov_text":
            fits = False
        twin = media.copied(outside, inside, stream) if fits else None
        if twin is None:
            if stream.type in ("video", "audio") and not (stream.type == "video" and media.is_cover(stream)):
                what = {"video": "pictures", "audio": "sound"}[stream.type]
                raise Refused(f"{suffix[1:].upper()} can't hold {what} in {codec or 'an unknown codec'}")
            unfit.append(stream)
            continue
        twin.metadata.update(media.tags(stream.metadata))
        if stream.type != "attachment":
            twin.disposition = stream.disposition
            copies[stream.index] = twin
    return copies, unfit


def add_tracks(
    outside: Any, copies: dict[int, Any], subtitles: dict[str, Any], *, mp4: bool
) -> list[tuple[Any, list[dict[str, Any]]]]:
    """The new subtitle tracks with their cues: what is said, then its translations.

    When there is no other track in the copy, the first translation is the default one, or else what is said.
    """
    from av.stream import Disposition

    spoken, told = subtitles["language"], subtitles.get("translations") or []
    tracks = [
        (add_track(outside, spoken, f"{spoken or 'und'}, as spoken" if told else NAME, mp4=mp4), subtitles["cues"])
    ]
    for each in told:
        title = f"{each['language']}, translated from {spoken or 'und'}"
        tracks.append((add_track(outside, each["language"], title, mp4=mp4), each["cues"]))
    if not any(twin.type == "subtitle" for twin in copies.values()):
        tracks[1 if told else 0][0].disposition = Disposition.default
    return tracks


NAME = "whisperbake"
"""Title of the only new track."""


def add_track(outside: Any, language: str | None, title: str, *, mp4: bool) -> Any:
    """A new subtitle track."""
    track = outside.add_stream("mov_text" if mp4 else "subrip")
    track.codec_context.subtitle_header = HEADER.encode()
    track.time_base = TICK
    track.metadata["language"] = THREE.get(language or "", "und")
    track.metadata["title"] = title
    if mp4:  # MP4 players read a track's name here
        track.metadata["handler_name"] = title
    return track


def interleave(
    job: StageJob,
    recording: Recording,
    inside: Any,
    outside: Any,
    copies: dict[int, Any],
    tracks: list[tuple[Any, list[dict[str, Any]]]],
    jumps: list[list[float]],
) -> int:
    """Copy all packets in order, and write each cue before the first packet that is later.

    Args:
        tracks: the subtitles', each with its cues.

    Returns:
        the number of packets.
    """
    origin = media.start(inside)
    total = media.whole(inside)
    waiting = heapq.merge(*(subtitle_packets(cues, track, origin) for track, cues in tracks), key=lambda p: p.pts)
    following = next(waiting, None)
    clock = Retiming(origin=origin, whole=total, shifts=[by for _, by in jumps])
    written = 0
    for packet in packets(job, recording, inside, [s for s in inside.streams if s.index in copies]):
        clock.mend(packet)
        now = float(packet.dts * packet.time_base)
        while following is not None and float(following.pts * TICK) <= now:
            outside.mux(following)
            following, written = next(waiting, None), written + 1
        packet.stream = copies[packet.stream.index]
        outside.mux(packet)
        written += 1
        if total:
            job.progress(recording, max(0.0, now - origin), max(total, now - origin))
    while following is not None:
        outside.mux(following)
        following, written = next(waiting, None), written + 1
    job.progress(recording, total, total)
    return written


def readable(path: Path) -> int:
    """How many packets can be read of a copy: the fifo muxer doesn't tell what its thread could not write."""
    with media.open_media(path) as copy:
        return sum(1 for packet in media.read(copy, list(copy.streams)) if packet.size)


def packets(job: StageJob, recording: Recording, inside: Any, streams: list[Any]) -> Iterator[Any]:
    """The recording's packets, up to the first that can't be read; then there is a note."""
    import av

    demuxer = media.read(inside, streams)

    def read() -> Iterator[Any]:
        try:
            # Empty packets mark the end of a stream.
            yield from (packet for packet in demuxer if packet.size)
        except av.FFmpegError as error:
            job.note(recording, f"the file ends early, and so does its copy ({error.strerror})")

    return with_decoding_times(read())


def with_decoding_times(source: Iterator[Any]) -> Iterator[Any]:
    """Packets in order, each with a decoding time: muxers refuse packets without one.

    Matroska stores when to show a frame, not when to decode it, and FFmpeg knows that only some packets later: the
    first pictures of a film with B-frames have no decoding time. They get times that lead up to the first known one.
    """
    last: dict[int, int] = {}
    held: list[Any] = []
    unknown: dict[int, list[Any]] = {}

    def settle(index: int, known: int) -> None:
        packets = unknown.pop(index)
        for back, packet in enumerate(reversed(packets), 1):
            packet.dts = known - back * max(packet.duration or 0, 1)
        last[index] = known

    def release() -> Iterator[Any]:
        for packet in held:
            if packet.pts is None:
                packet.pts = packet.dts
        yield from held
        held.clear()

    for packet in source:
        index = packet.stream.index
        held.append(packet)
        if packet.dts is None and index in last:  # missing in mid-stream
            packet.dts = last[index] + 1
        if packet.dts is None:
            unknown.setdefault(index, []).append(packet)
        elif index in unknown:
            settle(index, packet.dts)
        else:
            last[index] = packet.dts
        if len(held) >= WAIT:
            guess(unknown, settle)
        if not unknown:
            yield from release()
    guess(unknown, settle)
    yield from release()


def guess(unknown: dict[int, list[Any]], settle: Callable[[int, int], None]) -> None:
    """Decoding times for streams without any: just before the first picture is shown."""
    for index, packets in list(unknown.items()):
        shown = [p.pts for p in packets if p.pts is not None]
        settle(index, min(shown, default=0))


def subtitle_packets(cues: list[dict[str, Any]], track: Any, origin: float) -> Iterator[Any]:
    """Packets of the subtitle track; ``origin`` is the container's start on its own clock, in seconds."""
    import av

    start = round(origin * 1000)
    mp4 = track.codec_context.name == "mov_text"
    at = start
    for first, last, text in shown(cues) if mp4 else ((c["start"], c["end"], c["text"]) for c in cues):
        begin, end = start + round(first * 1000), start + round(last * 1000)
        data = text.encode()
        if mp4 and begin > at:
            # MP4 has no gaps: an empty sample clears the screen.
            yield _packet(av, track, b"\0\0", at, begin)
        yield _packet(av, track, struct.pack(">H", len(data)) + data if mp4 else data, begin, end)
        at = end


def shown(cues: list[dict[str, Any]]) -> Iterator[tuple[float, float, str]]:
    """What is on screen, from when to when (seconds): one text at a time, with all cues of that time in it."""
    edges = sorted({cue[side] for cue in cues for side in ("start", "end")})
    waiting, there = deque(cues), []
    for begin, end in pairwise(edges):
        while waiting and waiting[0]["start"] <= begin:
            there.append(waiting.popleft())
        there = [cue for cue in there if cue["end"] > begin]
        if there:
            yield begin, end, "\n".join(cue["text"] for cue in there)


def _packet(av: Any, track: Any, data: bytes, start: int, end: int) -> Any:
    # FFmpeg's own memory: bytes of Python's are freed under Python's lock, for which the fifo's thread would wait while
    # the main thread, which holds it, waits for the fifo to end.
    packet = av.Packet(len(data))
    packet.update(data)
    packet.stream = track
    packet.time_base = TICK
    packet.pts = packet.dts = start
    packet.duration = end - start
    packet.is_keyframe = True
    return packet


if __name__ == "__main__":
    contract.main("mux", work, media=True, ready=ready)
