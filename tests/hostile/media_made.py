"""Recordings that were made to exhaust or to lead astray: each a function of chance that gives a name and bytes."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Callable
from random import Random

Made = tuple[str, bytes]
"""A file's name and what is in it."""

HUGE = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
"""Numbers at which programs err."""


def tone(seconds: float = 1.0, rate: int = 16_000) -> bytes:
    """Samples, 16 bits, little-endian."""
    return b"".join(struct.pack("<h", (k * 997 % 2000 - 1000) * 8) for k in range(round(seconds * rate)))


def wav(
    data: bytes, *, channels: int = 1, rate: int = 16_000, bits: int = 16, tag: int = 1, before: bytes = b""
) -> bytes:
    align = channels * bits // 8 & 0xFFFF
    form = struct.pack("<HHIIHH", tag, channels, rate & 0xFFFFFFFF, rate * align & 0xFFFFFFFF, align, bits)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + before + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body) & 0xFFFFFFFF) + body


# Pictures of one colour: small files, large when decoded


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    line = bytes(1 + width * 4)
    rows = min(height, 40_000_000 // len(line) + 1)  # the rest of the picture isn't there
    data = b"".join(packer.compress(line) for _ in range(rows)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def picture(chance: Random) -> tuple[str, bytes]:
    """A cover's type and bytes."""
    wide, high = (chance.choice((1, 4000, 16_000, 32_000, 65_000)) for _ in range(2))
    kind = chance.choice(("png", "gif", "bmp", "jpeg", "webp"))
    if kind == "gif":
        frame = b"," + struct.pack("<HHHHB", 0, 0, wide, high, 0) + b"\x02\x02\x4c\x01\0"
        return "image/gif", b"GIF89a" + struct.pack("<HHBBB", wide, high, 0x80, 0, 0) + bytes(6) + frame * 50 + b";"
    if kind == "bmp":
        return "image/bmp", b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack(
            "<IiiHHIIiiII", 40, wide, high, 1, 32, 0, 0, 0, 0, 0, 0
        )
    if kind == "jpeg":
        tables = b"\xff\xdb\0\x43\0" + bytes([1] * 64)
        head = b"\xff\xc0\0\x11\x08" + struct.pack(">HH", high, wide) + b"\x03\x01\x22\0\x02\x11\0\x03\x11\0"
        return "image/jpeg", b"\xff\xd8" + tables + head + b"\xff\xda\0\x0c\x03\x01\0\x02\0\x03\0\0\x3f\0" + bytes(999)
    if kind == "webp":
        body = b"VP8L" + struct.pack("<I", 20) + b"\x2f" + struct.pack("<I", 0x0FFFFFFF) + bytes(15)
        return "image/webp", b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
    return "image/png", png(wide, high)


# Tags


def synchsafe(n: int) -> bytes:
    return bytes(n >> shift & 127 for shift in (21, 14, 7, 0))


def id3(frames: bytes, size: int | None = None) -> bytes:
    return b"ID3\3\0\0" + synchsafe(len(frames) if size is None else size) + frames


def frame(name: bytes, data: bytes) -> bytes:
    return name + struct.pack(">I", len(data)) + b"\0\0" + data


MP3 = (b"\xff\xfb\x10\xc4" + bytes(48)) * 60
"""Frames of silence."""


def id3_picture(chance: Random) -> Made:
    kind, data = picture(chance)
    one = frame(b"APIC", b"\0" + kind.encode() + b"\0\3\0" + data)
    return "cover.mp3", id3(one * chance.choice((1, 1, 5, 300) if len(data) < 50_000 else (1,))) + MP3


def id3_many(chance: Random) -> Made:
    count = chance.choice((1000, 30_000, 200_000))
    same = chance.random() < 0.3
    make = [frame(b"TXXX", b"\0k%d\0v" % (0 if same else k)) for k in range(count)]
    return "tags.mp3", id3(b"".join(make)) + MP3


def id3_odd(chance: Random) -> Made:
    kind = chance.randrange(5)
    if kind == 0:  # one tag after the other
        return "chain.mp3", id3(frame(b"TIT2", b"\0a")) * chance.choice((10, 5000, 100_000)) + MP3
    if kind == 1:  # chapters in chapters
        data = b""
        for k in range(chance.choice((10, 300, 3000))):
            data = frame(b"CHAP", b"c%d\0" % k + bytes(16) + data[-60_000:])
        return "chapters.mp3", id3(data) + MP3
    if kind == 2:
        chapters = b"".join(frame(b"CHAP", b"c%d\0" % k + struct.pack(">IIII", k, k + 1, 0, 0)) for k in range(30_000))
        return "many.mp3", id3(chapters) + MP3
    if kind == 3:  # a size that isn't there
        return "size.mp3", id3(
            b"TIT2" + struct.pack(">I", chance.choice(HUGE)) + b"\0\0", chance.randrange(1 << 28)
        ) + MP3
    packed = zlib.compress(bytes(30_000_000), 9)  # a compressed frame
    body = b"TXXX" + struct.pack(">I", len(packed) + 4) + b"\0\x80" + struct.pack(">I", chance.choice(HUGE)) + packed
    return "packed.mp3", id3(body) + MP3


def comments(pairs: list[bytes], count: int | None = None) -> bytes:
    head = struct.pack("<I", 4) + b"none" + struct.pack("<I", len(pairs) if count is None else count)
    return head + b"".join(struct.pack("<I", len(p)) + p for p in pairs)


def flac(chance: Random) -> Made:
    """Metadata blocks and no frames, or few."""

    def block(kind: int, data: bytes, *, last: bool = False) -> bytes:
        return bytes([kind | (last << 7)]) + (len(data) & 0xFFFFFF).to_bytes(3, "big") + data

    info = (
        struct.pack(">HH", 16, 65535)
        + bytes(6)
        + struct.pack(
            ">Q",
            chance.choice((16_000, 1, 655_350)) << 44
            | chance.randrange(8) << 41
            | 15 << 36
            | chance.choice((0, 1 << 35)),
        )
        + bytes(16)
    )
    parts = [block(0, info)]
    for _ in range(chance.choice((1, 3, 40))):
        kind = chance.randrange(4)
        if kind == 0:
            what, data = picture(chance)
            head = (
                struct.pack(">II", 3, len(what))
                + what.encode()
                + struct.pack(">IIIIII", 0, *(chance.choice(HUGE) for _ in range(4)), len(data))
            )
            parts.append(block(6, (head + data)[: 1 << 24]))
        elif kind == 1:
            parts.append(
                block(
                    4,
                    comments([b"K%d=v" % k for k in range(chance.choice((10, 20_000)))], chance.choice((None, *HUGE))),
                )
            )
        elif kind == 2:
            parts.append(block(5, bytes(395) + b"\xff" + bytes(1000)))  # a cue sheet
        else:
            parts.append(block(3, bytes(18 * chance.choice((1, 10_000)))))  # a seek table
    return "odd.flac", b"fLaC" + b"".join(parts) + block(1, bytes(10), last=True) + chance.randbytes(4000)


# MP4


def box(name: bytes, *parts: bytes, size: int | None = None) -> bytes:
    data = b"".join(parts)
    return struct.pack(">I", (len(data) + 8 if size is None else size) & 0xFFFFFFFF) + name + data


def full(name: bytes, *parts: bytes) -> bytes:
    return box(name, bytes(4), *parts)


def be(*numbers: int) -> bytes:
    return struct.pack(f">{len(numbers)}I", *(n & 0xFFFFFFFF for n in numbers))


def sound_track(chance: Random, **tables: bytes) -> bytes:
    """A track of 16-bit samples, with some of its tables replaced."""
    entry = box(b"sowt", bytes(6), b"\0\1", bytes(8), struct.pack(">HHHHI", 1, 16, 0, 0, 16_000 << 16))
    tables = {
        "stsd": be(1) + entry,
        "stts": be(1, 16_000, 1),
        "stsc": be(1, 1, 16_000, 1),
        "stsz": be(2, 16_000),
        "stco": be(1, 4096),
    } | tables
    stbl = box(b"stbl", *(full(name.encode(), data) for name, data in tables.items()))
    minf = box(b"minf", full(b"smhd", bytes(4)), stbl)
    scale = chance.choice((16_000, 16_000, 1, 0xFFFFFFFF, 0))
    mdhd = full(b"mdhd", be(0, 0, scale, chance.choice((16_000, 0xFFFFFFFF))), bytes(4))
    hdlr = full(b"hdlr", bytes(4), b"soun", bytes(13))
    return box(b"trak", full(b"tkhd", be(0, 0, 1, 0, 16_000), bytes(60)), box(b"mdia", mdhd, hdlr, minf))


def mp4(*parts: bytes) -> bytes:
    return box(b"ftyp", b"isom", bytes(4), b"isom") + box(
        b"moov", full(b"mvhd", be(0, 0, 1000, 1000), bytes(80)), *parts
    )


def mp4_tables(chance: Random) -> Made:
    """Counts without entries, and entries that stand for more than there is."""
    count = chance.choice(HUGE)
    many = chance.choice((1000, 100_000))
    large = chance.choice((1, 1_000_000, 0x7FFFFFFF))
    tables: dict[str, bytes] = chance.choice(
        (
            {"stsz": be(large, count)},
            {"stsz": be(0, count) + be(large) * 100},
            {"stts": be(count, count, chance.choice(HUGE))},
            {"stts": be(many) + be(count, 1) * many},
            {"stsc": be(many) + b"".join(be(k + 1, chance.choice(HUGE), 1) for k in range(many))},
            {"stco": be(many) + be(40) * many, "stsz": be(large, 0x7FFFFFFF), "stsc": be(1, 1, chance.choice(HUGE), 1)},
            {"stco": be(many) + be(40) * many, "stsz": be(500_000, many), "stsc": be(1, 1, 1, 1)},
            {"stco": be(count) + be(40)},
            {"stsd": be(count) + box(b"sowt", bytes(28)) * 50},
            {"ctts": be(count) + be(count, count) * 10},
            {"stss": be(count) + be(1) * 10},
            {"sdtp": bytes(many), "sbgp": b"roll" + be(count) + be(count, 1) * 10},
        )
    )
    tracks = sound_track(chance, **tables) * chance.choice((1, 1, 20))
    return f"tables{chance.choice(('.mp4', '.m4a', '.mov'))}", mp4(tracks) + box(b"mdat", tone(0.5))


def mp4_boxes(chance: Random) -> Made:
    """Boxes in boxes, beside boxes, without an end; a header that unpacks to much; lists of edits."""
    kind = chance.randrange(8)
    track = sound_track(chance)
    if kind == 0:
        inner = b""
        for _ in range(chance.choice((50, 3000, 20_000))):
            inner = box(chance.choice((b"udta", b"moov", b"trak", b"meta", b"mdia")), inner)
        return "nested.mp4", mp4(track, inner)
    if kind == 1:
        return "tracks.mp4", mp4(track * chance.choice((50, 600, 6000)))
    if kind == 2:
        edits = b"".join(be(1, chance.choice(HUGE), 0x10000) for _ in range(chance.choice((10, 5000, 100_000))))
        edit = box(b"edts", full(b"elst", be(len(edits) // 12), edits))
        return "edits.mp4", mp4(track[:8] + edit + track[8:]) + box(b"mdat", tone(0.5))
    if kind == 3:
        packed = zlib.compress(bytes(chance.choice((1000, 60_000_000))), 9)
        head = box(b"dcom", b"zlib") + box(b"cmvd", be(chance.choice((60_000_000, 0x7FFFFFFF, 0xFFFFFFFF))), packed)
        return "packed.mov", box(b"moov", box(b"cmov", head))
    if kind == 4:
        tag = box(b"\xa9nam", box(b"data", be(1, 0), b"x" * chance.choice((1, 1000))))
        items = b"".join(tag for _ in range(chance.choice((100, 20_000))))
        return "items.m4a", mp4(track, box(b"udta", full(b"meta", box(b"ilst", items))))
    if kind == 5:
        what, data = picture(chance)
        cover = box(b"covr", box(b"data", be(14 if "png" in what else 13, 0), data) * chance.choice((1, 20)))
        return "cover.m4a", mp4(
            track, box(b"udta", full(b"meta", full(b"hdlr", bytes(4), b"mdir", bytes(13)), box(b"ilst", cover)))
        )
    if kind == 6:
        runs = b"".join(
            box(
                b"moof",
                full(b"mfhd", be(k)),
                box(b"traf", full(b"tfhd", be(1)), full(b"trun", be(chance.choice(HUGE)))),
            )
            for k in range(chance.choice((1, 2000)))
        )
        return "pieces.mp4", mp4(track, box(b"mvex", full(b"trex", be(1, 1, 1, 1, 0)))) + runs
    sizes = [
        box(chance.choice((b"free", b"moov", b"mdat", b"uuid", b"sidx")), bytes(16), size=chance.choice(HUGE))
        for _ in range(2000)
    ]
    return "sizes.mp4", box(b"ftyp", b"isom", bytes(4)) + b"".join(sizes)


# RIFF and its kind


def riff(chance: Random) -> Made:
    kind = chance.randrange(6)
    if kind == 0:
        rate = chance.choice((*HUGE, 16_000, 48_000))
        made = wav(
            tone(0.5) * chance.choice((1, 20)),
            channels=chance.choice((0, 1, 2, 255, 256, 512, 65535)),
            rate=rate,
            bits=chance.choice((0, 1, 8, 16, 24, 64, 65535)),
            tag=chance.choice((0, 1, 2, 3, 6, 7, 17, 0x50, 0x55, 0xFF, 0x161, 0xFFFE, chance.randrange(65536))),
        )
        return "head.wav", made
    if kind == 1:
        parts = b"".join(
            chance.choice((b"LIST", b"junk", b"id3 ", b"bext", b"cue ")) + struct.pack("<I", 0)
            for _ in range(chance.choice((1000, 1_000_000)))
        )
        return "parts.wav", wav(tone(0.5), before=parts)
    if kind == 2:
        data = bytearray(
            wav(
                tone(0.5), before=b"LIST" + struct.pack("<I", 12) + b"INFOINAM" + struct.pack("<I", chance.choice(HUGE))
            )
        )
        at = chance.choice((4, 16, len(data) - 16_004))
        data[at : at + 4] = struct.pack("<I", chance.choice(HUGE))
        return "sizes.wav", bytes(data)
    if kind == 3:
        sizes = struct.pack("<QQQI", *(chance.choice((*HUGE, 1 << 62, 1 << 63)) for _ in range(3)), chance.choice(HUGE))
        body = b"WAVEds64" + struct.pack("<I", chance.choice((28, 0xFFFFFFFF))) + sizes + wav(tone(0.5))[12:]
        return "rf64.wav", b"RF64\xff\xff\xff\xff" + body
    if kind == 4:
        head = b".snd" + struct.pack(
            ">IIIII",
            chance.choice((24, *HUGE)),
            chance.choice(HUGE),
            chance.randrange(40),
            chance.choice(HUGE),
            chance.choice(HUGE),
        )
        return "head.au", head + tone(0.5)
    comm = struct.pack(
        ">hIh", chance.choice((1, 255, -1)), chance.choice(HUGE), chance.choice((8, 16, 33, -1))
    ) + chance.randbytes(10)
    body = (
        b"AIFFCOMM"
        + struct.pack(">I", chance.choice((18, *HUGE)))
        + comm
        + b"SSND"
        + struct.pack(">III", chance.choice(HUGE), 0, 0)
    )
    return "head.aiff", b"FORM" + struct.pack(">I", len(body)) + body + tone(0.5)


def avi(chance: Random) -> Made:
    """An index of indexes that leads to itself; lists in lists; streams without end."""

    def part(name: bytes, data: bytes) -> bytes:
        return name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)

    strh = (
        b"auds"
        + bytes(16)
        + struct.pack(
            "<IIIIIIII", chance.choice((1, *HUGE)), chance.choice((16_000, *HUGE)), 0, chance.choice(HUGE), 0, 0, 2, 0
        )
    )
    strf = struct.pack("<HHIIHHH", 1, 1, 16_000, 32_000, 2, 16, 0)
    entries = b"".join(
        struct.pack("<QII", chance.choice((0, 12, 300, 1 << 40)), 64, 1) for _ in range(chance.choice((1, 4, 2000)))
    )
    indx = struct.pack("<HBBI", 4, 0, chance.choice((0, 1)), len(entries) // 16) + b"00wb" + bytes(12) + entries
    stream = part(b"LIST", b"strl" + part(b"strh", strh) + part(b"strf", strf) + part(b"indx", indx))
    head = part(b"LIST", b"hdrl" + part(b"avih", bytes(56)) + stream * chance.choice((1, 1, 90)))
    for _ in range(chance.choice((0, 0, 3000))):
        head = part(b"LIST", b"rec " + head[-5000:])
    movi = part(b"LIST", b"movi" + part(b"00wb", tone(0.2)) + part(b"00wb", b"") * chance.choice((1, 100_000)))
    idx1 = part(
        b"idx1",
        b"".join(
            b"00wb" + struct.pack("<III", 16, chance.choice((4, *HUGE)), chance.choice(HUGE)) for _ in range(2000)
        ),
    )
    return "index.avi", b"RIFF" + struct.pack("<I", 1 << 20) + b"AVI " + head + movi + idx1


# Matroska


def element(name: str, data: bytes, *, unknown: bool = False) -> bytes:
    size = b"\x01" + b"\xff" * 7 if unknown else b"\x01" + len(data).to_bytes(7, "big")
    return bytes.fromhex(name) + size + data


def matroska(chance: Random) -> Made:
    ebml = element("1a45dfa3", element("4282", b"matroska") + element("4287", b"\4") + element("4285", b"\2"))
    rate = struct.pack(">d", chance.choice((16_000.0, 1.0, 2.0**31, 0.0, float("nan"), 1e300)))
    sound = element(
        "e1", element("b5", rate) + element("9f", bytes([chance.choice((1, 2, 255))])) + element("6264", b"\x10")
    )
    packed = b""
    kind = chance.randrange(10)
    if kind == 0:  # a packing of each block
        packed = element("6d80", element("6240", element("5034", element("4254", b"\0"))))
    track = b"".join(
        (
            element("d7", b"\1"),
            element("73c5", b"\1"),
            element("83", b"\2"),
            element("86", b"A_PCM/INT/LIT"),
            sound,
            packed,
        )
    )
    tracks = element("1654ae6b", element("ae", track) * (chance.choice((300, 3000)) if kind == 1 else 1))
    data = tone(0.1)
    if kind == 0:
        data = zlib.compress(bytes(chance.choice((1000, 90_000_000))), 9)
    block = element("a3", b"\x81\0\0\x80" + data)
    body = tracks
    if kind == 2:
        body += element("ec", b"") * 300_000 + block
    elif kind == 3:
        inner = b""
        for _ in range(chance.choice((10, 2000))):
            inner = element("1f43b675", inner, unknown=True)
        body += inner
    elif kind == 4:
        what, picture_data = picture(chance)
        one = element(
            "61a7",
            element("466e", b"cover.png")
            + element("4660", what.encode())
            + element("465c", picture_data)
            + element("46ae", b"\1"),
        )
        body += element("1941a469", one * chance.choice((1, 40) if len(picture_data) < 100_000 else (1,)))
    elif kind == 5:
        one = element("67c8", element("45a3", b"K") + element("4487", b"v"))
        body += element("1254c367", element("7373", one * chance.choice((1000, 200_000))))
    elif kind == 6:
        one = element("4dbb", element("53ab", bytes.fromhex("114d9b74")) + element("53ac", b"\0"))
        body = element("114d9b74", one * chance.choice((1, 2000))) + body
    elif kind == 7:
        points = element("bb", element("b3", b"\0") + element("b7", element("f7", b"\1") + element("f1", b"\0")))
        body += element("1c53bb6b", points * 50_000)
    elif kind == 8:
        chapter = element("b6", element("73c4", b"\1") + element("91", b"\0") + element("80", element("85", b"a")))
        for _ in range(chance.choice((1, 500))):
            chapter = element("b6", chapter)
        body += element("1043a770", element("45b9", chapter * chance.choice((1, 20))))
    elif kind == 9:  # laced: many frames of no bytes
        block = element("a3", b"\x81\0\0\x86\xff" + b"\0" * 255) * 20_000
    clusters = element("1f43b675", element("e7", b"\0") + block, unknown=chance.random() < 0.5)
    return f"odd{chance.choice(('.mkv', '.mka', '.webm'))}", ebml + element(
        "18538067", body + clusters, unknown=chance.random() < 0.5
    )


# Ogg, transport streams, Flash, others


def ogg(chance: Random) -> Made:
    def page(data: bytes, serial: int, number: int, *, kind: int = 0, granule: int = 0) -> bytes:
        lacing = bytes([255] * (len(data) // 255) + [len(data) % 255])[:255]
        head = (
            b"OggS\0"
            + bytes([kind])
            + struct.pack("<QIII", granule & (1 << 64) - 1, serial, number, 0)
            + bytes([len(lacing)])
            + lacing
        )
        return head + data  # FFmpeg doesn't look at the sum

    head = (
        b"OpusHead\1"
        + bytes([chance.choice((1, 2, 255))])
        + struct.pack("<HIhB", chance.choice((0, 312, 65535)), 48_000, 0, 0)
    )
    kind = chance.randrange(5)
    if kind == 0:  # one stream after the other
        return "chain.ogg", b"".join(
            page(head, k, 0, kind=2) + page(b"OpusTags" + comments([]), k, 1)
            for k in range(chance.choice((100, 20_000)))
        )
    if kind == 1:  # at once
        return "streams.ogg", b"".join(page(head, k, 0, kind=2) for k in range(chance.choice((100, 5000))))
    if kind == 2:
        tags = b"OpusTags" + comments([b"A=b"] * 10, chance.choice(HUGE))
        return "tags.opus", page(head, 1, 0, kind=2) + page(tags, 1, 1)
    if kind == 3:
        what, data = picture(chance)
        block = (
            struct.pack(">II", 3, len(what)) + what.encode() + struct.pack(">IIIIII", 0, 1, 1, 8, 0, len(data)) + data
        )
        tags = b"OpusTags" + comments([b"METADATA_BLOCK_PICTURE=" + base64.b64encode(block)])
        pages = [tags[k : k + 255 * 254] for k in range(0, len(tags), 255 * 254)]
        return "cover.opus", page(head, 1, 0, kind=2) + b"".join(
            page(p, 1, k, kind=k > 1) for k, p in enumerate(pages, 1)
        )
    pages = b"".join(
        page(b"\xfc" + bytes(chance.choice((0, 2))), 1, k + 2, granule=chance.choice((k, 1 << 62, -1)))
        for k in range(20_000)
    )
    return "clock.opus", page(head, 1, 0, kind=2) + page(b"OpusTags" + comments([]), 1, 1) + pages


def transport(chance: Random) -> Made:
    def packet(pid: int, data: bytes, start: bool = True) -> bytes:
        return (b"\x47" + struct.pack(">H", pid | (0x4000 if start else 0)) + b"\x10" + data)[:188].ljust(188, b"\xff")

    def table(kind: int, data: bytes) -> bytes:
        section = bytes([kind]) + struct.pack(">H", 0xB000 | len(data) + 9) + b"\0\1\xc1\0\0" + data
        crc = 0xFFFFFFFF
        for byte in section:
            crc ^= byte << 24
            for _ in range(8):
                crc = (crc << 1 ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
        return b"\0" + section + struct.pack(">I", crc)

    programs = chance.choice((1, 40))
    parts = [packet(0, table(0, b"".join(struct.pack(">HH", k + 1, 0xE000 | 100 + k) for k in range(programs))))]
    for k in range(programs):
        streams = b"".join(
            b"\x0f" + struct.pack(">HH", 0xE000 | (200 + k * 33 + n) & 0x1FFF, 0xF000) for n in range(33)
        )
        parts.append(packet(100 + k, table(2, b"\xe1\0\xf0\0" + streams)))
    for n in range(3000):
        stamp = chance.randbytes(5) if chance.random() < 0.3 else b"\x21\0\1\0\1"
        parts.append(packet(200 + n % (programs * 33), b"\0\0\1\xc0\0\0\x80\x80\5" + stamp + chance.randbytes(170)))
    return "broadcast.ts", b"".join(parts)


def flash(chance: Random) -> Made:
    if chance.random() < 0.3:
        return "packed.swf", b"CWS\6" + struct.pack("<I", chance.choice(HUGE)) + zlib.compress(bytes(90_000_000), 9)
    data = b""
    for _ in range(chance.choice((10, 5000))):
        data = b"\x03\0\1a" + data
    if chance.random() < 0.5:
        data = b"\x0a" + struct.pack(">I", chance.choice(HUGE)) + data
    script = b"\x02\0\x0aonMetaData\x08\0\0\0\1\0\1k" + data
    tag = b"\x12" + len(script).to_bytes(3, "big") + bytes(7) + script + struct.pack(">I", len(script) + 11)
    sound = b"".join(
        b"\x08\0\0\x03" + chance.randbytes(3) + bytes(4) + chance.randbytes(3) + struct.pack(">I", 14)
        for _ in range(3000)
    )
    return "script.flv", b"FLV\1\4" + struct.pack(">II", 9, 0) + tag + sound


def asf(chance: Random) -> Made:
    def guid(text: str) -> bytes:
        a, b, c, d = text.split("-")
        return struct.pack("<IHH", int(a, 16), int(b, 16), int(c, 16)) + bytes.fromhex(d)

    def thing(name: str, data: bytes, size: int | None = None) -> bytes:
        return guid(name) + struct.pack("<Q", len(data) + 24 if size is None else size) + data

    tag = b"a\0\0\0" + b"\0\0"
    one = struct.pack("<H", 4) + tag[:4] + struct.pack("<HH", 0, 4) + tag[:4]
    count = chance.choice((10, 60_000))
    tags = thing("D2D0A440-E307-11D2-97F000A0C95EA850", struct.pack("<H", min(65535, count)) + one * count)
    lost = thing("B7DC0791-A9B7-11CF-8EE600C00C205365", chance.randbytes(60), chance.choice((0, 1, 24, 1 << 62)))
    parts = chance.choice((tags, lost, tags * 4, lost * 1000))
    head = thing("75B22630-668E-11CF-A6D900AA0062CE6C", struct.pack("<IBB", chance.choice(HUGE), 1, 2) + parts)
    return "head.wma", head + chance.randbytes(2000)


def frames(chance: Random) -> Made:
    """Frames that are nothing else: whole silence, of other kinds each, or empty."""
    kind = chance.randrange(5)
    if kind == 0:
        return "silence.amr", b"#!AMR\n" + bytes([chance.choice((0x7C, 0x44, 0x04))]) * chance.choice((1000, 3_000_000))
    if kind == 1:  # a new rate and number of channels each
        heads = [
            b"\xff\xf1" + bytes([0x40 | r << 2 | c >> 2, (c & 3) << 6 | 1, 0x20, 0, 0xFC])
            for r in range(13)
            for c in range(8)
        ]
        return "changing.aac", b"".join(chance.choice(heads) + chance.randbytes(2) for _ in range(20_000))
    if kind == 2:
        heads = [
            bytes([0xFF, v, b << 4 | r << 2, m << 6])
            for v in (0xFB, 0xF3, 0xE3)
            for b in range(1, 15)
            for r in range(3)
            for m in range(4)
        ]
        return "changing.mp3", b"".join(
            chance.choice(heads) + bytes(chance.choice((48, 100, 413))) for _ in range(5000)
        )
    if kind == 3:
        return "zeros.mp3", bytes(chance.choice((1000, 20_000_000)))
    return "noise.aac", chance.randbytes(chance.choice((1000, 2_000_000)))


# What isn't a recording


def text(chance: Random) -> Made:
    """Lists of other files, descriptions, subtitles, pictures; under a name of its own or a recording's."""
    there = chance.choice(
        ("/dev/zero", "/etc/passwd", "seed.wav", "self", "http://127.0.0.1:9/x.wav", "file:///dev/zero", "pipe:0", "concat:/dev/zero|/dev/zero",
         "subfile,,start,0,end,0,,:/dev/zero", "data:audio/wav;base64,UklGRg==", "crypto:/dev/zero", "%d.wav", "/proc/self/environ")
    )  # fmt: skip
    times = chance.choice((1, 1, 1000, 100_000))
    name, made = chance.choice(
        (
            ("a.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:9\n" + f"#EXTINF:9,\n{there}\n" * times + "#EXT-X-ENDLIST\n"),
            ("b.m3u8", f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{there}\n" * min(times, 1000)),
            ("c.m3u8", f'#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{there}"\n#EXT-X-MAP:URI="{there}"\n#EXTINF:9,\n{there}\n'),
            ("a.ffconcat", "ffconcat version 1.0\n" + f"file '{there}'\nduration 9\n" * times),
            ("a.mpd", f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet><Representation><BaseURL>{there}</BaseURL><SegmentList>' + f'<SegmentURL media="{there}"/>' * min(times, 1000) + "</SegmentList></Representation></AdaptationSet></Period></MPD>"),
            ("a.sdp", f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns={there}\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 9 RTP/AVP 0\n"),
            ("a.xml", f'<?xml version="1.0"?><CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2016"><Id>{there}</Id></CompositionPlaylist>'),
            ("a.txt", ";FFMETADATA1\n" + "[CHAPTER]\nTIMEBASE=1/1\nSTART=0\nEND=1\ntitle=a\n" * times),
            ("a.srt", "1\n00:00:00,000 --> 99:59:59,000\na\n\n" * times),
            ("a.ass", "[Script Info]\nScriptType: v4.00+\n[Events]\n" + "Dialogue: 0,0:00:00.00,9:59:59.00,a,,0,0,0,,x\n" * times),
            ("a.vtt", "WEBVTT\n\n" + "00:00.000 --> 99:00.000\na\n\n" * times),
            ("a.idx", f"# VobSub index file, v7 (do not modify this line!)\nid: en, index: 0\ntimestamp: 00:00:00:000, filepos: 0\n{there}\n"),
            ("a.rt", f'<window type="generic"><time begin="0"/>{there}</window>' * min(times, 1000)),
            ("a.svg", f'<svg xmlns="http://www.w3.org/2000/svg" width="99999" height="99999"><image href="{there}"/></svg>'),
            ("a.sbg", f"{there}: 100+1/1\nNOW {there}\n" * min(times, 1000)),
            ("a.asx", f'<asx version="3"><entry><ref href="{there}"/></entry></asx>'),
            ("a.ram", f"{there}\n" * times),
            ("a.pls", f"[playlist]\nFile1={there}\n"),
        )
    )  # fmt: skip
    if chance.random() < 0.7:
        name = "a" + chance.choice((".mp4", ".wav", ".mp3", ".mkv", ".ts", ""))
    return name, made.replace("self", name).encode()


def still(chance: Random) -> Made:
    kind, data = picture(chance)
    return "a" + chance.choice((f".{kind[6:]}", ".mp4", ".mp3")), data


BOMBS: tuple[Callable[[Random], Made], ...] = (
    id3_picture, id3_many, id3_odd, flac, mp4_tables, mp4_tables, mp4_boxes, mp4_boxes, riff, riff, avi, matroska,
    matroska, ogg, transport, flash, asf, frames,
)  # fmt: skip

FOREIGN: tuple[Callable[[Random], Made], ...] = (text, text, text, still)


# Seeds, changed


def mutated(seed: bytes, other: bytes, chance: Random) -> bytes:
    """A recording with some of its bytes changed; ``other`` is one of another format."""
    data = bytearray(seed)
    for _ in range(chance.choice((1, 1, 2, 3, 8))):
        size = max(len(data), 1)
        head = chance.random() < 0.6  # headers decide more than sound does
        at = chance.randrange(min(size, 600) if head else size)
        kind = chance.randrange(9)
        if kind == 0:
            for _ in range(chance.choice((1, 4, 60))):
                data[chance.randrange(min(size, 600) if head else size)] ^= 1 << chance.randrange(8)
        elif kind == 1:
            wide = chance.choice((1, 2, 4, 8))
            data[at : at + wide] = (chance.choice(HUGE) & (1 << 8 * wide) - 1).to_bytes(
                wide, chance.choice(("big", "little"))
            )
        elif kind == 2:
            del data[at : at + chance.choice((1, 16, 700, size // 3 + 1))]
        elif kind == 3:
            piece = bytes(data[at : at + chance.choice((4, 300, 5000))])
            data[at:at] = piece * chance.choice((1, 5, 300))
        elif kind == 4:
            del data[at + 1 :]
        elif kind == 5:
            data[at:] = other[chance.randrange(max(len(other), 1)) :]
        elif kind == 6:
            data[at : at + 400] = chance.randbytes(400)
        elif kind == 7:
            start = chance.randrange(max(len(other), 1))
            data[at:at] = other[start : start + chance.choice((64, 4000))]
        else:
            data[at : at + 256] = bytes([chance.choice((0, 255))]) * 256
    return bytes(data[:3_000_000])
