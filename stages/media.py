"""Recordings as containers: opened in one way by all that read them. It needs PyAV only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import confined

FORMATS = (
    # what phones, cameras, recorders, browsers and editors write
    "mov,matroska,wav,mp3,flac,ogg,aac,asf,avi,mpegts,mpeg,flv,caf,aiff,au,w64,rm,nut,mxf,gxf,dv,wtv,ty,nsv,nuv,swf,"
    "live_flv,kux,ivf,dhav,ifv,lxf,lvf,lmlm4,pva,vivo,smjpeg,r3d,msnwctcp,h264,hevc,m4v,mpegvideo,obu,"
    # frames of sound without a container
    "ac3,ac4,eac3,dts,dtshd,mlp,truehd,loas,spdif,s337m,sbc,aptx,aptx_hd,lc3,iamf,gsm,g722,g723_1,g728,g729,bit,"
    "codec2,codec2raw,dfpwm,sln,"
    # of speech and music
    "amr,amrnb,amrwb,act,ilbc,qcp,dss,voc,ircam,sox,nistsphere,pvf,avr,epaf,hcom,sds,sdx,iff,dsf,wsd,daud,oma,aea,aa,"
    "ape,mpc,mpc8,tak,tta,wv,shn,bonk,osq,rka,qoa,vqf,wavarc,xwma,mmf,wve,rso,laf"
)
"""FFmpeg's demuxers that may look at a recording, and no others: one file of sound or film, made by recording.

Not among them are lists of other files (hls, dash, concat, imf, sdp, image2 …), what draws or captures (lavfi, alsa,
x11grab …), subtitles, single pictures and the formats of games.
"""

FILMS = (
    "h264,hevc,vvc,cavs,mpeg1video,mpeg2video,mpegvideo,mpeg4,h263,msmpeg4,msmpeg4v1,msmpeg4v2,vc1,wmv3,rv30,rv40,svq3,"
    "dirac,flv,vp6,vp6f"
)
"""FFmpeg's decoders without which it doesn't know when a film begins: of pictures that aren't stored in their order, and
of those whose size the header doesn't tell, for which it would read on."""

PIXELS = 1 << 26
"""Of the largest picture that is decoded: 8192 x 8192."""

STREAMS = 500
"""Of a recording; a whole satellite's broadcast has fewer."""

OPTIONS = {
    "protocol_whitelist": "file",  # no network, whatever the file names
    "analyzeduration": "30000000",  # µs, for broadcasts whose sound begins late; read only while a stream is unknown
    "probesize": "20000000",  # bytes, likewise
    "format_whitelist": FORMATS,
    "max_streams": str(STREAMS),
    "max_pixels": str(PIXELS),  # of the streams that the header has: covers
}

BROADCAST = {"mpegts", "mpeg"}
"""Formats whose clock may begin anew or jump wherever two pieces were joined (FFmpeg's AVFMT_TS_DISCONT)."""

RAW = {"aac", "ac3", "dts", "eac3", "flac", "mp3"}
"""Formats that are one stream's frames and nothing else: FFmpeg looks for where each begins."""

BACK = 1.0
"""Seconds. A clock that goes back by more has started again; when it goes back by less, packets overlap."""

BEYOND = 10.0
"""Seconds. A clock that is this far beyond what can be has jumped (FFmpeg's dts_delta_threshold)."""


class NotMedia(ValueError):
    """Not a file that is opened as a recording; the user reads the text."""


@cache
def decoders() -> str:
    """The names of the decoders that opening a recording for its sound may use, as ``codec_whitelist`` takes them."""
    import av

    names = [FILMS]
    for name in sorted(av.codecs_available):
        with suppress(ValueError):  # an encoder
            if av.codec.Codec(name, "r").type == "audio":
                names.append(name)
    return ",".join(names)


def open_media(path: Path, *, pictures: bool = False) -> Any:
    """An open container.

    Args:
        pictures: FFmpeg may decode the first ones of any kind, to know what a copy must say of them. Who wants the sound
            needs few, and no covers: a small file holds gigabytes of a single colour.

    Raises:
        av.FFmpegError: it can't be read, or isn't media.
        NotMedia: it isn't a regular file, or its format isn't one of a recording.
    """
    import av

    if not path.is_file():  # a FIFO or a device never ends
        raise NotMedia("not a regular file")
    options = OPTIONS if pictures else OPTIONS | {"codec_whitelist": decoders()}
    try:
        # With "file:" a name such as "concat:a" is a file's name. Bytes of other encodings survive as surrogates: see tags.
        return av.open(f"file:{path}", options=options, metadata_errors="surrogateescape")
    except av.ArgumentError as error:
        raise NotMedia("its format is not one of recordings") from error


def tags(metadata: Mapping[str, str]) -> dict[str, str]:
    """Metadata that can be written: tags that are not UTF-8 are read as Windows-1252, what old tools mostly wrote."""
    return {readable(key): readable(value) for key, value in metadata.items()}


def readable(text: str) -> str:
    """A text that was decoded with surrogates for what is not UTF-8."""
    raw = text.encode("utf-8", "surrogateescape")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace")


def start(container: Any) -> float:
    """Seconds on the container's own clock at which it begins."""
    return float((container.start_time or 0) / 1e6)


def whole(container: Any) -> float:
    """Seconds that a container lasts by its header; 0.0 when it doesn't say.

    Matroska's duration counts from 0 on its clock, wherever the clock begins; others' from their start.
    """
    seconds = (container.duration or 0) / 1e6
    begins = start(container)
    return seconds - begins if "matroska" in container.format.name and 0 < begins < seconds else seconds


def read(container: Any, streams: Sequence[Any]) -> Iterator[Any]:
    """Packets of streams, in the order of the file.

    Streams that appear in the middle, as rubbish at the end of a Flash file makes them, are passed over.

    Raises:
        av.FFmpegError: the next packet can't be read; one may go on behind it by reading again.
    """
    source = container.demux(streams)
    while True:
        try:
            packet = next(source)
        except StopIteration:
            return
        except IndexError:  # PyAV doesn't know the stream
            source = container.demux(streams)
            continue
        yield packet


def size(container: Any) -> int:
    """Bytes of a container's file."""
    return _path(container).stat().st_size


def sound_length(container: Any, stream: Any) -> float | None:
    """Seconds from a container's start to the end of a stream that the file announces; None when it doesn't."""
    if container.format.name == "wav":
        return wav_length(_path(container))
    if stream.duration is not None:
        # AVI's header has the number of packets that were written; FFmpeg's duration is of those that are there.
        count = max(stream.duration, stream.frames) if container.format.name == "avi" else stream.duration
        return float(count * stream.time_base)
    parts = stream.metadata.get("DURATION", "").split(":")  # Matroska: 00:00:31.200000000, on its clock
    try:
        return int(parts[0]) * 3600 + int(parts[1]) * 60 + float(parts[2]) - max(start(container), 0.0)
    except (ValueError, IndexError):
        return None


def wav_length(path: Path) -> float | None:
    """Seconds of sound that a WAV file's header announces, where FFmpeg tells what is there; None: it doesn't say."""
    rate = 0
    with path.open("rb") as file:
        file.seek(12)
        for _ in range(100):
            head = file.read(8)
            if len(head) < 8:
                return None
            name, size = head[:4], int.from_bytes(head[4:], "little")
            if name == b"data":  # all ones, or zero: written by a program that could not go back
                return size / rate if rate and 0 < size < 2**32 - 1 else None
            if name == b"fmt ":
                rate = int.from_bytes(file.read(16)[8:12], "little")
                size -= 16
            file.seek(size + size % 2, 1)
    return None


def _path(container: Any) -> Path:
    return Path(container.name.removeprefix("file:"))


def is_cover(stream: Any) -> bool:
    """Whether a stream of pictures is an attached one, which stands still."""
    import av

    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def has_video(container: Any) -> bool:
    """Whether there are moving pictures."""
    return any(not is_cover(s) for s in container.streams.video)


def copied(outside: Any, inside: Any, stream: Any) -> Any:
    """A stream like one of ``inside``, or None where the container or FFmpeg has no place for its codec."""
    import av

    for opaque in (False, True):  # opaque: codecs that FFmpeg decodes and doesn't encode
        try:
            twin = outside.add_stream_from_template(stream, opaque=opaque)
        except (av.FFmpegError, ValueError, TypeError, LookupError):
            continue
        if stream.type == "video" and stream.codec_context.name == "rawvideo":
            twin.codec_context.codec_tag = stream.codec_context.codec_tag  # the order of its bytes
        if stream.type == "video" and inside.format.name.startswith("mov,") and outside.format.name in ("mp4", "mov"):
            # MP4 has two tags for HEVC, and Apple's players take one of them only.
            with suppress(UnicodeDecodeError):  # a tag that isn't letters
                twin.codec_context.codec_tag = stream.codec_context.codec_tag
        return twin
    return None


def default_of(streams: Iterable[Any]) -> Any:
    """The one stream that the file marks as its default; None when it marks none or several."""
    import av

    marked = [s for s in streams if s.disposition & av.stream.Disposition.default]
    return marked[0] if len(marked) == 1 else None


def reason(error: Exception) -> str:
    """FFmpeg's words for an error, or ours where a limit made it."""
    if why := confined.blame(error):
        return why
    return getattr(error, "strerror", None) or str(error)
