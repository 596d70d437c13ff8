"""Models that are converted once from the file their authors publish. The result is always the same bytes, and has a pin."""

from __future__ import annotations

import io
import os
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from builder.errors import IntegrityError

MAGIC = 0x1950A86A20F9469CFC6C
"""First pickle of PyTorch's legacy file format (torch/serialization.py)."""


def converter(how: str) -> Callable[[Path, Path], None]:
    """The function that writes ``result`` from ``source``, for a catalogue entry's ``convert.how``."""
    return {"dvector-onnx": dvector_to_onnx}[how]


class _Storage:
    """A tensor's storage, before its bytes are read."""

    def __init__(self, dtype: str, key: str, count: int) -> None:
        self.dtype, self.key, self.count = dtype, key, count


class _Tensor:
    """What ``_rebuild_tensor_v2`` would have built: a view into a storage."""

    def __init__(self, storage: _Storage, offset: int, shape: tuple[int, ...]) -> None:
        self.storage, self.offset, self.shape = storage, offset, shape


class _Float:
    dtype = "<f4"


class _Long:
    dtype = "<i8"


def _rebuild(storage: _Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> _Tensor:
    dense = 1
    for length, step in zip(reversed(shape), reversed(stride), strict=True):
        if length > 1 and step != dense:
            raise IntegrityError("a tensor of the checkpoint is not stored in plain order")
        dense *= length
    return _Tensor(storage, offset, tuple(shape))


_ALLOWED: Mapping[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "FloatStorage"): _Float,
    ("torch", "LongStorage"): _Long,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
}
"""All that a file of plain tensors needs. A pickle can name any Python function: everything else is refused."""


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise IntegrityError(f"the checkpoint asks for {module}.{name}", expected="tensors, and no code") from None

    def persistent_load(self, pid: Any) -> _Storage:
        kind, storage, key, _device, count, *_ = pid
        if kind != "storage" or storage not in (_Float, _Long):
            raise IntegrityError(f"the checkpoint holds a {kind} that this reader doesn't know")
        return _Storage(storage.dtype, str(key), int(count))


def read_legacy_checkpoint(source: BinaryIO) -> Any:
    """Read a PyTorch file from before 1.6 without PyTorch; tensors become NumPy arrays.

    The format: five pickles (magic, protocol, system, object, storage keys), then for each storage an int64 count and
    its little-endian data.

    Raises:
        IntegrityError: another kind of file, or one that asks for anything but plain tensors.
    """
    import numpy as np

    try:
        if _Restricted(source).load() != MAGIC:
            raise IntegrityError("not a PyTorch checkpoint of the legacy format")
        _Restricted(source).load(), _Restricted(source).load()
        tree = _Restricted(source).load()
        keys = _Restricted(source).load()
        tensors: list[_Tensor] = []
        _walk(tree, tensors.append)
        dtypes = {t.storage.key: (t.storage.dtype, t.storage.count) for t in tensors}
        arrays: dict[str, Any] = {}
        for key in keys:
            count = int.from_bytes(source.read(8), "little")
            dtype, promised = dtypes[str(key)]
            size = np.dtype(dtype).itemsize
            data = source.read(count * size) if count == promised else b""
            if len(data) != count * size or count != promised:
                raise IntegrityError("the checkpoint is cut short")
            arrays[str(key)] = np.frombuffer(data, dtype=dtype)
    except IntegrityError:
        raise
    except Exception as error:  # a hostile pickle can raise nearly anything
        raise IntegrityError(f"not a PyTorch checkpoint of the legacy format: {error}") from error

    def dense(tensor: _Tensor) -> Any:
        flat = arrays[tensor.storage.key]
        count = int(np.prod(tensor.shape, dtype=np.int64))
        if tensor.offset < 0 or tensor.offset + count > len(flat):
            raise IntegrityError("a tensor of the checkpoint reaches out of its storage")
        return flat[tensor.offset : tensor.offset + count].reshape(tensor.shape)

    return _replace(tree, dense)


def _walk(value: Any, visit: Callable[[_Tensor], None]) -> None:
    if isinstance(value, _Tensor):
        visit(value)
    elif isinstance(value, Mapping):
        for item in value.values():
            _walk(item, visit)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _walk(item, visit)


def _replace(value: Any, dense: Callable[[_Tensor], Any]) -> Any:
    if isinstance(value, _Tensor):
        return dense(value)
    if isinstance(value, Mapping):
        return {key: _replace(item, dense) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_replace(item, dense) for item in value]
    return value


def dvector_to_onnx(source: Path, result: Path) -> None:
    """Resemblyzer's speaker encoder as ONNX: ``mels`` float32 [batch, 160, 40] to ``embedding`` [batch, 256], unit length.

    Three LSTM layers of 256, the last hidden state through a linear layer and ReLU, divided by its length
    (resemblyzer/voice_encoder.py, Apache-2.0). PyTorch keeps LSTM gates in the order i, f, g, o; ONNX wants i, o, f, c.
    """
    with source.open("rb") as file:
        tree = read_legacy_checkpoint(io.BytesIO(file.read()))
    try:
        data = encoder_bytes(tree["model_state"])
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise IntegrityError(f"not the checkpoint of Resemblyzer's speaker encoder: {error!r}") from error
    with result.open("wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())


def encoder_bytes(state: Mapping[str, Any]) -> bytes:
    """The ONNX file of a state dict with ``lstm.*_l{0,1,2}`` and ``linear.*`` arrays."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    hidden = state["linear.weight"].shape[1]

    def gates(array: Any) -> Any:
        i, f, g, o = (array[k * hidden : (k + 1) * hidden] for k in range(4))
        return np.concatenate([i, o, f, g])

    weights: list[Any] = []

    def constant(name: str, array: Any) -> str:
        weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    nodes = [helper.make_node("Transpose", ["mels"], ["x0"], perm=[1, 0, 2])]
    axis = constant("axis", np.array([1], dtype=np.int64))
    for k in range(3):
        w = constant(f"W{k}", gates(state[f"lstm.weight_ih_l{k}"])[None])
        r = constant(f"R{k}", gates(state[f"lstm.weight_hh_l{k}"])[None])
        bias = np.concatenate([gates(state[f"lstm.bias_ih_l{k}"]), gates(state[f"lstm.bias_hh_l{k}"])])
        b = constant(f"B{k}", bias[None])
        nodes.append(helper.make_node("LSTM", [f"x{k}", w, r, b], [f"y{k}", f"h{k}"], hidden_size=hidden))
        if k < 2:
            nodes.append(helper.make_node("Squeeze", [f"y{k}", axis], [f"x{k + 1}"]))
    nodes += [
        helper.make_node("Squeeze", ["h2", constant("first", np.array([0], dtype=np.int64))], ["last"]),
        helper.make_node(
            "Gemm",
            ["last", constant("linear.weight", state["linear.weight"]), constant("linear.bias", state["linear.bias"])],
            ["projected"],
            transB=1,
        ),
        helper.make_node("Relu", ["projected"], ["raw"]),
        helper.make_node("ReduceL2", ["raw"], ["length"], axes=[1], keepdims=1),
        helper.make_node("Div", ["raw", "length"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "speaker-encoder",
        [helper.make_tensor_value_info("mels", TensorProto.FLOAT, ["batch", 160, state["lstm.weight_ih_l0"].shape[1]])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", state["linear.weight"].shape[0]])],
        initializer=weights,
    )
    # Versions are fixed, whatever this machine has: the result has a pin.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="whisperbake")
    model.ir_version = 8
    return bytes(model.SerializeToString(deterministic=True))
