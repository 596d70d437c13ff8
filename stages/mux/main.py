"""mux: the subtitles as a soft track beside the untouched video and audio, in MKV or MP4."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import contract
from contract import InputFault, Recording, StageJob

MP4 = {".mp4", ".m4v", ".mov"}
"""Recordings that stay MP4; everything else goes to Matroska, which holds any codec."""

TICK = Fraction(1, 1000)
"""Time base of the subtitle track, in seconds."""

HEADER = (
    "[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\n"
    "Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, "
    "Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, "
    "MarginV, Encoding\n"
    "Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,0\n\n"
    "[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
)
"""FFmpeg's text encoders take their style from an ASS header; without a style line the text is invisible."""

LANGUAGES = {
    "ar": "ara", "cs": "ces", "da": "dan", "de": "deu", "el": "ell", "en": "eng", "es": "spa", "fi": "fin",
    "fr": "fra", "he": "heb", "hi": "hin", "hu": "hun", "id": "ind", "it": "ita", "ja": "jpn", "ko": "kor",
    "nl": "nld", "no": "nor", "pl": "pol", "pt": "por", "ro": "ron", "ru": "rus", "sv": "swe", "th": "tha",
    "tr": "tur", "uk": "ukr", "vi": "vie", "zh": "zho",
}  # fmt: skip
"""ISO 639-1 to ISO 639-2, as containers want it."""


def work(job: StageJob) -> None:
    with job.timed("imports"):
        import av  # noqa: F401
    with job.timed("work"):
        for recording in job.inputs:
            mux(job, recording)


def mux(job: StageJob, recording: Recording) -> None:
    """Write ``output/<name>.mkv`` or ``.mp4``: every stream copied packet by packet, and one subtitle track more."""
    import av

    source = job.recording(recording)
    made = job.load("subtitles", recording)
    suffix = ".mp4" if source.suffix.lower() in MP4 else ".mkv"
    try:
        inside = av.open(f"file:{source}")
    except av.FFmpegError as error:
        raise InputFault(f"{recording.name}: not a media file that can be read ({error.strerror})") from error
    with inside, job.writing(f"{recording.output}{suffix}", output=True) as path:
        # bitexact: no date, no random ids: the same job gives the same file.
        options = {"fflags": "+bitexact"} | ({"movflags": "+faststart"} if suffix == ".mp4" else {})
        with av.open(f"file:{path}", "w", options=options) as outside:
            outside.metadata.update({k: v for k, v in inside.metadata.items() if k in ("title", "artist", "comment")})
            copies: dict[int, Any] = {}
            for stream in inside.streams:
                if copied := copy_stream(outside, stream, suffix):
                    copies[stream.index] = copied
                else:
                    job.note(recording, f"a {stream.type} stream ({stream.name}) does not fit into {suffix} and was left out")
            track = outside.add_stream("mov_text" if suffix == ".mp4" else "subrip")
            track.codec_context.subtitle_header = HEADER.encode()
            track.time_base = TICK
            track.metadata["language"] = LANGUAGES.get(made["language"] or "", "und")
            track.metadata["title"] = "whisperbake"
            interleave(job, recording, inside, outside, copies, track, texts(made))


def copy_stream(outside: Any, stream: Any, suffix: str) -> Any | None:
    """The output's twin of a stream, or None where its container has no place for it."""
    if stream.type not in ("video", "audio", "subtitle", "attachment") or stream.codec_context is None:
        return None
    if suffix == ".mp4" and stream.type == "subtitle" and stream.codec_context.name != "mov_text":
        return None
    if suffix == ".mp4" and stream.type == "attachment":
        return None
    try:
        twin = outside.add_stream_from_template(stream)
    except (ValueError, TypeError):
        return None
    twin.metadata.update(stream.metadata)
    return twin


def texts(made: dict[str, Any]) -> list[tuple[int, int, str]]:
    """The cues as (start, end, text), in milliseconds."""
    found = []
    for cue in made["cues"]:
        text = "\n".join(cue["lines"]).replace("<", "‹").replace(">", "›")
        if made["prefix"] and cue["changed"] and cue["speaker"]:
            text = f"Speaker {cue['speaker'][1:]}: {text}"
        found.append((round(cue["start"] * 1000), round(cue["end"] * 1000), text))
    return found


def interleave(
    job: StageJob, recording: Recording, inside: Any, outside: Any, copies: dict[int, Any], track: Any,
    cues: list[tuple[int, int, str]],
) -> None:  # fmt: skip
    """Copy all packets in their order, each cue before the first packet that is later."""
    origin = (inside.start_time or 0) / 1e6
    total = (inside.duration or 0) / 1e6
    waiting = subtitle_packets(cues, track, origin)
    following = next(waiting, None)
    for packet in inside.demux([s for s in inside.streams if s.index in copies]):
        if packet.dts is None:
            continue
        now = float(packet.dts * packet.time_base)
        while following is not None and float(following.pts * TICK) <= now:
            outside.mux(following)
            following = next(waiting, None)
        packet.stream = copies[packet.stream.index]
        outside.mux(packet)
        if total:
            job.progress(recording, now - origin, total)
    while following is not None:
        outside.mux(following)
        following = next(waiting, None)


def subtitle_packets(cues: list[tuple[int, int, str]], track: Any, origin: float) -> Iterator[Any]:
    """Packets of the subtitle track; ``origin`` seconds is where the container's own clock starts."""
    import av

    start = round(origin * 1000)
    mp4 = track.codec_context.name == "mov_text"
    at = start
    for begin, end, text in cues:
        data = text.encode()
        if mp4 and start + begin > at:
            # MP4 has no gaps: an empty sample clears the screen.
            yield _packet(av, track, b"\0\0", at, start + begin)
        yield _packet(av, track, struct.pack(">H", len(data)) + data if mp4 else data, start + begin, start + end)
        at = start + end


def _packet(av: Any, track: Any, data: bytes, start: int, end: int) -> Any:
    packet = av.Packet(data)
    packet.stream = track
    packet.time_base = TICK
    packet.pts = packet.dts = start
    packet.duration = end - start
    packet.is_keyframe = True
    return packet


if __name__ == "__main__":
    contract.main("mux", work)
