"""Odd recordings, made in the stages' Python: formats, clocks, channels, tracks, names and damage, each with what is right.

    PYTHON tests/odd_recordings.py FOLDER [NAME …]

writes the files, and prints one line of JSON for each: its name, when its tones begin, whether it tells its length. A
tone of 0.1 s stands at every full second of the sound. Two runs make the same sound and the same clocks.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

av.logging.set_level(av.logging.PANIC)

SECONDS = 6
"""Of sound in each recording."""

TONES = tuple(float(second) for second in range(SECONDS))
"""When the tones begin in a recording whose clock is as it should be."""

FRAMES = 10
"""Pictures a second."""


@dataclass(frozen=True, kw_only=True)
class Odd:
    """A recording to make."""

    name: str
    """Of the file; its suffix decides the container unless ``form`` does."""
    audio: str = "pcm_s16le"
    rate: int = 48_000
    channels: int = 1
    layout: str = ""
    """FFmpeg's name for the channels' places; empty: the usual one for their number."""
    video: str = ""
    form: str | None = None
    mix: str = "same"
    """A function of this module that makes the channels of the tone."""
    clock: str = "even"
    """A function of this module that moves packets."""
    damage: str = ""
    """A function of this module that changes the file's bytes."""
    announced: bool = True
    """Whether the file says how long it is, so that what was cut off can be named."""
    tracks: str = ""
    """What further tracks there are: one letter each, ``s`` silent, ``n`` noise, ``t`` the tones, in capitals the default."""
    tag: str = ""
    """The codec tag of the picture, where there are several."""
    title: str = ""
    encoding: str = "utf-8"
    tones: tuple[float, ...] = TONES
    """When they should be found."""
    options: tuple[tuple[str, str], ...] = ()


# Sound: float32 [channels, n] of a tone [n]


def same(tone: Any, channels: int) -> Any:
    return np.repeat(tone[None], channels, axis=0)


def inverted(tone: Any, channels: int) -> Any:
    return np.stack([tone, -tone] * (channels // 2))


def lower(tone: Any, channels: int) -> Any:
    """What a sum leaves is 20 dB down."""
    return np.stack([tone, -0.89 * tone])


def half(tone: Any, channels: int) -> Any:
    """Channels cancel in the second half only."""
    sign = np.where(np.arange(tone.size) < tone.size // 2, 1, -1).astype(np.float32)
    return np.stack([tone, tone * sign])


def left(tone: Any, channels: int) -> Any:
    return np.stack([tone, *[np.zeros_like(tone)] * (channels - 1)])


def last(tone: Any, channels: int) -> Any:
    return left(tone, channels)[::-1]


def third(tone: Any, channels: int) -> Any:
    return np.roll(left(tone, channels), 2, axis=0)


def hum(tone: Any, channels: int) -> Any:
    """Loud 50 Hz on the other channel, in which the tones stand."""
    return np.stack([tone, 0.5 * np.sin(np.arange(tone.size) * np.float32(2 * np.pi * 50 / 48_000)).astype(np.float32)])


def offset(tone: Any, channels: int) -> Any:
    return same(tone * 0.3 + 0.4, channels)


def faint(tone: Any, channels: int) -> Any:
    return same(tone * 10 ** (-60 / 20), channels)


def fainter(tone: Any, channels: int) -> Any:
    return same(tone * 10 ** (-75 / 20), channels)


def beyond(tone: Any, channels: int) -> Any:
    """Three times full scale."""
    return same(tone * 6, channels)


def noise(size: int, level: float = 0.02) -> Any:
    return (np.random.default_rng(3).standard_normal(size) * level).astype(np.float32)


# Clocks: what becomes of a packet's time (seconds), by its kind ("audio" or "video"); None leaves the packet out


def even(time: float, kind: str) -> float | None:
    return time


def late(time: float, kind: str) -> float | None:
    """The sound begins two seconds after the picture."""
    return time + 2 if kind == "audio" else time


def hour(time: float, kind: str) -> float | None:
    return time + 3600


def ten(time: float, kind: str) -> float | None:
    return time + 10


def twelve(time: float, kind: str) -> float | None:
    """A broadcast whose sound begins twelve seconds after the picture."""
    return time + 12 if kind == "audio" else time


def hole(time: float, kind: str) -> float | None:
    """Two seconds of sound were not sent."""
    return None if kind == "audio" and 1.95 < time < 3.95 else time


def gap(time: float, kind: str) -> float | None:
    """The sound pauses for two seconds."""
    return time + 2 if kind == "audio" and time >= 2.45 else time


def twice(time: float, kind: str) -> float | None:
    """The sound pauses twice."""
    return time + (time >= 1.45) + (time >= 3.45) if kind == "audio" else time


def slow(time: float, kind: str) -> float | None:
    """The sound's clock loses 2 %."""
    return time * 0.98 if kind == "audio" else time


def ahead(time: float, kind: str) -> float | None:
    """The clock jumps by a quarter of an hour in the middle."""
    return time + 900 if time >= 2.45 else time


def day(time: float, kind: str) -> float | None:
    """The sound pauses for thirty hours."""
    return time + 108_000 if kind == "audio" and time >= 2.45 else time


def still(time: float, kind: str) -> float | None:
    return 0.0 if kind == "audio" else time


# Damage: the file's bytes, changed


def cut(data: bytes) -> bytes:
    return data[: len(data) * 6 // 10]


def zeros(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(len(data) // 40) + data[middle + len(data) // 40 :]


def tail(data: bytes) -> bytes:
    """A minute of rubbish after the end."""
    return data + np.random.default_rng(5).bytes(40_000)


def doubled(data: bytes) -> bytes:
    """Two files, one after the other, as a recorder's pieces are joined."""
    return data + data


def body(data: bytes) -> bytes:
    """A download without its first kilobyte."""
    return data[1000:]


def tone_of(odd: Odd) -> Any:
    t = np.arange(SECONDS * odd.rate) / odd.rate
    return np.where(t % 1 < 0.1, np.sin(t * 5000) * 0.5, 0).astype(np.float32)


def sounds(odd: Odd) -> Iterator[tuple[Any, bool]]:
    """Each track's sound, float32 [channels, n], and whether it is the default."""
    tone = tone_of(odd)
    if not odd.tracks:
        yield globals()[odd.mix](tone, odd.channels), True
    for letter in odd.tracks:
        kind = {"s": np.zeros_like(tone), "n": noise(tone.size), "t": tone}[letter.lower()]
        yield same(kind, odd.channels), letter.isupper()


def make(odd: Odd, folder: Path) -> Path:
    """Write one recording."""
    path = folder / odd.name
    clock: Callable[[float, str], float | None] = globals()[odd.clock]
    options = dict(odd.options)
    with av.open(f"file:{path}", "w", format=odd.form, options=options, metadata_encoding=odd.encoding) as out:
        if odd.title:
            out.metadata["title"] = odd.title
        pictures = picture_stream(odd, out) if odd.video else None
        heard = [(sound_stream(odd, out, sound, default), sound) for sound, default in sounds(odd)]
        waiting = list(film(odd, pictures)) if pictures is not None else []
        for stream, sound in heard:
            waiting += track(odd, stream, sound)
        out.start_encoding()
        for _, packet in sorted(waiting, key=lambda pair: pair[0]):
            before = float(packet.pts * packet.time_base)
            after = clock(before, packet.stream.type)
            if after is not None:
                move = round((after - before) / packet.time_base)
                packet.pts += move
                packet.dts += move
                out.mux(packet)
    if odd.damage:
        path.write_bytes(globals()[odd.damage](path.read_bytes()))
    return path


def picture_stream(odd: Odd, out: Any) -> Any:
    stream = out.add_stream(odd.video, rate=25 if odd.video in ("mpeg1video", "mpeg2video") else FRAMES)
    stream.width, stream.height = (352, 288) if odd.video in ("h263", "rv10") else (160, 120)
    known = av.codec.Codec(odd.video, "w").video_formats
    stream.pix_fmt = known[0].name if known else "yuv420p"
    stream.codec_context.gop_size = FRAMES
    if odd.tag:
        stream.codec_context.codec_tag = odd.tag
    if odd.video in ("libx264", "libx265"):
        stream.pix_fmt = "yuv420p"
        stream.options = {"preset": "ultrafast", "x265-params": "log-level=none"}
    return stream


def sound_stream(odd: Odd, out: Any, sound: Any, default: bool) -> Any:
    stream = out.add_stream(odd.audio, rate=odd.rate, layout=layout_of(odd, sound))
    stream.codec_context.options = {"strict": "-2"}  # FFmpeg's own Vorbis is experimental
    if odd.audio in ("wmav1", "wmav2"):
        stream.bit_rate = 64_000
    if odd.tracks:
        stream.disposition = av.stream.Disposition.default if default else av.stream.Disposition(0)
    return stream


def layout_of(odd: Odd, sound: Any) -> str:
    return odd.layout or {1: "mono", 2: "stereo", 6: "5.1"}.get(len(sound), f"{len(sound)} channels")


def film(odd: Odd, stream: Any) -> Iterator[tuple[float, Any]]:
    rate = round(float(stream.codec_context.framerate))
    packets = []
    for k in range(SECONDS * rate):
        picture = np.full((stream.height, stream.width, 3), k * 3 % 256, np.uint8)
        packets += stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=stream.pix_fmt))
    for packet in [*packets, *stream.encode(None)]:
        yield float(packet.dts * packet.time_base), packet


def track(odd: Odd, stream: Any, sound: Any) -> Iterator[tuple[float, Any]]:
    packets, layout = [], layout_of(odd, sound)
    resampler = av.AudioResampler(format=stream.codec_context.format.name, layout=layout, rate=odd.rate)
    size = odd.rate // 10
    for at in range(0, sound.shape[1], size):
        part = np.ascontiguousarray(sound[:, at : at + size].T.reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(part, format="flt", layout=layout)
        frame.sample_rate, frame.time_base, frame.pts = odd.rate, Fraction(1, odd.rate), at
        for piece in resampler.resample(frame):
            packets += stream.encode(piece)
    for packet in [*packets, *stream.encode(None)]:
        if packet.dts is None:
            packet.dts = packet.pts
        yield float(packet.dts * packet.time_base), packet


# The set


def formats() -> Iterator[Odd]:
    """Containers and codecs of sound alone, then of films."""
    for codec in ("u8", "s16le", "s24le", "s32le", "f32le", "f64le", "alaw", "mulaw"):
        yield Odd(name=f"wav-{codec}.wav", audio=f"pcm_{codec}", channels=2)
    for codec in ("adpcm_ms", "adpcm_ima_wav", "adpcm_yamaha", "libmp3lame", "wmav2", "g722", "mp2", "ac3"):
        yield Odd(name=f"wav-{codec}.wav", audio=codec, rate=16_000 if codec == "g722" else 44_100)
    for codec in ("pcm_s8", "pcm_s16be", "pcm_s24be", "pcm_f32be", "pcm_alaw"):
        yield Odd(name=f"aiff-{codec}.aiff", audio=codec)
        yield Odd(name=f"au-{codec}.au", audio=codec)
    for codec in ("alac", "pcm_s16be", "pcm_s24le", "adpcm_ima_qt"):
        yield Odd(name=f"caf-{codec}.caf", audio=codec)
    for name, codec, rate in (
        ("w64.w64", "pcm_s24le", 48_000),
        ("tta.tta", "tta", 44_100),
        ("wavpack.wv", "wavpack", 44_100),
        ("flac96.flac", "flac", 96_000),
        ("flac8.flac", "flac", 8_000),
        ("mp3.mp3", "libmp3lame", 44_100),
        ("mp3-16.mp3", "libmp3lame", 16_000),
        ("mp2.mp2", "mp2", 48_000),
        ("opus.opus", "libopus", 48_000),
        ("vorbis.ogg", "vorbis", 44_100),
        ("flac.oga", "flac", 44_100),
        ("alac.m4a", "alac", 44_100),
        ("aac.m4a", "aac", 44_100),
        ("aac-11.m4a", "aac", 11_025),
        ("adts.aac", "aac", 44_100),
        ("ac3.ac3", "ac3", 48_000),
        ("eac3.eac3", "eac3", 48_000),
        ("amr.amr", "libopencore_amrnb", 8_000),
        ("amr.3gp", "libopencore_amrnb", 8_000),
        ("wma1.wma", "wmav1", 44_100),
        ("wma2.wma", "wmav2", 44_100),
        ("voc.voc", "pcm_u8", 22_050),
        ("rm.ra", "ac3", 44_100),
        ("real144.ra", "real_144", 8_000),
        ("sbc.mka", "ac3", 32_000),
        ("g726.wav", "g726", 8_000),
        ("caf-mulaw.caf", "pcm_mulaw", 8_000),
        ("nelly.flv", "nellymoser", 44_100),
        ("swf.flv", "adpcm_swf", 22_050),
        ("speech.flv", "libmp3lame", 44_100),
        ("ircam.ircam", "pcm_s16le", 44_100),
        ("nut.nut", "pcm_s32le", 48_000),
        ("pcm.mov", "pcm_s24be", 48_000),
    ):
        stereo = codec in ("vorbis", "wmav1", "wmav2")
        yield Odd(name=name, audio=codec, rate=rate, channels=2 if stereo else 1)
    films = {
        "mkv": ["libx264+aac", "libx265+ac3", "mpeg4+libmp3lame", "ffv1+flac", "libvpx-vp9+libopus", "mjpeg+pcm_s16le"],
        "mp4": ["libx264+aac", "libx265+aac", "mpeg4+libmp3lame", "libx264+ac3", "libx264+alac", "libx264+libopus"],
        "mov": ["libx264+aac", "prores_ks+pcm_s16le", "mjpeg+pcm_s24le", "qtrle+adpcm_ima_qt", "mpeg4+pcm_mulaw"],
        "avi": ["mpeg4+libmp3lame", "mjpeg+pcm_s16le", "rawvideo+pcm_u8", "huffyuv+ac3", "msmpeg4v2+adpcm_ms"],
        "ts": ["libx264+aac", "mpeg2video+mp2", "libx265+ac3", "mpeg2video+ac3"],
        "mpg": ["mpeg1video+mp2", "mpeg2video+ac3"],
        "vob": ["mpeg2video+ac3", "mpeg2video+mp2"],
        "flv": ["flv+libmp3lame", "libx264+aac", "flashsv+pcm_s16le", "flv+adpcm_swf"],
        "wmv": ["wmv2+wmav2", "wmv1+wmav1"],
        "webm": ["libvpx+vorbis", "libvpx-vp9+libopus", "libvpx+libopus"],
        "3gp": ["h263+libopencore_amrnb", "libx264+aac"],
        "nut": ["ffv1+pcm_s16le", "mpeg4+flac"],
        "rm": ["rv10+ac3", "rv20+ac3"],
        "asf": ["msmpeg4v2+libmp3lame"],
        "m4v": ["libx264+aac"],
        "f4v": ["libx264+aac"],
    }
    for suffix, pairs in films.items():
        for pair in pairs:
            video, audio = pair.split("+")
            rate = 8_000 if "amr" in audio else 44_100
            stereo = audio in ("vorbis", "wmav1", "wmav2")
            yield Odd(
                name=f"{suffix}-{video}-{audio}.{suffix}",
                audio=audio,
                video=video,
                rate=48_000 if audio == "libopus" else rate,
                channels=2 if stereo else 1,
                form={"asf": "asf", "rm": "rm", "f4v": "f4v"}.get(suffix),
            )

    for tag in ("hvc1", "hev1"):
        for suffix in ("mp4", "mov"):
            yield Odd(name=f"{tag}.{suffix}", audio="aac", video="libx265", tag=tag, rate=44_100)


FILMS = {"mkv": "ac3", "mp4": "aac", "mov": "aac", "ts": "mp2", "flv": "libmp3lame", "wmv": "wmav2", "nut": "ac3"}
"""Containers whose clocks can be odd, with a codec."""


def clocks() -> Iterator[Odd]:
    """Clocks that begin late, far from zero, pause, run slow, begin anew, jump, or stand still."""
    expected: dict[str, tuple[float, ...]] = {
        "late": tuple(t + 2 for t in TONES),
        "gap": tuple(t if t < 2.45 else t + 2 for t in TONES),
        "twice": tuple(t + (t >= 1.45) + (t >= 3.45) for t in TONES),
        "hole": tuple(t for t in TONES if not 1.95 < t < 3.95),
        "ten": TONES,
        "hour": TONES,
        "slow": TONES,
    }
    for suffix, codec in FILMS.items():
        video = {"mkv": "mpeg4", "flv": "flv", "wmv": "wmv2", "ts": "mpeg2video", "nut": "mpeg4"}.get(suffix, "libx264")
        for clock, tones in expected.items():
            yield Odd(
                name=f"{clock}.{suffix}",
                audio=codec,
                video=video,
                rate=44_100,
                channels=2 if codec == "wmav2" else 1,
                clock=clock,
                tones=tones,
            )
    for suffix, codec in {"mka": "libopus", "m4a": "aac", "webm": "libopus"}.items():
        for clock in ("gap", "twice", "hole", "slow"):
            yield Odd(name=f"{clock}-sound.{suffix}", audio=codec, clock=clock, tones=expected[clock])
    for audio, video in (("mp2", "mpeg2video"), ("aac", "libx264"), ("ac3", "")):
        yield Odd(name=f"ahead-{audio}.ts", audio=audio, video=video, clock="ahead")
    over = tuple(t + k * SECONDS for k in range(2) for t in TONES)
    for name, audio, video in (
        ("two.mp3", "libmp3lame", ""),
        ("two.aac", "aac", ""),
        ("two.ac3", "ac3", ""),
        ("two.ogg", "libopus", ""),
        ("two.ts", "mp2", ""),
        ("two-mp2.ts", "mp2", "mpeg2video"),
        ("two-aac.ts", "aac", "libx264"),
        ("two.mpg", "mp2", "mpeg1video"),
        ("two.vob", "ac3", "mpeg2video"),
    ):
        yield Odd(name=name, audio=audio, video=video, damage="doubled", tones=over)
    tones = tuple(t + 12 for t in TONES)
    yield Odd(name="twelve.ts", audio="aac", video="libx264", clock="twelve", tones=tones)
    yield Odd(name="still.ra", audio="ac3", clock="still")


def channels() -> Iterator[Odd]:
    """Channels that cancel, that are silent, that are many; sound too quiet, too loud, off centre."""
    homes = {"wav": "pcm_s16le", "flac": "flac", "mka": "pcm_f32le", "m4a": "aac"}
    for suffix, codec in homes.items():
        for mix in ("inverted", "lower", "half", "left", "last", "hum"):
            tones = () if mix == "hum" else TONES
            yield Odd(name=f"{mix}.{suffix}", audio=codec, channels=2, mix=mix, tones=tones)
    for suffix, codec in (("wav", "pcm_s24le"), ("mka", "pcm_f32le"), ("caf", "pcm_s24le")):
        for count in (3, 4, 6, 8, 10, 12, 16, 24):
            if suffix == "caf" and count not in (3, 8, 24):
                continue
            yield Odd(
                name=f"third-of-{count}.{suffix}", audio=codec, channels=count, mix="third", layout=f"{count} channels"
            )
    for name, mix, layout in (("centre", "third", "5.1"), ("front", "left", "5.1"), ("seven", "third", "7.1")):
        count = 8 if layout == "7.1" else 6
        yield Odd(name=f"{name}.flac", audio="flac", channels=count, mix=mix, layout=layout)
        yield Odd(name=f"{name}.mkv", audio="pcm_s16le", channels=count, mix=mix, layout=layout, video="mpeg4")
    for mix in ("faint", "fainter"):
        for suffix, codec in (("wav", "pcm_s24le"), ("flac", "flac"), ("mka", "pcm_f32le")):
            if codec != "flac" or mix == "faint":
                yield Odd(name=f"{mix}.{suffix}", audio=codec, mix=mix, channels=2)
    yield Odd(name="beyond.wav", audio="pcm_f32le", mix="beyond")
    yield Odd(name="beyond.mka", audio="pcm_f64le", mix="beyond")
    yield Odd(name="offset.wav", audio="pcm_s16le", mix="offset")
    yield Odd(name="offset.flac", audio="flac", mix="offset")


def tracks() -> Iterator[Odd]:
    """Films with several sounds: the default counts, else the one with speech in it."""
    for kinds in ("sT", "nT", "Ts", "sst", "stss", "ssT"):
        yield Odd(name=f"tracks-{kinds}.mkv", audio="ac3", video="mpeg4", tracks=kinds)
        yield Odd(name=f"tracks-{kinds}.mov", audio="pcm_s16le", video="mpeg4", tracks=kinds)


SCRIPTS = {
    "latin1": ("Café à la crème", "iso-8859-1"),
    "greek": ("Καλημέρα", "utf-8"),
    "cyrillic": ("Доброе утро", "cp1251"),
    "shift-jis": ("会議の録音", "shift_jis"),
    "gbk": ("早上好", "gbk"),
    "thai": ("สวัสดีครับ ท่านผู้มีเกียรติ", "utf-8"),
    "hindi": ("नमस्ते दुनिया", "utf-8"),
    "arabic": ("صباح الخير", "utf-8"),
    "hebrew": ("בוקר טוב", "utf-8"),
    "burmese": ("မင်္ဂလာပါ", "utf-8"),
    "tamil": ("காலை வணக்கம்", "utf-8"),
    "korean": ("좋은 아침", "euc-kr"),
    "emoji": ("👩🏽‍⚕️ morning", "utf-8"),
    "control": ("a\x1b[31mred\x07 ‮tf", "utf-8"),
}
"""Name -> a text, and the encoding in which old tools would write it."""


def names() -> Iterator[Odd]:
    """Names and tags in other scripts and encodings."""
    for script, (title, encoding) in SCRIPTS.items():
        name = title.replace("\x1b", "").replace("\x07", "").replace("/", "")
        yield Odd(name=f"{name}.avi", audio="libmp3lame", video="mpeg4", rate=44_100, title=title, encoding=encoding)
        yield Odd(name=f"{script}.mkv", audio="ac3", video="mpeg4", title=title)
        yield Odd(name=f"{script}.mp3", audio="libmp3lame", rate=44_100, title=title)


def damaged() -> Iterator[Odd]:
    """Files that end early, lack a piece, or have too much."""
    homes = {
        "wav": "pcm_s16le",
        "flac": "flac",
        "mp3": "libmp3lame",
        "ogg": "libopus",
        "mkv": "aac",
        "ts": "mp2",
        "avi": "libmp3lame",
        "aac": "aac",
        "flv": "libmp3lame",
        "wmv": "wmav2",
    }
    video = {"mkv": "mpeg4", "ts": "mpeg2video", "avi": "mpeg4", "flv": "flv", "wmv": "wmv2"}
    for suffix, codec in homes.items():
        for damage in ("cut", "zeros", "tail"):
            yield Odd(
                name=f"{damage}.{suffix}",
                audio=codec,
                video=video.get(suffix, ""),
                rate=48_000 if codec == "libopus" else 44_100,
                channels=2 if codec == "wmav2" else 1,
                damage=damage,
                announced=suffix not in ("ogg", "ts", "aac"),
                tones=(),
            )
    for suffix, codec in (("mp3", "libmp3lame"), ("ts", "mp2"), ("aac", "aac")):
        yield Odd(name=f"body.{suffix}", audio=codec, damage="body", announced=False, tones=())


BOMBS = (Odd(name="day.mka", audio="libopus", clock="day"),)
"""Not part of the set, since others make gigabytes of them; made by name."""


def every() -> list[Odd]:
    """The whole set, in order."""
    return [*formats(), *clocks(), *channels(), *tracks(), *names(), *damaged()]


def main(folder: Path, wanted: Sequence[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for odd in [odd for odd in (*every(), *BOMBS) if odd.name in wanted] if wanted else every():
        path = make(odd, folder)
        print(json.dumps({"file": path.name, "tones": odd.tones, "announced": odd.announced}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
