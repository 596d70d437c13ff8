"""Probe a recording, or cut a piece out of it without encoding it again.

    clip.py --probe SRC                     {"video": true, "duration": 31.2}
    clip.py SRC DST --start 10 --end 20     {"start": 10.0, "end": 20.0, "lead": 0.4}
    clip.py --probe-each < PATHS            a line each: {"code": 0, "said": "{…}"}, or a code and the reason

The sound of a cut begins with the packet that is heard at the start. The picture can only begin at a key frame: the last
one before the start, ``lead`` seconds earlier; until the start it has no sound. Prints one line of JSON. For a recording
that can't be used the exit code is 2, and standard error has the reason.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import confined
import media
from retiming import Retiming

BACK = (0.0, 10.0, 60.0)
"""Seconds before the start to seek to for a key frame: some containers seek past it. The last try is the beginning."""

HEADERLESS = {"mpegts", "mpeg", "flv", "live_flv"}
"""Containers that announce a stream with its first packet: sound that begins late is noticed too late."""

LEAD_IN = 1.0
"""Seconds before a container's start to seek to, to get its beginning."""

DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM}
"""Errors of the disk; any other that a copy makes is the recording's."""

TAGS, TAG = 100, 300
"""Tags of a container that are told, and characters of one."""

SAID = 1_000_000
"""Bytes of an answer: tags are bounded."""

LOSSY = {"avi", "flac"}
"""Containers that a plain copy leaves wrong: AVI counts MP3 by bytes, FLAC's header keeps the whole length."""


def probe(source: Path) -> dict[str, Any]:
    """``video``: whether it has moving pictures; ``duration``: seconds by its header (None: not known); ``tags``: its own.

    Raises:
        ValueError: it has no sound.
    """
    with media.open_media(source) as container:
        if not container.streams.audio:
            raise ValueError("no audio stream")
        return {
            "video": media.has_video(container),
            "duration": round(media.whole(container), 3) or None,
            "tags": {key[:TAG]: value[:TAG] for key, value in list(media.tags(container.metadata).items())[:TAGS]},
        }


def clip(source: Path, target: str, start: float, end: float | None) -> dict[str, float]:
    """Copy the packets between two times (seconds) into ``target``.

    Returns:
        ``start`` and ``end`` of the sound on the recording's timeline, and ``lead``: the seconds by which the picture,
        and so the file, begins before ``start``.

    Raises:
        ValueError: there is no sound between the times, or none that can be decoded.
        OSError: the target can't be written.
    """
    with media.open_media(source, pictures=True) as inside:
        if not inside.streams.audio:
            raise ValueError("no audio stream")
        origin = media.start(inside)
        # A cover stands still: a cut leaves it out.
        streams = [
            s
            for s in inside.streams
            if s.codec_context is not None and (s.type == "audio" or (s.type == "video" and not media.is_cover(s)))
        ]
        if not any(s.type == "audio" for s in streams):
            raise ValueError("its sound is in a format that can't be decoded")
        cut = None
        # The picture, if there is one, decides where a cut can begin; it may end before the sound does.
        for leader in sorted(streams, key=lambda s: s.type != "video"):
            cut = beginning(inside, streams, leader, origin, start)
            if cut is not None and (end is None or cut[1] < end):
                break
        else:
            raise ValueError(f"nothing to cut: there is no sound between {start:g} s and {end or 'the end'}")
        seek, first = cut
        picture = leader.type == "video"
        zero = min(first, start) if picture else first  # of the new file; a later first key frame stays later
        start = start if picture else max(first, 0.0)
        lead = max(start - zero, 0.0) if picture else 0.0
        apart = picture and first != start
        # The recording's own container, by the suffix; Matroska where that can't be written or would lose the times.
        bad = inside.format.name in LOSSY or (apart and inside.format.name in HEADERLESS)
        last: float | None = None
        for form in ("matroska",) if bad else (None, "matroska"):
            try:
                with av.open(target, "w", format=form, options={"fflags": "+bitexact"}) as outside:
                    last = copy(inside, outside, streams, origin, seek, zero, start, end)
                break
            except (av.FFmpegError, ValueError) as error:
                if (number := getattr(error, "errno", None)) in DISK:
                    raise OSError(number, f"the cut can't be written: {error}") from error
                if form:  # no container has a place for what the recording says it is
                    raise ValueError(f"it can't be cut: {error}") from error
        assert last is not None
    return {"start": round(start, 3), "end": round(last, 3), "lead": round(lead, 3)}


def beginning(inside: Any, streams: list[Any], leader: Any, origin: float, start: float) -> tuple[float, float] | None:
    """Where to seek to, and the time of the last key frame at or before ``start``, or of the first after it (seconds).

    None when ``leader`` ends before ``start``.
    """
    after: tuple[float, float] | None = None
    for back in (*BACK, start):
        seek = max(start - back, 0.0)
        at: float | None = None
        reached = False
        for packet, time in timed(inside, streams, origin, seek):
            if packet.stream is not leader:
                continue
            reached = reached or time + float((packet.duration or 0) * packet.time_base) > start
            if packet.is_keyframe and time <= start + 0.001:
                at = time
            elif time > start:
                if packet.is_keyframe and after is None:
                    after = (seek, time)
                if at is not None or after is not None:
                    break
        if at is not None and reached:
            return seek, at
        if seek == 0.0 or not reached:
            break
    return after


def copy(
    inside: Any,
    outside: Any,
    streams: list[Any],
    origin: float,
    seek: float,
    zero: float,
    start: float,
    end: float | None,
) -> float:
    """Copy packets of ``streams`` up to ``end``: the picture from ``zero`` on, the sound from ``start``.

    All times are seconds on the recording's timeline.

    Args:
        seek: where to begin reading.
        zero: the time that becomes 0.

    Returns:
        the time at which the last packet ends.
    """
    twins = {s: media.copied(outside, inside, s) for s in streams}
    for stream, twin in twins.items():
        if twin is None:
            raise ValueError(f"no place for {stream.codec_context.name}")
        twin.disposition = stream.disposition
        twin.metadata.update(media.tags(stream.metadata))
    pairs = {s.index: twin for s, twin in twins.items()}
    last = start
    started: set[int] = set()
    done: set[int] = set()
    for packet, time in timed(inside, streams, origin, seek):
        index = packet.stream.index
        if end is not None and time >= end:
            done.add(index)
            if done >= set(pairs):
                break
            continue
        length = float((packet.duration or 0) * packet.time_base)
        if index not in started:
            # A picture begins with a key frame, sound with the packet that is heard at ``start``.
            early = time < zero - 0.001 if packet.stream.type == "video" else time + length <= start
            if early or not packet.is_keyframe:
                continue
            started.add(index)
        shift = round((origin + zero) / float(packet.time_base))
        packet.pts = (packet.dts if packet.pts is None else packet.pts) - shift
        packet.dts = None if packet.dts is None else packet.dts - shift
        packet.stream = pairs[index]
        outside.mux(packet)
        last = max(last, time + length)
    return last


def timed(inside: Any, streams: list[Any], origin: float, seek: float) -> Iterator[tuple[Any, float]]:
    """Packets from about ``seek`` seconds on, each with its time in seconds; ends at the first that can't be read.

    A broadcast is read from its beginning: only so the times after a jump of its clock are those of its sound.
    """
    clock: Retiming | None = None
    if inside.format.name in media.BROADCAST:
        clock, seek = Retiming(origin=origin, whole=media.whole(inside), shifts=[], joined=True), 0.0
    try:
        # A broadcast's first picture may lie before the time at which the container starts.
        inside.seek(int((origin + seek - (0.0 if seek else LEAD_IN)) * 1e6), backward=True)
    except av.FFmpegError:  # many containers refuse a time before their own start
        inside.seek(int((origin + seek) * 1e6), backward=True)
    packets = media.read(inside, streams)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.FFmpegError):
            return
        if clock is not None and packet.size and packet.dts is not None:
            clock.mend(packet)
        stamp = packet.pts if packet.pts is not None else packet.dts  # AVI has no pts
        if stamp is not None and packet.size:
            yield packet, float(stamp * packet.time_base) - origin


def run() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--probe", action="store_true")
    parser.add_argument("--probe-each", action="store_true", help="paths with NULs between them, on standard input")
    parser.add_argument("source", type=Path, nargs="?")
    parser.add_argument("target", type=Path, nargs="?")
    parser.add_argument("--start", type=float, default=0.0)
    parser.add_argument("--end", type=float)
    options = parser.parse_args()
    if options.probe_each:
        return each([Path(os.fsdecode(name)) for name in sys.stdin.buffer.read().split(b"\0") if name])
    if options.source is None:
        parser.error("which recording?")
    ended = confined.run(lambda: answered(options))
    return refuse(options.target, ended.why, ended.code) if ended.why else ended.code


def each(sources: list[Path]) -> int:
    """Probe recordings one after the other, each in a child of its own that has the libraries already."""
    for source in sources:
        options = argparse.Namespace(source=source, target=None, probe=True)
        with tempfile.TemporaryFile() as sink:

            def work(options: argparse.Namespace = options, sink: int = sink.fileno()) -> int:
                os.dup2(sink, 1)
                os.dup2(sink, 2)
                return answered(options)

            ended = confined.run(work)
            if ended.asked:
                return ended.code
            sink.seek(0)
            said = ended.why or sink.read(SAID).decode("utf-8", "replace")
        print(json.dumps({"code": ended.code, "said": said}), flush=True)
    return 0


def answered(options: argparse.Namespace) -> int:
    """Do what the command line says, in a child process; the exit code."""
    try:
        source = options.source.resolve()
        size = source.stat().st_size
        if size == 0:
            raise ValueError("the file is empty (zero bytes)")
        confined.begin("", size, copies=True)
        target = f"file:{options.target.resolve()}" if options.target else ""
        answer = probe(source) if options.probe else clip(source, target, options.start, options.end)
    except (av.FFmpegError, media.NotMedia) as error:
        return refuse(options.target, f"not a media file that can be read ({media.reason(error)})", 2)
    except ValueError as error:
        return refuse(options.target, str(error), 2)
    except (MemoryError, OSError) as error:  # a full disk, a source that went away, or too much
        why = confined.blame(error)
        return refuse(options.target, why or getattr(error, "strerror", None) or str(error), 2 if why else 1)
    print(json.dumps(answer))
    return 0


def refuse(target: Path | None, reason: str, code: int) -> int:
    """Remove what is half-written and say why on standard error; returns ``code``."""
    if target is not None:
        target.unlink(missing_ok=True)
    print(reason, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(run())
