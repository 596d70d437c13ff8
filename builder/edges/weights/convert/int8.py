"""A CTranslate2 model's weights in int8, by the formula with which CTranslate2 itself quantises them at each load on a CPU.

Each output row of a matrix that a layer multiplies by (and of an embedding) has a scale of its own, 127 through its largest
absolute value, as in ``LayerSpec._quantize`` of ctranslate2/specs/model_spec.py; convolutions, norms and positions stay as they
are. The file's format (``ModelSpec._serialize`` there), all little-endian:

    uint32 version, string spec, uint32 revision, uint32 count,
    count × (string name, uint8 rank, rank × uint32, uint8 type, uint32 bytes, data),
    uint32 aliases, aliases × (string alias, string name)

A string is a uint16 length, with the NUL that ends it, and as many bytes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from builder.errors import IntegrityError

VERSION = 6
"""Of the format; older ones have no aliases."""

WIDTHS = {0: 4, 1: 1, 2: 2, 3: 4, 4: 2, 5: 2}
"""Bytes of an element, by type: float32, int8, int16, int32, float16, bfloat16."""

FLOATS = {0: "<f4", 4: "<f2"}
"""Types that are quantised, as NumPy reads them."""

INT8, FLOAT32 = 1, 0

MOST_VARIABLES, LONGEST_NAME, MOST_DIMENSIONS = 100_000, 1000, 8

WEIGHT = "/weight"
"""How the names of matrices end."""

SCALE = "_scale"
"""What is added to the name of a matrix for that of its scales."""

AT_ONCE = 16 << 20
"""Elements of a matrix that are in memory at a time: 100 MB with what is computed of them."""


@dataclass(frozen=True, kw_only=True)
class Variable:
    """One array of a model's file."""

    name: str
    shape: tuple[int, ...]
    type: int
    begin: int
    """Where its data begin, in bytes."""
    size: int
    """Bytes."""

    @property
    def quantised(self) -> bool:
        """Whether it becomes int8."""
        return len(self.shape) == 2 and self.size > 0 and self.name.endswith(WEIGHT) and self.type in FLOATS


def pieces(source: BinaryIO) -> Iterator[bytes]:
    """The int8 file of a float16 or float32 one, in pieces.

    Raises:
        IntegrityError: it is no file of CTranslate2's, or has no weights that could be quantised.
    """
    end = source.seek(0, 2)
    source.seek(0)
    try:
        head, variables, aliases = _read(source, end)
    except (struct.error, UnicodeDecodeError) as error:
        raise IntegrityError("not a whole model of CTranslate2") from error
    matrices = {variable.name for variable in variables if variable.quantised}
    known = {variable.name for variable in variables}
    if not matrices or any(name + SCALE in known for name in matrices):
        raise IntegrityError("a model of CTranslate2 without weights in float16 or float32")
    yield head + struct.pack("<I", len(variables) + len(matrices))
    for variable in variables:
        if variable.quantised:
            yield from _quantised(source, variable)
        else:
            yield _header(variable.name, variable.shape, variable.type, variable.size)
            yield from _data(source, variable)
    both = [
        pair
        for alias, name in aliases
        for pair in ((alias, name), *([(alias + SCALE, name + SCALE)] if name in matrices else []))
    ]
    yield struct.pack("<I", len(both)) + b"".join(_string(alias) + _string(name) for alias, name in sorted(both))


def _read(source: BinaryIO, end: int) -> tuple[bytes, list[Variable], list[tuple[str, str]]]:
    """What stands before the number of variables, the variables without their data, and other names for them."""
    (version,) = struct.unpack("<I", source.read(4))
    if version != VERSION:
        raise IntegrityError(f"not a model of CTranslate2's format {VERSION}")
    spec = _text(source)
    head = struct.pack("<I", version) + _string(spec) + source.read(4)
    variables = [_variable(source, end) for _ in range(_count(source))]
    aliases = [(_text(source), _text(source)) for _ in range(_count(source))]
    if source.tell() != end:
        raise IntegrityError("something follows the end of the model")
    return head, variables, aliases


def _count(source: BinaryIO) -> int:
    (count,) = struct.unpack("<I", source.read(4))
    if count > MOST_VARIABLES:
        raise IntegrityError("the model has more variables than any")
    return int(count)


def _text(source: BinaryIO) -> str:
    (length,) = struct.unpack("<H", source.read(2))
    data = source.read(length)
    if not 1 < length <= LONGEST_NAME or len(data) != length or data[-1]:
        raise IntegrityError("a name in the model is none")
    return data[:-1].decode()


def _variable(source: BinaryIO, end: int) -> Variable:
    name = _text(source)
    (rank,) = struct.unpack("<B", source.read(1))
    if rank > MOST_DIMENSIONS:
        raise IntegrityError(f"{name!r} of the model has {rank} dimensions")
    shape = struct.unpack(f"<{rank}I", source.read(4 * rank))
    type_, size = struct.unpack("<BI", source.read(5))
    begin = source.tell()
    # The size is 32 bits wide in the file: of a variable as large as that the rest is lost.
    if type_ not in WIDTHS or math.prod(shape) * WIDTHS[type_] != size or begin + size > end:
        raise IntegrityError(f"{name!r} of the model is not as long as it says")
    source.seek(size, 1)
    return Variable(name=name, shape=shape, type=type_, begin=begin, size=size)


def _quantised(source: BinaryIO, variable: Variable) -> Iterator[bytes]:
    """A matrix of int8, then its scales."""
    import numpy as np

    rows, columns = variable.shape
    yield _header(variable.name, variable.shape, INT8, rows * columns)
    scales = []
    for count, block in _blocks(source, variable):
        value: Any = np.frombuffer(block, FLOATS[variable.type]).reshape(count, columns).astype(np.float32)
        largest = np.abs(value).max(axis=1)
        if not np.isfinite(largest).all():
            raise IntegrityError(f"{variable.name!r} of the model has numbers that are none")
        largest[largest == 0] = 127.0
        scale = np.float32(127.0) / np.maximum(largest, np.float32(127) / np.finfo(np.float32).max)
        value *= scale[:, None]
        np.rint(value, out=value)
        yield value.astype(np.int8).tobytes()
        scales.append(scale.astype("<f4").tobytes())
    yield _header(variable.name + SCALE, (rows,), FLOAT32, 4 * rows) + b"".join(scales)


def _blocks(source: BinaryIO, variable: Variable) -> Iterator[tuple[int, bytes]]:
    """Whole rows of a matrix, some at a time."""
    rows, columns = variable.shape
    width = columns * WIDTHS[variable.type]
    source.seek(variable.begin)
    step = max(1, AT_ONCE // max(1, columns))
    for at in range(0, rows, step):
        count = min(step, rows - at)
        yield count, source.read(count * width)


def _data(source: BinaryIO, variable: Variable) -> Iterator[bytes]:
    source.seek(variable.begin)
    left = variable.size
    while left:
        data = source.read(min(left, 16 << 20))
        if not data:
            raise IntegrityError("the model became shorter while it was read")
        left -= len(data)
        yield data


def _header(name: str, shape: tuple[int, ...], type_: int, size: int) -> bytes:
    return _string(name) + struct.pack(f"<B{len(shape)}IBI", len(shape), *shape, type_, size)


def _string(text: str) -> bytes:
    data = text.encode() + b"\0"
    return struct.pack("<H", len(data)) + data
