"""Look at a recording, or cut a piece out of it without coding it again.

    clip.py --probe SRC                     {"video": true, "duration": 31.2}
    clip.py SRC DST --start 10 --end 20     {"start": 10.0, "end": 20.0, "lead": 0.4}

The sound of a cut begins at the start, to the packet. Its picture can begin at a key frame only: the last one before the
start, ``lead`` seconds earlier, and has no sound until then. One line of JSON on standard output; a recording that can't
be used ends with exit code 2 and the reason on standard error.
"""

from __future__ import annotations

import argparse
import errno
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
from main import has_video, open_media

BACK = (0.0, 10.0, 60.0)
"""Seconds before the start to look for a key frame: some containers seek past it. The last resort is the beginning."""

HEADERLESS = {"mpegts", "mpeg", "flv", "live_flv"}
"""Containers that tell of a stream when its first packet comes: sound that begins late is not seen in time."""

LEAD_IN = 1.0
"""Seconds before a container's start to seek to for its beginning."""

LOSSY = {"avi", "flac"}
"""Containers that are wrong after a plain copy: AVI counts MP3 by bytes, FLAC's header keeps the whole length."""


def probe(source: Path) -> dict[str, Any]:
    """Whether it moves, and how long it is in seconds (None: not known)."""
    with open_media(source) as container:
        if not container.streams.audio:
            raise ValueError("no audio stream")
        return {
            "video": has_video(container),
            "duration": round(container.duration / 1e6, 3) if container.duration else None,
        }


def clip(source: Path, target: str, start: float, end: float | None) -> dict[str, float]:
    """Copy the packets between two times (seconds) into ``target``.

    Returns:
        ``start`` and ``end`` of the sound on the recording's timeline, and ``lead``: how long before ``start`` the
        picture, and with it the file, begins.
    """
    with open_media(source) as inside:
        if not inside.streams.audio:
            raise ValueError("no audio stream")
        origin = (inside.start_time or 0) / 1e6
        # A cover is a picture that stands still: no part of a cut.
        wanted = [
            s
            for s in inside.streams
            if s.codec_context is not None
            and (s.type == "audio" or (s.type == "video" and not s.disposition & av.stream.Disposition.attached_pic))
        ]
        if not any(s.type == "audio" for s in wanted):
            raise ValueError("its sound is in a format that can't be decoded")
        found = None
        # Where there is a picture it decides where a cut can begin; it may end before the sound does.
        for leader in sorted(wanted, key=lambda s: s.type != "video"):
            found = beginning(inside, leader, origin, start)
            if found is not None and (end is None or found[1] < end):
                break
        else:
            raise ValueError(f"nothing to cut: there is no sound between {start:g} s and {end or 'its end'}")
        place, first = found
        picture = leader.type == "video"
        zero = min(first, start) if picture else first  # of the new file; a later first key frame stays later
        start = start if picture else max(first, 0.0)
        # Its own container, by the suffix; Matroska where that can't be written or would lose the times.
        lead = max(start - zero, 0.0) if picture else 0.0
        apart = picture and first != start
        bad = inside.format.name in LOSSY or (apart and inside.format.name in HEADERLESS)
        last: float | None = None
        for form in ("matroska",) if bad else (None, "matroska"):
            try:
                with av.open(target, "w", format=form, options={"fflags": "+bitexact"}) as outside:
                    last = copy(inside, outside, wanted, origin, place, zero, start, end)
                break
            except (av.FFmpegError, ValueError) as error:
                if form or getattr(error, "errno", None) == errno.ENOSPC:
                    raise OSError(getattr(error, "errno", None), f"the cut can't be written: {error}") from error
        assert last is not None
    return {"start": round(start, 3), "end": round(last, 3), "lead": round(lead, 3)}


def beginning(inside: Any, leader: Any, origin: float, start: float) -> tuple[float, float] | None:
    """Where to seek to, and the time of the last key frame at or before ``start``; else of the first after it.

    None when ``leader`` ends before ``start``.
    """
    after: tuple[float, float] | None = None
    for back in (*BACK, start):
        place = max(start - back, 0.0)
        at: float | None = None
        reached = False
        for packet, time in timed(inside, [leader], origin, place):
            reached = reached or time + float((packet.duration or 0) * packet.time_base) > start
            if packet.is_keyframe and time <= start + 0.001:
                at = time
            elif time > start:
                if packet.is_keyframe and after is None:
                    after = (place, time)
                if at is not None or after is not None:
                    break
        if at is not None and reached:
            return place, at
        if place == 0.0 or not reached:
            break
    return after


def copy(
    inside: Any,
    outside: Any,
    wanted: list[Any],
    origin: float,
    place: float,
    zero: float,
    start: float,
    end: float | None,
) -> float:
    """Packets of ``wanted`` up to ``end``: the picture from ``zero`` on, the sound from ``start``; the last time.

    Args:
        place: where to seek to.
        zero: the time that becomes 0.
    """
    pairs = {s.index: outside.add_stream_from_template(s) for s in wanted}
    last = start
    started: set[int] = set()
    done: set[int] = set()
    for packet, time in timed(inside, wanted, origin, place):
        index = packet.stream.index
        if end is not None and time >= end:
            done.add(index)
            if done >= set(pairs):
                break
            continue
        length = float((packet.duration or 0) * packet.time_base)
        if index not in started:
            # A picture begins with a key frame; sound with the packet that is heard at that moment.
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


def timed(inside: Any, streams: list[Any], origin: float, place: float) -> Iterator[tuple[Any, float]]:
    """Packets from about ``place`` seconds on, each with its time; what is broken is left out."""
    try:
        # Of a broadcast the picture's first packet may lie before the time at which the container starts.
        inside.seek(int((origin + place - (0.0 if place else LEAD_IN)) * 1e6), backward=True)
    except av.FFmpegError:  # many containers refuse a time before their own
        inside.seek(int((origin + place) * 1e6), backward=True)
    packets = inside.demux(streams)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.FFmpegError):
            return
        stamp = packet.pts if packet.pts is not None else packet.dts  # AVI has no pts
        if stamp is not None and packet.size:
            yield packet, float(stamp * packet.time_base) - origin


def run() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--probe", action="store_true")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path, nargs="?")
    parser.add_argument("--start", type=float, default=0.0)
    parser.add_argument("--end", type=float)
    asked = parser.parse_args()
    try:
        if asked.source.stat().st_size == 0:
            raise ValueError("the file is empty (zero bytes)")
        source = asked.source.resolve()
        found = probe(source) if asked.probe else clip(source, f"file:{asked.target.resolve()}", asked.start, asked.end)
    except av.FFmpegError as error:
        return refuse(asked.target, f"not a media file that can be read ({error.strerror})", 2)
    except ValueError as error:
        return refuse(asked.target, str(error), 2)
    except OSError as error:  # a full disk, a source that went away
        return refuse(asked.target, error.strerror or str(error), 1)
    print(json.dumps(found))
    return 0


def refuse(target: Path | None, reason: str, code: int) -> int:
    """Leave nothing half-written, and say why."""
    if target is not None:
        target.unlink(missing_ok=True)
    print(reason, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(run())
