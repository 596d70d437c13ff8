"""Weights in int8: the formula to the bit, whatever is read at a time, and nothing made of what is no model."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from builder.edges.weights.convert import int8
from builder.errors import IntegrityError

TYPES = {np.dtype(np.float32): 0, np.dtype(np.int8): 1, np.dtype(np.int32): 3, np.dtype(np.float16): 4}
NUMPY = {number: dtype for dtype, number in TYPES.items()}


def text(name: str) -> bytes:
    data = name.encode() + b"\0"
    return struct.pack("<H", len(data)) + data


def model(variables: dict[str, Any], aliases: dict[str, str] | None = None, version: int = 6) -> bytes:
    """A file of CTranslate2's."""
    out = struct.pack("<I", version) + text("WhisperSpec") + struct.pack("<II", 3, len(variables))
    for name, value in sorted(variables.items()):
        value = np.asarray(value)
        out += text(name) + struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape)
        out += struct.pack("<BI", TYPES[value.dtype], value.nbytes) + value.tobytes()
    out += struct.pack("<I", len(aliases or {}))
    return out + b"".join(text(alias) + text(name) for alias, name in sorted((aliases or {}).items()))


def read(data: bytes) -> tuple[dict[str, Any], dict[str, str]]:
    """Variables and aliases of such a file, by another reader than the converter's."""
    at = 4 + 2 + struct.unpack_from("<H", data, 4)[0] + 4

    def take(form: str) -> Any:
        nonlocal at
        found = struct.unpack_from(f"<{form}", data, at)
        at += struct.calcsize(f"<{form}")
        return found

    def name() -> str:
        (length,) = take("H")
        (found,) = take(f"{length}s")
        return str(found[:-1].decode())

    variables = {}
    for _ in range(take("I")[0]):
        called = name()
        shape = take(f"{take('B')[0]}I")
        number, size = take("BI")
        variables[called] = np.frombuffer(take(f"{size}s")[0], NUMPY[number]).reshape(shape)
    aliases = {name(): name() for _ in range(take("I")[0])}
    assert at == len(data)
    return variables, aliases


def converted(data: bytes) -> bytes:
    return b"".join(int8.pieces(io.BytesIO(data)))


RNG = np.random.default_rng(18)
SMALL: dict[str, Any] = {
    "decoder/embeddings/weight": RNG.normal(size=(7, 4)).astype(np.float16),
    "encoder/conv1/weight": RNG.normal(size=(4, 2, 3)).astype(np.float16),
    "encoder/layer_0/linear/bias": RNG.normal(size=4).astype(np.float16),
    "encoder/layer_0/linear/weight": RNG.normal(size=(4, 6)).astype(np.float16),
    "encoder/position_encodings/encodings": RNG.normal(size=(5, 4)).astype(np.float16),
    "num_heads": np.asarray(8, dtype=np.int8),
}


def test_matrices_alone_become_int8() -> None:
    """Those that a layer multiplies by; convolutions, biases, positions and numbers stay, byte for byte."""
    found, aliases = read(converted(model(SMALL, {"decoder/projection/weight": "decoder/embeddings/weight"})))
    matrices = {"decoder/embeddings/weight", "encoder/layer_0/linear/weight"}
    assert set(found) == {*SMALL, *(f"{name}_scale" for name in matrices)}
    assert list(found) == sorted(found)
    for name in SMALL:
        assert found[name].dtype == (np.int8 if name in matrices else SMALL[name].dtype)
        if name not in matrices:
            assert found[name].tobytes() == SMALL[name].tobytes()
    assert aliases == {
        "decoder/projection/weight": "decoder/embeddings/weight",
        "decoder/projection/weight_scale": "decoder/embeddings/weight_scale",
    }


FLOATS = arrays.arrays(
    st.sampled_from([np.float16, np.float32]),
    arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9),
    elements=st.floats(-60000, 60000, width=16),
)


@given(value=FLOATS, at_once=st.integers(1, 40))
def test_each_row_has_a_scale_of_its_own(value: Any, at_once: int) -> None:
    """The largest of a row is 127, another is at most half a step off, and nothing depends on what is read at a time."""
    data = model({"a/weight": value})
    whole = converted(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(int8, "AT_ONCE", at_once)
        assert converted(data) == whole
    found, _ = read(whole)
    made, scale = found["a/weight"], found["a/weight_scale"]
    largest = np.abs(value.astype(np.float32)).max(axis=1)
    assert scale.dtype == np.float32
    assert scale.shape == largest.shape
    assert (scale[largest == 0] == 1).all()
    assert (np.abs(made.astype(int)).max(axis=1)[largest > 0] == 127).all()
    back = made / scale.astype(np.float64)[:, None]
    assert (np.abs(back - value) <= 0.5 / scale.astype(np.float64)[:, None] * 1.0001).all()


def test_what_is_cut_short_is_no_model() -> None:
    whole = model(SMALL, {"b": "num_heads"})
    for length in range(len(whole)):
        with pytest.raises(IntegrityError):
            converted(whole[:length])


@given(at=st.integers(0, len(model(SMALL)) - 1), bit=st.integers(0, 7))
def test_a_wrong_bit_is_no_bug(at: int, bit: int) -> None:
    """Another model comes of it, or it is refused."""
    data = bytearray(model(SMALL))
    data[at] ^= 1 << bit
    try:
        converted(bytes(data))
    except IntegrityError:
        return


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not a whole model"),
        (model(SMALL, version=5), "format 6"),
        (model(SMALL) + b"x", "follows the end"),
        (converted(model(SMALL)), "without weights in float16"),
        (model({"a/bias": np.zeros(3, np.float16)}), "without weights in float16"),
        (model({"a/weight": np.array([[1, np.inf]], np.float16)}), "numbers that are none"),
        (model({"a/weight": np.array([[1, np.nan]], np.float32)}), "numbers that are none"),
        (model({"a/weight": np.zeros((0, 4), np.float16)}), "without weights in float16"),
        (model({"n" * 2000: np.zeros(1, np.float16)}), "a name in the model"),
    ],
)
def test_what_cannot_be_converted_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(IntegrityError, match=said):
        converted(data)


def test_variables_that_lie_about_their_size_take_no_memory() -> None:
    """A shape of 16 EB, and a million of variables."""
    huge = struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, 1)
    huge += text("a/weight") + struct.pack("<BIIBI", 2, 2**32 - 1, 2**32 - 1, 4, 2)
    many = struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, 2**32 - 1)
    for data in (huge, many):
        with pytest.raises(IntegrityError):
            converted(data)
