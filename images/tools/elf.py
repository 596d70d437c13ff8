"""Remove debugging symbols from shared libraries, as ``strip --strip-unneeded`` does, without binutils.

Only sections that the loader never reads go: those without SHF_ALLOC. What is loaded keeps its bytes and addresses. In
the file it moves by whole pages, since an offset and its address must agree modulo the page (patchelf puts segments
behind the symbols). Structures: System V ABI, chapters 4 and 5 (ELF-64).
"""

from __future__ import annotations

import struct
from pathlib import Path

HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SEGMENT = struct.Struct("<IIQQQQQQ")
SECTION = struct.Struct("<IIQQQQIIQQ")
ALLOC = 2
NOBITS = 8
SHARED = 3


def strip(path: Path) -> int:
    """Shorten ``path`` in place; returns the bytes saved: 0 for anything but a 64-bit little-endian library."""
    data = path.read_bytes()
    shorter = stripped(data)
    if len(shorter) < len(data):
        path.write_bytes(shorter)
    return len(data) - len(shorter)


def stripped(data: bytes) -> bytes:
    """A library's bytes without its symbol table and debug sections; any other file's bytes unchanged."""
    if len(data) < HEADER.size or data[:6] != b"\x7fELF\x02\x01":
        return data
    head = list(HEADER.unpack_from(data))
    kind, place, table, number, size, count, names = (head[k] for k in (1, 5, 6, 10, 11, 12, 13))
    if kind != SHARED or size != SECTION.size or not 0 < names < count or table + count * size > len(data):
        return data  # not a shared library, or one with another structure
    segments = [list(SEGMENT.unpack_from(data, place + k * SEGMENT.size)) for k in range(number)]
    sections = [list(SECTION.unpack_from(data, table + k * size)) for k in range(count)]
    keep = [k for k, s in enumerate(sections) if k == 0 or s[2] & ALLOC or k == names]
    if len(keep) == count:
        return data
    used = [(0, HEADER.size), (place, place + number * SEGMENT.size)]
    used += [(s[2], s[2] + s[5]) for s in segments]
    used += [(sections[k][4], sections[k][4] + sections[k][5]) for k in keep if k != names and sections[k][1] != NOBITS]
    page = max(s[7] for s in segments if s[0] == 1)
    cuts = _holes(used, page)
    end = max(stop for _, stop in used)

    def moved(offset: int) -> int:
        return offset - sum(stop - start for start, stop in cuts if stop <= offset)

    body, at = bytearray(), 0
    for start, stop in cuts:
        body += data[at:start]
        at = stop
    body += data[at:end]
    for entry in segments:
        entry[2] = moved(entry[2])
    text = len(body)
    body += data[sections[names][4] : sections[names][4] + sections[names][5]]
    body += b"\0" * (-len(body) % 8)
    new = {old: now for now, old in enumerate(keep)}
    head[5], head[6], head[12], head[13] = moved(place), len(body), len(keep), new[names]
    for k in keep:
        entry = sections[k]
        entry[4] = text if k == names else moved(min(entry[4], end))
        entry[6] = new.get(entry[6], 0)
        if entry[1] in (4, 9):  # relocations: sh_info is a section
            entry[7] = new.get(entry[7], 0)
        body += SECTION.pack(*entry)
    HEADER.pack_into(body, 0, *head)
    for k, entry in enumerate(segments):
        SEGMENT.pack_into(body, head[5] + k * SEGMENT.size, *entry)
    return bytes(body) if len(body) < len(data) else data


def _holes(used: list[tuple[int, int]], page: int) -> list[tuple[int, int]]:
    """Ranges between ``used`` ones; their lengths are multiples of ``page``."""
    holes, reached = [], 0
    for start, stop in sorted(used):
        length = (start - reached) // page * page
        if length > 0:
            holes.append((reached, reached + length))
        reached = max(reached, stop)
    return holes
