"""Look at a recording, or cut a piece out of it without coding it again.

    clip.py --probe SRC                     {"video": true, "duration": 31.2}
    clip.py SRC DST --start 10 --end 20     {"start": 9.6, "end": 20.0}

A cut of a video begins at the key frame at or before the start. One line of JSON on standard output; a
recording that can't be used ends with exit code 2 and the reason on standard error.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import av
from main import has_video


def probe(source: str) -> dict[str, Any]:
    """Whether it moves, and how long it is in seconds (None: not known)."""
    with av.open(source) as container:
        if not container.streams.audio:
            raise ValueError("no audio stream")
        return {
            "video": has_video(container),
            "duration": round(container.duration / 1e6, 3) if container.duration else None,
        }


def clip(source: str, target: str, start: float, end: float | None) -> dict[str, float]:
    """Copy the packets between two times (seconds) into ``target``; returns the times really taken."""
    with av.open(source) as inside, av.open(target, "w", options={"fflags": "+bitexact"}) as outside:
        if not inside.streams.audio:
            raise ValueError("no audio stream")
        pairs = {
            s.index: outside.add_stream_from_template(s)
            for s in inside.streams
            if s.type in ("audio", "video") and s.codec_context is not None
        }
        origin = (inside.start_time or 0) / 1e6
        inside.seek(int((origin + start) * 1e6), backward=True)
        first: float | None = None
        last = 0.0
        done: set[int] = set()
        for packet in inside.demux([s for s in inside.streams if s.index in pairs]):
            if packet.dts is None or packet.pts is None:
                continue
            base = packet.time_base
            at = float(packet.pts * base) - origin
            if first is None:
                # Where there is a picture it decides; its key frame comes first after a seek.
                if packet.stream.type != "video" and any(
                    s.type == "video" and s.index in pairs for s in inside.streams
                ):
                    continue
                first = at
            if end is not None and at >= end:
                done.add(packet.stream.index)
                if done >= set(pairs):
                    break
                continue
            if packet.stream.type == "audio" and at < first - 0.05:
                continue
            shift = round((origin + first) / float(base))
            packet.pts -= shift
            packet.dts -= shift
            packet.stream = pairs[packet.stream.index]
            outside.mux(packet)
            last = max(last, at + float((packet.duration or 0) * base))
    if first is None:
        raise ValueError(f"nothing to cut: it ends before {start:g} s")
    return {"start": round(max(first, 0.0), 3), "end": round(last, 3)}


def run() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--probe", action="store_true")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path, nargs="?")
    parser.add_argument("--start", type=float, default=0.0)
    parser.add_argument("--end", type=float)
    asked = parser.parse_args()
    if asked.source.stat().st_size == 0:
        print("the file is empty (zero bytes)", file=sys.stderr)
        return 2
    try:
        # "file:" keeps a name such as "concat:a" or "http:b" a name.
        source = f"file:{asked.source.resolve()}"
        found = probe(source) if asked.probe else clip(source, f"file:{asked.target.resolve()}", asked.start, asked.end)
    except av.FFmpegError as error:
        print(f"not a media file that can be read ({error.strerror})", file=sys.stderr)
        return 2
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(run())
